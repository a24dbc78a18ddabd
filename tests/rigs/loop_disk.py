"""Real disks for tests: a file behind a loop device, with a real filesystem of this kernel.

    with LoopDisk(tmp_path, "ext4", mount_options="errors=remount-ro") as disk:
        disk.trigger_ext4_error()
        ...

Needs root, losetup (util-linux) and the filesystem's mkfs; see `available`.
"""

import contextlib
import errno
import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import needs
from tests.waiting import wait_for

MKFS_PACKAGE = {"ext4": "e2fsprogs", "xfs": "xfsprogs", "btrfs": "btrfs-progs"}
_CONTROL = Path("/dev/loop-control")
_LOOP_CTL_ADD, _LOOP_CTL_REMOVE = 0x4C80, 0x4C81
"""loop(4)."""
# The smallest that mkfs takes: xfsprogs 6 wants 300 MB, btrfs-progs 109 MB. The files are sparse.
_SIZE_BYTES = {"ext4": 64 << 20, "xfs": 320 << 20, "btrfs": 128 << 20}


def available(filesystem: str) -> None:
    """Skip unless this machine can make and mount such a disk."""
    needs.root()
    needs.tool("losetup", package="mount")
    needs.tool(f"mkfs.{filesystem}", package=MKFS_PACKAGE[filesystem])
    needs.condition(Path("/dev/loop-control").exists(), "needs loop devices (/dev/loop-control)")
    needs.condition(
        f"\t{filesystem}\n" in Path("/proc/filesystems").read_text() or os.access("/sbin/modprobe", os.X_OK),
        f"needs a kernel with {filesystem}",
    )


