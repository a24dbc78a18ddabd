"""A disk that fails on demand: nbdkit with its error filter, nbdfuse, a loop device, a filesystem.

    with FailingDisk(tmp_path, "ext4") as disk:
        disk.fail()        # every read, write and flush gives EIO
        ...
        disk.work()        # and no longer

No device-mapper and no VM, so it runs wherever root may mount FUSE. Packages: nbdkit, libnbd-bin, fuse3.
"""

import contextlib
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests import needs
from tests.rigs.loop_disk import attach, available, detach, let_go_everywhere, make_filesystem, run, unmount
from tests.waiting import wait_for


class NbdFuse:
    """An image served by nbdkit and shown by nbdfuse as the file `<folder>/nbd/disk`. FUSE blocks when it is stopped."""

    def __init__(
        self, folder: Path, image: Path, *, filters: tuple[str, ...] = (), plugin: tuple[str, ...] = ()
    ) -> None:
        """`plugin`: what serves the image, when not nbdkit's own `file`."""
        needs.root()
        self._nbdkit_program = needs.tool("nbdkit", package="nbdkit")
        self._nbdfuse_program = needs.tool("nbdfuse", package="libnbd-bin")
        needs.tool("fusermount3", package="fuse3")
        needs.condition(Path("/dev/fuse").exists(), "needs FUSE (/dev/fuse)")
        self.mountpoint = folder / "nbd"
        self.file = self.mountpoint / "disk"
        self._socket = folder / "nbd.sock"
        self._pidfile = folder / "nbd.pid"
        self._log = folder / "nbd.log"
        self._filters = filters
        self._plugin = plugin or ("file", str(image))
        self._servers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.mountpoint.mkdir(parents=True, exist_ok=True)
        for left in (self._socket, self._pidfile):
            left.unlink(missing_ok=True)  # by a server that was killed
        names = [argument for argument in self._filters if argument.startswith("--filter=")]
        parameters = [argument for argument in self._filters if not argument.startswith("--filter=")]
        self._start(
            self._nbdkit_program,
            "--foreground",
            "--unix",
            str(self._socket),
            "--pidfile",
            str(self._pidfile),
            *names,
            *self._plugin,
            *parameters,
        )
        wait_for(self._pidfile.exists, what="nbdkit to listen")  # it binds its socket earlier
        self._start(self._nbdfuse_program, str(self.file), f"nbd+unix:///?socket={self._socket}")
        wait_for(lambda: self.file.exists() and self.file.stat().st_size > 0, what=self._log.read_text)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run("fusermount3", "-u", "-z", str(self.file), check=False)
        run("fusermount3", "-u", "-z", str(self.mountpoint), check=False)
        for server in reversed(self._servers):
            server.kill()
            server.wait()

    @property
    def fuse_pid(self) -> int:
        """The process that answers for the mount; stopped (SIGSTOP), the mount hangs."""
        return self._servers[-1].pid

    def kill(self) -> None:
        """A power cut: SIGKILL to the server. Everything after it gives EIO."""
        self._servers[0].kill()
        self._servers[0].wait()

    def _start(self, *command: str) -> None:
        with self._log.open("ab") as log:
            self._servers.append(subprocess.Popen(command, stdout=log, stderr=log))


class FailingDisk:
    """A mounted filesystem whose disk can be made to fail."""

    def __init__(self, folder: Path, filesystem: str, *, mount_options: str = "defaults") -> None:
        available(filesystem)
        self.filesystem = filesystem
        self.mountpoint = folder / "failing.mnt"
        self.device = ""
        self._mount_options = mount_options
        self._image = folder / "failing.img"
        self._switch = folder / "fail"
        filters = ("--filter=error", "error=EIO", "error-rate=100%", f"error-file={self._switch}")
        self._served = NbdFuse(folder, self._image, filters=filters)

    @property
    def name(self) -> str:
        """The kernel's name of the device, e.g. loop3."""
        return self.device.rpartition("/")[2]

    def __enter__(self) -> Self:
        self.mountpoint.mkdir(parents=True, exist_ok=True)
        make_filesystem(self._image, self.filesystem)
        self._served.__enter__()
        self.device = attach(self._served.file)
        run("mount", "-o", self._mount_options, self.device, str(self.mountpoint))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.work()
        run("umount", "--lazy", str(self.mountpoint), check=False)
        detach(self.device)
        self._served.__exit__(kind, error, trace)

    @property
    def server_pid(self) -> int:
        """The process behind the device; stopped (SIGSTOP), the disk hangs."""
        return self._served.fuse_pid

    def fail(self) -> None:
        """From now on every read, write and flush gives EIO."""
        self._switch.touch()

    def lose_data(self) -> None:
        """Begin to fail between a write to a file that was there before and its fsync, which says so."""
        ledger = os.open(self.mountpoint / "ledger", os.O_WRONLY | os.O_CREAT)
        try:
            os.write(ledger, b"before")
            os.fsync(ledger)
            self.fail()
            os.write(ledger, bytes(1 << 16))
            with pytest.raises(OSError, match="Input/output error"):
                os.fsync(ledger)
        finally:
            os.close(ledger)

    def fail_journal(self) -> None:
        """Make a file, and ask for its name to be on disk; then go on, as programs do: only that ends the filesystem."""
        folder = os.open(self.mountpoint, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in ("another", "one more", "and one more"):
                with contextlib.suppress(OSError):  # whichever of the calls is the first to notice
                    (self.mountpoint / name).touch()
                    os.fsync(folder)
        finally:
            os.close(folder)

    def work(self) -> None:
        """From now on the disk works again."""
        self._switch.unlink(missing_ok=True)

    def repair(self) -> None:
        """What an operator does once the disk works again: unmount, check, mount."""
        self.work()
        unmount(self.mountpoint)
        let_go_everywhere(self.device)
        run("e2fsck", "-fy", self.device, check=False)
        run("mount", "-o", self._mount_options, self.device, str(self.mountpoint))
