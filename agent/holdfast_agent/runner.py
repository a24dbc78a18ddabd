"""Runs the probes: when they are due, in threads, under time-outs, and whatever they do.

Each poll runs in a daemon thread of its own, at most one at a time. One that does not return in time is reported as
`timeout`, with where it hangs and since when, and is left alone: nothing can end a thread, and a second one would
hang beside it. When it does return at last, its answer is stale and it is asked again.

This is one of the agent's two places that catch every exception: a probe's mistake becomes its section's status.
"""

import asyncio
import math
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from holdfast_agent.core.happening import Happening
from holdfast_agent.core.schedule import Schedule, jittered_seconds
from holdfast_agent.errors import Denied, EventRefused, NoData, ProbeStop, Unsupported
from holdfast_agent.pause import until
from holdfast_agent.probe import Observation, Poll, ProbeContext, Watch, boot_clock
from holdfast_agent.registry import ProbeKind
from holdfast_wire import Capability, Section, SectionStatus

IMPOSSIBLE_PERIOD_SECONDS = 60.0
"""How often a probe is asked that said it cannot work here: packages get installed, privileges granted."""
WATCH_PAUSE_BASE_SECONDS = 1.0
WATCH_PAUSE_CAP_SECONDS = 60.0
WATCH_STEADY_SECONDS = 60.0
"""A watch that ran this long was a good one: its next failure starts with short pauses again."""

_STATUS_OF: dict[type[ProbeStop], SectionStatus] = {
    Unsupported: SectionStatus.UNSUPPORTED,
    Denied: SectionStatus.DENIED,
    NoData: SectionStatus.NO_DATA,
}
_IMPOSSIBLE = {SectionStatus.UNSUPPORTED, SectionStatus.DENIED}
_WORKING = {SectionStatus.OK, SectionStatus.NO_DATA}


class RunnerUser(Protocol):
    """Whom the runner tells. Called on the event loop."""

    def section(self, section: Section, *, urgent: bool) -> None:
        """A probe has looked; `urgent` when it was asked to by its watch."""

    async def happened(self, happening: Happening) -> None:
        """Returns when the event is in the spool. Raises EventRefused for one that no collector would take."""

    def watch_failed(self, probe: str, reason: str, pause_seconds: float) -> None: ...


class ProbeRun(Struct, kw_only=True, eq=False):
    """One probe as it is run."""

    name: str
    cost: str
    poll: Poll[Any] | None
    watch: Watch | None
    period: float
    timeout: float
    thread: threading.Thread | None = None
    """The poll's thread, until it returns."""
    watch_status: SectionStatus = SectionStatus.OK
    watch_trouble: str = ""
    """Why the watch does not run; empty while it does."""
    tasks: set["asyncio.Task[Any]"] = msgspec.field(default_factory=set)


class _Seen(Struct):
    """What a look gave, before it is a section."""

    observation: Observation
    seconds: float


def probe_run(
    kind: ProbeKind, context: ProbeContext, interval: float, period: float, timeout: float
) -> ProbeRun:
    """Make a probe's objects. `period` and `timeout` of 0 mean the probe's own."""
    own_period, own_timeout = kind.timing(interval)
    probes = [class_(context) for class_ in kind.classes]
    return ProbeRun(
        name=kind.name,
        cost=kind.cost,
        poll=next((probe for probe in probes if isinstance(probe, Poll)), None),
        watch=next((probe for probe in probes if isinstance(probe, Watch)), None),
        period=period or own_period,
        timeout=timeout or own_timeout,
    )


