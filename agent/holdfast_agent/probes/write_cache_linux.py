"""Volatile write caches: what the kernel believes of each disk, and what a SCSI disk said of itself.

`write through` in `queue/write_cache` means that the kernel sends no flush at all: an fsync then ends in the disk's
cache. Writing to the attribute changes the kernel's belief and not the device (the kernel's
Documentation/block/writeback_cache_control.rst), so that an administrator can turn durability off without a trace but this
one. What an ATA disk says stands among the facts of `smart`; a virtual disk claims what its host makes it claim.

smartctl (7.3) tells nothing of an NVMe's cache, but the kernel does: it believes in forced unit access (`queue/fua`) only
with a volatile cache (drivers/nvme/host/core.c by the bit VWC, drivers/scsi/sd.c; blk_validate_limits since 6.11), and
what is written to `write_cache` leaves that belief as it is (queue_wc_store in block/blk-sysfs.c). So `write through`
beside a 1 is somebody's doing.
"""

import os

from msgspec import Struct

from holdfast_agent.probe import NoData, Observation, Poll, Unsupported
from holdfast_agent.probes.sysfs_linux import attributes, names_in
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value


class WriteCacheRaw(Struct, frozen=True, kw_only=True):
    """What was read of the disks."""

    disks: dict[str, dict[str, str]]
    """Kernel name → `write_cache`, `fua`, `cache_type`, whichever is there."""


class WriteCache(Poll[WriteCacheRaw]):
    """The write caches of disks."""

    name = "write_cache"
    platforms = frozenset({"linux"})
    cost = "nobody knows that the kernel no longer flushes a disk's cache"
    period_seconds = 60.0
    timeout_seconds = 5.0
    emits = (("device", "write_cache"), ("device", "write_cache_claimed"), ("device", "fua"))

    def read(self) -> WriteCacheRaw:
        block = self.context.sysfs / "block"
        if not block.is_dir():
            raise Unsupported(f"there is no {block}")
        disks = {}
        for name in names_in(block):
            # What has a device behind it is a disk; the others are made of disks, files or memory.
            if not os.path.exists(f"{block}/{name}/device"):
                continue
            found = attributes(block / name / "queue", ["write_cache", "fua"])
            for address in names_in(block / name / "device" / "scsi_disk"):
                found |= attributes(block / name / "device" / "scsi_disk" / address, ["cache_type"])
            disks[name] = found
        return WriteCacheRaw(disks=disks)

    def interpret(self, raw: WriteCacheRaw) -> Observation:
        missing: dict[str, str] = {}
        resources = []
        for name, found in sorted(raw.disks.items()):
            facts: dict[str, Value] = {}
            if "write_cache" in found:
                facts["write_cache"] = found["write_cache"]
            else:
                missing[f"{name}.write_cache"] = "the kernel does not say (before 4.7)"
            if found.get("fua") in ("0", "1"):
                facts["fua"] = found["fua"] == "1"
            if "cache_type" in found:
                # `write back, no read (daft)` is sd's name for a cache without reads (drivers/scsi/sd.c).
                facts["write_cache_claimed"] = found["cache_type"].partition(",")[0]
            if facts:
                resources.append(Resource(kind=ResourceKind.DEVICE, name=name, facts=facts))
        if not resources and not missing:
            raise NoData("there is no disk")
        return Observation(resources=resources, missing=missing)
