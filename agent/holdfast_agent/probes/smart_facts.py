"""What a health record says: smartctl's JSON to facts, and its growth since a baseline.

smartctl's exit status is a mask (smartctl(8), "EXIT STATUS"), not a verdict: 1 wrong usage or no such device type,
2 the device could not be opened or sleeps, 4 a command failed or a checksum was wrong, 8 the disk is failing,
16 and 32 attributes at their thresholds now or once, 64 errors in the log, 128 a failed self-test. A mask of 4 with a
verdict of `passed` is usual for disks that lack some command (measured on scsi_debug).
"""

from typing import Any

import msgspec
from msgspec import Struct

from holdfast_agent.probes.device_answers_linux import Answer
from holdfast_wire.message import Value

_ATTRIBUTES = {
    5: "smart_reallocated_sectors",
    187: "smart_reported_uncorrectable",
    188: "smart_command_timeouts",
    197: "smart_pending_sectors",
    198: "smart_offline_uncorrectable",
}
"""The five whose growth foretells failure (Backblaze; catalogue A-44)."""
GROWING = (
    "smart_reported_uncorrectable",
    "smart_pending_sectors",
    "smart_offline_uncorrectable",
    "smart_media_errors",
)
"""What counts as new damage when it grows."""
LOGGED = "smart_logged_errors"
"""Grows with errors of the cable and with commands that the disk refused, too, and so is no damage by itself."""
_PLAIN_COUNT_MAX = 2**32
"""188 is three 16-bit counts in one on Seagate's disks; such a value says nothing that can be compared."""
_BITS = (
    "nvme_spare_low",
    "nvme_too_hot",
    "nvme_reliability_degraded",
    "nvme_media_read_only",
    "nvme_backup_failed",
)
"""Critical warning, from bit 0 (NVM Express Base Specification, SMART / Health Information)."""

Record = dict[str, Any]


class Reading(Struct, frozen=True, kw_only=True):
    """One device's answer, understood."""

    facts: dict[str, Value]
    identity: str = ""
    """Model and serial number: what a baseline belongs to."""
    trouble: str = ""
    """Why the record could not be read, though there may be one."""


def understood(answer: Answer) -> Reading:
    """The facts in smartctl's answer. No record at all is a state of its own, no failure and no health."""
    record = _record(answer.output)
    if record is None:
        return Reading(
            facts={}, trouble=answer.error or f"smartctl ended with {answer.status} and said nothing"
        )
    said = _messages(record)
    if answer.status >= 0 and answer.status & 2:
        return Reading(facts={}, trouble=said or "the device could not be opened, or it sleeps")
    facts = {**_ata(record), **_nvme(record), **_general(record)}
    passed = _dig(record, "smart_status", "passed")
    if isinstance(passed, bool):
        facts["smart_passed"] = passed
    facts |= _failing(facts)
    has_record = isinstance(passed, bool) or any(name.startswith(("smart_", "nvme_")) for name in facts)
    facts["smart_available"] = has_record
    if not has_record:
        facts["smart_unavailable_reason"] = said or "the device keeps no health record"
    identity = f"{_dig(record, 'model_name') or _dig(record, 'scsi_model_name') or ''}/{_dig(record, 'serial_number') or ''}"
    return Reading(facts=facts, identity=identity)


_FAILURES = {
    "nvme_reliability_degraded": "its reliability is degraded",
    "nvme_media_read_only": "its medium is read-only",
    "nvme_backup_failed": "it has no protection from power loss any more",
}


def _failing(facts: dict[str, Value]) -> dict[str, Value]:
    """What makes it a failing disk; nothing is said of one that gave neither verdict nor warnings.

    smartctl calls an NVMe failed for any bit of the warning, heat and low spare included; so its bits are asked instead.
    """
    reasons = [words for name, words in _FAILURES.items() if facts.get(name) is True]
    if facts.get("smart_passed") is False and "nvme_too_hot" not in facts:
        reasons.append("its own verdict is that it fails")
    if not reasons and "smart_passed" not in facts:
        return {}
    return {"smart_failing": bool(reasons), "smart_failing_reason": "; ".join(reasons)}


def _record(output: str) -> Record | None:
    start = output.find("{")
    try:
        found = msgspec.json.decode(output[start:] if start >= 0 else "")
    except msgspec.DecodeError:
        return None
    return found if isinstance(found, dict) else None


def _dig(record: Record, *path: str) -> Any:
    """The value at a path; None where any part of it is absent or not what it should be."""
    found: Any = record
    for key in path:
        if not isinstance(found, dict):
            return None
        found = found.get(key)
    return found


