"""`holdfast up`: broker, collector and agent on this machine, in one command and with nothing to configure.

    broker listens ─▶ collector answers ─▶ agent's first report ─▶ say what was found ─▶ say what happens
    Ctrl-C, SIGTERM or the time is over: agent (it says goodbye) ─▶ collector ─▶ broker

Everything is written below one folder, loopback is all the network there is, and a part that ends by itself ends the
whole with its last words. Alerts leave nothing behind either: there is no receiver, people look at the page.
"""

import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from holdfast.api import Address, CollectorApi, Refused, Unreachable
from holdfast.broker_choice import ChosenBroker, choose
from holdfast.child import Child, start
from holdfast.port_owner import port_owner
from holdfast.terminal import Terminal, printable
from holdfast.watching import Watching, findings, places
from holdfast_collector.data_directory import held
from holdfast_collector.errors import AlreadyRunning, ConfigInvalid
from holdfast_wire.topic import node_name_valid

READY_SECONDS = 30.0
"""How long a part may take until it answers. The slowest, the collector, takes under two on an idle machine."""
BROKER_PORTS_TRIED = 3
"""A port that was free a moment ago may be taken by the time the broker asks for it."""

_AGENT = """\
# Written by `holdfast up`.
node = {node}
state_dir = {state}
interval = "5s"

[broker]
urls = [{broker}]
# The only network is this machine's own: whoever is gone does not come back in a moment.
will_delay = "0s"

[witness]
# Nothing is written outside the folder given to --data; installed as a service the agent witnesses every volume.
state_dir_only = true
interval = "15s"
"""
_COLLECTOR = """\
# Written by `holdfast up`.
data_dir = {state}

[mqtt]
brokers = [{broker}]

[http]
listen = {listen}

[rules]
# Your own packs, to try them; `holdfast rules check` says whether they are good.
directories = [{rules}]
"""

T = TypeVar("T")


class UpRefused(Exception):
    """It cannot start; the text says why and what to do."""


class ChildDied(Exception):
    """A part ended by itself or never answered; the text holds the end of its log."""


class Wishes(Struct, frozen=True, kw_only=True):
    """What the operator asked for."""

    data: Path
    port: int = 9760
    """Of the status page; 0 for any that is free."""
    broker: str = "auto"
    seconds: float | None = None
    """How long to run once everything does; None: until told to stop."""


class _Stopped(Exception):
    """Somebody wants the end while something is still awaited."""


async def up(wishes: Wishes, terminal: Terminal) -> None:
    """Run until the time is over or a signal comes. Raises UpRefused, NoBroker and ChildDied, with nothing left running."""
    folder = wishes.data.absolute()
    with _claimed(folder):
        run = _Run(wishes, folder, terminal, choose(wishes.broker), _http_port(wishes.port))
        _stop_on_signals(run.stop)
        try:
            await run.everything()
        except _Stopped:
            pass
        finally:
            await run.end()


class _Run:
    """One run, from the first child to the last."""

    def __init__(
        self, wishes: Wishes, folder: Path, terminal: Terminal, broker: ChosenBroker, port: int
    ) -> None:
        self._wishes = wishes
        self._folder = folder
        self._terminal = terminal
        self._broker = broker
        self._port = port
        self._node = node_name(socket.gethostname())
        self._children: list[Child] = []
        self._stopping = asyncio.Event()
        self._watching: Watching | None = None

    def stop(self) -> None:
        self._stopping.set()

    async def everything(self) -> None:
        """Start, tell, watch. Raises _Stopped and ChildDied."""
        say = self._terminal.line
        say(f"holdfast {version('holdfast')}; all it writes is below {self._folder}")
        broker_url = await self._start_broker()
        say(f"broker     {self._broker.title}, {broker_url}")
        if self._broker.limits:
            say(f"           {self._broker.limits}")
        api = await self._start_collector(broker_url)
        say(f"collector  {len(api.get('/api/v1/rules')['rules'])} rules are in force")
        await self._start_agent(broker_url)
        detail = await self._until("the agent's first report", lambda: self._reported(api), threaded=True)
        where = places(api.url, self._folder, broker_url, own_command())
        for line in (*findings(detail, _privileges()), "", *where, ""):
            say(printable(line))
        self._watching = Watching(api, self._node, self._terminal)
        await self._watch(self._watching)

    async def end(self) -> None:
        """Stop what runs, the last started first. Keeps going whatever a child does."""
        if self._watching is not None:
            self._watching.end()
        self._terminal.close()
        for child in reversed(self._children):
            if child.running and not await child.stop():
                self._terminal.line(
                    f"the {child.name} did not end in time and was killed; see {child.log_path}"
                )
        self._terminal.line("stopped")

    async def _start_broker(self) -> str:
        for attempt in range(1, BROKER_PORTS_TRIED + 1):
            port = free_port()
            (self._folder / "broker").mkdir(exist_ok=True)
            command = self._broker.command(port, self._folder / "broker")
            child = await self._start("broker", list(command))
            try:
                await self._until("the broker", partial(_listening, port))
            except ChildDied:
                if attempt == BROKER_PORTS_TRIED or child.running:
                    raise
                self._children.remove(child)
                continue
            return f"mqtt://127.0.0.1:{port}"
        raise AssertionError("the last attempt returns or raises")

    async def _start_collector(self, broker_url: str) -> CollectorApi:
        text = _COLLECTOR.format(
            state=_quoted(self._folder / "collector"),
            broker=_quoted(broker_url),
            listen=_quoted(f"127.0.0.1:{self._port}"),
            rules=_quoted(self._folder / "rules.d"),
        )
        await self._start("collector", self._configured("collector", text))
        api = CollectorApi(Address(url=f"http://127.0.0.1:{self._port}"))
        await self._until("the collector", lambda: _ready(api), threaded=True)
        return api

    async def _start_agent(self, broker_url: str) -> None:
        state = _quoted(self._folder / "agent")
        text = _AGENT.format(node=_quoted(self._node), state=state, broker=_quoted(broker_url))
        await self._start("agent", self._configured("agent", text))

    def _configured(self, part: str, text: str) -> list[str]:
        """Write the part's configuration; the command that runs it."""
        path = self._folder / f"{part}.toml"
        path.write_text(text, encoding="utf-8")
        return [sys.executable, "-m", f"holdfast_{part}", "run", "--config", str(path)]

    async def _start(self, name: str, command: list[str]) -> Child:
        child = await start(name, command, self._folder / "log" / f"{name}.log")
        self._children.append(child)
        return child

    def _reported(self, api: CollectorApi) -> Any:
        """All that is known of this machine, once its agent's birth and first report are there."""
        try:
            detail = api.get(f"/api/v1/nodes/{self._node}")
        except (Unreachable, Refused):
            return None
        return detail if detail["capabilities"] and detail["sections"] else None

    async def _watch(self, watching: Watching) -> None:
        deadline = None if self._wishes.seconds is None else time.monotonic() + self._wishes.seconds
        watching.begin()
        while deadline is None or time.monotonic() < deadline:
            await asyncio.to_thread(watching.look)
            self._check()
            left = watching.period_seconds if deadline is None else deadline - time.monotonic()
            await self._pause(min(watching.period_seconds, left))

    async def _until(self, what: str, condition: Callable[[], T | None], *, threaded: bool = False) -> T:
        """The first truthy answer. Raises ChildDied when a part ends meanwhile or no answer comes, _Stopped."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            answer = await asyncio.to_thread(condition) if threaded else condition()
            if answer:
                return answer
            self._check()
            if time.monotonic() > deadline:
                child = self._children[-1]
                raise ChildDied(_last_words(f"{what} does not come within {READY_SECONDS:g} s", child))
            await self._pause(0.05)

    async def _pause(self, seconds: float) -> None:
        """Let time pass; raises _Stopped when the end is wanted."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), max(seconds, 0.0))
            raise _Stopped

    def _check(self) -> None:
        for child in self._children:
            if not child.running:
                raise ChildDied(
                    _last_words(f"the {child.name} ended by itself ({child.how_it_ended})", child)
                )