def run(*command: str, check: bool = True) -> str:
    """Run a command to its end and return what it printed; its complaints are in the error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def make_filesystem(
    image: Path, filesystem: str, *, mkfs: tuple[str, ...] = (), size_bytes: int | None = None
) -> None:
    """A fresh sparse image with an empty filesystem in it."""
    with image.open("wb") as file:
        file.truncate(size_bytes or _SIZE_BYTES[filesystem])
    run(f"mkfs.{filesystem}", "-q", *mkfs, str(image))


def attach(file: Path) -> str:
    """Put a loop device before the file; returns its path, e.g. /dev/loop38211.

    No number comes twice in a boot: what the kernel log has said of an earlier test's disk would be taken for this one's,
    for ext4 may leave out the line that says that a filesystem is mounted anew (10 in 5 s, for all devices together).
    """
    device = f"/dev/loop{_new_number()}"
    try:
        run("losetup", device, str(file))
    except BaseException:
        detach(device)
        raise
    return device


def _mounted(mountpoint: Path) -> bool:
    """As the kernel has it: `os.path.ismount` takes a filesystem that is dead for none."""
    lines = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    return any(line.split()[4] == str(mountpoint) for line in lines)


def unmount(mountpoint: Path) -> None:
    """As soon as nobody has it open."""
    _once_left_alone("umount", str(mountpoint))


def _once_left_alone(*command: str) -> None:
    """Run the command until it works: an agent looks at a filesystem for an instant, now and then, or writes a record."""
    said = ""

    def works() -> bool:
        nonlocal said
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = done.stderr.strip()
        return done.returncode == 0

    wait_for(works, 10.0, lambda: f"{' '.join(command)}: {said}")


def let_go_everywhere(device: str) -> None:
    """End the filesystem where it lives on after its `umount`: in mount namespaces that were copied meanwhile, as boxes and
    containers of other tests are. To mount it again would show the same one, and no more alive than it was."""
    number = os.stat(device).st_rdev
    wanted = f"{os.major(number)}:{os.minor(number)}"

    def let_go() -> bool:
        holders = list(_holders(wanted))
        for process, mountpoint in holders:
            run("nsenter", "--target", process, "--mount", "umount", mountpoint, check=False)
        return not holders

    wait_for(let_go, 30.0, lambda: f"{device} to be let go: {list(_holders(wanted))}")


def _holders(number: str) -> Iterator[tuple[str, str]]:
    """(a process, mountpoint) of each mount namespace where the device is mounted."""
    seen = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            namespace = os.readlink(process / "ns" / "mnt")
            if namespace in seen:
                continue
            seen.add(namespace)
            for line in (process / "mountinfo").read_text("utf-8", "replace").splitlines():
                columns = line.split()
                if columns[2] == number:
                    yield process.name, columns[4]


def detach(device: str) -> None:
    """Let go of the file, and of the device once nobody has it open."""
    run("losetup", "--detach", device, check=False)
    with contextlib.suppress(AssertionError):
        wait_for(lambda: _removed(device), 5.0)


def _new_number() -> int:
    number = 1000 + int(time.monotonic() * 20) % 1_000_000
    with _CONTROL.open("rb") as control:
        while True:
            try:
                return fcntl.ioctl(control, _LOOP_CTL_ADD, number)
            except FileExistsError:
                number += 1


def _removed(device: str) -> bool:
    try:
        with _CONTROL.open("rb") as control:
            fcntl.ioctl(control, _LOOP_CTL_REMOVE, int(device.removeprefix("/dev/loop")))
    except OSError as error:
        # Gone already; busy means that somebody still has it open or mounted.
        return error.errno == errno.ENODEV
    return True


class LoopDisk:
    """A filesystem on a loop device, mounted at `mountpoint` until the block ends."""

    def __init__(
        self,
        folder: Path,
        filesystem: str,
        *,
        mount_options: str = "defaults",
        mkfs: tuple[str, ...] = (),
        size_bytes: int | None = None,
    ) -> None:
        available(filesystem)
        self.filesystem = filesystem
        self.mount_options = mount_options
        self.image = folder / f"{filesystem}.img"
        self.mountpoint = folder / f"{filesystem}.mnt"
        self.device = ""
        """The device's path, e.g. /dev/loop38211."""
        self._mkfs = mkfs
        self._size_bytes = size_bytes

    @property
    def name(self) -> str:
        """The kernel's name of the device, e.g. loop38211."""
        return self.device.rpartition("/")[2]

    def __enter__(self) -> Self:
        self.mountpoint.mkdir(parents=True, exist_ok=True)
        make_filesystem(self.image, self.filesystem, mkfs=self._mkfs, size_bytes=self._size_bytes)
        self.device = attach(self.image)
        try:
            self.mount()
        except BaseException:
            detach(self.device)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _mounted(self.mountpoint):
            try:
                self.unmount()
            except AssertionError:  # somebody keeps it open; it ends with them, but nobody finds it mounted
                run("umount", "--lazy", str(self.mountpoint))
        detach(self.device)
        self.image.unlink(missing_ok=True)

    def mount(self) -> None:
        run("mount", "-t", self.filesystem, "-o", self.mount_options, self.device, str(self.mountpoint))

    def unmount(self, *, check: bool = True) -> None:
        if check:
            unmount(self.mountpoint)
        else:
            run("umount", str(self.mountpoint), check=False)

    def remount(self, options: str) -> None:
        """Read-only is refused while a file is open for writing."""
        _once_left_alone("mount", "-o", f"remount,{options}", str(self.mountpoint))

    def trigger_ext4_error(self) -> None:
        """Make ext4 find an error, as damage on disk would; with errors=remount-ro it refuses writes from then on."""
        Path(f"/sys/fs/ext4/{self.name}/trigger_fs_error").write_text("holdfast test")

    def shut_down(self) -> None:
        """Make the filesystem drop everything and fail from now on (XFS_IOC_GOINGDOWN; ext4 has it too)."""
        xfs_io = needs.tool("xfs_io", package="xfsprogs")
        run(xfs_io, "-x", "-c", "shutdown", str(self.mountpoint))

    def repair(self) -> None:
        """What an operator does: unmount, check, mount."""
        self.unmount()
        let_go_everywhere(self.device)
        if self.filesystem == "ext4":
            # e2fsck exits with 1 when it has corrected something.
            subprocess.run(["e2fsck", "-fy", self.device], capture_output=True, check=False)
        self.mount()

    def fill(self) -> None:
        """Write until an ordinary user could write no more."""
        with (self.mountpoint / "filler").open("wb", buffering=0) as filler:
            block = bytes(1 << 16)
            while os.statvfs(self.mountpoint).f_bavail > 0:
                try:
                    filler.write(block)
                except OSError:
                    break
            os.fsync(filler.fileno())

    def use_all_inodes(self) -> None:
        """Make empty files until there is no inode for another."""
        made = 0
        while True:
            try:
                (self.mountpoint / f"empty-{made}").touch()
            except OSError:
                return
            made += 1
