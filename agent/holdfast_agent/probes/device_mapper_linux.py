"""device-mapper and bcache as the kernel shows them to everybody: who holds requests back, what a cache alone holds.

A suspended device lets no request through until it is resumed; snapshots suspend for an instant, a tool that died
half-way does it for ever (catalogue A-43). bcache's attributes: the kernel's Documentation/admin-guide/bcache.rst.
"""

import os
import re

from msgspec import Struct

from holdfast_agent.probe import NoData, Observation, Poll, Unsupported
from holdfast_agent.probes.block_media_linux import Medium, media_below, temporary
from holdfast_agent.probes.sysfs_linux import attributes, names_in
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kMGTPEZY]?)")
_UNITS = {unit: 1024**power for power, unit in enumerate(["", *"kMGTPEZY"])}


class DeviceMapperRaw(Struct, frozen=True, kw_only=True):
    """What was read of mapped and cached devices."""

    mapped: dict[str, dict[str, str]]
    """`dm-3` → attribute of its `dm` folder → text."""
    cached: dict[str, dict[str, str]]
    """`bcache0` → attribute of its `bcache` folder → text."""
    media: dict[str, list[Medium]]
    """`bcache0` → the disks that its cache lies on."""


class DeviceMapper(Poll[DeviceMapperRaw]):
    """Mapped and cached devices."""

    name = "device_mapper"
    platforms = frozenset({"linux"})
    cost = "nobody knows that a mapped device holds its requests back or a cache is out of step with its disk"
    period_seconds = 10.0
    timeout_seconds = 5.0
    emits = tuple(
        ("device", fact)
        for fact in (
            "dm_name", "dm_suspended", "cache_mode", "cache_state", "cache_dirty_bytes", "cache_device",
            "cache_temporary",
        )
    )  # fmt: skip

    def read(self) -> DeviceMapperRaw:
        sysfs, block = self.context.sysfs, self.context.sysfs / "block"
        if not block.is_dir():
            raise Unsupported(f"there is no {block}")
        cached = {
            name: attributes(block / name / "bcache", ["state", "cache_mode", "dirty_data", "running"])
            for name in names_in(block, "bcache*")
        }
        return DeviceMapperRaw(
            mapped={
                name: attributes(block / name / "dm", ["name", "uuid", "suspended"])
                for name in names_in(block, "dm-*")
            },
            cached=cached,
            media={
                name: [
                    medium
                    for device in self._caches(name)
                    for medium in media_below(sysfs, self.context.rootfs, device)
                ]
                for name in cached
            },
        )

    def interpret(self, raw: DeviceMapperRaw) -> Observation:
        missing: dict[str, str] = {}
        resources = []
        for device, found in sorted(raw.mapped.items()):
            facts: dict[str, Value] = {"dm_name": found.get("name", "")}
            if found.get("suspended") in ("0", "1"):
                facts["dm_suspended"] = found["suspended"] == "1"
            else:
                missing[f"{device}.dm_suspended"] = "the kernel does not say"
            resources.append(Resource(kind=ResourceKind.DEVICE, name=device, facts=facts))
        for device, found in sorted(raw.cached.items()):
            facts = _cache_facts(found, raw.media.get(device, []))
            resources.append(Resource(kind=ResourceKind.DEVICE, name=device, facts=facts))
        if not resources:
            raise NoData("no device is mapped or cached")
        return Observation(resources=resources, missing=missing)

    def _caches(self, name: str) -> list[str]:
        """The cache devices of a bcache device: its set's `cache0`, …, each a link into a block device's folder."""
        cache_set = self.context.sysfs / "block" / name / "bcache" / "cache"
        return [
            os.path.realpath(cache_set / cache / "..").rpartition("/")[2]
            for cache in names_in(cache_set, "cache[0-9]*")
        ]


def _cache_facts(found: dict[str, str], media: list[Medium]) -> dict[str, Value]:
    facts: dict[str, Value] = {}
    if state := found.get("state", ""):
        facts["cache_state"] = state
    if mode := chosen(found.get("cache_mode", "")):
        facts["cache_mode"] = mode
    dirty = human_bytes(found.get("dirty_data", ""))
    if dirty is not None:
        facts["cache_dirty_bytes"] = dirty
    if media:
        facts["cache_device"] = ", ".join(medium.name for medium in media)
        lost = temporary(media)
        if lost is not None:
            facts["cache_temporary"] = lost
    return facts


def chosen(text: str) -> str:
    """The one in brackets: `writethrough [writeback] none` → `writeback`."""
    match = re.search(r"\[([^\]]+)\]", text)
    return match[1] if match else ""


def human_bytes(text: str) -> int | None:
    """`1.5M` → bytes, in bcache's binary units (bch_hprint); None for anything else."""
    match = _SIZE.fullmatch(text.strip())
    return int(float(match[1]) * _UNITS[match[2]]) if match else None
