"""The agent as a service: puts the parts together, starts them in order, stops them in time.

    state folder → spool → first look of every probe → birth in the spool → probes, link, watchdog
    SIGTERM: probes end → goodbye taken by the broker → spool and notes on disk → "clean" on disk
    SIGHUP:  configuration read again; what can change alive does; a bad one changes nothing and says so

The pump carries out what the session decides. It is woken by whatever happens and sleeps until the session's own
time otherwise, so an idle agent wakes about once per interval.
"""

import asyncio
import gc
import math
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from msgspec import structs

from holdfast_agent import agent_version, log
from holdfast_agent.background import BackgroundThreads
from holdfast_agent.broker import BrokerAddress
from holdfast_agent.config import AgentConfig, Loaded
from holdfast_agent.core.delivery import Load, Spooled
from holdfast_agent.core.happening import Happening
from holdfast_agent.core.session import Identity, Session, SpoolFacts, Stamp, Step
from holdfast_agent.core.testimony import Confirmed, Testimony
from holdfast_agent.cursors import CursorFolder
from holdfast_agent.errors import ConfigInvalid, EventRefused
from holdfast_agent.identity import Standing, StateFolder
from holdfast_agent.link import Link
from holdfast_agent.link_user import LinkStanding
from holdfast_agent.machine_profile import PreviousBoot, configured, profile, session_taken_over, this_machine
from holdfast_agent.pause import until
from holdfast_agent.probe import ProbeContext, boot_clock
from holdfast_agent.probes.kernel_pattern import KernelEvent
from holdfast_agent.registry import ProbeKind
from holdfast_agent.runner import ProbeRun, Runner, probe_run
from holdfast_agent.service_notify import ServiceNotify
from holdfast_agent.spool import Spool
from holdfast_agent.witness.survey import SECTION as WITNESS
from holdfast_agent.witness.volume_chain import Who
from holdfast_agent.witness.witnessing import Witnessing
from holdfast_wire import Ack, Expect, ReadCause, Refusal, Resend, Section, decode_down

WITNESS_STOP_SECONDS = 1.0
GOODBYE_SECONDS = 2.0
SPOOL_CLOSE_SECONDS = 1.0
LAST_WRITES_SECONDS = 0.5
"""Together under the 5 s in which the agent stops, whatever hangs."""
SETTLE_SECONDS = 30.0
FIXED = ("node", "state_dir", "spool")
"""Parts of the configuration that only a restart changes."""


def stamp() -> Stamp:
    """Now."""
    return Stamp(time.time(), boot_clock())


