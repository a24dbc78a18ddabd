"""What waits in memory: how old written data may become, how fast it is written out, and swap.

A database that flushes is not concerned; everybody else loses at a power cut what is younger than the limit (catalogue
A-47: exposure, never loss). Swap that runs out ends in killed processes.
"""

import mmap
import os
import sys
from pathlib import Path

from msgspec import Struct

from holdfast_agent.probe import Observation, Poll, ProbeContext, Unsupported
from holdfast_agent.probes.block_media_linux import Medium, media_below, temporary
from holdfast_agent.probes.mountinfo import unescape
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
    swap_media: dict[str, list[Medium]] = {}
    """Swap area, as /proc/swaps names it → the disks it lies on; none where that does not show."""


class Writeback(Poll[WritebackRaw]):
    """Dirty memory and swap."""

    name = "writeback"
    platforms = frozenset({"linux"})
    cost = "nobody knows how much a power cut would take, or that swap runs out"
    period_seconds = 15.0
    timeout_seconds = 5.0
    emits = tuple(
        ("node", fact)
        for fact in (
            "written_back_bytes_total", "dirty_expire_seconds", "swap_bytes", "swap_free_ratio", "swap_devices",
            "swap_temporary",
        )
    )  # fmt: skip

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        self._swap_media: dict[str, list[Medium]] = {}

    def read(self) -> WritebackRaw:
        procfs = self.context.procfs
        vmstat = _text(procfs / "vmstat")
        if vmstat is None:
            raise Unsupported(f"there is no {procfs}/vmstat")
        swaps = _text(procfs / "swaps")
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
            swaps=swaps,
            swap_media=self._media(swap_areas(swaps)),
        )

    def _media(self, areas: list[str]) -> dict[str, list[Medium]]:
        """What the areas lie on, looked up only when there are others: a disk in use for swap stays where it is."""
        if sorted(areas) != sorted(self._swap_media):
            self._swap_media = {area: self._media_of(area) for area in areas}
        return self._swap_media

    def _media_of(self, area: str) -> list[Medium]:
        if sys.platform != "linux":
            return []
        path = str(self.context.rootfs) + unescape(area)
        device = os.path.realpath(path).rpartition("/")[2]
        if not (self.context.sysfs / "class" / "block" / device).exists():
            try:
                number = os.stat(path).st_dev
            except OSError:
                return []
            file_on = self.context.sysfs / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}"
            if not file_on.exists():
                return []  # a filesystem of several devices, like btrfs, has a number of its own
            device = os.path.realpath(file_on).rpartition("/")[2]
        return media_below(self.context.sysfs, self.context.rootfs, device)

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
        facts |= swap_media_facts(raw.swap_media)
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


def swap_areas(swaps: str | None) -> list[str]:
    """The areas' names as /proc/swaps writes them."""
    return [line.split()[0] for line in (swaps or "").splitlines()[1:] if len(line.split()) >= 5]


def swap_media_facts(media: dict[str, list[Medium]]) -> dict[str, Value]:
    """What swap lies on. Nothing in swap outlives the machine's run, so a temporary disk, or memory, is right for it."""
    found = {medium.name: medium for below in media.values() for medium in below}
    if not found:
        return {}
    facts: dict[str, Value] = {"swap_devices": ", ".join(sorted(found))}
    lost = [temporary([medium]) for medium in found.values()]
    if all(media.values()) and None not in lost:
        facts["swap_temporary"] = all(lost)
    return facts


def _text(path: Path) -> str | None:
    try:
        return read_small(path)
    except OSError:
        return None
