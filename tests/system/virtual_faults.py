"""Faults that only a machine of one's own can have, one guest for all: does the collector hear of each, by its right name?

    python -m tests.system.virtual_faults [--cache FOLDER] [--only NAME ...]        (as root)

The guest runs the shipped units; broker and collector run here, on loopback. Faults are on disks apart from one another,
so all are begun together. The shipped rules with shorter waits judge them (`hurried_rules`). Prints a line for each, then a
table, and ends with 1 when an alert is missing or one came that nobody expected. Without KVM the seconds are no guide.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from msgspec import Struct

from tests.rigs.virtual_machine import HOST, GuestDisk, VirtualMachine, absent, image, product
from tests.system.stack import Stack, hurried_rules
from tests.waiting import wait_for

NODE = "guest"
ALERT_SECONDS = 300.0
"""The devices are asked four times a minute, and the guest is slow."""


class Fault(Struct, frozen=True):
    """What is done to the guest, in its shell, and the alert it must raise."""

    name: str
    alert: str
    resource: str
    prepare: str
    inject: str
    repair: str
    also: tuple[str, ...] = ()
    """Alerts that rightly come with it."""
    clears: bool = True
    """Repaired, it clears by itself; what is said of lost data stays."""


def _table(disk: str, target: str, features: str = "") -> str:
    return f"0 $(blockdev --getsz {disk}) {target} {disk} 0{features}".replace("'", "")


def _reload(name: str, disk: str, target: str, features: str = "") -> str:
    table = _table(disk, target, features)
    return (
        f"dmsetup suspend --nolockfs --noflush {name} && "
        f'dmsetup load {name} --table "{table}" && dmsetup resume {name}'
    )


FAULTS = (
    Fault(
        name="md member failed",
        alert="RaidDegraded",
        resource="md0",
        prepare="mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --metadata=1.2 $(disk md1) $(disk md2)",
        inject="mdadm /dev/md0 --fail $(disk md2)",
        repair="mdadm /dev/md0 --remove $(disk md2); mdadm --zero-superblock $(disk md2); mdadm /dev/md0 --add $(disk md2)",
        also=("RaidRecovering",),
    ),
    Fault(
        name="LVM thin pool out of room",
        alert="LogicalVolumeUnhealthy",
        resource="brim-pool",
        prepare="vgcreate brim $(disk lvm) && lvcreate --errorwhenfull y -L 64M -T brim/pool && "
        "lvcreate -V 200M -T brim/pool -n thin",
        inject="dd if=/dev/zero of=/dev/brim/thin bs=1M count=128 oflag=direct || true",
        repair="lvextend -L +128M brim/pool",
        also=("ThinPoolFilling", "ThinPoolAlmostFull", "DeviceErrors", "DeviceFailing"),
    ),
    Fault(
        name="LVM thin pool nearly full",
        alert="ThinPoolAlmostFull",
        resource="near-pool",
        prepare="vgcreate near $(disk near) && lvcreate -L 64M -T near/pool && lvcreate -V 200M -T near/pool -n thin",
        inject="dd if=/dev/zero of=/dev/near/thin bs=1M count=60 oflag=direct",
        repair="lvextend -L +128M near/pool",
        also=("ThinPoolFilling",),
    ),
    Fault(
        name="dm-flakey errors under ext4",
        alert="KernelReportsDataLoss",
        resource="/dev/mapper/flaky",
        prepare='dmsetup create flaky --table "' + _table("$(disk flaky)", "linear") + '" && '
        "mkfs.ext4 -q /dev/mapper/flaky && mkdir -p /srv/flaky && mount /dev/mapper/flaky /srv/flaky",
        inject=_reload("flaky", "$(disk flaky)", "flakey", " 0 180 1 error_writes")
        + "; dd if=/dev/zero of=/srv/flaky/state bs=1M count=8 conv=fsync || true",
        repair="umount /srv/flaky; " + _reload("flaky", "$(disk flaky)", "linear"),
        also=(
            *("DeviceErrors", "DeviceFailing", "VolumeDead", "VolumeNotWritable", "FilesystemErrors"),
            *("KernelReportsFilesystemError", "FilesystemDamaged", "MountMissing"),
        ),
        clears=False,
    ),
    Fault(
        name="NVMe critical warning",
        alert="DiskFailing",
        resource="nvme0n1",
        prepare="smartctl -i /dev/nvme0",
        inject="",  # by QEMU: see `_warn`
        repair="",
    ),
    Fault(
        name="SCSI medium error",
        alert="DeviceErrors",
        resource="sda",
        prepare="modprobe scsi_debug dev_size_mb=16 && udevadm settle && test -b /dev/sda",
        inject="echo 2 >/sys/bus/pseudo/drivers/scsi_debug/opts; dd if=/dev/sda of=/dev/null iflag=direct bs=4k || true",
        repair="echo 0 >/sys/bus/pseudo/drivers/scsi_debug/opts",
        also=("ScsiErrors", "DeviceFailing", "DiskErrorsGrow"),
        clears=False,
    ),
)
DISKS = [GuestDisk(name) for name in ("md1", "md2", "lvm", "near", "flaky")] + [
    GuestDisk("warned", device="nvme")
]
_SHELL = "disk() { echo /dev/disk/by-id/virtio-$1; }\n"
_CRITICAL = {"NVMe critical warning": (4, 0)}
"""NVMe 1.4, figure 93, bit 2: reliability degraded; and none."""


class Trial:
    """The guest and its collector, and what came of each fault."""

    def __init__(self, guest: VirtualMachine, stack: Stack, faults: list[Fault]) -> None:
        self.guest = guest
        self.stack = stack
        self.faults = faults
        self.began: dict[str, float] = {}
        self.seen: dict[str, float] = {}
        self.cleared: dict[str, str] = {}
        self.false_alarms: list[str] = []
        self._before: set[tuple[str, str]] = set()

    def lay(self) -> None:
        """Disks prepared, agent started and heard."""
        for fault in self.faults:
            self.guest.run(_SHELL + fault.prepare)
        start_agent(self.guest, self.stack)
        self.stack.wait(lambda: self.stack.collector.node(NODE), "the guest's first report", 300)
        for probe in ("md", "lvm", "smart", "kernel_log"):
            wait_for(lambda probe=probe: self._said(probe), 300, f"what {probe} says")  # type: ignore[misc]  # bound now
        self.stack.wait_warm()
        self._before = {(a["alertname"], a["resource"]) for a in self._firing()}
        say(f"before any fault: {sorted(self._before)}")

    def inject(self) -> None:
        for fault in self.faults:
            self.began[fault.name] = time.monotonic()
            self._do(fault, fault.inject, begin=True)

    def watch(self) -> None:
        """Until each has raised its alert, or has had time enough."""
        deadline = time.monotonic() + ALERT_SECONDS

        def all_seen() -> bool:
            for fault in self.faults:
                self._look(fault)
            return len(self.seen) == len(self.faults) or time.monotonic() > deadline

        wait_for(all_seen, ALERT_SECONDS + 60, "the alerts")
        expected = {alert for fault in self.faults for alert in (fault.alert, *fault.also)}
        for alert in self._firing():
            key = (alert["alertname"], alert["resource"])
            if key not in self._before and alert["alertname"] not in expected:
                self.false_alarms.append(f"{key[0]} of {key[1]}: {alert.get('summary')}")

    def repair(self) -> None:
        """Until all has cleared that clears by itself."""
        for fault in self.faults:
            self._do(fault, fault.repair, begin=False)
        for fault in self.faults:
            if fault.name not in self.seen:
                continue
            if not fault.clears:
                self.cleared[fault.name] = "stays"
                continue
            began = time.monotonic()
            try:
                wait_for(lambda fault=fault: not self._alerts(fault), ALERT_SECONDS)  # type: ignore[misc]  # bound now
                self.cleared[fault.name] = f"{time.monotonic() - began:.0f} s"
            except AssertionError:
                self.cleared[fault.name] = "NEVER"
            say(f"{fault.name}: repaired → cleared: {self.cleared[fault.name]}")

    def table(self) -> str:
        """A line for each fault, for people."""
        lines = [f"{'fault':32}{'expected':58}{'seen':>8}{'cleared':>10}"]
        for fault in self.faults:
            seen = f"{self.seen[fault.name]:.0f} s" if fault.name in self.seen else "MISSED"
            expected = f"{fault.alert} of {fault.resource}"
            lines.append(f"{fault.name:32}{expected:58}{seen:>8}{self.cleared.get(fault.name, '–'):>10}")
        lines.append(f"missed: {len(self.faults) - len(self.seen)}, false alarms: {len(self.false_alarms)}")
        return "\n".join([*lines, *self.false_alarms])

    @property
    def good(self) -> bool:
        clean = "NEVER" not in self.cleared.values() and not self.false_alarms
        return clean and len(self.seen) == len(self.faults)

    def _do(self, fault: Fault, command: str, *, begin: bool) -> None:
        if fault.name in _CRITICAL:
            value = _CRITICAL[fault.name][0 if begin else 1]
            path = "/machine/peripheral/warned"
            self.guest.qmp("qom-set", path=path, property="smart_critical_warning", value=value)
        else:
            self.guest.run(_SHELL + command)

    def _look(self, fault: Fault) -> None:
        if fault.name in self.seen or not (found := self._alerts(fault)):
            return
        self.seen[fault.name] = time.monotonic() - self.began[fault.name]
        alert = found[0]
        facts = alert.get("evidence") or alert.get("summary")
        say(
            f"{fault.name} → {facts} → {fault.alert} of {alert['resource']} → {self._verdict(alert)} → "
            f"{self.seen[fault.name]:.0f} s"
        )

    def _verdict(self, alert: dict[str, Any]) -> str:
        shown = (self.stack.collector.node(NODE) or {}).get("resources", [])
        of_it = (r for r in shown if r["name"] == alert["resource"] and r["kind"] == alert["resource_kind"])
        return str(next((r.get("verdict") for r in of_it), "unknown"))

    def _alerts(self, fault: Fault) -> list[dict[str, Any]]:
        return [a for a in self._firing() if (a["alertname"], a["resource"]) == (fault.alert, fault.resource)]

    def _firing(self) -> list[dict[str, Any]]:
        return self.stack.collector.firing(node=NODE)

    def _said(self, probe: str) -> bool:
        sections = (self.stack.collector.node(NODE) or {}).get("sections", [])
        return any(s["probe"] == probe and s["status"] == "ok" for s in sections)


def start_agent(guest: VirtualMachine, stack: Stack) -> None:
    """Install and start the units as shipped, the devices asked more often."""
    guest.write(
        "/etc/holdfast/agent.toml",
        f'node = "{NODE}"\ninterval = "2s"\n[broker]\nurls = ["mqtt://{HOST}:{stack.broker.port}"]\n',
    )
    units = Path(__file__).parents[2] / "systemd"
    for name in ("holdfast-agent.service", "holdfast-devices.service", "holdfast-devices.timer"):
        guest.write(f"/etc/systemd/system/{name}", (units / name).read_text())
    guest.write("/etc/sysusers.d/holdfast.conf", (units / "holdfast.sysusers.conf").read_text())
    guest.write(
        "/etc/systemd/system/holdfast-devices.timer.d/often.conf",
        "[Timer]\nOnUnitActiveSec=\nOnActiveSec=0\nOnUnitActiveSec=15s\nAccuracySec=1s\n",
    )
    guest.run("systemd-sysusers && chmod -R a+rX /etc/holdfast && systemctl daemon-reload")
    guest.run("systemctl enable holdfast-agent holdfast-devices.timer")
    guest.run("systemctl start --no-block holdfast-devices.timer holdfast-agent")


def run(folder: Path, cache: Path, faults: list[Fault]) -> Trial:
    """All of it, once. Cleans up whatever happens."""
    say("building image and product, or finding them")
    disk = product(folder / "product")
    rules = hurried_rules(folder / "rules", window="1m")
    with (
        Stack(folder / "stack", rules=rules, shipped_rules=False) as stack,
        VirtualMachine(folder / "guest", image(cache), disk, disks=DISKS) as guest,
    ):
        say(f"the guest is up, kernel {guest.run('uname -r')}")
        trial = Trial(guest, stack, faults)
        trial.lay()
        trial.inject()
        trial.watch()
        trial.repair()
        return trial


def parser() -> argparse.ArgumentParser:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "holdfast-tests"
    made = argparse.ArgumentParser(prog="python -m tests.system.virtual_faults", description=__doc__)
    made.add_argument("--cache", type=Path, default=cache, help="where the guest's image is kept")
    made.add_argument("--only", nargs="+", choices=[fault.name for fault in FAULTS], metavar="NAME")
    return made


def main() -> int:
    """0: each fault raised its alert, and nothing else was raised. 1: not so. 2: something is not installed."""
    given = parser().parse_args()
    # Asked to end, it cleans up: the guest is this process's.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if lacking := absent():
        say(f"skipped: {lacking}")
        return 2
    faults = [fault for fault in FAULTS if not given.only or fault.name in given.only]
    with tempfile.TemporaryDirectory(prefix="holdfast-virtual-faults-") as folder:
        trial = run(Path(folder), given.cache, faults)
    say(trial.table())
    return 0 if trial.good else 1


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
