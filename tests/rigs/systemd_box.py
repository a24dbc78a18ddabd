"""A systemd of one's own for tests: process 1 with a real system bus, on a throw-away overlay of this machine's root.

    with SystemdBox(tmp_path) as box:
        box.unit("web.service", "[Service]\nExecStart=/bin/sleep infinity\n")
        box.run("systemctl", "start", "web.service")
        ...connect to box.root / "run/dbus/system_bus_socket"...

`box.root` shows its root filesystem from the outside, sockets included, so that a probe under test stays in this
process. The box can be shut down, or killed as a power cut kills a machine, and started again with what it had written.
Needs root, cgroup v2, overlayfs, and the packages systemd and dbus.
"""

import os
import signal
import subprocess
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import needs
from tests.rigs.loop_disk import run
from tests.waiting import wait_for

_SCRIPT = Path(__file__).with_name("systemd_box.sh")


class SystemdBox:
    """A booted systemd until the block ends."""

    def __init__(self, folder: Path) -> None:
        needs.root()
        needs.tool("dbus-daemon", package="dbus")
        for program in ("unshare", "nsenter", "pivot_root"):
            needs.tool(program, package="util-linux")
        needs.tool("ip", package="iproute2")
        needs.condition(
            Path("/lib/systemd/systemd").exists(), "systemd is not installed; apt install systemd"
        )
        needs.condition(
            "\toverlay\n" in Path("/proc/filesystems").read_text(), "needs a kernel with overlayfs"
        )
        needs.condition(_cgroup_tree() is not None, "needs cgroup v2 (a mounted cgroup2 filesystem)")
        self._folder = folder / "box"
        self._base = self._folder / "root"
        self._outer: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """Of its process 1, as this machine sees it."""
        self.boot_id = ""

    @property
    def root(self) -> Path:
        """Its root filesystem, seen from the outside."""
        return Path(f"/proc/{self.pid}/root")

    @property
    def bus_address(self) -> str:
        return f"unix:path={self.root}/run/dbus/system_bus_socket"

    def __enter__(self) -> Self:
        upper = self._folder / "upper"
        upper.mkdir(parents=True)
        self._base.mkdir()
        # An overlay cannot lie on an overlay, and the folder may be on one: so what it writes is in memory.
        run("mount", "-t", "tmpfs", "-o", "size=512M", "tmpfs", str(upper))
        try:
            (upper / "data").mkdir()
            (upper / "work").mkdir()
            layers = f"lowerdir=/,upperdir={upper}/data,workdir={upper}/work"
            run("mount", "-t", "overlay", "overlay", "-o", layers, str(self._base))
            self._empty()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut_power()
        run("umount", "--lazy", str(self._base), check=False)
        run("umount", "--lazy", str(self._folder / "upper"), check=False)

    def start(self) -> None:
        """Boot it; returns when it runs."""
        self.boot_id = str(uuid.uuid4())
        log = (self._folder / "log").open("ab")
        self._outer = subprocess.Popen(
            [str(_SCRIPT), str(self._base), self.boot_id], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        log.close()
        self.pid = wait_for(self._inner_pid, what=self._said)
        wait_for(self._running, what=self._said)

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command inside and return what it printed."""
        inside = (
            "nsenter",
            "-t",
            str(self.pid),
            "--all",
            "env",
            "-i",
            "PATH=/usr/sbin:/usr/bin",
            "HOME=/root",
        )
        return run(*inside, *command, check=check)

    def running(self, command: list[str]) -> list[str]:
        """The command as it is run inside, but on this machine's network. `nsenter` remains as its parent."""
        namespaces = ["--mount", "--uts", "--ipc", "--pid", "--cgroup"]
        return ["nsenter", "--target", str(self.pid), *namespaces, *command]

    def share(self, *paths: Path) -> None:
        """Copy files, and folders of files: an overlay need not show what came after it was mounted."""
        for path in paths:
            files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
            for file in files:
                there = self.root / str(file).lstrip("/")
                there.parent.mkdir(parents=True, exist_ok=True)
                there.write_bytes(file.read_bytes())

    def unit(self, name: str, text: str) -> None:
        """Write a unit file and make systemd read it."""
        (self.root / "etc/systemd/system" / name).write_text(text)
        self.run("systemctl", "daemon-reload")

    def show_kernel_log(self) -> None:
        """Let it read the machine's kernel log, which is not its own: boots of one box cannot be told apart there."""
        self.run("mknod", "-m", "644", "/run/kmsg", "c", "1", "11")
        self.run("mount", "--bind", "/run/kmsg", "/dev/kmsg")

    def shut_down(self) -> None:
        """Orderly, as an operator does."""
        self.run("systemctl", "poweroff", check=False)
        self._wait_for_the_end()

    def cut_power(self) -> None:
        """Kill everything in it, as a power cut does."""
        if self.pid and Path(f"/proc/{self.pid}").exists():
            os.kill(self.pid, signal.SIGKILL)
        self._wait_for_the_end()

    def _wait_for_the_end(self) -> None:
        if self._outer is None:
            return
        self._outer.wait()
        tree = _cgroup_tree()
        assert tree is not None
        leftover = tree / f"holdfast-box-{self._outer.pid}"
        wait_for(lambda: _removed(leftover), what=f"{leftover} to be empty")
        self._outer = None
        self.pid = 0

    def _inner_pid(self) -> int | None:
        assert self._outer is not None
        assert self._outer.poll() is None, self._said()
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        named = [int(pid) for pid in children if _command(int(pid)) == "systemd"]
        return named[0] if named else None

    def _running(self) -> bool:
        if not (self.root / "run/dbus/system_bus_socket").exists():
            return False
        state = self.run("systemctl", "is-system-running", check=False).strip()
        return state in ("running", "degraded")

    def _said(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-2000:]

    def _empty(self) -> None:
        """None of this machine's own services: a system of its own."""
        units = self._base / "etc/systemd/system"
        units.mkdir(parents=True, exist_ok=True)
        for wants in units.glob("*.wants"):
            run("rm", "-rf", str(wants))
        run("rm", "-rf", str(self._base / "etc/init.d"), str(self._base / "var/log/wtmp"))
        (units / "console-getty.service").unlink(missing_ok=True)
        (units / "console-getty.service").symlink_to("/dev/null")
        (units / "default.target").unlink(missing_ok=True)
        (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
        # Booting empties /tmp (tmpfiles.d(5)), where the checkout and its virtual environment may lie.
        tmpfiles = self._base / "etc/tmpfiles.d"
        tmpfiles.mkdir(parents=True, exist_ok=True)
        (tmpfiles / "tmp.conf").unlink(missing_ok=True)
        (tmpfiles / "tmp.conf").symlink_to("/dev/null")
        (self._base / "etc/fstab").write_text("")
        (self._base / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
        (self._base / "var/log/journal").mkdir(parents=True, exist_ok=True)
        (self._base / "var/log/wtmp").touch()


def _cgroup_tree() -> Path | None:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mountpoint, fstype, *_ = line.split()
        if fstype == "cgroup2":
            return Path(mountpoint)
    return None


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except FileNotFoundError:
        return ""


def _removed(group: Path) -> bool:
    """Remove an emptied cgroup and all below it; False while something still runs there."""
    if not group.exists():
        return True
    for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
        try:
            folder.rmdir()
        except OSError:
            return False
    try:
        group.rmdir()
    except OSError:
        return False
    return True
