"""The faults of `virtual_faults`: what is done to the guest's disks, in its shell, and which alert that must raise.

Each fault has disks of its own, and the alerts that it may raise are those named here, on those disks: any other is a
false alarm. In the guest's shell `disk NAME` is the device of a disk by its serial number, `mapped NAME` the kernel's
name of a mapped one.
"""

from msgspec import Struct

from tests.rigs.virtual_machine import GuestDisk

SHELL = "disk() { echo /dev/disk/by-id/virtio-$1; }\nmapped() { basename $(readlink -f /dev/mapper/$1); }\n"
"""Goes before every command of a fault."""
_ASK_ANEW = "rm -f /run/holdfast-devices/smart.json; systemctl start --no-block holdfast-devices"
"""SMART is asked once an hour: nobody waits for that here."""


class Fault(Struct, frozen=True, kw_only=True):
    """What is done to the guest, and the alert it must raise."""

    name: str
    alert: str
    resource: str
    """A shell command that prints the name of the device that the alert must be about."""
    disks: str
    """Shell words: the disks it is done to. What lies on them is the fault's own."""
    prepare: str
    inject: str
    repair: str
    also: tuple[str, ...] = ()
    """Alerts that may come with it, on its own disks."""
    critical_warning: int = 0
    """NVMe only: what QEMU's disk shall say beside `inject`; after `repair` it is 0 (NVMe 1.4, figure 93)."""


def _table(disk: str, target: str, features: str = "") -> str:
    return f"0 $(blockdev --getsz {disk}) {target} {disk} 0{features}"


def reload(name: str, disk: str, target: str, features: str = "") -> str:
    """A shell command that exchanges the table of a mapped device while it is in use."""
    table = _table(disk, target, features)
    return (
        f"dmsetup suspend --nolockfs --noflush {name} && "
        f'dmsetup load {name} --table "{table}" && dmsetup resume {name}'
    )


def create(name: str, disk: str) -> str:
    """A shell command that maps a disk as it is."""
    return f'dmsetup create {name} --table "{_table(disk, "linear")}"'


FAULTS = (
    Fault(
        name="md: a member fails",
        alert="RaidDegraded",
        resource="echo md0",
        disks="$(disk md1) $(disk md2)",
        prepare="mdadm --create /dev/md0 --run --assume-clean --level=1 --raid-devices=2 --metadata=1.2 "
        "$(disk md1) $(disk md2)",
        inject="mdadm /dev/md0 --fail $(disk md2)",
        repair="mdadm /dev/md0 --remove $(disk md2); mdadm --zero-superblock $(disk md2); mdadm /dev/md0 --add $(disk md2)",
        also=("RaidRecovering", "DeviceErrors"),
    ),
    Fault(
        name="LVM: a thin pool is full",
        alert="LogicalVolumeUnhealthy",
        resource="mapped brim-pool-tpool",
        disks="$(disk brim)",
        prepare="vgcreate brim $(disk brim) && lvcreate --errorwhenfull y -L 64M -T brim/pool && "
        "lvcreate -V 200M -T brim/pool -n thin",
        inject="dd if=/dev/zero of=/dev/brim/thin bs=1M count=128 oflag=direct || true",
        repair="lvextend -L +128M brim/pool",
        # The kernel says of a pool that refuses writes what it says when accepted ones are gone.
        also=("ThinPoolFilling", "ThinPoolAlmostFull", "KernelReportsDataLoss"),
    ),
    Fault(
        name="LVM: a thin pool is nearly full",
        alert="ThinPoolAlmostFull",
        resource="mapped near-pool-tpool",
        disks="$(disk near)",
        prepare="vgcreate near $(disk near) && lvcreate -L 64M -T near/pool && lvcreate -V 200M -T near/pool -n thin",
        inject="dd if=/dev/zero of=/dev/near/thin bs=1M count=60 oflag=direct",
        repair="lvextend -L +128M near/pool",
        also=("ThinPoolFilling",),
    ),
    Fault(
        name="dm-flakey: writes fail below ext4",
        alert="KernelReportsDataLoss",
        resource="mapped flaky",
        disks="$(disk flaky)",
        prepare=f"{create('flaky', '$(disk flaky)')} && mkfs.ext4 -q /dev/mapper/flaky && mkdir -p /srv/flaky && "
        "echo '/dev/mapper/flaky /srv/flaky ext4 noauto,errors=remount-ro 0 0' >>/etc/fstab && mount /srv/flaky",
        inject=reload("flaky", "$(disk flaky)", "flakey", " 0 180 1 error_writes")
        + "; dd if=/dev/zero of=/srv/flaky/state bs=1M count=8 conv=fsync || true",
        repair=f"umount /srv/flaky; {reload('flaky', '$(disk flaky)', 'linear')}",
        also=(
            *("DeviceErrors", "DeviceFailing", "VolumeDead", "VolumeNotWritable", "FilesystemErrors"),
            *("KernelReportsFilesystemError", "FilesystemDamaged", "WritebackFailed"),
            # While its table is exchanged it is: the half minute that this rule waits is a second here.
            "DeviceSuspended",
        ),
    ),
    Fault(
        name="NVMe: critical warning",
        alert="DiskFailing",
        resource="echo nvme0n1",
        disks="/dev/nvme0n1",
        prepare="smartctl -i /dev/nvme0",
        inject=_ASK_ANEW,
        repair=_ASK_ANEW,
        critical_warning=4,  # bit 2: reliability degraded
        also=("NvmeWarned",),
    ),
    Fault(
        name="scsi_debug: medium error",
        alert="DeviceErrors",
        resource="echo sda",
        disks="/dev/sda",
        prepare="modprobe scsi_debug dev_size_mb=16 && udevadm settle && test -b /dev/sda",
        inject="echo 2 >/sys/bus/pseudo/drivers/scsi_debug/opts; dd if=/dev/sda of=/dev/null iflag=direct bs=64k || true",
        repair="echo 0 >/sys/bus/pseudo/drivers/scsi_debug/opts",
        also=("ScsiErrors", "DeviceFailing", "DiskErrorsGrow"),
    ),
)
DISKS = [GuestDisk(name) for name in ("md1", "md2", "brim", "near", "flaky", "lying", "honest")]
DISKS += [GuestDisk("warned", device="nvme")]
