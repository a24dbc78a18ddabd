"""A whole machine for tests: a Debian guest under QEMU, whose kernel, disks and power are a test's own.

    with VirtualMachine(folder, image(cache), product(folder / "product"), disks=[...]) as guest:
        guest.run("mdadm --create ...")

The image is built once (virtual_machine.sh) and kept in a folder of the caller's, under the digest of its recipe. Our
program comes on a disk of its own, made anew for each run, so that a change of ours costs no image. Commands go
through QEMU's guest agent on a serial port, so they work with the guest's network down. Its network is QEMU's own: it
reaches this machine's loopback as 10.0.2.2, and is reached from nowhere. There is no need of KVM: without, it is slow.
"""

import base64
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from msgspec import Struct

from tests import needs
from tests.rigs.loop_disk import run
from tests.waiting import wait_for

HOST = "10.0.2.2"
"""This machine's loopback, as the guest sees it."""
_PROCESSORS = {"tcg": "max", "kvm": "host,-arch-capabilities"}
"""Inside another virtual machine KVM may refuse what the host's own processor says of its faults (MSR 0x10a)."""
_ACCELERATORS = {"tcg": "tcg,thread=multi,tb-size=256", "kvm": "kvm"}
BOOT_SECONDS = 600.0
COMMAND_SECONDS = 300.0
_RECIPE = Path(__file__).with_suffix(".sh")
_PRODUCT_SIZE = "256M"


class GuestError(Exception):
    """QEMU or its guest agent refused, or a command in the guest failed."""


class GuestDisk(Struct, frozen=True):
    """An empty disk of the guest's. `name` is its serial number; NVMe disks are QEMU's device `NAME`."""

    name: str
    size: str = "256M"
    device: str = "virtio-blk-pci"


PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "mosquitto": "mosquitto",
}


def absent() -> str:
    """What this machine lacks for a guest, with its cure; empty when nothing."""
    if os.geteuid() != 0:
        return "needs root"
    packages = [package for program, package in PROGRAMS.items() if needs.find(program) is None]
    return f"on Debian or Ubuntu: apt install {' '.join(packages)}" if packages else ""


def image(cache: Path) -> Path:
    """The folder with `root.qcow2`, `vmlinuz` and `initrd.img`; built when the cache has none of this recipe."""
    folder = cache / f"guest-{hashlib.sha256(_RECIPE.read_bytes()).hexdigest()[:16]}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        building = cache / f"{folder.name}.{os.getpid()}"
        building.mkdir()
        try:
            run("sh", str(_RECIPE), str(building))
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return folder


def product(folder: Path) -> Path:
    """A disk with our agent and what it needs, for the guest's Python 3.11, from this checkout."""
    checkout = _RECIPE.parents[2]
    folder.mkdir(parents=True)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", str(folder / "wheel"), str(checkout))
    wheel = next((folder / "wheel").glob("*.whl"))
    for_guest = ("--python-version", "3.11", "--only-binary", ":all:", "--target", str(folder / "site"))
    run(*pip, "install", *for_guest, str(wheel))
    disk = folder / "product.raw"
    run("mke2fs", "-q", "-t", "ext4", "-d", str(folder / "site"), str(disk), _PRODUCT_SIZE)
    return disk


