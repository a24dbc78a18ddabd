"""A real Podman that never starts anything: its own storage, an image of one empty folder, containers, its API's socket.

It needs no registry and no namespace; what its API says of a created container's mounts is what it says of a running one's.
"""

import io
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Self

from tests import needs
from tests.waiting import wait_for

IMAGE = "localhost/postgres:16"
DATA = "/var/lib/postgresql/data"


class Podman:
    """Stopped, with all it stored removed, when the block ends."""

    def __init__(self) -> None:
        needs.root()
        self._program = needs.tool("podman", package="podman")
        self._folder = tempfile.TemporaryDirectory(prefix="holdfast-podman-")
        self.rootfs = Path(self._folder.name)
        self._service: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            folder = tarfile.TarInfo("srv")
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        self.say("import", "-", IMAGE, given=archive.getvalue())
        return self

    def __exit__(self, *_: object) -> None:
        if self._service is not None:
            self._service.terminate()
            self._service.wait(10)
        self._folder.cleanup()

    def say(self, *arguments: str, given: bytes | None = None) -> str:
        """What `podman ARGUMENTS` prints."""
        done = subprocess.run(
            self._command(*arguments), input=given, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def create(self, name: str, *options: str) -> str:
        """The id of a new container."""
        return self.say("create", "--name", name, "--network", "none", *options, IMAGE, "postgres")

    def serve(self) -> Path:
        """The socket of its API, where a machine whose root is `rootfs` has it."""
        path = self.rootfs / "run" / "podman" / "podman.sock"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._service = subprocess.Popen(
            self._command("system", "service", "--time", "0", f"unix://{path}"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(path.exists, what="podman's API listens")
        return path

    def _command(self, *arguments: str) -> list[str]:
        places = ["--root", f"{self.rootfs}/storage", "--runroot", f"{self.rootfs}/runroot"]
        plain = ["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--log-level", "error"]
        return [self._program, *places, *plain, *arguments]
