"""Who notices which fault, and after how long: holdfast beside node_exporter with its stock rules, Netdata and monit.

    python -m tests.bench.faults_bench [--faults ext4-read-only,rollback] [--warm 150] [--watch 260] [--mend 150]

A machine of the bench's own (`tests/rigs/systemd_box.py`; needs root): its services are a systemd's, its disks loop
devices, its faults real (`faults.py`). All subjects run in it, as root, on the same faults, which come a few seconds
apart, each on a disk or service of its own; what is said of one is told from the rest by the names it mentions. After
`--watch` seconds every fault is mended, and it is watched for `--mend` seconds how the alarms end. Last the machine loses its
power: all that watches it is killed, a minute and a half later it comes up with a new boot id, and `--boot` seconds are watched.

A rule may wait before it fires. That is not sat out: the table says when the subject saw the fault, and how long it
then waits. Notices of severity `info` do not count, nor does what was said of the disk before.
"""

import argparse
import contextlib
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from msgspec import Struct

from tests.bench.fault_peers import Monit, Netdata, NodeExporter
from tests.bench.fault_watchers import Alarm, Holdfast, Watcher
from tests.bench.faults import FAULTS, Fault, boot_anew
from tests.bench.figures import print_heading, print_table
from tests.bench.processes import Missing
from tests.rigs.systemd_box import SystemdBox

AREA = Path("/srv/bench")
_INSIDE = "--inside"
_ENTER = f"""cd "$1"
shift
mount -t devtmpfs devtmpfs /dev
mount -o remount,rw /sys
mkdir {AREA} /run/medium
mount -t tmpfs -o size=8G tmpfs /run/medium
truncate -s 6G /run/medium/image
mkfs.ext4 -q /run/medium/image
mount -o loop /run/medium/image {AREA}
exec "$@"
"""
"""What a machine's own process would see of it: all devices, the kernel's log, and a disk to keep things on."""
_LOOK_SECONDS = 0.5
_APART_SECONDS = 2.0
_ACKNOWLEDGED_SECONDS = 15.0


class Sighting(Struct):
    """One alarm from when it was first seen until it was seen no more."""

    alarm: Alarm
    since: float
    until: float | None = None


