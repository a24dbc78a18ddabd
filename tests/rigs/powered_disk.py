"""A disk that loses its power, keeps its promises or breaks them, fails, is copied, put back and exchanged.

    with PoweredDisk(tmp_path / "a", "ext4", kind="lying") as disk:      # formatted, mounted
        ...write...
        disk.cut_power()      # kill -9 of its nbdkit: what only its cache held is gone; the filesystem is unmounted
        disk.power_on()       # and mounted again, as it was

Four kinds, all nbdkit > nbdfuse > loop > filesystem (nbdkit-cache-filter(1), nbdkit-error-filter(1)):

| kind | cache | flush | what a power cut takes |
|---|---|---|---|
| `error` | none | kept; `fail` makes every read, write and flush give EIO | nothing that was written |
| `honest` | none | nothing to do | nothing that was written |
| `volatile` | yes | writes the cache out | what was not flushed |
| `lying` | yes | said to be done, and not done | everything since it was switched on |

The image is an ordinary file: saved, put back, copied to another disk, and changed bit by bit while the power is off.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

from tests.rigs.failing_disk import NbdFuse
from tests.rigs.loop_disk import attach, available, detach, make_filesystem, run, unmount
from tests.waiting import wait_for

Kind = Literal["error", "honest", "volatile", "lying"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FILESYSTEMS = ("ext4", "xfs", "btrfs")
BLOCK_BYTES = 4096
# A copy has the UUID of its original, and XFS mounts no UUID twice (xfs(5)); ext4 and, since 6.7, btrfs do.
_MOUNT_OPTIONS = {"ext4": "defaults", "xfs": "nouuid", "btrfs": "defaults"}
_MKFS = {"ext4": (), "xfs": (), "btrfs": ("-m", "single")}


class PoweredDisk:
    """A filesystem on a disk with a power switch. Inside the block it is mounted at `mountpoint` while it is on."""

    def __init__(
        self, folder: Path, filesystem: str, kind: Kind = "honest", *, mountpoint: Path | None = None
    ) -> None:
        available(filesystem)
        self.folder = folder
        self.filesystem = filesystem
        self.kind = kind
        self.mountpoint = mountpoint or folder / "mnt"
        self.image = folder / "disk.img"
        self.device = ""
        """The device's path while the power is on, e.g. /dev/loop3."""
        self._switch = folder / "fail"
        self._served: NbdFuse | None = None

    @property
    def on(self) -> bool:
        return self._served is not None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.mountpoint.mkdir(parents=True, exist_ok=True)
        self.format()
        self.power_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.work()
        if self._served is not None:
            self._unplug(self._served)
        self.image.unlink(missing_ok=True)

    def format(self) -> None:
        """A new, empty filesystem with a new UUID; the power is off."""
        assert not self.on, "switch it off first"
        make_filesystem(self.image, self.filesystem, mkfs=_MKFS[self.filesystem])

    def power_on(self, kind: Kind | None = None) -> None:
        """Start the disk and mount it, after the check that a boot makes. `kind` overrides what it is, once."""
        assert not self.on, "it is on"
        self.work()
        served = NbdFuse(self.folder, self.image, filters=self._filters(kind or self.kind))
        served.__enter__()
        self._served = served
        try:
            self.device = attach(served.file)
            if self.filesystem == "ext4":
                # As systemd-fsck does: replays the journal, and mends what errors have left.
                run("e2fsck", "-p", self.device, check=False)
            self.mount()
        except BaseException:
            self._unplug(served)
            raise

    def mount(self) -> None:
        run(
            "mount",
            "-t",
            self.filesystem,
            "-o",
            _MOUNT_OPTIONS[self.filesystem],
            self.device,
            str(self.mountpoint),
        )

    def unmount(self) -> None:
        unmount(self.mountpoint)

    def kill(self) -> None:
        """Take its power away, and leave everything that stands on it to find out."""
        assert self._served is not None, "it is off"
        self._served.kill()

    def cut_power(self) -> None:
        """Take its power away, and unmount what is left, as the end of its machine does."""
        self.kill()
        assert self._served is not None
        self._unplug(self._served)

    def power_off(self) -> None:
        """Unmount, then switch off. A lying disk forgets even then."""
        assert self._served is not None, "it is off"
        self.unmount()
        self._unplug(self._served)

    def fail(self) -> None:
        """Kind `error`: from now on every read, write and flush gives EIO."""
        self._switch.touch()

    def work(self) -> None:
        """And from now on no longer."""
        self._switch.unlink(missing_ok=True)

    def save(self, copy: Path) -> None:
        """A copy of the image, as a snapshot is one; the power is off."""
        assert not self.on, "switch it off first"
        run("cp", str(self.image), str(copy))

    def put_back(self, copy: Path) -> None:
        """Roll back to a copy, or become the clone of another disk; the power is off."""
        assert not self.on, "switch it off first"
        run("cp", str(copy), str(self.image))

    def exchange(self, other: "PoweredDisk") -> None:
        """Swap the disks behind two mountpoints; the power of both is off."""
        assert not self.on, "switch it off first"
        assert not other.on, "switch the other off first"
        aside = self.folder / "aside.img"
        shutil.move(self.image, aside)
        shutil.move(other.image, self.image)
        shutil.move(aside, other.image)
        self.filesystem, other.filesystem = other.filesystem, self.filesystem

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """The files of a disk that is switched off, to change them behind its machine's back."""
        assert not self.on, "switch it off first"
        inside = self.folder / "inside"
        inside.mkdir(exist_ok=True)
        device = attach(self.image)
        try:
            run("mount", "-t", self.filesystem, "-o", _MOUNT_OPTIONS[self.filesystem], device, str(inside))
            try:
                yield inside
            finally:
                run("umount", str(inside))
        finally:
            detach(device)

    def spoil(self, content: bytes, *, keep: int = 0) -> None:
        """Change a block of the medium by its content, below the filesystem; the power is off.

        One bit in its middle is flipped, or, with `keep`, all after its first `keep` bytes are zeros, as a write that
        was cut short leaves it.
        """
        assert not self.on, "switch it off first"
        assert len(content) == BLOCK_BYTES
        with self.image.open("r+b", buffering=0) as file:
            places = _places(file.fileno(), content)
            assert places, "there is no such block on the medium"
            for place in places:
                os.pwrite(file.fileno(), torn(content, keep) if keep else flipped(content), place)

    def _filters(self, kind: Kind) -> tuple[str, ...]:
        match kind:
            case "error":
                return ("--filter=error", "error=EIO", "error-rate=100%", f"error-file={self._switch}")
            case "honest":
                return ()
            case "volatile":
                return ("--filter=cache", "cache=writeback")
            case "lying":
                return ("--filter=cache", "cache=unsafe")

    def _unplug(self, served: NbdFuse) -> None:
        """In this order, each whatever became of the others: nothing may be left behind."""
        device, self.device, self._served = self.device, "", None
        run("umount", "--lazy", str(self.mountpoint), check=False)
        try:
            if device:
                detach(device)
                # The kernel lets go of a filesystem some time after its last mount, and that may have been one in the
                # namespace of a process that has just ended. Until then btrfs mounts no other device with its UUID.
                wait_for(lambda: not _attached(device, served.file), what=f"{device} to be let go of")
                if self.filesystem == "btrfs":
                    run("btrfs", "device", "scan", "--forget", device, check=False)
        finally:
            served.__exit__(None, None, None)


def _attached(device: str, file: Path) -> bool:
    try:
        backing = Path(f"/sys/block/{device.rpartition('/')[2]}/loop/backing_file").read_text().strip()
    except OSError:
        return False
    return backing.removesuffix(" (deleted)") == str(file)


def flipped(block: bytes) -> bytes:
    """The block with one bit in its middle changed."""
    middle = len(block) // 2
    return block[:middle] + bytes([block[middle] ^ 0x01]) + block[middle + 1 :]


def torn(block: bytes, keep: int) -> bytes:
    """The block of which only the beginning was written."""
    return block[:keep] + bytes(len(block) - keep)


def _places(image: int, block: bytes) -> list[int]:
    """Where a block lies in a sparse image: filesystems put file data on block boundaries."""
    places, hole = [], 0
    size = os.fstat(image).st_size
    while hole < size:
        try:
            data = os.lseek(image, hole, os.SEEK_DATA)
        except OSError:
            break  # ENXIO: nothing but a hole is left
        hole = os.lseek(image, data, os.SEEK_HOLE)
        content = os.pread(image, hole - data, data)
        at = content.find(block)
        while at >= 0:
            places.append(data + at)
            at = content.find(block, at + 1)
    return places
