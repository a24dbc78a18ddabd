"""SCSI and SATA disks: requests that failed or timed out, by the kernel's own count (catalogue A-37).

/sys/block/DISK/device/ioerr_cnt and iotmo_cnt (the latter on newer kernels), hexadecimal, since the disk was found
(drivers/scsi/scsi_sysfs.c). NVMe and virtio disks have no such counts. `ioerr_cnt` also counts commands a disk does not
know, which is harmless; so it means something beside a line of the kernel log only.
"""

import contextlib
import os

from msgspec import Struct, field

from holdfast_agent.probe import NoData, Observation, Poll
from holdfast_agent.probes.mounted_linux import number_in
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

_NOT_SCSI = ("dm-", "loop", "md", "nbd", "nvme", "ram", "vd", "zram")


class Counts(Struct, frozen=True):
    """Of one disk; None where the kernel keeps no such count."""

    errors: int | None
    timeouts: int | None


class ScsiCountersRaw(Struct, frozen=True, kw_only=True):
    """By the disk's kernel name."""

    disks: dict[str, Counts] = field(default_factory=dict)


class ScsiCounters(Poll[ScsiCountersRaw]):
    """What the SCSI layer counted."""

    name = "scsi_counters"
    platforms = frozenset({"linux"})
    cost = "time-outs and errors of SCSI and SATA disks are known from the kernel log only"
    period_seconds = 30.0
    emits = (("device", "scsi_errors_total"), ("device", "scsi_timeouts_total"))

    def read(self) -> ScsiCountersRaw:
        disks = {}
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(self.context.sysfs / "block")):
                if name.startswith(_NOT_SCSI):
                    continue  # to look for what cannot be there is most of the work on a machine with many of them
                folder = self.context.sysfs / "block" / name / "device"
                counts = Counts(number_in(folder / "ioerr_cnt"), number_in(folder / "iotmo_cnt"))
                if counts.errors is not None or counts.timeouts is not None:
                    disks[name] = counts
        return ScsiCountersRaw(disks=disks)

    def interpret(self, raw: ScsiCountersRaw) -> Observation:
        if not raw.disks:
            raise NoData("there is no SCSI or SATA disk")
        return Observation(
            resources=[
                Resource(kind=ResourceKind.DEVICE, name=name, facts=_facts(counts))
                for name, counts in raw.disks.items()
            ]
        )


def _facts(counts: Counts) -> dict[str, Value]:
    facts: dict[str, Value] = {}
    if counts.errors is not None:
        facts["scsi_errors_total"] = counts.errors
    if counts.timeouts is not None:
        facts["scsi_timeouts_total"] = counts.timeouts
    return facts