def _count(value: Any) -> int | None:
    """A whole number; larger ones come as text, or with a text beside them (`--json` on 32 bits)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if value >= 0 else None
    return int(value) if isinstance(value, str) and value.isdigit() else None


def _messages(record: Record) -> str:
    found = _dig(record, "smartctl", "messages")
    texts = (
        [each.get("string", "") for each in found if isinstance(each, dict)]
        if isinstance(found, list)
        else []
    )
    return "; ".join(str(text) for text in texts)[:300]


def _ata(record: Record) -> dict[str, Value]:
    facts: dict[str, Value] = {}
    table = _dig(record, "ata_smart_attributes", "table")
    for row in table if isinstance(table, list) else []:
        fact = _ATTRIBUTES.get(row.get("id", 0)) if isinstance(row, dict) else None
        value = _count(_dig(row, "raw", "value")) if fact else None
        if fact is not None and value is not None and value < _PLAIN_COUNT_MAX:
            facts[fact] = value
    logged = _count(_dig(record, "ata_smart_error_log", "summary", "count"))
    defects = _count(_dig(record, "scsi_grown_defect_list"))
    if defects is not None:
        facts["smart_reallocated_sectors"] = defects
    if facts:
        facts["smart_bad_attributes"] = sum(1 for value in facts.values() if value)
    if logged is not None:
        facts[LOGGED] = logged
    enabled = _dig(record, "write_cache", "enabled")
    if isinstance(enabled, bool):
        facts["drive_cache_enabled"] = enabled
    return facts


def _nvme(record: Record) -> dict[str, Value]:
    log = _dig(record, "nvme_smart_health_information_log")
    if not isinstance(log, dict):
        return {}
    facts: dict[str, Value] = {}
    warning = _count(log.get("critical_warning"))
    if warning is not None:
        facts |= {name: bool(warning >> bit & 1) for bit, name in enumerate(_BITS)}
    for fact, field in (
        ("smart_media_errors", "media_errors"),
        ("unsafe_shutdowns_total", "unsafe_shutdowns"),
    ):
        value = _count(log.get(field))
        if value is not None:
            facts[fact] = value
    used = _count(log.get("percentage_used"))
    if used is not None:
        facts["wear_ratio"] = used / 100.0
    return facts


def _general(record: Record) -> dict[str, Value]:
    facts: dict[str, Value] = {}
    hours, degrees = (
        _count(_dig(record, "power_on_time", "hours")),
        _count(_dig(record, "temperature", "current")),
    )
    if hours is not None:
        facts["power_on_seconds"] = hours * 3600
    if degrees:  # 0 is what a disk without a thermometer says
        facts["temperature_celsius"] = degrees
    return facts


DAYS_KEPT = 7


class Baseline(Struct, frozen=True):
    """What a device's counts were, by day (days since 1970): its first look on each of the last days."""

    identity: str = ""
    days: dict[int, dict[str, int]] = {}


def grown(before: Baseline, reading: Reading, day: int) -> tuple[int | None, Baseline]:
    """How much the counts grew since the oldest day kept, and the baseline to keep from now on.

    None without any count of damage. Another device under the same name begins anew, and so does a count that became smaller: a
    sector that was pending and could be rewritten is no new damage when the next one fails – that one is.
    """
    counts = {name: int(reading.facts[name]) for name in (*GROWING, LOGGED) if name in reading.facts}
    if not counts:
        return None, before
    days = before.days if before.identity == reading.identity else {}
    kept = {when: seen for when, seen in days.items() if day - DAYS_KEPT <= when <= day}
    if not kept and days:
        # Nobody looked for a week, or the clock was set: the newest known counts are still the better baseline.
        kept = {day: days[max(days)]}
    kept[day] = counts | kept.get(day, {})
    # A count that fell takes the baseline down with it.
    kept = {
        when: {name: min(value, counts.get(name, value)) for name, value in seen.items()}
        for when, seen in kept.items()
    }
    baseline = Baseline(reading.identity, kept)
    growth = [each for name in GROWING if (each := grown_since(baseline, reading, name)) is not None]
    return (sum(growth) if growth else None), baseline


def grown_since(baseline: Baseline, reading: Reading, name: str) -> int | None:
    """How much one count grew since the oldest day on which it is known; None without it."""
    value = reading.facts.get(name)
    known = [seen[name] for _, seen in sorted(baseline.days.items()) if name in seen]
    return int(value) - known[0] if value is not None and known else None
