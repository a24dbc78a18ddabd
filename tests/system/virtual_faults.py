"""Faults that only a machine of one's own can have, one guest for all: does the collector hear of each, by its right name?

    python -m tests.system.virtual_faults [--cache FOLDER] [--only NAME ...] [--accel kvm]        (as root)

The guest runs the shipped units; broker and collector run here, on loopback. Its disks fail together, each in its own
way (`virtual_fault_table`); when all is repaired the guest loses its power and more (`virtual_power`). The shipped rules
with shorter waits judge (`hurried_rules`). An alert that a fault does not explain, on its own disks, is a false alarm.
Prints a line for each, then a table, and ends with 1 when an alert was missed, was false or did not clear. Without KVM
the seconds are no guide: they show the order of things.
"""

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path

from msgspec import Struct

from tests.rigs.virtual_machine import VirtualMachine, absent, image, product
from tests.system.stack import Stack, hurried_rules
from tests.system.virtual_fault_table import DISKS, FAULTS, Fault
from tests.system.virtual_guest import OF_A_SLOW_MACHINE, Guest, Key
from tests.system.virtual_power import ACTS, PowerTrial
from tests.system.virtual_tally import Row, say, table

LOOKING = frozenset({"kernel_log", "volumes", "host"})
OF_DISKS = frozenset({"md", "lvm", "smart"})
"""Probes that work where there is such a disk."""
ALERT_SECONDS = 600.0
"""The devices are asked three times a minute, and the guest is slow."""


class _Case(Struct):
    """A fault in this guest."""

    fault: Fault
    row: Row
    resource: str
    own: frozenset[str]
    """All that lies on its disks: kernel names and mountpoints."""
    began: float = 0.0

    def rightly(self) -> set[Key]:
        """The alerts it explains."""
        return {(alert, resource) for alert in (self.fault.alert, *self.fault.also) for resource in self.own}


class DiskTrial:
    """Disks that fail, all at once."""

    def __init__(self, guest: Guest, faults: list[Fault]) -> None:
        self.guest = guest
        self._faults = faults
        self._cases: list[_Case] = []

    def prepare(self) -> None:
        """Make what shall fail; before the agent starts."""
        for fault in self._faults:
            self.guest.run(fault.prepare)
        for fault in self._faults:
            resource = self.guest.run(fault.resource)
            own = frozenset(self.guest.run(f"lsblk -nro KNAME,MOUNTPOINT {fault.disks}").split())
            assert resource in own, f"{fault.name}: {resource} is not on its disks: {sorted(own)}"
            row = Row(name=fault.name, expected=f"{fault.alert} of {resource}")
            self._cases.append(_Case(fault, row, resource, own))

    def run(self) -> list[Row]:
        """Inject, wait, repair, wait; what came of it."""
        for case in self._cases:
            case.began = time.monotonic()
            self._do(case.fault.inject, case.fault.critical_warning, case.fault)
        self._watch()
        for case in self._cases:
            case.began = time.monotonic()
            self._do(case.fault.repair, 0, case.fault)
        self._watch_clear()
        rightly = {key for case in self._cases for key in case.rightly()}
        slow = sorted({name for name, _ in self.guest.fired.keys() - self.guest.known} & OF_A_SLOW_MACHINE)
        say(f"of a slow machine, not counted: {', '.join(slow) or 'nothing'}")
        for key, summary in self.guest.strangers(rightly).items():
            culprit = next((case.row for case in self._cases if key[1] in case.own), self._cases[0].row)
            culprit.false_alarms.append(f"{key[0]} of {key[1]}: {summary}")
        return [case.row for case in self._cases]

    def _do(self, command: str, critical_warning: int, fault: Fault) -> None:
        if fault.critical_warning:
            self.guest.machine.qmp(
                "qom-set",
                path="/machine/peripheral/warned",
                property="smart_critical_warning",
                value=critical_warning,
            )
        self.guest.run(command)

    def _watch(self) -> None:
        """Until each has raised its alert, or has had time enough."""

        def all_named() -> bool:
            for case in self._cases:
                self._look_at(case)
            return all(case.row.named_seconds is not None for case in self._cases)

        try:
            self.guest.wait(all_named, ALERT_SECONDS, "the alerts")
        except AssertionError:
            say("time is up")

    def _look_at(self, case: _Case) -> None:
        found = self.guest.firing(case.fault.alert, case.resource)
        if case.row.named_seconds is not None or not found:
            return
        case.row.named_seconds = time.monotonic() - case.began
        case.row.verdict = self.guest.verdict("device", case.resource)
        say(f"{case.row.named_seconds:4.0f} s  {case.fault.name} → {found[0]['annotations']['summary']}")

    def _watch_clear(self) -> None:
        """Until nothing is said of their disks any more. What waits for a person is acknowledged."""

        def all_clear() -> bool:
            for case in self._cases:
                self._look_clear(case)
            return all(case.row.cleared_seconds is not None for case in self._cases)

        try:
            self.guest.wait(all_clear, ALERT_SECONDS, "the alerts to clear")
        except AssertionError:
            say(
                f"time is up; still firing: {sorted((a['alertname'], a['resource']) for a in self.guest.firing())}"
            )

    def _look_clear(self, case: _Case) -> None:
        if case.row.cleared_seconds is not None or case.row.named_seconds is None:
            return
        self.guest.acknowledge(case.own)
        firing = {(alert["alertname"], alert["resource"]) for alert in self.guest.firing()}
        if not firing & case.rightly():
            case.row.cleared_seconds = time.monotonic() - case.began
            say(f"{case.row.cleared_seconds:4.0f} s  {case.fault.name}: repaired and clear")


