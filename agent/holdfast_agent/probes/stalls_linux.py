"""Stalls: devices that have requests and complete none, tasks that hang, time lost waiting for I/O.

Catalogue A-38. A device that hangs fails no request, so nothing reports an error; /proc/diskstats shows requests in
flight and a count of completions that stands still (Documentation/admin-guide/iostats.rst). How long it has stood is
told from look to look, so a stall is known to last at least that long.

The kernel wakes the watch when all tasks together waited for I/O during half of a window of 2 s (pressure stall
information, Documentation/accounting/psi.rst); then the first look comes at once instead of within 10 s. Windows that
are no multiple of 2 s are for CAP_SYS_RESOURCE only.
"""

import asyncio
import contextlib
import errno
import os
import re
import select
import sys

from msgspec import Struct, field

from holdfast_agent.probe import (
    Denied,
    Emit,
    Observation,
    Poll,
    ProbeContext,
    Refresh,
    Signal,
    Unsupported,
    Watch,
    facts_of,
)
from holdfast_agent.probes.mounted_linux import number_in, text_of
from holdfast_agent.probes.paced_refresh import paced
from holdfast_agent.probes.partitions_linux import sized_devices
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

_TRIGGER = b"full 1000000 2000000\0"
"""Microseconds: 1 s within 2 s."""
_PRESSURE = re.compile(r"^(some|full) .*?\bavg60=([0-9.]+)", re.MULTILINE)
_COMPLETED, _IN_FLIGHT = (3, 7, 14, 18), 11
"""Columns of diskstats: reads, writes, discards and flushes that completed; requests in flight."""
_MEMORY = ("ram", "zram")


class StallsRaw(Struct, frozen=True, kw_only=True):
    """One look."""

    at: float
    """On the boot clock, seconds."""
    diskstats: str
    disks: list[str] = field(default_factory=list)
    """Whole devices; the other lines of diskstats are partitions."""
    pressure: str = ""
    hung_tasks: int | None = None


class _Standing(Struct):
    """A device's count of completions, and since when it has stood there with requests in flight."""

    completed: int
    since: float | None


class Stalls(Poll[StallsRaw]):
    """Whether I/O completes."""

    name = "stalls"
    platforms = frozenset({"linux"})
    cost = "a device that answers nothing any more looks idle"
    period_seconds = 10.0
    emits = (
        ("device", "stalled_seconds"),
        ("device", "requests_stalled"),
        ("node", "io_pressure_some_ratio"),
        ("node", "io_pressure_full_ratio"),
        ("node", "hung_tasks_total"),
    )

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        self._standing: dict[str, _Standing] = {}

    def read(self) -> StallsRaw:
        procfs = self.context.procfs
        diskstats = text_of(procfs / "diskstats")
        if not diskstats:
            raise Unsupported(f"there is no {procfs}/diskstats")
        disks: list[str] = []
        with contextlib.suppress(OSError):
            # A loop device without a file behind it is a name only; it keeps the counts of its last use, and no size.
            sized = sized_devices(procfs)
            disks = [
                name
                for name in sorted(os.listdir(self.context.sysfs / "block"))
                if not name.startswith("loop") or name in sized
            ]
        return StallsRaw(
            at=self.context.boot_clock(),
            diskstats=diskstats,
            disks=disks,
            pressure=text_of(procfs / "pressure" / "io"),
            hung_tasks=number_in(procfs / "sys" / "kernel" / "hung_task_detect_count"),
        )

    def interpret(self, raw: StallsRaw) -> Observation:
        resources, seen = [], dict[str, _Standing]()
        for name, completed, in_flight in _devices(raw):
            standing = self._stand(name, completed, in_flight, raw.at)
            seen[name] = standing
            stalled = 0.0 if standing.since is None else raw.at - standing.since
            facts: dict[str, Value] = {
                "stalled_seconds": round(stalled, 1),
                "requests_stalled": in_flight if stalled > 0 else 0,
            }
            resources.append(Resource(kind=ResourceKind.DEVICE, name=name, facts=facts))
        self._standing = seen
        if node := _node_facts(raw):
            resources.append(Resource(kind=ResourceKind.NODE, name=self.context.node, facts=node))
        missing = (
            {} if raw.pressure else {"io_pressure": "this kernel keeps no pressure stall information (psi=1)"}
        )
        return Observation(resources=resources, missing=missing)

    def _stand(self, name: str, completed: int, in_flight: int, at: float) -> _Standing:
        """Where the device stands now: a stall begins at the first look that found requests in flight."""
        before = self._standing.get(name)
        if in_flight == 0:
            return _Standing(completed, None)
        if before is None or before.completed != completed or before.since is None:
            return _Standing(completed, at)
        return before


