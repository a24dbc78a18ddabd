"""A disk on which only one file's data cannot be written: metadata, journal and every other file go on working.

    with WriteFailingDisk(folder) as disk:
        disk.fail()
        disk.write()       # raises OSError (EIO) from fsync, as a database's would; the filesystem stays as it is
        disk.work()

nbdkit's eval plugin, which refuses writes within a range of the medium (nbdkit-eval-plugin(3)), below nbdfuse and a loop
device. Packages: nbdkit, libnbd-bin, fuse3.
"""

import array
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.rigs.failing_disk import NbdFuse
from tests.rigs.loop_disk import attach, available, detach, make_filesystem, run

_FIBMAP = 1
"""linux/fs.h: block of a file → block of the device."""
_BLOCK_BYTES = 4096
_FILE_BLOCKS = 256
_PREAD = "dd if={image} bs=64k skip=$4 count=$3 iflag=skip_bytes,count_bytes,fullblock status=none"
_PWRITE = (
    "if [ -e {switch} ]; then read first end <{switch};"
    " if [ $4 -lt $end ] && [ $(($4 + $3)) -gt $first ]; then echo EIO the medium fails here >&2; exit 1; fi; fi;"
    " dd of={image} bs=64k seek=$4 oflag=seek_bytes conv=notrunc status=none"
)


class WriteFailingDisk:
    """A mounted ext4 with one file, `data`, whose blocks can be made to refuse writes."""

    def __init__(self, folder: Path) -> None:
        available("ext4")
        self.mountpoint = folder / "mnt"
        self.data = self.mountpoint / "data"
        self.device = ""
        self._image = folder / "disk.img"
        self._switch = folder / "fail"
        plugin = (
            "eval",
            f"get_size=stat -c %s {self._image}",
            "pread=" + _PREAD.format(image=self._image),
            "pwrite=" + _PWRITE.format(image=self._image, switch=self._switch),
            "flush=exit 0",
        )
        self._served = NbdFuse(folder, self._image, plugin=plugin)
        self._range = ""

    def __enter__(self) -> Self:
        self.mountpoint.mkdir(parents=True, exist_ok=True)
        make_filesystem(self._image, "ext4", mkfs=("-b", str(_BLOCK_BYTES)))
        self._served.__enter__()
        self.device = attach(self._served.file)
        run("mount", "-t", "ext4", self.device, str(self.mountpoint))
        self.write()
        blocks = _blocks(self.data)
        assert blocks == list(range(blocks[0], blocks[0] + len(blocks))), "the file is in one piece"
        self._range = f"{blocks[0] * _BLOCK_BYTES} {(blocks[-1] + 1) * _BLOCK_BYTES}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.work()
        run("umount", "--lazy", str(self.mountpoint), check=False)
        detach(self.device)
        self._served.__exit__(kind, error, trace)

    def fail(self) -> None:
        """From now on the file's blocks take no write."""
        self._switch.write_text(f"{self._range}\n")

    def work(self) -> None:
        """And from now on they do again."""
        self._switch.unlink(missing_ok=True)

    def write(self) -> None:
        """Write the file anew in its place and synchronise it. Raises OSError."""
        file = os.open(self.data, os.O_WRONLY | os.O_CREAT)
        try:
            os.pwrite(file, os.urandom(_FILE_BLOCKS * _BLOCK_BYTES), 0)
            os.fsync(file)
        finally:
            os.close(file)


def _blocks(file: Path) -> list[int]:
    """Where each block of a file lies on its device."""
    found = []
    with file.open("rb") as opened:
        for number in range(_FILE_BLOCKS):
            block = array.array("i", [number])
            fcntl.ioctl(opened, _FIBMAP, block)
            found.append(block[0])
    return found
