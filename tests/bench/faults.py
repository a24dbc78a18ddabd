"""Faults, real ones, on disks and services of the bench's own: arranged healthy, caused at a known instant, mended.

What is called `mnt` below a fault's folder is a mounted filesystem that something relies on. All of it happens inside a
`SystemdBox` whose namespaces this process has entered: systemctl is the box's, and mounts are seen there and nowhere else.
"""

import contextlib
import os
import subprocess
import time
import uuid
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path

from tests import needs
from tests.rigs.loop_disk import LoopDisk, run, unmount
from tests.rigs.powered_disk import Kind, PoweredDisk
from tests.rigs.write_failing_disk import WriteFailingDisk

UNITS = Path("/etc/systemd/system")
FSTAB = Path("/etc/fstab")
BOOT_ID = Path("/run/boot_id")
"""Which the box shows as the kernel's."""
_BLOCK = bytes(1 << 16)


class Fault(ABC):
    """One thing that goes wrong. `arrange`, then `cause`, then `clear`."""

    title = ""
    names_it = ""
    """Our alert that says what is really wrong; others may notice first that something is."""

    with_machine = False
    """It takes the whole machine with it: caused while nobody watches, and counted from the boot after it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mountpoint = folder / "mnt"
        self.unit = ""
        """The service that suffers; empty where only a filesystem does."""
        self.devices: set[str] = set()
        """The kernel's names of the devices below the mountpoint, so far."""
        folder.mkdir(parents=True)
        self.mountpoint.mkdir()

    @abstractmethod
    def arrange(self, stack: ExitStack) -> None:
        """Everything is well from here on, and torn down by the stack."""

    def prepare(self) -> None:  # noqa: B027 - most faults need no such thing
        """What must have happened some time before the fault, with everybody watching."""

    @abstractmethod
    def cause(self) -> None:
        """The fault."""

    @abstractmethod
    def clear(self) -> None:
        """What an operator does about it."""

    def concerned(self, said: str) -> bool:
        """Whether an alarm that says this is about this fault's disk or service."""
        names = [str(self.mountpoint), *self.devices, *([self.unit] if self.unit else [])]
        return any(name in said for name in names)

    def disk(self, stack: ExitStack, filesystem: str = "ext4", options: str = "defaults") -> LoopDisk:
        """A mounted loop disk."""
        disk = LoopDisk(self.folder, filesystem, mount_options=options)
        disk.mountpoint = self.mountpoint
        stack.enter_context(disk)
        self.devices.add(disk.name)
        return disk

    def service(self, stack: ExitStack, command: str, *more: str) -> None:
        """An enabled, running unit."""
        self.unit = f"bench-{self.folder.name}.service"
        self.write_unit(command, *more)
        run("systemctl", "enable", "--now", self.unit)
        stack.callback(run, "systemctl", "disable", "--now", self.unit, check=False)

    def write_unit(self, command: str, *more: str) -> None:
        """The unit's file, and systemd knows it."""
        lines = ["[Service]", f"ExecStart={command}", *more, "[Install]", "WantedBy=multi-user.target"]
        (UNITS / self.unit).write_text("\n".join(lines) + "\n")
        run("systemctl", "daemon-reload")

    def redis(self) -> str:
        """The command of a Redis that keeps its data on the mounted filesystem."""
        daemon = needs.tool("redis-server", package="redis-server")
        socket = f"/run/{self.folder.name}.sock"
        return f"{daemon} --port 0 --unixsocket {socket} --dir {self.mountpoint} --appendonly yes"


class DiskFault(Fault):
    """It happens to one disk with a filesystem."""

    filesystem = "ext4"
    options = "defaults"

    def arrange(self, stack: ExitStack) -> None:
        self._disk = self.disk(stack, self.filesystem, self.options)

    def clear(self) -> None:
        self._disk.repair()


