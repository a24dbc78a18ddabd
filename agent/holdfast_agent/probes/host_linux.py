"""The machine itself: who it is, when and how it came up, its clock, its memory.

A new boot is told once, with how the run before it ended and what shows that (`boot_evidence`). The traces come to
light while the machine boots, so they are gathered again until it has been up for ten minutes, and the event waits two
minutes for them. On an agent's first run on a machine there is no boot to tell of: it came to a running machine.

A step of the wall clock is told by the watch at the moment the clock is set, or by the poll where the watch was not
there: a step while no agent ran is seen by the difference of two clocks that an earlier run left in a note.
"""

import asyncio
import contextlib
import platform
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from holdfast_agent.probe import (
    Emit,
    Happening,
    Observation,
    Poll,
    ProbeContext,
    Refresh,
    Signal,
    Watch,
    facts_of,
)
from holdfast_agent.probes.boot_evidence import BootVerdict, judge
from holdfast_agent.probes.boot_evidence_linux import gather_boot_evidence
from holdfast_agent.probes.clock_linux import (
    ClockAlarm,
    ClockState,
    ClockSteps,
    clock_state,
    suspended_seconds,
)
from holdfast_agent.probes.host_facts import HostRaw, clock_facts, identity_facts, memory_facts
from holdfast_agent.probes.small_file import read_small
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

Note = TypeVar("Note", bound=Struct)

_BOOT_NOTE = "boot"
_CLOCK_NOTE = "clock"
_EVIDENCE_GATHERED_SECONDS = 600.0
_EVIDENCE_AWAITED_SECONDS = 120.0


class _BootNote(Struct, frozen=True, kw_only=True):
    """The cursor's note: the newest boot that was told, and what is known of how the run before it ended."""

    boot_id: str
    previous_boot_id: str = ""
    count: int
    dirty: bool | None = None
    evidence: str = ""


class _ClockNote(Struct, frozen=True):
    boot_id: str
    offset: float


