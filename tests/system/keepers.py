"""Services of a real systemd that keep their state on real disks: one box, and a service and a disk for each case.

with Keepers(box, folder) as keepers:
    keepers.disk("full")                      # mounted on /srv/full in the box
    keepers.redis("full", "/srv/full/state")  # keeper-full.service
    keepers.start()
    keepers.say("full", "SET a b")
"""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import needs
from tests.rigs.boxed_disk import move
from tests.rigs.databases import say
from tests.rigs.failing_disk import FailingDisk
from tests.rigs.loop_disk import LoopDisk
from tests.rigs.systemd_box import SystemdBox
from tests.waiting import wait_for

_OPTIONS = {"ext4": "errors=remount-ro"}
"""As installers of distributions write it into fstab."""
_UNIT = """[Unit]
Description=Keeps {name}
{unit}
[Service]
{service}
[Install]
WantedBy=multi-user.target
"""
_REDIS = """Type=notify
ExecStart={daemon} --port 0 --unixsocket /run/keeper-{name}.sock --dir {folder} --appendonly yes \
--appendfsync always --supervised systemd --daemonize no
"""


class Keepers:
    """Disks and services of a box, until the block ends."""

    def __init__(self, box: SystemdBox, folder: Path) -> None:
        """`folder` takes the disks' files."""
        self.box = box
        self.disks: dict[str, LoopDisk] = {}
        self.failing: dict[str, FailingDisk] = {}
        self.classes: dict[str, str] = {}
        """Device → durability class, for the agent's configuration: files of a test show nothing of a cloud's disks."""
        self._folder = folder
        self._daemon = needs.tool("redis-server", package="redis-server")
        self._held = ExitStack()
        self._names: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What services hold open, and what the box has mounted, would keep the devices.
        self.box.cut_power()
        self._held.close()

    def disk(
        self, name: str, filesystem: str = "ext4", *, level: str = "D2", mkfs: tuple[str, ...] = ()
    ) -> None:
        """A disk of its own at /srv/NAME, whose class the operator declares."""
        disk = self._held.enter_context(LoopDisk(self._made(name), filesystem, mkfs=mkfs))
        self._adopt(name, disk, level)
        self.disks[name] = disk

    def failing_disk(self, name: str) -> None:
        """One that can be made to answer EIO."""
        disk = self._held.enter_context(FailingDisk(self._made(name), "ext4"))
        self._adopt(name, disk, "D2")
        self.failing[name] = disk

    def device(self, name: str) -> str:
        """The kernel's name of a disk, e.g. loop38211."""
        return (self.disks.get(name) or self.failing[name]).name

    def sh(self, commands: str) -> None:
        """Run as an operator's shell would; the first failure fails the test."""
        self.box.run("bash", "-euc", commands)

    def unit(self, name: str, service: str, unit: str = "") -> None:
        """A service; `start` starts it."""
        text = _UNIT.format(name=name, unit=unit, service=service)
        (self.box.root / "etc/systemd/system" / f"keeper-{name}.service").write_text(text)
        self._names.append(f"keeper-{name}.service")

    def redis(self, name: str, folder: str, *, careless: bool = False) -> None:
        """A Redis that keeps what it is told in `folder`. `careless`: it would start without the mount that is on."""
        self.sh(f"mkdir -p {folder}")
        service = _REDIS.format(daemon=self._daemon, name=name, folder=folder)
        self.unit(name, service, "" if careless else f"RequiresMountsFor={folder}")

    def start(self) -> None:
        """All at once, as a boot does."""
        self.box.run("systemctl", "daemon-reload")
        self.box.run("systemctl", "enable", "--now", *self._names)

    def restart(self, name: str, *, environment: str = "") -> None:
        """`environment`: one more variable of its unit from now on; without it there is none."""
        drop_in = self.box.root / f"etc/systemd/system/keeper-{name}.service.d/environment.conf"
        drop_in.parent.mkdir(exist_ok=True)
        drop_in.write_text(f"[Service]\nEnvironment={environment}\n")
        self.sh(f"systemctl daemon-reload; systemctl restart keeper-{name}.service")

    def lose_mount(self, name: str) -> None:
        """Whoever has files open there does not notice."""
        self.sh(f"umount --lazy /srv/{name}")

    def mount(self, name: str, *, beneath: str = "true", check: bool = False) -> None:
        """What an operator does: stop the service, unmount, tidy up `beneath`, check the disk, mount it, start the service."""
        self.sh(f"systemctl stop keeper-{name}.service")
        wait_for(lambda: self._unmounted(name), 10.0, f"{name} to be unmounted")
        disk = self.disks.get(name) or self.failing[name]
        # e2fsck exits with 1 when it has corrected something.
        checked = f"e2fsck -fy {disk.device} || true" if check else "true"
        options = _OPTIONS.get(disk.filesystem, "defaults")
        self.sh(
            f"{beneath}; {checked}; mount -o {options} {disk.device} /srv/{name}; systemctl start keeper-{name}"
        )

    def say(self, name: str, words: str) -> bytes:
        """One command to a Redis, and its answer; empty when it dies of it."""
        return say(self.box.root / f"run/keeper-{name}.sock", words)

    def _made(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir()
        return folder

    def _adopt(self, name: str, disk: LoopDisk | FailingDisk, level: str) -> None:
        move(self.box, disk, f"/srv/{name}", _OPTIONS.get(disk.filesystem, "defaults"))
        self.classes[disk.device] = level

    def _unmounted(self, name: str) -> bool:
        """An agent looks at it for an instant, now and then, and keeps it busy."""
        place = f"/srv/{name}"
        return bool(
            self.box.run("bash", "-c", f"umount {place} 2>/dev/null; mountpoint -q {place} || echo gone")
        )
