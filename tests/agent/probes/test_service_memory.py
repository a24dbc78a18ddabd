"""What the killer for want of memory did to services, also where systemd says nothing of it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_agent.probe import ProbeContext
from holdfast_agent.probes.service_memory_linux import ServiceMemory, oom_kills
from holdfast_agent.probes.service_units import ServiceUnit
from holdfast_agent.probes.services_systemd_linux import ServicesSystemd
from tests import needs
from tests.agent.probes.recordings import recorded

PG = ServiceUnit(id="pg.service", main_pid=7, control_group="/system.slice/pg.service", oom_score_adj=-900)
EVENTS = "low 0\nhigh 0\nmax 12\noom 2\noom_kill {}\noom_group_kill 0\n"
"""memory.events, as cgroup-v2.rst has it."""


class Machine:
    """A procfs and a sysfs in a folder."""

    def __init__(self, folder: Path) -> None:
        self.procfs, self.sysfs = folder / "proc", folder / "sys"
        self.group = self.sysfs / "fs/cgroup/system.slice/pg.service"
        self.group.mkdir(parents=True)
        (self.procfs / "7").mkdir(parents=True)
        (self.procfs / "7/oom_score_adj").write_text("-17\n")
        self.memory = ServiceMemory(self.procfs, self.sysfs)

    def killed(self, *, machine: int, group: int) -> None:
        (self.procfs / "vmstat").write_text(f"nr_free_pages 1\noom_kill {machine}\n")
        (self.group / "memory.events").write_text(EVENTS.format(group))

    def look(self, *due: str) -> dict[str, tuple[int | None, int | None]]:
        found = self.memory.looked_at({PG.id: PG}, due)
        return {id_: (unit.oom_kills, unit.oom_score_adj) for id_, unit in found.items()}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_groups_are_read_when_the_kernel_has_killed_somewhere_and_not_before(machine: Machine) -> None:
    """A file per service at each look would be most of what the probe costs."""
    machine.killed(machine=4, group=0)
    first, quiet = machine.look(), machine.look()
    machine.killed(machine=5, group=1)

    assert (first, quiet) == ({PG.id: (0, -17)}, {})
    assert machine.look() == {PG.id: (1, -17)}


def test_a_unit_that_is_due_is_read_whatever_the_kernel_counts(machine: Machine) -> None:
    """Its group may be another one than before: a new run counts from 0."""
    machine.killed(machine=4, group=3)
    machine.look()
    machine.killed(machine=4, group=0)

    assert machine.look(PG.id) == {PG.id: (0, -17)}


def test_without_the_groups_account_nothing_is_claimed(machine: Machine) -> None:
    """No account is not “never killed”. The score is then the unit's own, where the process cannot be asked."""
    (machine.procfs / "7/oom_score_adj").unlink()

    assert machine.look(PG.id) == {PG.id: (None, -900)}


@pytest.mark.parametrize("text", ["", "oom_killer 3\n", "oom_kill\n", "oom_kill many\n"])
def test_odd_counts_are_unknown(text: str) -> None:
    assert oom_kills(text) is None


def test_a_service_whose_group_has_no_account_is_missing_and_one_without_processes_is_not() -> None:
    observation = ServicesSystemd(ProbeContext(node="n")).interpret(
        recorded(ServicesSystemd, "killed-process")
    )

    found = {each.name: each.facts for each in observation.resources}
    counts = {
        name: (facts.get("oom_kills_total"), facts.get("oom_score_adj")) for name, facts in found.items()
    }
    assert counts == {
        "docker.service": (None, -500),
        "failed.service": (None, None),
        "postgresql@15-main.service": (2, -900),
    }
    assert set(observation.missing) == {"oom_kills_total"}


# The real kernel


@pytest.fixture
def group() -> Iterator[tuple[str, Path]]:
    """A control group of 16 MiB: (its name, its folder)."""
    needs.root()
    tree = Path("/sys/fs/cgroup/memory")
    needs.condition(
        tree.is_dir() or "memory" in _text(Path("/sys/fs/cgroup/cgroup.subtree_control")),
        "needs control groups with the memory controller",
    )
    name = f"holdfast-test-{os.getpid()}"
    folder = (tree if tree.is_dir() else tree.parent) / name
    folder.mkdir()
    try:
        limit = "memory.limit_in_bytes" if tree.is_dir() else "memory.max"
        (folder / limit).write_text("16777216")
        yield f"/{name}", folder
    finally:
        folder.rmdir()


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.mark.system
def test_the_kernel_counts_a_kill_in_the_services_group_and_for_the_machine(group: tuple[str, Path]) -> None:
    """What the look relies on: both counts move with one kill."""
    name, folder = group
    unit = ServiceUnit(id="greedy.service", control_group=name)
    memory = ServiceMemory(Path("/proc"), Path("/sys"))
    before = memory.looked_at({unit.id: unit}, ())
    greedy = (
        f"open({str(folder / 'cgroup.procs')!r}, 'w').write('0')\n"
        "open('/proc/self/oom_score_adj', 'w').write('1000')\n"
        "held = [bytearray(b'x') * (1 << 20) for _ in range(256)]\n"
    )

    done = subprocess.run([sys.executable, "-c", greedy], check=False)

    after = memory.looked_at({unit.id: unit}, ())
    assert done.returncode == -9
    assert (before[unit.id].oom_kills, after[unit.id].oom_kills) == (0, 1)