class Lookout:
    """Asks one subject twice a second, in a thread, and remembers."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.sightings: list[Sighting] = []
        self._lock = threading.Lock()
        self._open: dict[str, Sighting] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(timeout=30.0)

    def of(self, concerned: Callable[[str], bool], since: float, until: float = math.inf) -> list[Sighting]:
        """What began between two instants, and is about that."""
        with self._lock:
            return [
                seen for seen in self.sightings if since <= seen.since < until and concerned(seen.alarm.about)
            ]

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            try:
                alarms = self.watcher.alarms()
            except OSError:
                continue  # its agent is gone, and with it all it knew
            now = time.monotonic()
            with self._lock:
                shown = {alarm.key: alarm for alarm in alarms}
                for key in self._open.keys() - shown.keys():
                    self._open.pop(key).until = now
                for key, alarm in shown.items():
                    if key not in self._open:
                        self._open[key] = Sighting(alarm, now)
                        self.sightings.append(self._open[key])


class Course(Struct):
    """When a fault was caused and mended, on `time.monotonic`."""

    fault: Fault
    caused_at: float = 0.0
    mended_at: float = 0.0


def noticed(seen: Sequence[Sighting], caused_at: float, names_it: str = "") -> str:
    """A cell: the first alarm about a fault, and the one that says what is really wrong, by their first sightings."""
    if not seen:
        return "not noticed"
    first: dict[str, Sighting] = {}
    for sighting in seen:
        first.setdefault(sighting.alarm.name, sighting)
    shown = dict.fromkeys([next(iter(first)), *([names_it] if names_it in first else [])])
    return "; ".join(_told(first[name], caused_at) for name in shown)


def _told(sighting: Sighting, caused_at: float) -> str:
    wait = sighting.alarm.wait_seconds
    waits = (
        "" if not wait else f", fires {wait / 60:g} min later" if wait >= 60 else f", fires {wait:g} s later"
    )
    return f"{sighting.alarm.name} {sighting.since - caused_at:,.0f} s{waits}"


def ended(seen: Sequence[Sighting], mended_at: float) -> str:
    """A cell: how long after the mending the last alarm about the fault was gone."""
    if not seen:
        return "–"
    still = [sighting.alarm.name for sighting in seen if sighting.until is None]
    if still:
        return "open: " + ", ".join(sorted(set(still)))
    last = max(sighting.until or 0.0 for sighting in seen)
    return f"{max(0.0, last - mended_at):,.0f} s"


def arranged(stack: ExitStack, names: Sequence[str]) -> list[Course]:
    """Everything healthy, but for faults that this machine cannot have."""
    courses = []
    for name in names:
        fault = FAULTS[name](AREA / name)
        try:
            fault.arrange(stack)
        except pytest.skip.Exception as missing:
            print(f"left out: {fault.title}: {missing}")
            continue
        courses.append(Course(fault))
    return courses


def start_watchers(stack: ExitStack, faults: Sequence[Fault]) -> list[Lookout]:
    """All that is installed, holdfast first."""
    makers: list[Callable[[], Watcher]] = [
        lambda: Holdfast(AREA / "holdfast", AREA),
        lambda: NodeExporter(AREA / "node_exporter"),
        lambda: Netdata(AREA / "netdata"),
        lambda: Monit(AREA / "monit", faults),
    ]
    lookouts = []
    for make in makers:
        try:
            watcher = make()
        except Missing as missing:
            print(f"left out: {missing}")
            continue
        stack.callback(watcher.stop)
        lookout = Lookout(watcher)
        stack.callback(lookout.stop)
        lookouts.append(lookout)
    return lookouts


def run_faults(courses: Sequence[Course], lookouts: Sequence[Lookout], asked: argparse.Namespace) -> None:
    """Cause, watch, mend, watch."""
    _pass(asked.warm / 2)
    for course in courses:
        course.fault.prepare()
    _pass(asked.warm / 2)
    running = [course for course in courses if not course.fault.with_machine]
    for course in running:
        course.caused_at = time.monotonic()
        course.fault.cause()
        _pass(_APART_SECONDS)
    _pass(asked.watch)
    mend(running, lookouts)
    _pass(asked.mend)


def mend(courses: Sequence[Course], lookouts: Sequence[Lookout]) -> None:
    """What an operator does about every fault, and that losses are acknowledged."""
    for course in courses:
        course.mended_at = time.monotonic()
        course.fault.clear()
        for lookout in lookouts:
            for sighting in lookout.of(course.fault.concerned, course.caused_at):
                if sighting.until is None:
                    with contextlib.suppress(OSError):
                        lookout.watcher.acknowledge(sighting.alarm)


def run_power_cut(
    courses: Sequence[Course], lookouts: Sequence[Lookout], asked: argparse.Namespace
) -> list[str]:
    """The machine goes and comes back. What each subject said while it was away: a row of the table."""
    lost = {}
    for lookout in lookouts:
        lost[lookout.watcher.name] = time.monotonic()
        lookout.watcher.lose_agent()
    gone = [course for course in courses if course.fault.with_machine]
    for course in gone:
        course.fault.cause()
    within = boot_anew()
    _pass(asked.silence)
    cells = []
    for lookout in lookouts:
        since = lost[lookout.watcher.name]
        cells.append(noticed(lookout.of(_about_the_node, since), since, "AgentStoppedWithoutNotice"))
    for course in gone:
        course.caused_at = time.monotonic()
    for lookout in lookouts:
        lookout.watcher.regain_agent(within)
    _pass(asked.boot)
    mend(gone, lookouts)
    _pass(min(asked.boot, _ACKNOWLEDGED_SECONDS))
    return cells


def _about_the_node(said: str) -> bool:
    """Not about something on it."""
    return said.startswith(("node ", "InstanceDown"))


def _pass(seconds: float) -> None:
    """Let time pass: here its length is what is measured against."""
    time.sleep(seconds)


def bench(asked: argparse.Namespace) -> None:
    """Inside the machine: run it and print the tables."""
    with ExitStack() as stack:
        courses = arranged(stack, asked.faults)
        lookouts = start_watchers(stack, [course.fault for course in courses])
        run_faults(courses, lookouts, asked)
        silence = run_power_cut(courses, lookouts, asked)
        print(", ".join(f"{each.watcher.name} {each.watcher.version}" for each in lookouts) + "\n")
        names = [lookout.watcher.name for lookout in lookouts]
        found = [
            [lookout.of(course.fault.concerned, course.caused_at, course.mended_at) for lookout in lookouts]
            for course in courses
        ]
        rows = [
            [
                course.fault.title,
                *(noticed(seen, course.caused_at, course.fault.names_it) for seen in cells),
            ]
            for course, cells in zip(courses, found, strict=True)
        ]
        rows.append(["what watches the machine is killed", *silence])
        print_table(["fault", *names], rows)
        print("Mended; the last alarm about it was gone after:\n")
        print_table(
            ["fault", *names],
            [
                [course.fault.title, *(ended(seen, course.mended_at) for seen in cells)]
                for course, cells in zip(courses, found, strict=True)
            ],
        )
        if asked.all:
            _print_all(courses, lookouts)
        _print_besides(courses, lookouts)


def _print_all(courses: Sequence[Course], lookouts: Sequence[Lookout]) -> None:
    """Every alarm about every fault, with the seconds from its cause to its first and last sighting."""
    for course in courses:
        for lookout in lookouts:
            for seen in lookout.of(course.fault.concerned, course.caused_at):
                until = f"{seen.until - course.caused_at:.1f}" if seen.until else "open"
                place = f"{lookout.watcher.name}: {seen.alarm.name} ({seen.alarm.about})"
                print(f"{course.fault.title}: {place} {seen.since - course.caused_at:.1f} to {until}")


def _print_besides(courses: Sequence[Course], lookouts: Sequence[Lookout]) -> None:
    """What was said from the first fault on about nothing of the bench's."""
    since = min(course.caused_at for course in courses)
    for lookout in lookouts:
        others = lookout.of(lambda said: not any(c.fault.concerned(said) for c in courses), since)
        if names := sorted({f"{seen.alarm.name} ({seen.alarm.about})" for seen in others}):
            print(f"{lookout.watcher.name} also said: {'; '.join(names)}")


