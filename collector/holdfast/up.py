"""`holdfast up`: broker, collector and agent on this machine, in one command and with nothing to configure.

Everything is written below one folder, and everything ends with the command: agent first, so that it can say goodbye,
then the collector, then the broker.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from msgspec import Struct

from holdfast.api import Address, CollectorApi, Refused, Unreachable
from holdfast.broker_choice import choose
from holdfast.child import Child, start
from holdfast.port_owner import port_owner
from holdfast.terminal import Terminal, printable

READY_SECONDS = 20.0
"""How long a part may take until it answers. The slowest, the collector, takes under two on an idle machine."""
LOOK_SECONDS = 1.0

AGENT = """\
# Written by `holdfast up`.
state_dir = {state}
interval = "5s"

[broker]
urls = ["mqtt://127.0.0.1:{broker}"]
"""
COLLECTOR = """\
# Written by `holdfast up`.
data_dir = {data}

[mqtt]
brokers = ["mqtt://127.0.0.1:{broker}"]

[http]
listen = "127.0.0.1:{http}"
"""


class UpRefused(Exception):
    """It cannot start; the text says why and what to do."""


class ChildDied(Exception):
    """A part ended by itself; the text holds the end of its log."""


class Wishes(Struct, frozen=True, kw_only=True):
    """What the operator asked for."""

    data: Path
    port: int
    broker: str = "auto"
    seconds: float | None = None
    """How long to run; None: until told to stop."""


async def up(wishes: Wishes, terminal: Terminal) -> None:
    """Run until the time is over or a signal comes. Raises UpRefused, NoBroker and ChildDied."""
    _check_port(wishes.port)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
    children: list[Child] = []
    try:
        async with asyncio.timeout(wishes.seconds):
            api = await _start(wishes, terminal, children)
            await _watch(api, terminal, children, stopping)
    except TimeoutError:
        pass
    finally:
        terminal.close()
        for child in reversed(children):
            await child.stop()
        terminal.line("stopped")


async def _start(wishes: Wishes, terminal: Terminal, children: list[Child]) -> CollectorApi:
    folder = wishes.data.resolve()
    for name in ("broker", "agent", "collector", "log"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    broker = choose(wishes.broker)
    broker_port = _free_port()
    terminal.line(f"broker     {broker.title}, 127.0.0.1:{broker_port}")
    if broker.limits:
        terminal.line(f"           {broker.limits}")
    children.append(
        await start("broker", broker.command(broker_port, folder / "broker"), folder / "log" / "broker.log")
    )
    await _until(lambda: _listening(broker_port), children)
    texts = {
        "collector": COLLECTOR.format(
            data=_quoted(folder / "collector"), broker=broker_port, http=wishes.port
        ),
        "agent": AGENT.format(state=_quoted(folder / "agent"), broker=broker_port),
    }
    for name, text in texts.items():
        config = folder / f"{name}.toml"
        config.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", f"holdfast_{name}", "run", "--config", str(config)]
        children.append(await start(name, command, folder / "log" / f"{name}.log"))
        if name == "collector":
            await _until(lambda: _listening(wishes.port), children)
    url = f"http://127.0.0.1:{wishes.port}"
    terminal.line(f"collector  {url}/ (page), {url}/metrics, {url}/api/v1/nodes")
    terminal.line(
        f"agent      this machine{'' if _root() else ', without root: it will say what it cannot read'}"
    )
    terminal.line(f"data       {folder}; logs in {folder / 'log'}")
    return CollectorApi(Address(url=url))


async def _watch(
    api: CollectorApi, terminal: Terminal, children: list[Child], stopping: asyncio.Event
) -> None:
    """Say what happens until told to stop."""
    firing: dict[str, Any] = {}
    blind: set[str] = set()
    while not stopping.is_set():
        _check(children)
        with contextlib.suppress(Unreachable, Refused):
            metrics, alerts = await asyncio.to_thread(_look, api)
            _tell_alerts(terminal, firing, alerts)
            _tell_blindness(terminal, blind, metrics["probes"])
            terminal.live(metrics["line"], time.monotonic())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), LOOK_SECONDS)


def _look(api: CollectorApi) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fleet in one line, the probes that do not work, and what fires, by key."""
    nodes = api.get("/api/v1/nodes")["nodes"]
    alerts = {
        alert["key"]: alert
        for alert in api.get("/api/v1/alerts")["alerts"]
        if alert["state"] == "firing" and alert["alertname"] != "Watchdog"
    }
    resources: list[dict[str, Any]] = []
    for node in nodes:
        resources += api.get(f"/api/v1/nodes/{node['node']}")["resources"]
    counted = {kind: sum(each["kind"] == kind for each in resources) for kind in ("volume", "service")}
    line = (
        f"{time.strftime('%H:%M:%S')}  {len(nodes)} node, {counted['volume']} volumes, "
        f"{counted['service']} services, {len(alerts)} alerts firing"
    )
    probes = {
        each["name"]: each["facts"]
        for each in resources
        if each["kind"] == "probe" and not each["facts"].get("working", True)
    }
    return {"line": line, "probes": probes}, alerts


def _tell_alerts(terminal: Terminal, firing: dict[str, Any], now: dict[str, Any]) -> None:
    for key in now.keys() - firing.keys():
        alert = now[key]
        terminal.line(
            printable(
                f"firing     {alert['severity']} {alert['alertname']}: {alert['annotations']['summary']}"
            )
        )
    for key in firing.keys() - now.keys():
        terminal.line(printable(f"resolved   {firing[key]['alertname']}: {firing[key]['resource']}"))
    firing.clear()
    firing.update(now)


def _tell_blindness(terminal: Terminal, blind: set[str], probes: dict[str, Any]) -> None:
    for name in probes.keys() - blind:
        facts = probes[name]
        terminal.line(printable(f"unknown    {name} is {facts['status']}: {facts['detail']}"))
    blind.clear()
    blind.update(probes)


async def _until(condition: Any, children: list[Child]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        _check(children)
        if time.monotonic() > deadline:
            raise ChildDied(f"the {children[-1].name} does not answer; see {children[-1].log_path}")
        await asyncio.sleep(0.05)


def _check(children: list[Child]) -> None:
    for child in children:
        if not child.running:
            said = "\n".join(f"    {printable(line)}" for line in child.last_lines())
            raise ChildDied(
                f"the {child.name} ended by itself ({child.how_it_ended}); its last words:\n{said}"
            )


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            owner = port_owner(port)
            who = f" by {owner}" if owner else ""
            raise UpRefused(
                f"port {port} is taken{who} ({error.strerror}); choose another with --port"
            ) from None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _listening(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1.0)
        return client.connect_ex(("127.0.0.1", port)) == 0


def _quoted(path: Path) -> str:
    """A TOML literal string: a path on Windows has backslashes."""
    return f"'{path}'"


def _root() -> bool:
    return sys.platform == "win32" or os.geteuid() == 0
