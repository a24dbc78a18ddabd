"""A filesystem that another process answers for: an image served by fuse2fs(1). Package: fuse2fs."""

from pathlib import Path
from types import TracebackType
from typing import Self

from tests import needs
from tests.rigs.loop_disk import make_filesystem, run, unmount
from tests.waiting import wait_for


class FuseDisk:
    """Inside the block it is mounted at `mountpoint`, as type `fuse.ext4`."""

    def __init__(self, folder: Path) -> None:
        needs.root()
        self._program = needs.tool("fuse2fs", package="fuse2fs")
        needs.condition(Path("/dev/fuse").exists(), "needs FUSE (/dev/fuse)")
        self._image = folder / "disk.img"
        self.mountpoint = folder / "mnt"

    def __enter__(self) -> Self:
        self.mountpoint.mkdir(parents=True)
        make_filesystem(self._image, "ext4")
        run(self._program, str(self._image), str(self.mountpoint), "-o", "rw,fakeroot")
        wait_for(self.mountpoint.is_mount, what="fuse2fs to serve")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        unmount(self.mountpoint)
        self._image.unlink()
