"""A machine of the bench's own: a booted systemd with as many services and mounts as wanted, to run programs on.

What runs here sees the box as its machine: process 1, services, control groups and mounts are the box's. The network is
this machine's, so that a broker is reached; the files are in memory (an overlay of this machine's root). A third of the
mounts, but at most `DISKS_MAX`, are ext4 filesystems on loop devices; of the rest, half are tmpfs and half are bind
mounts of folders on those.
"""

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.bench.boxed_services import BoxedServices
from tests.rigs import loop_disk
from tests.rigs.boxed_disk import show
from tests.rigs.systemd_box import SystemdBox

DISKS_MAX = 24
"""Each is a loop device that the whole real machine sees, and its udev and monitors with it."""
_DISK_BYTES = 16 << 20
PLACE = "/srv/bench"


class BoxedMachine:
    """From `with` to its end. Needs what `SystemdBox` needs, and mkfs.ext4 where there are mounts."""

    def __init__(self, folder: Path, *, mounts: int, services: int) -> None:
        """`folder` takes the disks' files. Skips where the box cannot be."""
        self._folder = folder
        self._box = SystemdBox(folder)
        self._mounts = mounts
        self._services = services
        self._stack = contextlib.ExitStack()
        if mounts:
            loop_disk.available("ext4")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._box)
            BoxedServices(self._box, self._services)
            disks = min(DISKS_MAX, self._mounts // 3)
            for number in range(disks):
                self._mount_disk(stack, number)
            for number in range(disks, self._mounts):
                if disks and number % 2:
                    source = f"{PLACE}/disk{number % disks}/part{number}"
                    self._box.run("mkdir", "-p", source)
                    self._mount(f"part{number}", "--bind", source)
                else:
                    self._mount(f"memory{number}", "-t", "tmpfs", "-o", "size=1M", "tmpfs")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def running(self, command: list[str]) -> list[str]:
        """The command as it is run there. `nsenter` remains as its parent."""
        return self._box.running(command)

    def share(self, *paths: Path) -> None:
        """Copy files, and folders of files, to where they are here."""
        self._box.share(*paths)

    def _mount_disk(self, stack: contextlib.ExitStack, number: int) -> None:
        image = self._folder / f"disk{number}.img"
        loop_disk.make_filesystem(image, "ext4", size_bytes=_DISK_BYTES)
        device = loop_disk.attach(image)
        stack.callback(loop_disk.detach, device)
        show(self._box, device)
        self._mount(f"disk{number}", device)
        # Before the device is let go, while the box still runs.
        stack.callback(self._box.run, "umount", "--lazy", "-R", f"{PLACE}/disk{number}", check=False)

    def _mount(self, name: str, *how: str) -> None:
        self._box.run("mkdir", "-p", f"{PLACE}/{name}")
        self._box.run("mount", *how, f"{PLACE}/{name}")