class VirtualMachine:
    """A booted guest until the block ends."""

    def __init__(
        self,
        folder: Path,
        image_folder: Path,
        product_disk: Path,
        *,
        disks: list[GuestDisk],
        accel: str = "tcg",
    ) -> None:
        """`accel` is QEMU's: `tcg` emulates and works everywhere, `kvm` is fast where it works."""
        self._folder = folder
        self._image = image_folder
        self._product = product_disk
        self._disks = disks
        self._accel = accel
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)

    def __enter__(self) -> Self:
        root = self._folder / "root.qcow2"
        backing = str((self._image / "root.qcow2").resolve())
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", "qcow2", str(root))
        for disk in self._disks:
            run("truncate", "-s", disk.size, str(self._folder / disk.name))
        try:
            self.power_on()
        except BaseException:
            self.cut_power()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut_power()

    def power_on(self) -> None:
        """Boot; returns when commands can be run."""
        with (self._folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.wait_up()

    def cut_power(self) -> None:
        """Kill QEMU: what the guest had only in memory is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def shut_down(self) -> None:
        """As an operator does: every service is stopped and every filesystem unmounted; returns when the guest is off."""
        assert self._process is not None, "the guest is off"
        self.run("systemctl poweroff --no-block")
        self._process.wait(BOOT_SECONDS)
        self._process = None

    def suspend(self, seconds: float) -> None:
        """Suspend to RAM, and wake up after so many seconds; returns when the guest is up again."""
        with contextlib.suppress(TimeoutError):  # it may sleep before it has answered
            self._ask(
                "guest-exec", {"path": "/bin/sh", "arg": ["-c", "echo mem >/sys/power/state"]}, timeout=5
            )
        wait_for(
            lambda: self.qmp("query-status")["status"] == "suspended",
            BOOT_SECONDS,
            "the guest to sleep",
            pause=0.2,
        )
        asleep = time.monotonic()
        wait_for(
            lambda: time.monotonic() >= asleep + seconds, seconds + 60, "the guest's sleep to be long enough"
        )
        self.qmp("system_wakeup")
        self.wait_up()

    def save(self, name: str) -> None:
        """Take a snapshot of a disk; the guest must be off."""
        assert self._process is None, "the guest is on"
        run("cp", "--sparse=always", str(self._folder / name), str(self._folder / f"{name}.saved"))

    def roll_back(self, name: str) -> None:
        """Set a disk back to its snapshot; the guest must be off."""
        assert self._process is None, "the guest is on"
        run("cp", "--sparse=always", str(self._folder / f"{name}.saved"), str(self._folder / name))

    def reset(self) -> None:
        """The reset button; returns when the guest is up again."""
        before = self.run("cat /proc/sys/kernel/random/boot_id")
        self.qmp("system_reset")
        self.wait_up(lambda: self.run("cat /proc/sys/kernel/random/boot_id") != before)

    def wait_up(self, condition: Any = None) -> None:
        """Until the guest agent answers, and `condition` holds."""

        def up() -> bool:
            assert self._process is not None, "the guest is off"
            assert self._process.poll() is None, f"QEMU ended: {self.said()}"
            with contextlib.suppress(OSError, GuestError):
                self._ask("guest-ping", timeout=3)
                return condition is None or bool(condition())
            return False

        wait_for(up, BOOT_SECONDS, lambda: f"the guest to be up: {self.said()}", pause=0.5)

    def said(self) -> str:
        """The end of what the guest's console and QEMU said."""
        texts = [self._folder / "serial.log", self._folder / "qemu.log"]
        return "\n".join(text.read_text(errors="replace")[-2000:] for text in texts if text.exists())

    def run(self, command: str, *, check: bool = True) -> str:
        """What a shell command in the guest printed. Raises GuestError when it fails and `check` is set."""
        arguments = {"path": "/bin/sh", "arg": ["-c", f"exec 2>&1; {command}"], "capture-output": True}
        pid = self._ask("guest-exec", arguments)["pid"]

        def ended() -> Any:
            state = self._ask("guest-exec-status", {"pid": pid})
            return state if state["exited"] else None

        state = wait_for(ended, COMMAND_SECONDS, f"the guest to run {command!r}", pause=0.2)
        printed = base64.b64decode(state.get("out-data", "")).decode(errors="replace")
        if check and state.get("exitcode") != 0:
            raise GuestError(f"{command}: {state.get('exitcode', 'killed')}: {printed}")
        return printed.strip()

    def write(self, path: str, text: str) -> None:
        """Write a file in the guest."""
        encoded = base64.b64encode(text.encode()).decode()
        self.run(f"mkdir -p $(dirname {path}) && echo {encoded} | base64 -d >{path}")

    def qmp(self, command: str, **arguments: Any) -> Any:
        """Ask QEMU itself."""
        with self._connect("qmp.sock", 10) as link, link.makefile("rw") as lines:
            json.loads(lines.readline())  # its greeting
            _exchange(lines, {"execute": "qmp_capabilities"})
            return _exchange(lines, {"execute": command, "arguments": arguments})

    def _ask(self, command: str, arguments: dict[str, Any] | None = None, *, timeout: float = 60) -> Any:
        with self._connect("agent.sock", timeout) as link, link.makefile("rw") as lines:
            # An answer to an earlier, abandoned question may still be on its way.
            token = int.from_bytes(os.urandom(4), "big")
            while _exchange(lines, {"execute": "guest-sync", "arguments": {"id": token}}) != token:
                pass
            return _exchange(lines, {"execute": command, "arguments": arguments or {}})

    def _connect(self, name: str, timeout: float) -> socket.socket:
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(timeout)
        try:
            link.connect(str(self._folder / name))
        except OSError:
            link.close()
            raise
        return link

    def _command(self) -> list[str]:
        folder = self._folder
        command = [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-machine", "q35", "-accel", _ACCELERATORS[self._accel], "-cpu", _PROCESSORS[self._accel]),
            *("-smp", "2", "-m", "1024"),
            *("-kernel", str(self._image / "vmlinuz"), "-initrd", str(self._image / "initrd.img")),
            *("-append", "root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 mitigations=off"),
            *("-serial", f"file:{folder / 'serial.log'}"),
            *("-qmp", f"unix:{folder / 'qmp.sock'},server=on,wait=off"),
            *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=agent,path={folder / 'agent.sock'},server=on,wait=off"),
            *("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
            *("-netdev", "user,id=user0", "-device", "virtio-net-pci,netdev=user0"),
            *("-drive", f"file={folder / 'root.qcow2'},if=none,id=root,format=qcow2"),
            *("-device", "virtio-blk-pci,drive=root"),
            *("-drive", f"file={self._product},if=none,id=product,format=raw,readonly=on"),
            *("-device", "virtio-blk-pci,drive=product"),
        ]
        for disk in self._disks:
            name = disk.name
            command += ["-drive", f"file={folder / name},if=none,id=drive-{name},format=raw"]
            command += ["-device", f"{disk.device},drive=drive-{name},serial={name},id={name}"]
        return command


def _exchange(lines: Any, question: dict[str, Any]) -> Any:
    lines.write(json.dumps(question) + "\n")
    lines.flush()
    while True:
        line = lines.readline()
        if not line:
            raise GuestError("the connection was closed")
        answer = json.loads(line.lstrip("\xff"))
        if "error" in answer:
            raise GuestError(f"{question['execute']}: {answer['error']['desc']}")
        if "return" in answer:
            return answer["return"]