def enter(arguments: Sequence[str]) -> int:
    """Boot the machine, and run this same bench in it; its exit code."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder, SystemdBox(Path(folder)) as box:
        # All its namespaces but the network's: subjects are asked over this machine's loopback.
        namespaces = ("--mount", "--pid", "--uts", "--ipc", "--cgroup")
        inside = [sys.executable, "-m", "tests.bench.faults_bench", *arguments, _INSIDE]
        command = ["nsenter", "-t", str(box.pid), *namespaces, "--", "sh", "-euc", _ENTER, "sh", os.getcwd()]
        return subprocess.run([*command, *inside], check=False).returncode


def _names(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := set(names) - FAULTS.keys():
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: must be of {', '.join(FAULTS)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--faults", type=_names, default=list(FAULTS), help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--warm", type=float, default=150.0, help="seconds before the first fault")
    parser.add_argument(
        "--watch", type=float, default=260.0, help="seconds from the last fault to the mending"
    )
    parser.add_argument("--mend", type=float, default=150.0, help="seconds to watch alarms end")
    parser.add_argument("--all", action="store_true", help="list every alarm")
    parser.add_argument("--silence", type=float, default=90.0, help="seconds that the machine is away")
    parser.add_argument(
        "--boot", type=float, default=75.0, help="seconds to watch the boot after the power cut"
    )
    parser.add_argument(_INSIDE, action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        bench(asked)
        return
    print_heading(f"{len(asked.faults)} faults, who notices them and after how long")
    try:
        sys.exit(enter(sys.argv[1:]))
    except pytest.skip.Exception as missing:
        print(f"skipped: {missing}")


if __name__ == "__main__":
    main()
