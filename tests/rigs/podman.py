"""A real Podman: its own storage, an image that is made here, containers, its API's socket. It needs no registry.

`create` makes a container that never starts, with layers of `vfs`, plain folders. `run` starts one, whose layer is an
overlay: in a mount namespace whose control groups are version 2 alone, for crun takes no mixture of both, and with less
than the machine's limits, for who may not raise them may not set them to what they are either.
"""

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests import needs
from tests.waiting import wait_for

IMAGE = "localhost/postgres:16"
DATA = "/var/lib/postgresql/data"
_PURE_CGROUPS = (
    "mount --make-rprivate / && umount --recursive /sys/fs/cgroup"
    ' && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"'
)


class Podman:
    """Stopped, with all it stored removed, when the block ends."""

    def __init__(self, driver: str = "vfs") -> None:
        needs.root()
        self._program = needs.tool("podman", package="podman")
        self._driver = driver
        self._folder = tempfile.TemporaryDirectory(prefix="holdfast-podman-")
        self.rootfs = Path(self._folder.name)
        self._service: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            folder = tarfile.TarInfo("srv")
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
            if shell := shutil.which("busybox"):
                tar.add(shell, "bin/busybox")
        self.say("import", "-", IMAGE, given=archive.getvalue())
        return self

    def __exit__(self, *_: object) -> None:
        if self._service is not None:
            self._service.terminate()
            self._service.wait(10)
        # Podman binds an overlay's storage onto itself and leaves it so.
        subprocess.run(["umount", f"{self.rootfs}/storage/overlay"], capture_output=True, check=False)
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

    @contextlib.contextmanager
    def running(self, name: str, script: str, *options: str, runtime: str = "libpod") -> Iterator[str]:
        """The id of a container that runs the shell script and then sleeps, until the block ends.

        Its control group is named as `runtime` names them: `libpod`, `cri-containerd`, …
        """
        needs.tool("busybox", package="busybox-static")
        limits = [f"--ulimit={which}=1000:1000" for which in ("nofile", "nproc")]
        plain = ["--network", "none", "--cgroups", "disabled", *limits]
        asleep = ["/bin/busybox", "sh", "-c", f"{script}; exec /bin/busybox sleep 600"]
        command = self._command("run", "--detach", "--name", name, *plain, *options, IMAGE, *asleep)
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", _PURE_CGROUPS, "sh", *command],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        needs.condition(done.returncode == 0, f"a container must be able to run here: {done.stderr[-300:]}")
        identity = done.stdout.strip()
        try:
            with self._grouped(name, f"{runtime}-{identity}.scope"):
                yield identity
        finally:
            self.say("rm", "--force", "--time", "0", name)

    @contextlib.contextmanager
    def _grouped(self, name: str, group_name: str) -> Iterator[None]:
        """Its process in a control group of the name its runtime would give it, were it allowed to make one here."""
        pid = self.say("inspect", name, "--format", "{{.State.Pid}}")
        mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
        tree = next(Path(line.split()[1]) for line in mounts if line.split()[2] == "cgroup2")
        group = tree / group_name
        group.mkdir()
        try:
            (group / "cgroup.procs").write_text(pid)
            yield
        finally:
            self.say("stop", "--time", "0", name)
            wait_for(lambda: not (group / "cgroup.procs").read_text(), what="the container has ended")
            os.rmdir(group)

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
        plain = ["--storage-driver", self._driver, "--cgroup-manager", "cgroupfs", "--log-level", "error"]
        return [self._program, *places, *plain, *arguments]