class PowerFault(Fault):
    """It happens to one disk while its power is off, and what it takes is gone."""

    def arrange(self, stack: ExitStack) -> None:
        self._disk = PoweredDisk(self.folder, "ext4", "honest", mountpoint=self.mountpoint)
        stack.enter_context(self._disk)
        self._note_device()

    def power_on(self, kind: Kind | None = None) -> None:
        """It comes back under another name."""
        self._disk.power_on(kind)
        self._note_device()

    def clear(self) -> None:
        """Nothing brings the data back: the loss is acknowledged."""

    def _note_device(self) -> None:
        self.devices.add(self._disk.device.rpartition("/")[2])


class Ext4ReadOnly(DiskFault):
    title = "ext4 meets an error and refuses writes"
    names_it = "VolumeDead"
    options = "errors=remount-ro"

    def cause(self) -> None:
        self._disk.trigger_ext4_error()


class XfsShutdown(DiskFault):
    title = "XFS shuts down"
    names_it = "VolumeDead"
    filesystem = "xfs"

    def cause(self) -> None:
        self._disk.shut_down()


class DataWritesFail(Fault):
    title = "fsync of one file gives EIO, all else works"
    names_it = "KernelReportsDataLoss"

    def arrange(self, stack: ExitStack) -> None:
        self._disk = stack.enter_context(WriteFailingDisk(self.folder))
        self.devices.add(self._disk.device.rpartition("/")[2])

    def cause(self) -> None:
        self._disk.fail()
        with contextlib.suppress(OSError):
            self._disk.write()

    def clear(self) -> None:
        self._disk.work()
        self._disk.write()
        unmount(self.mountpoint)
        run("mount", "-t", "ext4", self._disk.device, str(self.mountpoint))


class LyingDisk(PowerFault):
    title = "power cut of the machine; a disk had confirmed flushes it had not done"
    with_machine = True
    names_it = "FlushNotHonoured"

    def prepare(self) -> None:
        # It lies about what is written from now on: a disk that forgot all since it was formatted would only look new.
        self._disk.power_off()
        self.power_on("lying")

    def cause(self) -> None:
        self._disk.cut_power()
        self.power_on()


class RolledBack(PowerFault):
    title = "the disk is set back to an older image"
    names_it = "VolumeRolledBack"

    def prepare(self) -> None:
        self._disk.power_off()
        self._disk.save(self.folder / "older.img")
        self.power_on()

    def cause(self) -> None:
        self._disk.power_off()
        self._disk.put_back(self.folder / "older.img")
        self.power_on()


class MountMissing(DiskFault):
    title = "a filesystem of fstab is not mounted"
    names_it = "MountMissing"

    def arrange(self, stack: ExitStack) -> None:
        super().arrange(stack)
        _expect(self._disk)

    def cause(self) -> None:
        self._disk.unmount()

    def clear(self) -> None:
        self._disk.mount()


class WrittenBeneath(DiskFault):
    title = "written beneath a mountpoint while it was missing"
    names_it = "StrandedData"

    def arrange(self, stack: ExitStack) -> None:
        super().arrange(stack)
        _expect(self._disk)

    def cause(self) -> None:
        self._disk.unmount()
        (self.mountpoint / "orders.db").write_bytes(_BLOCK)
        self._disk.mount()

    def clear(self) -> None:
        self._disk.unmount()
        (self.mountpoint / "orders.db").unlink()
        self._disk.mount()


class SyncsSwallowed(Fault):
    title = "a database runs under eatmydata"
    names_it = "ServiceSyncsDisabled"

    def arrange(self, stack: ExitStack) -> None:
        self._program = needs.tool("eatmydata", package="eatmydata")
        self.disk(stack)
        self.service(stack, self.redis())

    def cause(self) -> None:
        self.write_unit(f"{self._program} {self.redis()}")
        run("systemctl", "restart", self.unit)

    def clear(self) -> None:
        self.write_unit(self.redis())
        run("systemctl", "restart", self.unit)