def node_name(host_name: str) -> str:
    """A valid node name made of the host's: `My_Host.local` → `my-host.local`."""
    name = re.sub(r"[^a-z0-9.-]+", "-", host_name.lower())[:63].strip(".-")
    return name if node_name_valid(name) else "this-machine"


def own_command() -> str:
    """What to type in this folder for `holdfast`: in a clone it is not on the PATH."""
    script = Path(sys.executable).with_name("holdfast")
    found = shutil.which("holdfast")
    if not script.exists() or (found is not None and Path(found).samefile(script)):
        return "holdfast"
    here = Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))


def free_port() -> int:
    """A loopback port nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """The folder is ours while the `with` lasts. Raises UpRefused."""
    with contextlib.ExitStack() as claim:
        try:
            claim.enter_context(held(folder))
        except AlreadyRunning:
            raise UpRefused(
                f"another `holdfast up` uses {folder}: end that one, or choose another folder with --data"
            ) from None
        except ConfigInvalid as error:
            cause = error.__cause__
            why = cause.strerror if isinstance(cause, OSError) else str(error)
            raise UpRefused(f"cannot write to {folder} ({why}); choose another folder with --data") from None
        yield


def _http_port(port: int) -> int:
    """The port of the status page. Raises UpRefused when somebody has it."""
    with socket.socket() as probe:
        if sys.platform != "win32":
            # As the server will: connections of an earlier run that still linger are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            owner = _owner(port)
            taken = f"port {port} is taken{f' by {owner}' if owner else ''} ({error.strerror})"
            raise UpRefused(f"{taken}; choose another with --port, or any free one with --port 0") from None
        bound: int = probe.getsockname()[1]
        return bound


def _owner(port: int) -> str:
    try:
        api = CollectorApi(Address(url=f"http://127.0.0.1:{port}", timeout_seconds=1.0))
        asked = api.get("/api/v1/status")
        found = f"a holdfast collector {asked['version']}"
    except (Unreachable, Refused, KeyError, TypeError):
        found = ""
    return ", ".join(filter(None, [found, port_owner(port)]))


def _ready(api: CollectorApi) -> bool:
    """Whether the collector serves and has its session with the broker."""
    try:
        return bool(api.get("/api/v1/status")["ready"])
    except (Unreachable, Refused):
        return False


def _listening(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1.0)
        return client.connect_ex(("127.0.0.1", port)) == 0


def _last_words(what: str, child: Child) -> str:
    said = "\n".join(f"    {printable(line)}" for line in child.last_lines()) or "    (it said nothing)"
    return f"{what}. The end of {child.log_path}:\n{said}"


def _quoted(value: Path | str) -> str:
    """A TOML basic string: what JSON escapes, TOML reads (https://toml.io/en/v1.0.0#string)."""
    return json.dumps(str(value), ensure_ascii=False)


def _privileges() -> str:
    if sys.platform == "win32":
        return "as this user"
    return "as root" if os.geteuid() == 0 else "without root"


def _stop_on_signals(stop: Callable[[], None]) -> None:
    if sys.platform == "win32":
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGBREAK):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
