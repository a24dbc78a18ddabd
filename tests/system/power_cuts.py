"""Power cuts, one after another, on disks that keep their word and disks that do not: whom does the witness convict?

    python -m tests.system.power_cuts --cuts 100 [--seed 7]        (as root)

One machine with a disk of each kind and filesystem: a round is a cut of three disks of each kind. In every round it runs until each disk has promised something,
loses its power at a random moment, and boots again. A disk that lies must be convicted, each time; every other must
not even be left under suspicion. A disk of kind `error` begins to fail before the cut. Prints the seed, and a table.
"""

import argparse
import math
import random
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

from tests.rigs.powered_disk import FILESYSTEMS, KINDS, Kind, PoweredDisk
from tests.system.machine import Machine, MountArea, each
from tests.system.stack import Stack
from tests.system.witnessed import INTERVAL_SECONDS, Witnessed, rules_folder, witness_tables
from tests.waiting import until_a_random_moment, wait_for

NODE = "vm-1"
SUSPECTED_WITHIN_SECONDS = 20.0
"""Long after a boot; what is not suspected by then is missed."""


class Tally(Struct):
    """What became of one kind of disk under one filesystem."""

    cuts: int = 0
    detected: int = 0
    missed: int = 0
    false_alarms: int = 0


Tallies = dict[tuple[Kind, str], Tally]


class Trial:
    """A machine with many disks, cut again and again."""

    def __init__(self, witnessed: Witnessed, rng: random.Random) -> None:
        self.witnessed = witnessed
        self.machine = witnessed.machine
        self.tallies: Tallies = {(kind, fs): Tally() for kind in KINDS for fs in FILESYSTEMS}
        self.told: list[str] = []
        """Each miss and each false alarm, with what the collector held."""
        self._rng = rng

    def lay(self) -> None:
        """The first run, on disks that still keep their word: so that each has a chain to lose."""
        each(self.machine.disks.values(), lambda disk: disk.power_on("honest"))
        self.machine.boot()
        self.witnessed.wait_for_promises()
        self.machine.shut_down()
        self.machine.boot()
        self.witnessed.wait_for_fate()

    def cut(self) -> None:
        """One round: promises, a cut at a random moment, the boot after it, the verdicts."""
        self.witnessed.wait_for_promises()
        until_a_random_moment(self._rng, 1.5 * INTERVAL_SECONDS)
        failing = [disk for disk in self.machine.disks.values() if disk.kind == "error"]
        for disk in self._rng.sample(failing, self._rng.randint(0, len(failing))):
            disk.fail()
            until_a_random_moment(self._rng, 0.5 * INTERVAL_SECONDS)
        self.machine.cut_power(self._rng)
        self.machine.boot()
        self._read_twice()
        self._count()
        self.witnessed.acknowledge("a drill: the power was cut")

    def _read_twice(self) -> None:
        """A conviction needs two reads. The second comes half a minute after the first, or with the agent's next start."""
        try:
            wait_for(self._liars_suspected, SUSPECTED_WITHIN_SECONDS)
        except AssertionError:
            pass  # counted as missed, if the second read does not see it either
        self.machine.agent.stop()
        self.machine.agent.start()
        self.witnessed.wait_for_fate()

    def _liars_suspected(self) -> bool:
        accused = self.witnessed.accusations()
        liars = [name for name, disk in self.machine.disks.items() if disk.kind == "lying"]
        return all(accused[name].keys() & {"witness_suspected", "witness_lost"} for name in liars)

    def _count(self) -> None:
        facts, accusations = self.witnessed.facts(), self.witnessed.accusations()
        for name, disk in self.machine.disks.items():
            tally, accused = self.tallies[disk.kind, disk.filesystem], accusations[name].keys()
            guilty, convicted = disk.kind == "lying", "witness_lost" in accused
            wrong = accused - ({"witness_lost"} if guilty else set())
            tally.cuts += 1
            tally.detected += guilty and convicted
            tally.missed += guilty and not convicted
            tally.false_alarms += bool(wrong)
            if wrong or guilty != convicted:
                self.told.append(f"{name}, cut {tally.cuts}: {facts[name]}")


def run(folder: Path, rounds: int, seed: int, tell: Callable[[Tallies, int], None]) -> Trial:
    """So many cuts of every disk; `tell` hears after each. Cleans up whatever happens."""
    with ExitStack() as held:
        stack = held.enter_context(
            Stack(folder / "stack", rules=rules_folder(folder / "rules"), shipped_rules=False)
        )
        area = held.enter_context(MountArea(folder / "area"))
        disks = {}
        for kind in KINDS:
            for filesystem in FILESYSTEMS:
                name = f"{kind}-{filesystem}"
                disks[name] = held.enter_context(PoweredDisk(area.folder / name, filesystem, kind))
        each(disks.values(), PoweredDisk.power_off)
        tables = witness_tables(disk.mountpoint for disk in disks.values())
        machine = held.enter_context(Machine(stack, NODE, area.folder / NODE, disks=disks, tables=tables))
        trial = Trial(Witnessed(stack, machine), random.Random(seed))
        trial.lay()
        for number in range(1, rounds + 1):
            trial.cut()
            tell(trial.tallies, number)
        return trial


def table(tallies: Tallies) -> str:
    """One line for each kind and filesystem, for people."""
    lines = [f"{'disk':10}{'filesystem':12}{'cuts':>6}{'detected':>10}{'missed':>8}{'false alarms':>14}"]
    for (kind, filesystem), tally in tallies.items():
        detected = f"{tally.detected}" if kind == "lying" else "–"
        missed = f"{tally.missed}" if kind == "lying" else "–"
        lines.append(
            f"{kind:10}{filesystem:12}{tally.cuts:>6}{detected:>10}{missed:>8}{tally.false_alarms:>14}"
        )
    return "\n".join(lines)


def main() -> int:
    """0: the guilty convicted, and nobody else. 1: not so."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.power_cuts", description=__doc__)
    parser.add_argument("--cuts", type=int, default=100, help="of each kind of disk, over all filesystems")
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(1_000_000)
    # Asked to end, it cleans up: disks, mounts and processes are the machine's.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    rounds = math.ceil(given.cuts / len(FILESYSTEMS))
    _say(f"seed {seed}, {rounds} rounds")

    def tell(tallies: Tallies, number: int) -> None:
        if number % 10 == 0 or number == rounds:
            _say(f"after {number} rounds\n{table(tallies)}")

    with tempfile.TemporaryDirectory(prefix="holdfast-power-cuts-") as folder:
        trial = run(Path(folder), rounds, seed, tell)
    _say("\n".join([*trial.told, f"seed {seed}"]))
    return 1 if trial.told else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
