"""LVM: thin pools that fill, volumes that miss a part, caches that hold what nothing else has.

`lvs` says it (lvs(8), lvmreport(7)); it needs root, so another unit asks (`device_answers_linux`). Numbers come as text
(`--reportformat json`) or as numbers (`json_std`, since LVM 2.03.17), and with a comma where somebody's locale has one.

A full thin pool fails writes that the filesystem above had accepted: the data are gone, and no counter moves (measured).
"""

from typing import Any

import msgspec
from msgspec import Struct

from holdfast_agent.errors import Denied, Unsupported
from holdfast_agent.probe import Lag, NoData, Observation, Poll, ProbeContext
from holdfast_agent.probes.block_media_linux import Medium, media_below, temporary
from holdfast_agent.probes.device_answers_linux import PERIOD_SECONDS, Answer, DeviceAnswers, ask_lvm
from holdfast_agent.probes.sysfs_linux import attributes, names_in, number
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

_PARITY = ("raid4", "raid5", "raid6")
_UUID = "LVM-"


class LvmRaw(Struct, frozen=True, kw_only=True):
    """What `lvs` said, and which disks caches lie on."""

    answer: Answer
    names: dict[str, str] = {}
    """Name in /dev/mapper → kernel name of LVM's devices."""
    media: dict[str, list[Medium]] = {}
    """Kernel name → the disks below it, of LVM's devices."""


class Lvm(Poll[LvmRaw]):
    """Logical volumes."""

    name = "lvm"
    platforms = frozenset({"linux"})
    cost = "nobody knows that a thin pool fills up or a logical volume lacks a disk"
    period_seconds = 60.0
    timeout_seconds = 45.0
    emits = tuple(
        ("device", fact)
        for fact in (
            "lv_name", "lv_type", "lv_health", "thin_data_ratio", "thin_metadata_ratio", "thin_when_full",
            "snapshot_ratio", "cache_mode", "cache_dirty_bytes", "cache_device", "cache_temporary", "raid_level",
            "raid_action", "raid_mismatches", "raid_sync_ratio", "raid_parity",
        )
    )  # fmt: skip
    lags = (Lag(by="lvs is asked every five minutes", facts=emits, seconds=PERIOD_SECONDS),)

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        self._answers = DeviceAnswers(context, "lvm", ask_lvm)

    def read(self) -> LvmRaw:
        sysfs, rootfs = self.context.sysfs, self.context.rootfs
        names, media = {}, {}
        for device in names_in(sysfs / "block", "dm-*"):
            mapped = attributes(sysfs / "block" / device / "dm", ["name", "uuid"])
            if mapped.get("uuid", "").startswith(_UUID):
                names[mapped.get("name", "")] = device
                media[device] = media_below(sysfs, rootfs, device)
        if not names and not _installed(rootfs):
            raise NoData("lvm2 is not installed and no logical volume is active")
        answer = self._answers.get(2 * PERIOD_SECONDS + 30.0).get("lvs")
        if answer is None:
            raise Denied("the newest answers lack that of lvs")
        return LvmRaw(answer=answer, names=names, media=media)

    def interpret(self, raw: LvmRaw) -> Observation:
        rows = _rows(raw.answer)
        if rows is None:
            if raw.answer.error.endswith("is not installed"):
                raise Unsupported("there are logical volumes, but lvm2's lvs is not installed")
            said = raw.answer.error or raw.answer.output.strip() or "nothing"
            raise Denied(f"lvs ended with {raw.answer.status} and said: {said[:300]}")
        missing: dict[str, str] = {}
        resources = [
            Resource(kind=ResourceKind.DEVICE, name=device, facts=_facts(row, device, rows, raw, missing))
            for row in rows
            if (device := _device(row, raw.names)) is not None
        ]
        if raw.answer.status != 0:
            missing["lvs"] = f"ended with {raw.answer.status}: {raw.answer.error[:300]}"
        if not resources:
            raise NoData("there is no logical volume")
        return Observation(resources=resources, missing=missing)


def _installed(rootfs: Any) -> bool:
    return any(
        (rootfs / folder / "lvs").exists() for folder in ("usr/sbin", "sbin", "usr/bin", "usr/local/sbin")
    )


Row = dict[str, Any]


