"""Who watches a machine for faults, asked what it says is wrong now; and holdfast as one of them."""

import json
import re
import subprocess
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from tests.bench.holdfast_parts import CollectorUnderTest, start_agent, start_broker
from tests.bench.processes import Program, installed_command
from tests.broker import Broker
from tests.waiting import wait_for

NODE = "bench"


class Alarm(Struct, frozen=True, kw_only=True):
    """Something a watcher says is wrong now."""

    name: str
    about: str
    """All the words that say what it is about."""
    fires: bool
    """False: it waits out its `for`."""
    wait_seconds: float = 0.0
    """That `for`."""
    key: str = ""


class Watcher(ABC):
    """One of those who watch. Runs when constructed, until `stop`."""

    name = ""
    version = ""

    @abstractmethod
    def alarms(self) -> list[Alarm]:
        """What it says is wrong now. Raises OSError."""

    @abstractmethod
    def lose_agent(self) -> None:
        """What watches the machine itself is killed (SIGKILL)."""

    @abstractmethod
    def regain_agent(self, within: Sequence[str]) -> None:
        """And comes back, by a command preceded by this."""

    @abstractmethod
    def stop(self) -> None:
        """End all processes."""

    def acknowledge(self, alarm: Alarm) -> None:  # noqa: B027 - most have no such thing
        """A person takes note of a loss. Nothing where that does not exist."""


class Holdfast(Watcher):
    """Agent, mosquitto and collector with all shipped rules."""

    name = "holdfast"

    def __init__(self, folder: Path, medium: Path) -> None:
        """`medium`: where the disks' images lie, which is declared to last, as an operator declares a virtual disk."""
        self.version = said([installed_command("holdfast-agent"), "--version"])
        self._folder, self._medium = folder, medium
        self._broker: Broker = start_broker(folder)
        self._collector = CollectorUnderTest(folder / "collector", broker_url=self._broker.url)
        rules = ask(f"{self._collector.url}/api/v1/rules")
        self._waits = {rule["alert"]: rule["for_seconds"] for rule in rules["rules"]}
        self._agent = self._start()
        wait_for(lambda: self._collector.metric("holdfast_node_up") == 1, 60.0, lambda: self._agent.log)

    def _start(self, within: Sequence[str] = ()) -> Program:
        return start_agent(
            self._folder / "agent",
            broker_url=self._broker.url,
            command=[*within, installed_command("holdfast-agent")],
            node=NODE,
            probes=["[probes.devices]", f'classes = {{ "{self._medium}" = "D2" }}'],
            witness=(),
        )

    def alarms(self) -> list[Alarm]:
        """Those for a person to act on: `page` and `ticket`."""
        shown = ask(f"{self._collector.url}/api/v1/alerts?limit=10000")["alerts"]
        return [
            Alarm(
                name=row["alertname"],
                about=f"{row['resource_kind']} {row['resource']}",
                fires=row["state"] == "firing",
                wait_seconds=self._waits[row["alertname"]],
                key=row["key"],
            )
            for row in shown
            if row["state"] in ("firing", "pending") and row["severity"] != "info"
        ]

    def acknowledge(self, alarm: Alarm) -> None:
        ask(f"{self._collector.url}/api/v1/acks", {"key": alarm.key, "reason": "bench"})

    def lose_agent(self) -> None:
        self._agent.kill()

    def regain_agent(self, within: Sequence[str]) -> None:
        self._agent = self._start(within)

    def stop(self) -> None:
        self._agent.stop()
        self._collector.stop()
        self._broker.stop()


def ask(url: str, body: Any = None) -> Any:
    """The JSON that answers a GET, or a POST of `body`. Raises OSError."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10.0) as reply:
        return json.load(reply)


def said(command: list[str]) -> str:
    """What a command prints: the version in it, where there is one."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = done.stdout or done.stderr
    found = re.search(r"\d+\.\d+(\.\d+)?", text)
    return found[0] if found else text.strip()
