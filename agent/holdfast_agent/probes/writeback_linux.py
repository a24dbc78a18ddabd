"""What waits in memory: how old written data may become, how fast it is written out, and swap.

A database that flushes is not concerned; everybody else loses at a power cut what is younger than the limit (catalogue
A-47: exposure, never loss). Swap that runs out ends in killed processes.
"""

import mmap
from pathlib import Path

from msgspec import Struct

from holdfast_agent.probe import Observation, Poll, Unsupported
from holdfast_agent.probes.small_file import read_small
from holdfast_agent.probes.sysfs_linux import attributes, number
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value


class WritebackRaw(Struct, frozen=True, kw_only=True):
    """What was read of procfs."""

    vmstat: dict[str, str]
    """`nr_written` of /proc/vmstat: pages."""
    page_bytes: int
    settings: dict[str, str]
    """Of /proc/sys/vm."""
    swaps: str | None
    """/proc/swaps; None where the kernel has no swap."""


class Writeback(Poll[WritebackRaw]):
    """Dirty memory and swap."""

    name = "writeback"
    platforms = frozenset({"linux"})
    cost = "nobody knows how much a power cut would take, or that swap runs out"
    period_seconds = 15.0
    timeout_seconds = 5.0
    emits = tuple(
        ("node", fact)
        for fact in ("written_back_bytes_total", "dirty_expire_seconds", "swap_bytes", "swap_free_ratio")
    )

    def read(self) -> WritebackRaw:
        procfs = self.context.procfs
        vmstat = _text(procfs / "vmstat")
        if vmstat is None:
            raise Unsupported(f"there is no {procfs}/vmstat")
        return WritebackRaw(
            vmstat={
                name: value
                for name, _, value in (line.partition(" ") for line in vmstat.splitlines())
                if name == "nr_written"
            },
            page_bytes=mmap.PAGESIZE,
            settings=attributes(
                procfs / "sys" / "vm", ["dirty_expire_centisecs", "dirty_writeback_centisecs"]
            ),
            swaps=_text(procfs / "swaps"),
        )

    def interpret(self, raw: WritebackRaw) -> Observation:
        missing: dict[str, str] = {}
        facts: dict[str, Value] = {}
        written = number(raw.vmstat.get("nr_written"))
        if written is None:
            missing["written_back_bytes_total"] = "/proc/vmstat has no nr_written"
        else:
            facts["written_back_bytes_total"] = written * raw.page_bytes
        expire = number(raw.settings.get("dirty_expire_centisecs"))
        wake = number(raw.settings.get("dirty_writeback_centisecs"))
        if expire is None or wake is None:
            missing["dirty_expire_seconds"] = "/proc/sys/vm cannot be read"
        elif wake == 0:
            missing["dirty_expire_seconds"] = (
                "dirty_writeback_centisecs is 0: nothing is written out for its age"
            )
        else:
            # A page is found to be old when the flusher wakes (vm.rst of the kernel's admin guide).
            facts["dirty_expire_seconds"] = (expire + wake) / 100.0
        facts |= swap_facts(raw.swaps)
        return Observation(
            resources=[Resource(kind=ResourceKind.NODE, name=self.context.node, facts=facts)], missing=missing
        )


def swap_facts(swaps: str | None) -> dict[str, Value]:
    """All swap areas together; sizes in /proc/swaps are KiB (proc_swaps(5)). A kernel without swap has none."""
    size = used = 0
    for line in (swaps or "").splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 5 and fields[-3].isdigit() and fields[-2].isdigit():
            size += int(fields[-3]) * 1024
            used += int(fields[-2]) * 1024
    facts: dict[str, Value] = {"swap_bytes": size}
    if size:
        facts["swap_free_ratio"] = round((size - used) / size, 4)
    return facts


def _text(path: Path) -> str | None:
    try:
        return read_small(path)
    except OSError:
        return None
