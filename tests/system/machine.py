"""A machine for an agent: a boot id, a machine-id and traces of its last run of its own, and disks with a power switch.

    with MountArea(tmp_path / "area") as area, Machine(stack, "vm-1", area.folder / "vm-1", disks=...) as machine:
        machine.boot()
        machine.cut_power()       # the agent and its disks at once
        machine.boot()            # another boot id, and wtmp has no shutdown
        machine.shut_down()

The agent is the product's own process. It runs in a mount namespace in which files of ours lie over those by which the
kernel and systemd tell a machine and its boots apart, and in a time namespace whose clocks began with its boot; nothing
in the product knows of that. Its disks are mounted outside, in an area whose mounts it shares, as a machine's process 1
mounts them.
"""

import platform
import random
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from holdfast_agent.probes.wtmp import RECORD_BYTES, record_bytes
from tests import needs
from tests.rigs.loop_disk import run
from tests.rigs.powered_disk import PoweredDisk
from tests.system.stack import Agent, Stack

_BOOT_TIME, _RUN_LEVEL = 2, 1
"""utmp(5)"""
_AS_A_MACHINE_OF_ITS_OWN = """#!/bin/sh
set -eu
own=$1; shift
if [ "$1" = --in-its-time ]; then shift; else
  exec unshare --mount --propagation slave --time "--monotonic=$(cat "$own/clock")" "--boottime=$(cat "$own/clock")" \\
    "$0" "$own" --in-its-time "$@"
fi
mount --bind "$own/boot_id" /proc/sys/kernel/random/boot_id
mount --bind "$own/machine-id" /etc/machine-id
mount --bind "$own/log" /var/log
[ ! -d /sys/class/dmi/id ] || mount --bind "$own/log/journal" /sys/class/dmi/id
mount -t tmpfs tmpfs /run
mkdir /run/cloud-init
cp "$own/instance-id" /run/cloud-init/.instance-id
while read -r disk place; do mount --bind "$disk" "$place"; done <"$own/elsewhere"
mount --bind "/proc/$$" /proc/1
exec "$@"
"""


_THREADS = ThreadPoolExecutor(4)
"""For as long as the tests run: nbdkit ends with the thread that started it (PR_SET_PDEATHSIG), not with the process."""


class MountArea:
    """A folder whose mounts reach the namespaces that were made from this one, as systemd's root does."""

    def __init__(self, folder: Path) -> None:
        needs.root()
        for program in ("unshare", "mountpoint"):
            needs.tool(program, package="util-linux")
        self.folder = folder

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        run("mount", "--bind", str(self.folder), str(self.folder))
        run("mount", "--make-shared", str(self.folder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run("umount", "--lazy", str(self.folder), check=False)


class Machine:
    """Disks, an agent, and what makes a boot of one machine different from every other boot."""

    def __init__(
        self,
        stack: Stack,
        node: str,
        folder: Path,
        *,
        disks: Mapping[str, PoweredDisk],
        tables: Sequence[str] = (),
        elsewhere: Mapping[PoweredDisk, Path] | None = None,
        label: str = "",
    ) -> None:
        """`folder` lies in a MountArea, and so do the disks, which are formatted and switched off.

        `elsewhere`: where the machine itself has some of its disks mounted, over what others have there. `label` tells machines
        apart that go by one node's name.
        """
        needs.condition(Path("/etc/machine-id").exists(), "needs /etc/machine-id (systemd or dbus)")
        needs.condition(
            _clocks_begin_anew(), "needs a kernel whose time namespaces begin at exec (Linux 6.3)"
        )
        self.node = node
        self.disks = dict(disks)
        self.boot_id = ""
        self._own = folder / "own"
        (self._own / "log" / "journal").mkdir(parents=True)
        (self._own / "log" / "wtmp").touch()
        self._script = self._own / "as_a_machine_of_its_own.sh"
        self._script.write_text(_AS_A_MACHINE_OF_ITS_OWN)
        self._script.chmod(0o755)
        places = (f"{disk.mountpoint} {place}\n" for disk, place in (elsewhere or {}).items())
        (self._own / "elsewhere").write_text("".join(places))
        self.be_another()
        self.agent: Agent = stack.agent(node, tables=tables, wrap=self._wrapped, label=label)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.agent.close()

    def be_another(self, *, machine_id: str = "", instance_id: str = "") -> None:
        """Another virtual machine, and a new installation unless `machine_id` says of which it is a copy."""
        (self._own / "machine-id").write_text(f"{machine_id or uuid.uuid4().hex}\n")
        (self._own / "instance-id").write_text(f"{instance_id or uuid.uuid4()}\n")

    @property
    def machine_id(self) -> str:
        return (self._own / "machine-id").read_text().strip()

    def boot(self, *, uptime_seconds: int = 0) -> None:
        """Switch the disks on, mount them, start the agent: a new boot id, and a line in wtmp.

        `uptime_seconds`: for how long the machine has been running when its agent starts. Nothing may be known of it
        from that time.
        """
        self.boot_id = str(uuid.uuid4())
        (self._own / "boot_id").write_text(f"{self.boot_id}\n")
        now = int(time.clock_gettime(time.CLOCK_BOOTTIME))
        (self._own / "clock").write_text(str(uptime_seconds - now))
        self._record(_BOOT_TIME, b"reboot")
        each([disk for disk in self.disks.values() if not disk.on], PoweredDisk.power_on)
        self.agent.start()

    def cut_power(self, rng: random.Random | None = None) -> None:
        """End everything at once. With `rng` the agent or any of its disks may be the last to feel it."""
        ends = [self.agent.kill, *(disk.kill for disk in self.disks.values() if disk.on)]
        if rng is not None:
            rng.shuffle(ends)
        for end in ends:
            end()
        each([disk for disk in self.disks.values() if disk.on], PoweredDisk.cut_power)

    def shut_down(self) -> None:
        """Orderly: the agent is stopped, wtmp says so, the disks are unmounted and switched off."""
        self.agent.stop()
        self._record(_RUN_LEVEL, b"shutdown")
        each([disk for disk in self.disks.values() if disk.on], PoweredDisk.power_off)

    def _wrapped(self, command: list[str]) -> list[str]:
        return [str(self._script), str(self._own), *command]

    def _record(self, kind: int, user: bytes) -> None:
        layout = RECORD_BYTES[record_bytes(platform.machine())]
        fields = (kind, 0, b"~", b"~~", user, b"", b"", 0, int(time.time()), 0, b"", b"")
        with (self._own / "log" / "wtmp").open("ab") as wtmp:
            wtmp.write(layout.pack(*fields))


def each(disks: Iterable[PoweredDisk], do: Callable[[PoweredDisk], None]) -> None:
    """The same with many disks, a few at a time: most of it is waiting for other processes."""
    list(_THREADS.map(do, disks))


def _clocks_begin_anew() -> bool:
    now = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    said = run("unshare", "--time", f"--boottime=-{now}", "cat", "/proc/uptime", check=False)
    return bool(said) and float(said.split()[0]) < now / 2