class Host(Poll[HostRaw], Watch):
    """The machine itself."""

    name = "host"
    platforms = frozenset({"linux"})
    cost = "reboots, unclean shutdowns and a wrong clock go unnoticed"
    period_seconds = 10.0
    timeout_seconds = 15.0
    emits = tuple(
        ("node", fact)
        for fact in (
            "boot_timestamp_seconds", "uptime_seconds", "boot_dirty", "boot_dirty_evidence", "boot_count",
            "clock_synchronized", "clock_error_seconds", "clock_steps_total", "clock_step_seconds",
            "suspended_seconds", "memory_bytes", "memory_available_bytes", "dirty_bytes", "os_name", "kernel",
            "architecture", "machine_id", "boot_id", "vendor", "product",
        )
    )  # fmt: skip
    events = ("boot", "clock_step")
    told_by = (
        Signal(
            by="the wall clock being set",
            facts=facts_of("node", "clock_steps_total", "clock_step_seconds"),
            events=("clock_step",),
        ),
    )

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        note = self._load(_CLOCK_NOTE, _ClockNote)
        offset = note.offset if note is not None and note.boot_id == context.boot_id else None
        self._steps = ClockSteps(context.wall_clock, context.boot_clock, offset)
        self._verdict = BootVerdict(dirty=None, evidence="")
        self._gathered = False
        self._told: _BootNote | None = None
        self._told_offset: float | None = None

    def read(self) -> HostRaw:
        context = self.context
        uptime = context.boot_clock()
        booted_at = _boot_time(context.procfs) or round(context.wall_clock() - uptime)
        clock, unreadable = _clock()
        step = self._observe_step()
        boot_id = _line(context.procfs / "sys" / "kernel" / "random" / "boot_id") or context.boot_id
        evidence = None
        if not self._gathered or uptime < _EVIDENCE_GATHERED_SECONDS:
            evidence = gather_boot_evidence(
                context.rootfs,
                context.sysfs,
                machine=platform.machine(),
                booted_at=booted_at,
                previous_boot_id=self._boot_before(boot_id),
            )
            self._gathered = True
        dmi = context.sysfs / "class" / "dmi" / "id"
        return HostRaw(
            boot_id=boot_id,
            machine_id=_line(context.rootfs / "etc" / "machine-id"),
            os_release=_text(context.rootfs / "etc" / "os-release")
            or _text(context.rootfs / "usr" / "lib" / "os-release"),
            kernel=_line(context.procfs / "sys" / "kernel" / "osrelease"),
            architecture=platform.machine(),
            uptime_seconds=uptime,
            suspended_seconds=suspended_seconds(),
            wall=context.wall_clock(),
            booted_at=booted_at,
            meminfo=_text(context.procfs / "meminfo"),
            vendor=_line(dmi / "sys_vendor"),
            product=_line(dmi / "product_name") or _line(context.procfs / "device-tree" / "model"),
            clock=clock,
            clock_unreadable=unreadable,
            step_seconds=step,
            steps_total=self._steps.total,
            newest_step_seconds=self._steps.newest,
            evidence=evidence,
        )

    def interpret(self, raw: HostRaw) -> Observation:
        missing: dict[str, str] = {}
        boot, events = self._boot(raw, missing)
        facts = identity_facts(raw) | boot | clock_facts(raw, missing) | memory_facts(raw.meminfo, missing)
        if raw.step_seconds is not None:
            events.append(self._step(raw.step_seconds, raw.wall, raw.boot_id))
        node = Resource(kind=ResourceKind.NODE, name=self.context.node, facts=facts)
        return Observation(resources=[node], missing=missing, events=events)

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Report the wall clock's steps as it is set."""
        loop = asyncio.get_running_loop()
        alarm = ClockAlarm()
        ringing = asyncio.Event()
        with contextlib.ExitStack() as held:
            held.callback(alarm.close)
            loop.add_reader(alarm.fileno(), ringing.set)
            held.callback(loop.remove_reader, alarm.fileno())
            while True:
                await ringing.wait()
                ringing.clear()
                alarm.acknowledge()
                step = self._steps.observe()
                if step is not None:
                    await emit(self._step(step, self.context.wall_clock(), self.context.boot_id))
                    refresh()

    def _boot(self, raw: HostRaw, missing: dict[str, str]) -> tuple[dict[str, Value], list[Happening]]:
        """The facts of this boot, and the event if it has to be told.

        The note is moved when the next look comes, by when the event is durable: told twice rather than not at all.
        """
        if self._told is not None:
            self._store(_BOOT_NOTE, self._told)
            self._told = None
        note = self._load(_BOOT_NOTE, _BootNote)
        here = note is not None and note.boot_id == raw.boot_id
        verdict = self._judged(raw, note if here else None)
        count = note.count + (not here) if note is not None else 1
        newest = _BootNote(
            boot_id=raw.boot_id,
            previous_boot_id=self._boot_before(raw.boot_id),
            count=count,
            dirty=verdict.dirty,
            evidence=verdict.evidence,
        )
        events = []
        if note is None or here:
            self._store(_BOOT_NOTE, newest)
        elif verdict.dirty is not None or raw.uptime_seconds > _EVIDENCE_AWAITED_SECONDS:
            events.append(_boot_event(self.context.node, raw, note, newest))
            self._told = newest
        facts: dict[str, Value] = {"boot_count": count}
        if verdict.dirty is None:
            missing["boot_dirty"] = verdict.evidence
        else:
            facts |= {"boot_dirty": verdict.dirty, "boot_dirty_evidence": verdict.evidence[:1000]}
        return facts, events

    def _boot_before(self, boot_id: str) -> str:
        """The id of the boot before this one; empty when the agent was not there yet."""
        note = self._load(_BOOT_NOTE, _BootNote)
        if note is None:
            return ""
        return note.previous_boot_id if note.boot_id == boot_id else note.boot_id

    def _judged(self, raw: HostRaw, note: _BootNote | None) -> BootVerdict:
        """What the traces of now show, or what they showed before they were overwritten; dirty stays dirty."""
        if raw.evidence is not None:
            self._verdict = judge(raw.evidence)
        if note is not None and note.dirty is not None and (note.dirty or self._verdict.dirty is None):
            return BootVerdict(dirty=note.dirty, evidence=note.evidence)
        return self._verdict

    def _step(self, step: float, at: float, boot_id: str) -> Happening:
        return Happening(
            type="clock_step",
            resource_kind=ResourceKind.NODE,
            resource=self.context.node,
            at=at,
            summary=f"the wall clock was set {abs(step):.3f} s {'back' if step < 0 else 'forward'}",
            fields={"step_seconds": round(step, 6), "boot_id": boot_id},
        )

    def _observe_step(self) -> float | None:
        """A step nobody has noticed yet. The difference of the clocks is noted one look later, as with the boot."""
        if self._told_offset is not None:
            self._store(_CLOCK_NOTE, _ClockNote(self.context.boot_id, round(self._told_offset, 3)))
        step = self._steps.observe()
        self._told_offset = self._steps.offset
        return step

    def _load(self, name: str, type_: type[Note]) -> Note | None:
        note = self.context.cursors.load(name)
        try:
            return None if note is None else msgspec.json.decode(note, type=type_)
        except msgspec.DecodeError:
            return None

    def _store(self, name: str, note: Struct) -> None:
        self.context.cursors.store(name, msgspec.json.encode(note))


def _boot_event(node: str, raw: HostRaw, before: _BootNote, newest: _BootNote) -> Happening:
    fields: dict[str, Value] = {
        "boot_id": raw.boot_id,
        "previous_boot_id": before.boot_id,
        "boot_count": newest.count,
        "evidence": newest.evidence[:1000],
    }
    if newest.dirty is not None:
        fields["dirty"] = newest.dirty
    ended = {True: "without an orderly shutdown", False: "cleanly", None: "in an unknown way"}[newest.dirty]
    return Happening(
        type="boot",
        resource_kind=ResourceKind.NODE,
        resource=node,
        at=raw.booted_at,
        summary=f"the machine booted; the run before ended {ended}: {newest.evidence}"[:1000],
        fields=fields,
    )


def _clock() -> tuple[ClockState | None, str]:
    try:
        return clock_state(), ""
    except OSError as error:
        return (
            None,
            f"{error.strerror}; the unit needs ProtectClock=no and adjtimex among its SystemCallFilter=",
        )


def _boot_time(procfs: Path) -> float | None:
    """`btime` of /proc/stat (proc(5))."""
    for line in _text(procfs / "stat").splitlines():
        if line.startswith("btime "):
            return float(line[6:])
    return None


def _line(path: Path) -> str:
    return _text(path).strip("\0\n ")


def _text(path: Path) -> str:
    try:
        return read_small(path)
    except OSError:
        return ""