class StallsWatch(Watch):
    """Has `stalls` look when the whole machine waits for I/O."""

    name = "stalls"
    platforms = frozenset({"linux"})
    told_by = (
        Signal(
            by="all tasks waiting for I/O for a second of two (PSI)",
            facts=facts_of("device", "stalled_seconds", "requests_stalled"),
        ),
    )
    cost = Stalls.cost

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Look at once when a trigger fires, and not more than once a second while it goes on."""
        if sys.platform != "linux":
            raise Unsupported("only Linux has pressure stall information")
        loop, look = asyncio.get_running_loop(), paced(refresh)
        with contextlib.ExitStack() as held:
            descriptor = self._armed()
            held.callback(os.close, descriptor)
            # An event is POLLPRI, for which the loop cannot wait; an epoll set of its own is readable when it comes.
            events = held.enter_context(select.epoll())
            events.register(descriptor, select.EPOLLPRI)

            def fired() -> None:
                events.poll(0)
                look()

            loop.add_reader(events.fileno(), fired)
            held.callback(loop.remove_reader, events.fileno())
            await asyncio.Event().wait()

    def _armed(self) -> int:
        """An open trigger; it lives as long as the descriptor."""
        if sys.platform != "linux":
            raise Unsupported("only Linux has pressure stall information")
        path = self.context.procfs / "pressure" / "io"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Unsupported("this kernel keeps no pressure stall information (psi=1)") from None
        except PermissionError:
            raise Denied(_RIGHT) from None
        try:
            os.write(descriptor, _TRIGGER)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EPERM, errno.EACCES, errno.EINVAL):
                raise Denied(_RIGHT) from None
            raise Unsupported(f"{path} takes no trigger: {error.strerror}") from None
        return descriptor


_RIGHT = (
    "to be woken by /proc/pressure/io takes CAP_SYS_RESOURCE before Linux 6.4; "
    "without it stalls are seen within 10 s instead of at once"
)


def _devices(raw: StallsRaw) -> list[tuple[str, int, int]]:
    """(name, completed, in flight) of the whole devices that were ever used."""
    found = []
    disks = set(raw.disks)
    for line in raw.diskstats.splitlines():
        columns = line.split(None, 3)
        if len(columns) < 4 or columns[2] not in disks or columns[2].rstrip("0123456789") in _MEMORY:
            continue
        columns = line.split()
        if len(columns) <= _IN_FLIGHT:
            continue
        completed = sum(int(columns[at]) for at in _COMPLETED if at < len(columns))
        in_flight = int(columns[_IN_FLIGHT])
        if completed or in_flight:
            found.append((columns[2], completed, in_flight))
    return found


def _node_facts(raw: StallsRaw) -> dict[str, Value]:
    """Shares of the last minute, in hundredths: finer ones would only make reports differ."""
    facts: dict[str, Value] = {
        f"io_pressure_{kind}_ratio": round(float(percent) / 100, 2)
        for kind, percent in _PRESSURE.findall(raw.pressure)
    }
    if raw.hung_tasks is not None:
        facts["hung_tasks_total"] = raw.hung_tasks
    return facts
