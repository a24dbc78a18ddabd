"""How each volume's witness would stand, without writing anything: for `doctor` and `once`.

What it costs is computed, not measured: on ext4 and XFS a record of 4 KiB comes to at most 4.9 kB and 2.2 writes at
the device, the filesystem's own included; btrfs writes the way up its trees as well (tests/bench/witness_bench.py).
"""

import os
import sys
from pathlib import Path

from msgspec import Struct

from holdfast_agent.config import AgentConfig
from holdfast_agent.durable_file import read_if_there
from holdfast_agent.probe import boot_clock
from holdfast_agent.probes.block_devices_linux import name_of_number
from holdfast_agent.witness.chain_store import cure
from holdfast_agent.witness.identity_linux import SYSFS
from holdfast_agent.witness.ring_file_linux import takes_direct_reads
from holdfast_agent.witness.survey import Survey, VolumeSaid, survey
from holdfast_agent.witness.witness_choice import Candidate, WitnessedVolume
from holdfast_wire.message import Value

RECORD_AT_DEVICE = {"btrfs": (74_000, 7.0)}
RECORD_AT_DEVICE_ELSEWHERE = (4_900, 2.2)
"""Type of filesystem → bytes and writes of one record."""
DAY_SECONDS = 86_400.0
SECTOR_BYTES = 512
"""Of /sys/block/*/stat, whatever the device's own are (Documentation/block/stat.rst)."""


class Cost(Struct, frozen=True, kw_only=True):
    """What a volume's records come to at its device."""

    bytes_per_day: float
    writes_per_day: float
    share: float | None
    """Of all that was written to the device since the machine booted; None where nobody counts."""

    def __str__(self) -> str:
        day, year = self.bytes_per_day / 1e6, self.bytes_per_day * 365 / 1e9
        said = f"{day:.1f} MB and {self.writes_per_day:.0f} writes a day, {year:.1f} GB a year"
        if self.share is None:
            return said
        share = f"{self.share:.2%}" if self.share >= 0.0001 else "under 0.01%"
        return f"{said}, {share} of all that was written there since boot"


class Glimpse(Struct, frozen=True, kw_only=True):
    """What was seen of all volumes."""

    survey: Survey
    said: dict[str, VolumeSaid]
    costs: dict[str, Cost]


def glimpse(config: AgentConfig) -> Glimpse:
    """Look. May block on a dead disk."""
    folder = Path(os.path.realpath(config.state_dir))
    install_id = _install_id(folder)
    found = survey(config.witness, folder, install_id)
    said, costs = {}, {}
    for name, volume in found.plan.witnessed.items():
        said[name] = _volume(volume)
        costs[name] = cost(volume.fstype, volume.interval, _written_bytes(volume.number), boot_clock())
    return Glimpse(survey=found, said=said, costs=costs)


def cost(fstype: str, interval: float, written_bytes: int | None, seconds: float) -> Cost:
    """`written_bytes` to the device in the past `seconds`, by whomever; None where nobody counts."""
    records = DAY_SECONDS / interval
    record_bytes, record_writes = RECORD_AT_DEVICE.get(fstype, RECORD_AT_DEVICE_ELSEWHERE)
    bytes_per_day = records * record_bytes
    all_per_day = written_bytes / seconds * DAY_SECONDS if written_bytes and seconds > 0 else None
    return Cost(
        bytes_per_day=bytes_per_day,
        writes_per_day=records * record_writes,
        share=min(1.0, bytes_per_day / all_per_day) if all_per_day else None,
    )


def _volume(volume: WitnessedVolume) -> VolumeSaid:
    facts: dict[str, Value] = {
        "witness_enabled": True,
        "witness_reason": "",
        "witness_interval_seconds": volume.interval,
    }
    for candidate in volume.candidates:
        mode = _mode(candidate)
        if mode:
            return VolumeSaid(facts={**facts, "witness_mode": mode})
    try:
        if any(_may_begin(candidate) for candidate in volume.candidates):
            return VolumeSaid(facts=facts)
    except OSError as error:  # a filesystem that died; nobody is denied anything
        reason = f"it cannot be looked at: {error.strerror or error}"
        return VolumeSaid(facts={**facts, "witness_enabled": False, "witness_reason": reason})
    reason = cure(volume.candidates[0].base, "Permission denied")
    facts |= {"witness_enabled": False, "witness_reason": reason}
    return VolumeSaid(facts=facts, missing={volume.volume: reason}, denied=True)


def _mode(candidate: Candidate) -> str:
    """How the chain there is read; empty where there is none that this user may write."""
    if sys.platform == "win32" or not os.access(candidate.path, os.R_OK | os.W_OK):
        return ""
    try:
        return "direct" if takes_direct_reads(candidate.path) else "buffered"
    except OSError:
        return ""


def _may_begin(candidate: Candidate) -> bool:
    folder = candidate.path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def _written_bytes(number: str) -> int | None:
    """Field 7 of the device's stat: sectors written since boot."""
    device = name_of_number(SYSFS, number)
    try:
        fields = (SYSFS / "class" / "block" / (device or "-") / "stat").read_text("ascii").split()
        return int(fields[6]) * SECTOR_BYTES
    except (OSError, ValueError, IndexError):
        return None


def _install_id(folder: Path) -> str:
    """As far as this user may read it; a chain's place depends on it."""
    try:
        return (read_if_there(folder / "install_id") or b"").decode("ascii", "replace").strip() or "-"
    except OSError:
        return "-"