def _rows(answer: Answer) -> list[Row] | None:
    """The volumes; None when the answer is none. Lines before the document are warnings of LVM's."""
    start = answer.output.find("{")
    try:
        document = msgspec.json.decode(answer.output[start:] if start >= 0 else "")
    except msgspec.DecodeError:
        return None
    reports = document.get("report") if isinstance(document, dict) else None
    if not isinstance(reports, list):
        return None
    listed = [report.get("lv", []) for report in reports if isinstance(report, dict)]
    return [row for rows in listed if isinstance(rows, list) for row in rows if isinstance(row, dict)]


def _text(row: Row, field: str) -> str:
    value = row.get(field)
    return "" if value is None else str(value).strip()


def _ratio(row: Row, field: str) -> float | None:
    """A percentage as a ratio; None when LVM has none."""
    try:
        return round(float(_text(row, field).replace(",", ".")) / 100.0, 4)
    except ValueError:
        return None


def _full_name(row: Row) -> str:
    return f"{_text(row, 'vg_name')}/{_text(row, 'lv_name').strip('[]')}"


def _mapped(group: str, volume: str) -> str:
    """The name in /dev/mapper: hyphens doubled, one between the two (lvm(8), "Unique names")."""
    return f"{group.replace('-', '--')}-{volume.replace('-', '--')}"


def _device(row: Row, names: dict[str, str]) -> str | None:
    """The kernel's name; the volume's own while it is not active; None for parts of another that say nothing.

    A thin pool in use is `pool-tpool` to the kernel, and `pool` only if something opened it.
    """
    hidden = _text(row, "lv_name").startswith("[")
    if hidden and not _text(row, "lv_health_status"):
        return None
    minor = number(_text(row, "lv_kernel_minor"))
    if minor is not None and minor >= 0:
        return f"dm-{minor}"
    mapped = _mapped(_text(row, "vg_name"), _text(row, "lv_name").strip("[]"))
    return names.get(mapped) or names.get(f"{mapped}-tpool") or _full_name(row)


def _facts(row: Row, device: str, rows: list[Row], raw: LvmRaw, missing: dict[str, str]) -> dict[str, Value]:
    kind = _text(row, "segtype")
    health = _text(row, "lv_health_status")
    if _text(row, "lv_snapshot_invalid").lower() in ("1", "snapshot invalid"):
        health = health or "invalid snapshot"
    facts: dict[str, Value] = {"lv_name": _full_name(row), "lv_type": kind, "lv_health": health}
    data, metadata = _ratio(row, "data_percent"), _ratio(row, "metadata_percent")
    if kind == "thin-pool":
        if data is None or metadata is None:
            missing[f"{device}.thin_data_ratio"] = "LVM cannot tell how full the pool is: it is not active"
        else:
            facts |= {"thin_data_ratio": data, "thin_metadata_ratio": metadata}
        if when := _text(row, "lv_when_full"):
            facts["thin_when_full"] = when
    elif _text(row, "lv_attr")[:1] in ("s", "S") and data is not None:
        facts["snapshot_ratio"] = data
    if kind.startswith("raid"):
        facts |= _raid_facts(row, kind)
    if kind in ("cache", "writecache"):
        facts |= _cache_facts(row, kind, rows, raw)
    return facts


def _raid_facts(row: Row, kind: str) -> dict[str, Value]:
    facts: dict[str, Value] = {"raid_level": kind, "raid_parity": kind.startswith(_PARITY)}
    if action := _text(row, "raid_sync_action"):
        facts["raid_action"] = action
    mismatches = number(_text(row, "raid_mismatch_count"))
    if mismatches is not None:
        facts["raid_mismatches"] = mismatches
    synced = _ratio(row, "copy_percent")
    if synced is not None:
        facts["raid_sync_ratio"] = min(1.0, synced)
    return facts


def _cache_facts(row: Row, kind: str, rows: list[Row], raw: LvmRaw) -> dict[str, Value]:
    """A writecache is always write-back; a cache says."""
    facts: dict[str, Value] = {
        "cache_mode": "writeback" if kind == "writecache" else _text(row, "cache_mode")
    }
    dirty, chunk = number(_text(row, "cache_dirty_blocks")), number(_text(row, "chunk_size"))
    if dirty is not None and chunk is not None:
        facts["cache_dirty_bytes"] = dirty * chunk
    pool = _text(row, "pool_lv").strip("[]")
    if not pool:
        return facts
    media = {
        medium.name: medium
        for name in (pool, f"{pool}_cdata")
        for medium in raw.media.get(raw.names.get(_mapped(_text(row, "vg_name"), name), ""), [])
    }
    if media:
        facts["cache_device"] = ", ".join(sorted(media))
        lost = temporary(list(media.values()))
        if lost is not None:
            facts["cache_temporary"] = lost
    return facts
