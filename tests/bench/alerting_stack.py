"""The peer of the whole way from a fault to a person: node_exporter, Prometheus, Alertmanager, webhook."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from tests.bench.processes import Program, tool
from tests.ports import free_port
from tests.receiver import Receiver
from tests.waiting import wait_for


class Pace(Struct, frozen=True, kw_only=True):
    """How often the parts look, in seconds."""

    scrape: int
    evaluate: int
    group_wait: int

    @property
    def name(self) -> str:
        return f"{self.scrape} s / {self.evaluate} s / {self.group_wait} s"


DEFAULTS = Pace(scrape=15, evaluate=15, group_wait=30)
"""Debian's prometheus.yml for the first two; group_wait is Alertmanager's own default."""
TIGHT = Pace(scrape=5, evaluate=5, group_wait=1)
"""The tightest that people run a fleet with."""


class Arrival(Struct, frozen=True):
    """One thing heard of."""

    at: float
    """On the clock of `time.perf_counter`."""
    body: bytes
    """The whole request."""


class Arrivals:
    """A webhook's receiver that notes when each thing was first heard of."""

    def __init__(self, names: Callable[[bytes], list[str]]) -> None:
        """`names` reads out of a request's body whom it speaks of."""
        self._names = names
        self._times: list[float] = []
        self._read = 0
        self._first: dict[str, Arrival] = {}
        self.receiver = Receiver()
        self.receiver.answer = self._note

    def first(self) -> dict[str, Arrival]:
        """Whom → how it was first heard of them."""
        posts = self.receiver.posts
        for at, post in list(zip(self._times, posts, strict=False))[self._read :]:
            for name in self._names(post.body):
                self._first.setdefault(name, Arrival(at, post.body))
        self._read = len(posts)
        return self._first

    def close(self) -> None:
        self.receiver.close()

    def _note(self, path: str) -> int:
        # Called under the receiver's lock, just before the request joins its posts: both lists run in step.
        self._times.append(time.perf_counter())
        return 200


def alertmanager_names(body: bytes) -> list[str]:
    """The units of Alertmanager's webhook message that fire."""
    return [alert["labels"]["name"] for alert in json.loads(body)["alerts"] if alert["status"] == "firing"]


def start_exporter(folder: Path, port: int, bus_address: str) -> Program:
    """node_exporter with its systemd collector on the given bus. Raises Missing."""
    command = [
        tool("prometheus-node-exporter", package="prometheus-node-exporter"),
        f"--web.listen-address=127.0.0.1:{port}",
        "--collector.disable-defaults",
        "--collector.systemd",
        "--collector.systemd.unit-include=bench@.*",
    ]
    environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus_address}
    program = Program("node_exporter", command, folder=folder, environment=environment)
    return program.wait_ready("Listening on")


class AlertingStack:
    """One Prometheus and one Alertmanager at one pace, scraping one exporter. Runs until `stop`."""

    def __init__(self, folder: Path, pace: Pace, exporter_port: int) -> None:
        """Raises Missing."""
        self.pace = pace
        self.arrivals = Arrivals(alertmanager_names)
        folder.mkdir(parents=True)
        self._port, alertmanager_port = free_port(), free_port()
        rules, config, routes = folder / "rules.yml", folder / "prometheus.yml", folder / "alertmanager.yml"
        expression = 'node_systemd_unit_state{state="failed"} == 1'
        rules.write_text(f"groups: [{{name: bench, rules: [{{alert: Failed, expr: '{expression}'}}]}}]\n")
        config.write_text(
            f"global: {{scrape_interval: {pace.scrape}s, evaluation_interval: {pace.evaluate}s,"
            f" scrape_timeout: {min(pace.scrape, 10)}s}}\n"
            f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{alertmanager_port}']}}]}}]}}\n"
            f"rule_files: ['{rules}']\n"
            f"scrape_configs: [{{job_name: node, static_configs: [{{targets: ['127.0.0.1:{exporter_port}']}}]}}]\n"
        )
        routes.write_text(
            f"route: {{receiver: hook, group_by: [alertname, name], group_wait: {pace.group_wait}s,"
            " group_interval: 5m, repeat_interval: 4h}\n"
            f"receivers: [{{name: hook, webhook_configs: [{{url: '{self.arrivals.receiver.url}/'}}]}}]\n"
        )
        self._programs = [
            Program(
                "alertmanager",
                [
                    tool("prometheus-alertmanager", package="prometheus-alertmanager"),
                    f"--config.file={routes}",
                    f"--storage.path={folder / 'alertmanager'}",
                    f"--web.listen-address=127.0.0.1:{alertmanager_port}",
                    "--cluster.listen-address=",
                ],
                folder=folder,
            ),
            Program(
                "prometheus",
                [
                    tool("prometheus", package="prometheus"),
                    f"--config.file={config}",
                    f"--storage.tsdb.path={folder / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                folder=folder,
            ),
        ]

    def wait_scraped(self) -> None:
        """Until Prometheus has seen the exporter's units."""
        wait_for(self._has_series, 60.0, lambda: f"a first scrape:\n{self._programs[1].log[-2000:]}")

    def stop(self) -> None:
        for program in self._programs:
            program.stop()
        self.arrivals.close()

    def _has_series(self) -> bool:
        url = f"http://127.0.0.1:{self._port}/api/v1/query?query=node_systemd_unit_state"
        try:
            with urllib.request.urlopen(url, timeout=5.0) as reply:
                return bool(json.load(reply)["data"]["result"])
        except (urllib.error.URLError, OSError):
            return False
