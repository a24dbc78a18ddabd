"""The runner: whatever one probe does, the others look on time and its own section says what it did."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from holdfast_agent.core.happening import Happening
from holdfast_agent.probe import (
    Denied,
    Emit,
    NoData,
    Observation,
    Poll,
    Probe,
    ProbeContext,
    Refresh,
    Unsupported,
    Watch,
)
from holdfast_agent.registry import ProbeKind
from holdfast_agent.runner import ProbeRun, Runner, probe_run
from holdfast_wire import Resource, Section, SectionStatus
from tests.waiting import wait_until

HAPPENED = Happening(type="boot", resource_kind="node", resource="n", at=1.0, summary="it booted")


class Counter(Poll[int]):
    """Counts its own looks."""

    name = "counter"
    platforms = frozenset({"linux"})
    period_seconds = 0.05
    cost = "nobody counts"
    looks: ClassVar[int] = 0

    def read(self) -> int:
        type(self).looks += 1
        return type(self).looks

    def interpret(self, raw: int) -> Observation:
        return Observation(resources=[Resource(kind="node", name="n", facts={"boot_count": raw})])


class Hanging(Poll[bytes]):
    """Hangs in a real system call: the open of a FIFO that nobody writes to."""

    name = "hanging"
    platforms = frozenset({"linux"})
    timeout_seconds = 0.1
    period_seconds = 0.05
    cost = "nobody waits"
    fifo: ClassVar[Path]

    def read(self) -> bytes:
        return self.fifo.read_bytes()

    def interpret(self, raw: bytes) -> Observation:
        return Observation(detail=raw.decode())


class Failing(Poll[None]):
    """Raises what it is told to."""

    name = "failing"
    platforms = frozenset({"linux"})
    period_seconds = 0.05
    cost = "nobody fails"
    error: ClassVar[BaseException | None] = None

    def read(self) -> None:
        if self.error is not None:
            raise self.error

    def interpret(self, raw: None) -> Observation:
        return Observation(events=[HAPPENED])


class Bell(Poll[int], Watch):
    """A poll and a watch in one: when it rings, it tells and looks."""

    name = "bell"
    platforms = frozenset({"linux"})
    period_seconds = 3600.0
    cost = "nobody hears"
    rung: ClassVar[asyncio.Event]
    error: ClassVar[Exception | None] = None
    starts: ClassVar[int] = 0

    def read(self) -> int:
        return 0

    def interpret(self, raw: int) -> Observation:
        return Observation()

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        type(self).starts += 1
        while True:
            await self.rung.wait()
            self.rung.clear()
            if self.error is not None:
                raise self.error
            await emit(HAPPENED)
            refresh()


class Ear(Watch):
    """A watch without a poll."""

    name = "ear"
    platforms = frozenset({"linux"})
    cost = "nobody listens"
    error: ClassVar[Exception | None] = None

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        await asyncio.Event().wait()


class House:
    """A runner and what it told."""

    def __init__(self) -> None:
        self.sections: list[Section] = []
        self.urgent: list[str] = []
        self.happenings: list[Happening] = []
        self.failures: list[tuple[str, str]] = []
        self.runner = Runner(self, lambda: 0.0, 0.05, lambda: 1_700_000_000.0)
        self._task: asyncio.Task[None] | None = None

    def section(self, section: Section, *, urgent: bool) -> None:
        self.sections.append(section)
        if urgent:
            self.urgent.append(section.probe)

    async def happened(self, happening: Happening) -> None:
        self.happenings.append(happening)

    def watch_failed(self, probe: str, reason: str, pause_seconds: float) -> None:
        self.failures.append((probe, reason))

    def run(self, *classes: type[Probe], timeout: float = 0.0) -> list[ProbeRun]:
        kinds = [ProbeKind(name=class_.name, classes=(class_,)) for class_ in classes]
        return [probe_run(kind, ProbeContext(node="n"), 0.05, 0.0, timeout) for kind in kinds]

    async def live(self, *classes: type[Probe], timeout: float = 0.0) -> None:
        """Start the probes and run them in the background."""
        await asyncio.gather(*(self.runner.start(run) for run in self.run(*classes, timeout=timeout)))
        self._task = asyncio.create_task(self.runner.run())

    async def end(self) -> None:
        for name in self.runner.names:
            self.runner.stop(name)
        if self._task is not None:
            self._task.cancel()
        if self.runner.failed.done():
            self.runner.failed.result()

    def of(self, probe: str) -> list[Section]:
        return [section for section in self.sections if section.probe == probe]

    def status(self, probe: str) -> SectionStatus:
        return self.of(probe)[-1].status


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    Counter.looks = Bell.starts = 0
    Failing.error = Bell.error = Ear.error = None
    Bell.rung = asyncio.Event()
    yield house
    await house.end()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    Hanging.fifo = tmp_path / "fifo"
    os.mkfifo(Hanging.fifo)
    return Hanging.fifo


# Polls


async def test_poll_looks_again_and_again(house: House) -> None:
    await house.live(Counter)
    await wait_until(lambda: len(house.sections) >= 4)

    assert [section.resources[0].facts["boot_count"] for section in house.sections[:4]] == [1, 2, 3, 4]


async def test_section_carries_times_without_the_probes_help(house: House) -> None:
    await house.runner.look(house.run(Counter)[0])
    (section,) = house.sections

    assert (section.status, section.observed_at, section.period_seconds, section.detail) == (
        SectionStatus.OK,
        1_700_000_000.0,
        0.05,
        "",
    )
    assert section.duration_seconds > 0


async def test_hung_probe_delays_no_other_and_is_reported(house: House, fifo: Path) -> None:
    await house.live(Counter, Hanging)
    before = Counter.looks
    await wait_until(lambda: Counter.looks > before + 3)
    (hung,) = house.of("hanging")
    with fifo.open("w"):
        pass  # lets the thread go

    assert hung.status is SectionStatus.TIMEOUT
    assert hung.detail.startswith("has not returned within 0.1 s; hangs since 2023-11-14 22:13:19 UTC in ")


async def test_report_of_a_hang_says_where(house: House, fifo: Path) -> None:
    await house.live(Hanging)
    with fifo.open("w"):
        pass

    assert "test_runner.py" in house.of("hanging")[0].detail


async def test_hung_probe_is_not_started_a_second_time(house: House, fifo: Path) -> None:
    """Each would hang, too, until the machine has no threads left."""
    await house.live(Counter, Hanging)
    house.runner.refresh("hanging")
    before = Counter.looks
    await wait_until(lambda: Counter.looks > before + 3)
    hanging = [thread for thread in threading.enumerate() if thread.name == "probe hanging"]
    with fifo.open("w"):
        pass

    assert (len(hanging), len(house.of("hanging"))) == (1, 1)


async def test_probe_that_returns_at_last_is_asked_again(house: House, fifo: Path) -> None:
    """What it read is as old as the hang."""
    await house.live(Hanging, timeout=0.5)
    with fifo.open("w") as first:
        first.write("old")

    def answered() -> bool:
        """Offer something to whichever look has the FIFO open: the old one may not have let go of it yet."""
        try:
            writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody reads at this moment
                raise
        else:
            os.write(writer, b"new")
            os.close(writer)
        return house.status("hanging") is SectionStatus.OK

    await wait_until(answered)

    assert "old" not in {section.detail for section in house.of("hanging")}


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (Unsupported("no systemd"), SectionStatus.UNSUPPORTED, "no systemd"),
        (Denied("needs a right"), SectionStatus.DENIED, "needs a right"),
        (NoData("no disks"), SectionStatus.NO_DATA, "no disks"),
        (KeyError("x"), SectionStatus.ERROR, "KeyError: 'x' (at test_runner.py:"),
        (OSError(5, "Input/output error"), SectionStatus.ERROR, "OSError: [Errno 5] Input/output error"),
    ],
)
async def test_what_a_probe_raises_is_its_status(
    house: House, error: Exception, status: SectionStatus, detail: str
) -> None:
    Failing.error = error
    await house.runner.look(house.run(Failing)[0])
    (section,) = house.sections

    assert (section.status, section.detail[: len(detail)], section.resources) == (status, detail, [])


async def test_probe_that_cannot_work_here_is_asked_once_a_minute(house: House) -> None:
    Failing.error = Unsupported("no systemd")
    await house.runner.look(house.run(Failing)[0])

    assert house.sections[0].period_seconds == 60.0


async def test_probe_heals_by_itself_after_an_error(house: House) -> None:
    Failing.error = ValueError("once")
    await house.live(Failing)
    Failing.error = None
    await wait_until(lambda: house.status("failing") is SectionStatus.OK)

    assert house.of("failing")[0].status is SectionStatus.ERROR


class Unspeakable(Counter):
    """States what no message can carry."""

    name = "unspeakable"

    def interpret(self, raw: int) -> Observation:
        wrong: dict[str, Any] = {"boot_id": object()}
        return Observation(resources=[Resource(kind="node", name="n", facts=wrong)])


async def test_fact_that_cannot_be_encoded_is_its_probes_error(house: House) -> None:
    await house.runner.look(house.run(Unspeakable)[0])

    assert house.status("unspeakable") is SectionStatus.ERROR


async def test_events_of_a_poll_are_told(house: House) -> None:
    await house.live(Failing)

    assert await wait_until(lambda: house.happenings[:1]) == [HAPPENED]


async def test_capabilities_tell_what_is_missing_and_what_that_costs(house: House) -> None:
    Failing.error = Denied("needs a right")
    for run in house.run(Counter, Failing):
        await house.runner.look(run)

    assert [msgspec.structs.astuple(each) for each in house.runner.capabilities()] == [
        ("counter", True, "", ""),
        ("failing", False, "needs a right", "nobody fails"),
    ]


async def test_stopped_probe_is_silent(house: House) -> None:
    await house.live(Counter)
    house.runner.stop("counter")
    told = len(house.sections)
    await house.runner.look(house.run(Failing)[0])

    assert (len(house.of("counter")), house.runner.names) == (told, {"failing"})


# Watches


async def test_watch_tells_and_the_poll_behind_it_looks_at_once(house: House) -> None:
    await house.live(Bell)
    Bell.rung.set()
    await wait_until(lambda: house.urgent)

    assert (house.happenings, house.urgent, len(house.of("bell"))) == ([HAPPENED], ["bell"], 2)


async def test_failed_watch_is_said_in_the_section_and_started_again(house: House) -> None:
    await house.live(Bell)
    Bell.error = ConnectionError("the bus is gone")
    Bell.rung.set()
    await wait_until(lambda: len(house.of("bell")) >= 2)
    Bell.error = None
    await wait_until(lambda: Bell.starts == 2)
    Bell.rung.set()
    await wait_until(lambda: house.happenings)

    assert house.failures[0][0] == "bell"
    assert (
        house.of("bell")[1]
        .missing["watch"]
        .startswith("the watch does not run: ConnectionError: the bus is gone")
    )
    assert house.of("bell")[-1].missing == {}


def _rung_often(starts: int) -> bool:
    return Bell.starts >= starts


async def test_what_a_watch_may_not_see_is_logged_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without systemd would otherwise fill its log with one line a minute for ever."""
    monkeypatch.setattr("holdfast_agent.runner.IMPOSSIBLE_PERIOD_SECONDS", 0.001)
    await house.live(Bell)
    for starts, error in enumerate(
        (Denied("needs CAP_SYSLOG"), Denied("needs CAP_SYSLOG"), Denied("needs more")), 2
    ):
        Bell.error = error
        Bell.rung.set()
        await wait_until(partial(_rung_often, starts))

    assert house.failures == [("bell", "needs CAP_SYSLOG"), ("bell", "needs more")]


@pytest.mark.parametrize(
    ("error", "status"), [(None, SectionStatus.OK), (Denied("needs CAP_SYSLOG"), SectionStatus.DENIED)]
)
async def test_watch_without_a_poll_has_a_section_too(
    house: House, error: Exception | None, status: SectionStatus
) -> None:
    Ear.error = error
    await house.runner.look(house.run(Ear)[0])
    (section,) = house.sections

    assert (section.status, section.detail, section.resources) == (status, str(error or ""), [])