def run(folder: Path, given: argparse.Namespace) -> list[Row]:
    """All of it, once. Cleans up whatever happens."""
    faults = [fault for fault in FAULTS if not given.only or fault.name in given.only]
    acts = [act for act in ACTS if not given.only or act in given.only]
    say("building image and product, or finding them")
    disk = product(folder / "product")
    rules = hurried_rules(folder / "rules", window="1m")
    with (
        Stack(folder / "stack", rules=rules, shipped_rules=False) as stack,
        VirtualMachine(folder / "guest", image(given.cache), disk, disks=DISKS, accel=given.accel) as machine,
    ):
        kernel = machine.run("uname -r")
        say(f"the guest is up: kernel {kernel} by {given.accel}, on {platform.release()}")
        guest = Guest(machine, stack, probes=LOOKING | (OF_DISKS if faults else frozenset()))
        disks = DiskTrial(guest, faults)
        disks.prepare()
        guest.lay()
        guest.settle()
        say(f"before any fault: {sorted(guest.known)}")
        rows = disks.run() if faults else []
        if acts:
            rows += PowerTrial(guest, acts).run()
        return rows


def parser() -> argparse.ArgumentParser:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "holdfast-tests"
    made = argparse.ArgumentParser(prog="python -m tests.system.virtual_faults", description=__doc__)
    made.add_argument("--cache", type=Path, default=cache, help="where the guest's image is kept")
    made.add_argument("--only", nargs="+", choices=[*(f.name for f in FAULTS), *ACTS], metavar="NAME")
    made.add_argument("--accel", choices=["tcg", "kvm"], default="tcg", help="how QEMU runs the guest")
    return made


def _end(number: int, frame: object) -> None:
    """Asked to end, clean up, for the guest is this process's; asked again, as `make` and a shell do, go on with it."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> int:
    """0: each fault raised its alert, and nothing else was raised. 1: not so. 2: something is not installed."""
    given = parser().parse_args()
    signal.signal(signal.SIGTERM, _end)
    if lacking := absent():
        say(f"cannot run: {lacking}")
        return 2
    with tempfile.TemporaryDirectory(prefix="holdfast-virtual-faults-") as folder:
        rows = run(Path(folder), given)
    say(table(rows))
    return 0 if rows and all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
