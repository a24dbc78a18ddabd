"""Faults of whole machines, to be done and mended: databases on disks that break, crashes of a node, a unit that will not run."""

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests import needs
from tests.rigs.databases import Databases
from tests.rigs.failing_disk import FailingDisk
from tests.rigs.loop_disk import LoopDisk, run
from tests.rigs.powered_disk import PoweredDisk
from tests.rigs.systemd_box import SystemdBox
from tests.system.stack import Agent, Stack

NODE, QUIET, BOXED, CRASHED = "vm-1", "vm-2", "vm-3", "vm-4"
APPENDING = "appendonly yes\nappendfsync always\n"
LOOPING = """[Service]
ExecStart={command}
Restart=always
RestartSec=100ms
[Unit]
StartLimitIntervalSec=0
"""


class Fault(NamedTuple):
    """How to do the damage, and how to mend it."""

    do: Callable[[], object]
    mend: Callable[[], object]
    resources: dict[str, str]
    """Kind → name, of everything that it may touch."""
    node: str = NODE


class Database:
    """A Redis that keeps its state on a disk, and can be started again as an operator would."""

    def __init__(self, databases: Databases, folder: Path) -> None:
        self._databases = databases
        self.folder = folder
        self.service = f"redis:{folder}"
        self._server = databases.redis(folder, configuration=APPENDING)

    @property
    def resources(self) -> dict[str, str]:
        """What it is to the collector, and where its state lies."""
        return {"state_path": f"{self.service}:{self.folder}", "service": self.service}

    def stop(self) -> None:
        os.kill(self._server.pid, signal.SIGKILL)  # it would not end while its disk takes no writes
        os.waitpid(self._server.pid, 0)

    def start(self, *through: str) -> None:
        self._server = self._databases.redis(self.folder, *through, configuration=APPENDING)

    def around(self, mend: Callable[[], object]) -> Callable[[], None]:
        """The repair of what lies beneath it."""

        def repaired() -> None:
            self.stop()
            mend()
            self.start()

        return repaired


class Machine:
    """One node with many databases, each on a disk of its own."""

    def __init__(self, folder: Path, held: ExitStack) -> None:
        self._folder = folder
        self._held = held.enter_context(ExitStack())
        self._databases = held.enter_context(Databases())  # they end before their disks are taken away
        self.classes: list[str] = []
        self.faults: dict[str, Fault] = {}
        self._break_filesystems()
        self._break_disk()
        self._take_mount_away()
        self._hide_database()
        self._ignore_syncs()
        self._keep_in_memory()
        self._fill_disk()

    @property
    def tables(self) -> list[str]:
        return [
            '[probes.volumes]\nperiod = "1s"',
            f'[probes.devices]\nperiod = "1s"\nclasses = {{{", ".join(self.classes)}}}',
            '[probes.state_paths]\nperiod = "2s"',
        ]

    def _disk(self, name: str, filesystem: str = "ext4", mount_options: str = "defaults") -> LoopDisk:
        folder = self._folder / name
        folder.mkdir()
        disk = self._held.enter_context(LoopDisk(folder, filesystem, mount_options=mount_options))
        self.classes.append(f'"{disk.mountpoint}" = "D2"')
        return disk

    def _database(self, disk: LoopDisk | FailingDisk) -> tuple[Database, dict[str, str]]:
        """One on the disk, and all that a fault of the disk touches."""
        database = Database(self._databases, disk.mountpoint)
        return database, {"device": disk.name, "volume": str(disk.mountpoint), **database.resources}

    def _break_filesystems(self) -> None:
        readonly = self._disk("readonly", mount_options="errors=remount-ro")
        shutdown = self._disk("shutdown", "xfs")
        for name, disk, do in (
            ("ext4 in emergency read-only", readonly, readonly.trigger_ext4_error),
            ("XFS that shut down", shutdown, shutdown.shut_down),
        ):
            database, resources = self._database(disk)
            self.faults[name] = Fault(do, database.around(disk.repair), resources)

    def _break_disk(self) -> None:
        folder = self._folder / "eio"
        folder.mkdir()
        disk = self._held.enter_context(FailingDisk(folder, "ext4", mount_options="errors=remount-ro"))
        self.classes.append(f'"{disk.mountpoint}" = "D2"')
        database, resources = self._database(disk)
        self.faults["disk that answers EIO"] = Fault(
            lambda: lose_and_die(disk), database.around(disk.repair), resources
        )

    def _take_mount_away(self) -> None:
        disk = self._disk("missing")
        database, resources = self._database(disk)

        def put_back() -> None:
            shutil.rmtree(disk.mountpoint / "appendonlydir")  # what was written below
            disk.mount()

        self.faults["mount that is missing"] = Fault(
            database.around(disk.unmount), database.around(put_back), resources
        )

    def _hide_database(self) -> None:
        database, _ = self._database(self._disk("hidden"))
        over, place = str(self._disk("over").mountpoint), str(database.folder)
        self.faults["database that writes beneath a mount"] = Fault(
            lambda: run("mount", "--bind", over, place), lambda: run("umount", place), database.resources
        )
        self._held.callback(run, "umount", "--lazy", place, check=False)

    def _ignore_syncs(self) -> None:
        wrapper = needs.tool("eatmydata", package="eatmydata")
        database, _ = self._database(self._disk("unsafe"))

        def restart(*through: str) -> None:
            database.stop()
            database.start(*through)

        self.faults["database whose fsync does nothing"] = Fault(
            lambda: restart(wrapper), restart, {"service": database.service}
        )

    def _keep_in_memory(self) -> None:
        database, _ = self._database(self._disk("memory"))
        place = str(database.folder)
        self.faults["data in memory"] = Fault(
            database.around(lambda: run("mount", "-t", "tmpfs", "tmpfs", place)),
            database.around(lambda: run("umount", place)),
            database.resources,
        )
        self._held.callback(run, "umount", "--lazy", place, check=False)

    def _fill_disk(self) -> None:
        disk = self._disk("full")
        _, resources = self._database(disk)
        self.faults["full disk"] = Fault(disk.fill, (disk.mountpoint / "filler").unlink, resources)


