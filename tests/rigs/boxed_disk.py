"""This machine's disks in a box: mounted there and nowhere else, so that the box alone says whether they are in use."""

import os
import stat
from pathlib import Path

from tests.rigs.failing_disk import FailingDisk
from tests.rigs.loop_disk import LoopDisk, unmount
from tests.rigs.systemd_box import SystemdBox


def show(box: SystemdBox, device: str) -> None:
    """Make a block device of this machine one of the box's, under the same name."""
    inside = box.root / device.removeprefix("/")
    os.mknod(inside, stat.S_IFBLK | 0o600, os.stat(device).st_rdev)


def move(box: SystemdBox, disk: LoopDisk | FailingDisk, place: str, options: str = "defaults") -> None:
    """Unmount the disk here and mount it at `place` in the box; `disk.mountpoint` leads there from outside.

    The box's power must be cut before the disk is let go.
    """
    unmount(disk.mountpoint)
    show(box, disk.device)
    box.run("mkdir", "-p", place)
    box.run("mount", "-o", options, disk.device, place)
    disk.mountpoint = Path(f"{box.root}{place}")