class Agent:
    """One run of the agent. Implements `LinkUser`, `RunnerUser`, `WitnessUser`: whatever happens arrives here."""

    def __init__(
        self,
        loaded: Loaded,
        kinds: dict[str, ProbeKind],
        reload: Callable[[], Loaded],
        notify: ServiceNotify,
        folder: StateFolder,
        standing: Standing,
    ) -> None:
        """Needs a running loop. `reload` reads the configuration again, or raises ConfigInvalid."""
        self._config = loaded.config
        self._kinds = kinds
        self._reload = reload
        self._notify = notify
        self._folder = folder
        self._standing = standing
        self._state_trouble = standing.detail
        config = self._config
        self._log = log.log.bind(node=config.node)
        self._session = Session(
            Identity(
                node=config.node,
                install_id=standing.install_id,
                boot_id=standing.boot_id,
                epoch=standing.epoch,
            ),
            config.interval,
        )
        state_folder = Path(config.state_dir)
        self._cursors = CursorFolder(state_folder / "cursors")
        self._spool = Spool(
            state_folder,
            bytes_max=config.spool.bytes_max,
            messages_max=config.spool.messages_max,
            changed=self._spool_changed,
        )
        self._runner = Runner(self, random.random, config.interval, time.time)
        self._link = Link(config.link_options(), self)
        self._machine = this_machine()
        self._previous_boot = PreviousBoot()
        self._witness = Witnessing(
            config.witness,
            Who.of(standing, self._machine),
            self,
            self._cursors.of(WITNESS),
            state_folder,
            config.interval,
            lambda: self._previous_boot.ended,
        )
        self._born = asyncio.Event()
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._reloading = asyncio.Event()
        self._connection: int | None = None
        self._refused_on: int | None = None
        """The connection on which a refused publish was last logged: once per connection is enough to act on."""
        self._tasks: set[asyncio.Task[Any]] = set()

    # Life

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises whatever breaks one of the parts."""
        self._handle_signals()
        self._say_hello()
        await self._spool.open()
        running = asyncio.create_task(self._live(), name="live")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            stopping.cancel()
            await running  # raises what broke it
        running.cancel()
        await self._end()

    async def _live(self) -> None:
        await asyncio.gather(*(self._runner.start(run) for run in self._runs(set(self._kinds))))
        await self._be_born()
        parts: dict[str, Coroutine[Any, Any, None]] = {
            "probes": self._runner.run(),
            "link": self._link.run(),
            "witness": self._witness.run(),
            "pump": self._pump(),
            "configuration": self._reload_on_demand(),
            "watchdog": self._watch_over(),
            "state folder": self._settle(),
        }
        tasks = [asyncio.create_task(part, name=name) for name, part in parts.items()]
        self._notify.ready()
        self._say_status()
        try:
            done, _ = await asyncio.wait([*tasks, self._runner.failed], return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()

    async def _be_born(self) -> None:
        capabilities = [*self._runner.capabilities(), *configured(self._config, self._kinds)]
        capabilities.sort(key=lambda each: each.name)
        said = profile(self._standing, self._machine, self._previous_boot)
        birth = self._session.birth(stamp(), said, capabilities, self._spool_facts())
        await self._keep(birth)
        self._born.set()
        gc.freeze()  # what is there now stays; each walk over all of it took 11 ms of CPU (measured)

    async def _end(self) -> None:
        self._notify.stopping()
        for name in self._runner.names:
            self._runner.stop(name)
        for task in list(self._tasks):
            task.cancel()
        await _within(WITNESS_STOP_SECONDS, self._witness.stop())
        self._publish_due()
        goodbye = await _within(GOODBYE_SECONDS, self._link.stop(self._session.death(stamp())))
        await _within(SPOOL_CLOSE_SECONDS, self._spool.close())
        loop = asyncio.get_running_loop()
        await _within(
            LAST_WRITES_SECONDS, loop.run_in_executor(None, self._cursors.flush, LAST_WRITES_SECONDS)
        )
        await _within(LAST_WRITES_SECONDS, loop.run_in_executor(None, lambda: self._folder.close(clean=True)))
        self._log.info(
            "agent stopped", goodbye_taken=bool(goodbye), undelivered=self._spool.facts.state.messages
        )

    def _handle_signals(self) -> None:
        if sys.platform == "win32":
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reloading.set)

    def _say_hello(self) -> None:
        standing = self._standing
        self._log.info(
            "agent started",
            version=agent_version(),
            install_id=standing.install_id,
            epoch=standing.epoch,
            previous_stop=standing.previous_stop,
            brokers=list(self._config.broker.urls),
        )
        if standing.detail:
            self._log.error("state folder in trouble", reason=standing.detail)

    # The pump

    async def _pump(self) -> None:
        while True:
            self._wake.clear()
            step = self._publish_due()
            if step.load is not None:
                self._spawn(self._load(step.load))
            if step.stalled:
                self._link.reconnect("the broker has not taken a report for 30 s")
                self._session.disconnected(self._connection or 0)
            pause = step.wake_at - boot_clock()
            await until(self._wake, None if pause == math.inf else max(0.0, pause))

    def _publish_due(self) -> Step:
        step = self._session.step(stamp(), self._spool_facts())
        if self._connection is not None:
            for message in step.publish:
                self._link.publish(self._connection, message.payload, message.token)
        return step

    async def _load(self, wish: Load) -> None:
        messages = await self._spool.unacknowledged(wish.after, wish.messages_max, wish.bytes_max)
        self._session.loaded(wish, messages)
        self._wake.set()

    def _spool_facts(self) -> SpoolFacts:
        facts = self._spool.facts
        if not self._state_trouble:
            return facts
        detail = "; ".join(filter(None, [self._state_trouble, facts.state.detail]))
        return structs.replace(facts, state=structs.replace(facts.state, detail=detail))

    def _spawn(self, what: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # RunnerUser

    def section(self, section: Section, *, urgent: bool) -> None:
        self._previous_boot.learn(section)
        self._session.section(stamp(), section, urgent=urgent)
        self._wake.set()

    async def happened(self, happening: Happening) -> None:
        await self._born.wait()  # the first message of a run is its birth
        message = self._session.event(stamp(), happening)
        if isinstance(message, Refusal):
            raise EventRefused(f"no collector accepts this {happening.type} event: {message.detail}")
        await self._keep(message)
        if happening.type == KernelEvent.VM_FORK:
            self._witness.reread(ReadCause.FORK)

    async def _keep(self, message: Spooled) -> None:
        """Put it on disk and on its way."""
        await self._spool.append(message)
        self._session.spooled(message)
        self._wake.set()

    # WitnessUser

    async def testify(self, said: Testimony) -> Spooled | None:
        await self._born.wait()
        make = self._session.witness if isinstance(said, Confirmed) else self._session.chain_report
        message = make(stamp(), said)  # type: ignore[arg-type]  # the line above chose by its type
        if isinstance(message, Refusal):
            self._log.error("testimony refused by our own codec", reason=message.detail)
            return None
        await self._keep(message)
        return message

    def watch_failed(self, probe: str, reason: str, pause_seconds: float) -> None:
        self._log.warning(
            "watch failed", probe=probe, reason=reason, next_try_seconds=round(pause_seconds, 1)
        )

    # LinkUser

    def connecting(self) -> tuple[int, bytes]:
        return self._session.connecting(stamp())

    def connected(self, number: int, standing: LinkStanding) -> None:
        self._connection = number
        self._session.connected(stamp(), number, standing.payload_bytes_max)
        self._log.info(
            "broker connected",
            broker=str(standing.broker),
            mqtt=standing.protocol,
            connection=number,
            undelivered=self._spool.facts.state.messages,
        )
        if not standing.subscribed:
            self._log.error(
                "subscription refused",
                topic=self._config.link_options().down_topic,
                remedy="allow this node to read its down topic in the broker's access list",
            )
        self._say_status(f"connected to {standing.broker}")
        self._wake.set()

    def connect_failed(self, broker: BrokerAddress, reason: str, pause_seconds: float) -> None:
        self._log.warning(
            "broker connection failed",
            broker=str(broker),
            reason=reason,
            next_try_seconds=round(pause_seconds, 1),
        )
        self._say_status(f"no connection: {reason}")

    def disconnected(self, number: int, reason: str) -> None:
        self._session.disconnected(number)
        if self._connection == number:
            self._connection = None
        level = self._log.info if self._stop.is_set() else self._log.warning
        level("broker disconnected", connection=number, reason=reason)
        self._say_status(f"disconnected: {reason}")

    def taken_over(self, number: int) -> None:
        self._spawn(self.happened(session_taken_over(self._config.node, number)))

    def answered(self, number: int, token: int, refusal: str) -> None:
        self._session.published(number, token)
        if refusal and self._refused_on != number:
            self._refused_on = number
            self._log.error(
                "publish refused",
                reason=refusal,
                topic=self._config.link_options().up_topic,
                refused_total=self._link.counts.refused_total,
                remedy="allow this node to write its up topic in the broker's access list",
            )
        self._wake.set()

    def received(self, payload: bytes) -> None:
        message = decode_down(payload)
        if isinstance(message, Refusal):
            self._log.warning(
                "message from collector rejected", reason=message.reason.value, detail=message.detail
            )
            return
        if isinstance(message, Ack):
            acknowledged = self._session.acked(stamp(), message)
            self._spool.acknowledge(acknowledged)
            self._witness.acknowledged(acknowledged)
        elif isinstance(message, Resend):
            self._session.resend(stamp(), message)
        elif isinstance(message, Expect):
            self._witness.expect(message)
        self._wake.set()

    # The rest of the house

    def _spool_changed(self, event: str, detail: str) -> None:
        level = self._log.info if event == "spool back on disk" else self._log.error
        level(event, detail=detail)
        self._wake.set()

    def _say_status(self, link: str = "starting") -> None:
        waiting = self._spool.facts.state.messages
        self._notify.status(f"{link}; {len(self._runner.names)} probes; {waiting} messages to deliver")

    async def _watch_over(self) -> None:
        """Ping systemd's watchdog: this loop moves, and the spool's thread does or has been given up."""
        period = self._notify.watchdog_seconds / 3
        if not period:
            await asyncio.Event().wait()
        while True:
            await self._spool.answers()
            self._notify.alive()
            await asyncio.sleep(period)

    async def _settle(self) -> None:
        """Write the identity once the state folder takes it again."""
        loop = asyncio.get_running_loop()
        while self._state_trouble:
            await asyncio.sleep(SETTLE_SECONDS)
            if await loop.run_in_executor(None, self._folder.settle):
                self._state_trouble = ""
                self._log.info("state folder in order")
        await asyncio.Event().wait()

    # Configuration

    async def _reload_on_demand(self) -> None:
        while True:
            await self._reloading.wait()
            self._reloading.clear()
            self._notify.reloading()
            try:
                loaded = await asyncio.get_running_loop().run_in_executor(None, self._reload)
            except ConfigInvalid as error:
                self._log.error("configuration rejected", mistakes=error.mistakes, kept="the one in use")
            else:
                await self._apply(loaded.config)
            self._notify.ready()

    async def _apply(self, new: AgentConfig) -> None:
        """Change over to `new`, as far as a running agent can."""
        old = self._config
        fixed = [key for key in FIXED if getattr(new, key) != getattr(old, key)]
        new = structs.replace(new, **{key: getattr(old, key) for key in FIXED})
        self._config = new
        log.configure(new.log.level, new.log.format, journal=log.journal_is_out())
        self._log = log.log.bind(node=new.node)  # a bound logger keeps the level it was bound at
        changed = {
            name
            for name in self._kinds
            if new.interval != old.interval or new.probes.get(name) != old.probes.get(name)
        }
        for name in changed:
            self._runner.stop(name)
        if new.interval != old.interval:
            self._session.set_interval(stamp(), new.interval)
        runs = self._runs(changed)
        self._expect(self._runner.names | {run.name for run in runs})
        for run in runs:
            self._spawn(self._runner.start(run))
        if new.broker != old.broker:
            self._link.reconnect("the configuration changed", new.link_options())
        if new.witness != old.witness or new.interval != old.interval:
            replanned = await self._witness.configure(new.witness, new.interval)
            self._log.info("witness configured", begun=replanned.begun, ended=replanned.ended)
        self._log.info(
            "configuration applied",
            probes_restarted=sorted(changed),
            reconnected=new.broker != old.broker,
            needs_restart=fixed,
        )
        self._wake.set()

    def _runs(self, names: set[str]) -> list[ProbeRun]:
        """The enabled ones among the named probes, ready to start."""
        enabled = {name for name in self._kinds if self._config.probes[name].enabled}
        self._expect(enabled)
        return [
            probe_run(
                self._kinds[name],
                self._context(name),
                self._config.interval,
                self._config.probes[name].period,
                self._config.probes[name].timeout,
            )
            for name in sorted(names & enabled)
        ]

    def _expect(self, probes: set[str]) -> None:
        self._session.expect(probes | ({WITNESS} if self._config.witness.enabled else set()))

    def _context(self, name: str) -> ProbeContext:
        return ProbeContext(
            node=self._config.node,
            settings=self._config.probes[name].settings,
            cursors=self._cursors.of(name),
            boot_id=self._standing.boot_id,
            previous_stop=self._standing.previous_stop,
        )


def serve(loaded: Loaded, kinds: dict[str, ProbeKind], reload: Callable[[], Loaded]) -> int:
    """Run the agent until it is told to stop; the process's exit code. Raises AlreadyRunning."""
    config = loaded.config
    log.configure(config.log.level, config.log.format, journal=log.journal_is_out())
    for warning in loaded.warnings:
        log.log.warning("configuration unwise", reason=warning)
    folder = StateFolder(Path(config.state_dir))
    standing = folder.open()
    notify = ServiceNotify(os.environ)

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(BackgroundThreads())
        await Agent(loaded, kinds, reload, notify, folder, standing).run()

    # aiomqtt needs add_reader, which Windows' default loop does not have.
    factory = asyncio.SelectorEventLoop if sys.platform == "win32" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    return 0


async def _within(seconds: float, what: Any) -> Any:
    """The result, or None when it does not come in time."""
    try:
        return await asyncio.wait_for(what, seconds)
    except TimeoutError:
        return None