def lose_and_die(disk: FailingDisk) -> None:
    disk.lose_data()
    disk.fail_journal()


def crashing(
    agent: Agent, folder: Path, held: ExitStack, stack: Stack
) -> tuple[dict[str, Fault], Callable[[], None]]:
    """Two witnessed disks, and how to bring them to where they may be broken, with the agent running."""
    lying = PoweredDisk(folder / "lying", "ext4")
    rolled = PoweredDisk(folder / "rolled", "ext4")
    copy = folder / "old.img"

    def promised(disk: PoweredDisk) -> int:
        return int(stack.collector.facts(CRASHED, "volume", str(disk.mountpoint)).get("witness_seq") or 0)

    def until(disk: PoweredDisk, count: int) -> None:
        before = promised(disk)
        stack.wait(lambda: promised(disk) >= before + count, f"{count} more records of {disk.mountpoint}")

    def prepare() -> None:
        """The lying disk lies from now on; of the other one there is an old copy, and it has gone on since."""
        for disk in (lying, rolled):
            until(disk, 2)
        agent.stop()
        for disk in (lying, rolled):
            disk.power_off()
        rolled.save(copy)
        lying.power_on("lying")
        rolled.power_on()
        agent.start()
        for disk in (lying, rolled):
            until(disk, 2)

    def both() -> None:
        """One crash of the machine."""
        agent.kill()
        lying.cut_power()
        rolled.power_off()
        rolled.put_back(copy)
        lying.power_on("honest")
        rolled.power_on()
        agent.start()

    for disk in (lying, rolled):
        held.enter_context(disk)
    faults = {
        "disk that lied and lost its power": Fault(
            both, lambda: None, {"volume": str(lying.mountpoint)}, CRASHED
        ),
        "disk that was set back": Fault(
            lambda: None, lambda: None, {"volume": str(rolled.mountpoint)}, CRASHED
        ),
    }
    return faults, prepare


def looping(box: SystemdBox) -> Fault:
    """A unit that systemd starts again as often as it ends."""
    name = "looping.service"

    def become(command: str) -> None:
        box.unit(name, LOOPING.format(command=command))
        box.run("systemctl", "daemon-reload")
        box.run("systemctl", "restart", "--no-block", name)

    become("/bin/sleep infinity")
    return Fault(
        lambda: become("/bin/false"), lambda: become("/bin/sleep infinity"), {"service": name}, BOXED
    )