class DataInMemory(Fault):
    title = "a database's data directory lies on a tmpfs"
    names_it = "StateOnVolatileMedium"

    def arrange(self, stack: ExitStack) -> None:
        self._disk = self.disk(stack)
        self.service(stack, self.redis())

    def cause(self) -> None:
        run("systemctl", "stop", self.unit)
        self._disk.unmount()
        run("mount", "-t", "tmpfs", "-o", "size=64M", "tmpfs", str(self.mountpoint))
        run("systemctl", "start", self.unit)

    def clear(self) -> None:
        run("systemctl", "stop", self.unit)
        unmount(self.mountpoint)
        self._disk.mount()
        run("systemctl", "start", self.unit)


class DiskFull(DiskFault):
    title = "a filesystem is full"
    names_it = "VolumeFull"

    def cause(self) -> None:
        self._disk.fill()

    def clear(self) -> None:
        (self.mountpoint / "filler").unlink()


class InodesGone(DiskFault):
    title = "a filesystem has no inode left"
    names_it = "VolumeInodesOut"

    def cause(self) -> None:
        self._disk.use_all_inodes()

    def clear(self) -> None:
        for file in self.mountpoint.glob("empty-*"):
            file.unlink()


class BackingFileCut(DiskFault):
    title = "the image below a filesystem is cut to half its size"
    names_it = "BackingFileCut"

    def cause(self) -> None:
        os.truncate(self._disk.image, self._disk.image.stat().st_size // 2)

    def clear(self) -> None:
        os.truncate(self._disk.image, self._disk.image.stat().st_size * 2)
        super().clear()


class RestartLoop(Fault):
    title = "a service dies and is started again, over and over"
    names_it = "ServiceRestartLoop"

    def arrange(self, stack: ExitStack) -> None:
        self._flag = self.folder / "broken"
        command = f"/bin/sh -c 'test ! -e {self._flag} && exec sleep infinity'"
        self.service(stack, command, "Restart=always", "RestartSec=1")
        # The default limit would turn the loop into a failed unit within ten seconds; those who restart for ever lift it.
        self.write_unit(command, "Restart=always", "RestartSec=3")
        run("systemctl", "restart", self.unit)

    def cause(self) -> None:
        self._flag.touch()
        run("systemctl", "kill", "--signal=KILL", self.unit)

    def clear(self) -> None:
        self._flag.unlink()
        run("systemctl", "restart", self.unit)


class ServiceDies(Fault):
    title = "a service dies and stays dead"
    names_it = "ServiceFailed"

    def arrange(self, stack: ExitStack) -> None:
        self.service(stack, "/bin/sleep infinity")

    def cause(self) -> None:
        run("systemctl", "kill", "--signal=KILL", self.unit)

    def clear(self) -> None:
        run("systemctl", "restart", self.unit)


FAULTS: dict[str, type[Fault]] = {
    "ext4-read-only": Ext4ReadOnly,
    "xfs-shutdown": XfsShutdown,
    "data-writes-fail": DataWritesFail,
    "lying-disk": LyingDisk,
    "rollback": RolledBack,
    "mount-missing": MountMissing,
    "written-beneath": WrittenBeneath,
    "eatmydata": SyncsSwallowed,
    "data-in-memory": DataInMemory,
    "disk-full": DiskFull,
    "inodes-gone": InodesGone,
    "backing-file-cut": BackingFileCut,
    "restart-loop": RestartLoop,
    "service-dies": ServiceDies,
}


def boot_anew() -> list[str]:
    """Another boot id, as after a power cut; nobody wrote down a shutdown.

    Returns what a command must be preceded by for its clocks to begin with that boot (needs Linux 6.3).
    """
    BOOT_ID.write_text(f"{uuid.uuid4()}\n")
    uptime = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    return [
        needs.tool("unshare", package="util-linux"),
        "--time",
        f"--monotonic=-{uptime}",
        f"--boottime=-{uptime}",
    ]


def _expect(disk: LoopDisk) -> None:
    """As a line of fstab, without which nobody can know that something is missing."""
    found = subprocess.run(
        ["blkid", "-s", "UUID", "-o", "value", disk.device], capture_output=True, text=True, check=True
    ).stdout.strip()
    with FSTAB.open("a") as fstab:
        fstab.write(f"UUID={found} {disk.mountpoint} {disk.filesystem} nofail 0 2\n")