class Runner:
    """See the module. Used from one event loop."""

    def __init__(
        self,
        user: RunnerUser,
        entropy: Callable[[], float],
        interval: float,
        wall_clock: Callable[[], float],
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self._user = user
        self._entropy = entropy
        self._wall_clock = wall_clock
        self._clock = clock
        self._schedule = Schedule(phase=clock() + entropy() * interval)
        self._runs: dict[str, ProbeRun] = {}
        self._urgent: set[str] = set()
        self._capabilities: dict[str, list[Capability]] = {}
        self._wake = asyncio.Event()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails when something of ours fails that no probe is to blame for."""

    @property
    def names(self) -> set[str]:
        return set(self._runs)

    def capabilities(self) -> list[Capability]:
        """What each probe could do when it last looked, by name."""
        return [each for name in sorted(self._capabilities) for each in self._capabilities[name]]

    async def look(self, run: ProbeRun) -> None:
        """Take up a probe and look for the first time. Returns when that is done or its time-out is over."""
        self._runs[run.name] = run
        self._schedule.begin(run.name, run.period, self._clock())
        await self._look(run, urgent=False)

    async def start(self, run: ProbeRun) -> None:
        """Take up a probe for good: look, then watch; `run` does the rest."""
        await self.look(run)
        if run.watch is not None and self._runs.get(run.name) is run:
            self._spawn(run, self._keep_watching(run, run.watch))

    def stop(self, name: str) -> None:
        """Give a probe up: its watch ends, what it still says is not heard."""
        run = self._runs.pop(name, None)
        self._schedule.remove(name)
        self._capabilities.pop(name, None)
        for task in list(run.tasks if run else ()):
            task.cancel()

    async def run(self) -> None:
        """Start what is due, until cancelled."""
        while True:
            now = self._clock()
            for name in self._schedule.due(now):
                run = self._runs[name]
                urgent = name in self._urgent
                self._urgent.discard(name)
                self._spawn(run, self._look(run, urgent=urgent))
            pause = self._schedule.wake_at() - self._clock()
            self._wake.clear()
            await until(self._wake, None if pause == math.inf else max(0.0, pause))

    def refresh(self, name: str) -> None:
        """Look now and say so at once."""
        self._urgent.add(name)
        self._schedule.refresh(name, self._clock())
        self._wake.set()

    # Polls

    async def _look(self, run: ProbeRun, *, urgent: bool) -> None:
        at, mono = self._wall_clock(), self._clock()
        seen = await self._seen(run)
        if self._runs.get(run.name) is not run:
            return  # given up meanwhile
        section = self._section(run, seen, at, mono)
        self._capabilities[run.name] = _capabilities(run, section)
        self._user.section(section, urgent=urgent)
        if run.thread is None:
            self._schedule.finished(run.name, self._clock(), section.period_seconds)
            self._wake.set()
        if seen.observation.events:
            self._spawn(run, self._report(run, seen.observation.events))

    async def _seen(self, run: ProbeRun) -> _Seen:
        """Have the probe look, in a thread; a watch without a poll is asked whether it could run."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Seen] = loop.create_future()
        began = self._clock()

        def work() -> None:
            observation = _observe(run)
            seen = _Seen(observation, self._clock() - began)
            try:
                loop.call_soon_threadsafe(returned, seen)
            except RuntimeError:
                pass  # the loop is closed: the agent ended without waiting for us

        def returned(seen: _Seen) -> None:
            run.thread = None
            if not answer.done():
                answer.set_result(seen)
            elif self._runs.get(run.name) is run:
                self._schedule.finished(run.name, self._clock(), run.period)
                self.refresh(run.name)

        run.thread = threading.Thread(target=work, name=f"probe {run.name}", daemon=True)
        run.thread.start()
        await asyncio.wait([answer], timeout=run.timeout)
        if answer.done():
            return answer.result()
        answer.cancel()
        return _Seen(self._hanging(run), self._clock() - began)

    def _hanging(self, run: ProbeRun) -> Observation:
        since = datetime.fromtimestamp(self._wall_clock() - run.timeout, UTC).strftime(
            "%Y-%m-%d %H:%M:%S UTC"
        )
        where = _where(run.thread)
        detail = f"has not returned within {run.timeout:g} s; hangs since {since}{where}"
        return Observation(status=SectionStatus.TIMEOUT, detail=detail)

    def _section(self, run: ProbeRun, seen: _Seen, at: float, mono: float) -> Section:
        observation = seen.observation
        status, detail, missing = observation.status, observation.detail, observation.missing
        if run.watch_trouble and run.poll is not None:
            missing = {**missing, "watch": run.watch_trouble}
        elif run.watch_trouble:
            status, detail = run.watch_status, run.watch_trouble
        period = max(run.period, IMPOSSIBLE_PERIOD_SECONDS) if status in _IMPOSSIBLE else run.period
        return Section(
            probe=run.name,
            status=status,
            observed_at=at,
            mono=mono,
            period_seconds=period,
            duration_seconds=seen.seconds,
            detail=detail,
            missing=missing,
            resources=observation.resources,
        )

    async def _report(self, run: ProbeRun, events: list[Happening]) -> None:
        for happening in events:
            try:
                await self._user.happened(happening)
            except EventRefused as error:
                self._user.watch_failed(run.name, str(error), 0.0)

    # Watches

    async def _keep_watching(self, run: ProbeRun, watch: Watch) -> None:
        attempt, said = 0, ""
        while True:
            began = self._clock()
            run.watch_status, reason = await self._watched(run, watch)
            if self._clock() - began >= WATCH_STEADY_SECONDS:
                attempt = 0
            pause = jittered_seconds(
                attempt, 0.5 + self._entropy() / 2, base=WATCH_PAUSE_BASE_SECONDS, cap=WATCH_PAUSE_CAP_SECONDS
            )
            if run.watch_status in _IMPOSSIBLE:
                pause = IMPOSSIBLE_PERIOD_SECONDS
            attempt += 1
            run.watch_trouble = f"the watch does not run: {reason}"
            # What a machine cannot do it cannot do a minute later either: that is said once, for the log is read by people.
            if run.watch_status not in _IMPOSSIBLE or reason != said:
                self._user.watch_failed(run.name, reason, pause)
            said = reason
            self.refresh(run.name)
            await asyncio.sleep(pause)
            run.watch_trouble = ""

    async def _watched(self, run: ProbeRun, watch: Watch) -> tuple[SectionStatus, str]:
        """Run the watch until it ends; how and why it did."""

        async def emit(happening: Happening) -> None:
            await self._user.happened(happening)

        try:
            await watch.watch(emit, lambda: self.refresh(run.name))
        except ProbeStop as stop:
            return _STATUS_OF[type(stop)], stop.reason
        except Exception as error:  # noqa: BLE001  # supervision: a watch may fail in any way
            return SectionStatus.ERROR, _said(error)
        return SectionStatus.ERROR, "it ended by itself"

    def _spawn(self, run: ProbeRun, what: Awaitable[None]) -> None:
        task = asyncio.ensure_future(what)
        run.tasks.add(task)
        task.add_done_callback(run.tasks.discard)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Future[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)


def _observe(run: ProbeRun) -> Observation:
    """One look, in the probe's thread. Everything it may raise becomes a status."""
    try:
        if run.poll is not None:
            observation = run.poll.interpret(run.poll.read())
        else:
            assert run.watch is not None
            run.watch.check()
            observation = Observation()
        msgspec.json.encode(observation)  # what cannot be encoded must fail here, in its author's name
    except ProbeStop as stop:
        return Observation(status=_STATUS_OF[type(stop)], detail=stop.reason)
    except Exception as error:  # noqa: BLE001  # supervision: a probe may fail in any way
        return Observation(status=SectionStatus.ERROR, detail=_said(error))
    return observation


def _capabilities(run: ProbeRun, section: Section) -> list[Capability]:
    """Whether the probe works, and one entry for each thing it works without."""
    whole = Capability(
        name=run.name,
        available=section.status in _WORKING,
        reason=section.detail,
        cost="" if section.status in _WORKING else run.cost,
    )
    parts = [
        Capability(name=f"{run.name}.{subject}", available=False, reason=reason, cost="")
        for subject, reason in sorted(section.missing.items())
    ]
    return [whole, *parts]


def _said(error: BaseException) -> str:
    """An unforeseen exception in one line, with the place that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"[:1000]


def _where(thread: threading.Thread | None) -> str:
    """The line of our own code that a thread hangs in; empty when it cannot be told."""
    frame: FrameType | None = sys._current_frames().get(thread.ident or 0) if thread else None
    while frame is not None:
        name = frame.f_code.co_filename
        if f"{__package__}/probes/" in name or not name.startswith((sys.prefix, sys.base_prefix, "<")):
            return f" in {name.rpartition('/')[2]}:{frame.f_lineno} ({frame.f_code.co_name})"
        frame = frame.f_back
    return ""
