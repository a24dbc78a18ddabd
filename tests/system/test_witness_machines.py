"""What can happen to whole machines and to the collector, and by which name the collector calls it."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from holdfast_agent.core.chain import SLOT_BYTES, decode_record
from tests.rigs.powered_disk import Kind, PoweredDisk
from tests.system.machine import Machine, MountArea
from tests.system.stack import Stack
from tests.system.witnessed import Witnessed, chain_file, rules_folder, witness_tables
from tests.waiting import wait_for

pytestmark = pytest.mark.system


class Site:
    """A stack, and machines with one disk each."""

    lying: Witnessed
    unmounted: Witnessed

    def __init__(self, folder: Path, held: ExitStack) -> None:
        self.folder = folder
        self.stack = held.enter_context(
            Stack(folder / "stack", rules=rules_folder(folder / "rules"), shipped_rules=False)
        )
        self._area = held.enter_context(MountArea(folder / "area"))
        self._held = held

    def machine(self, node: str, kind: Kind = "honest", filesystem: str = "ext4") -> Witnessed:
        """A machine with the disk `data`, which keeps its word until `boot` is called again."""
        disk = self._disk(node, filesystem, kind)
        disk.power_on("honest")
        machine = Machine(
            self.stack,
            node,
            self._area.folder / node,
            disks={"data": disk},
            tables=witness_tables([disk.mountpoint]),
        )
        self._held.enter_context(machine)
        return Witnessed(self.stack, machine)

    def clone(self, original: Machine) -> Machine:
        """A copy of everything a machine that is switched off has: its disk, its state folder, its machine-id."""
        disk, place = original.disks["data"], original.disks["data"].mountpoint
        copy = self._disk(f"{original.node}-clone", disk.filesystem, disk.kind)
        disk.save(self.folder / "clone.img")
        copy.put_back(self.folder / "clone.img")
        clone = Machine(
            self.stack,
            original.node,
            self._area.folder / f"{original.node}-clone",
            disks={"data": copy},
            tables=witness_tables([place]),
            elsewhere={copy: place},
            label=f"{original.node}-clone",
        )
        clone.be_another(machine_id=original.machine_id)
        shutil.copytree(original.agent.folder / "state", clone.agent.folder / "state")
        return self._held.enter_context(clone)

    def _disk(self, name: str, filesystem: str, kind: Kind) -> PoweredDisk:
        disk = self._held.enter_context(PoweredDisk(self._area.folder / name / "disk", filesystem, kind))
        disk.power_off()
        return disk


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With two stories under way that the product itself lets time pass in: their ends are the last two tests."""
    with ExitStack() as held:
        site = Site(tmp_path_factory.mktemp("site"), held)
        site.lying, site.unmounted = _cut_on_a_lying_disk(site), _unmounted(site)
        yield site


def _cut_on_a_lying_disk(site: Site) -> Witnessed:
    """A machine that lost power and has just been read for the first time."""
    lying = site.machine("vm-lying", "lying")
    machine = lying.machine
    machine.boot()
    lying.wait_for_promises()
    machine.shut_down()
    machine.boot()
    lying.wait_for_fate()
    lying.wait_for_promises(2)
    machine.cut_power()
    machine.boot()
    site.stack.wait(lambda: "witness_suspected" in lying.accusations()["data"], "the suspicion")
    return lying


def _unmounted(site: Site) -> Witnessed:
    """A machine that has long been running, whose agent starts and does not find its volume mounted."""
    missed = site.machine("vm-unmounted", filesystem="btrfs")
    missed.machine.boot(uptime_seconds=400)
    missed.wait_for_promises()
    missed.machine.agent.stop()
    missed.machine.disks["data"].power_off()
    missed.machine.agent.start()
    return missed


def test_a_loss_is_found_by_a_machine_that_boots_before_its_collector(site: Site) -> None:
    """A whole rack lost power: the agent goes on writing before anybody can tell it what was promised."""
    lying = site.machine("vm-alone", "lying", "xfs")
    machine = lying.machine
    machine.boot()
    lying.wait_for_promises()
    machine.shut_down()
    machine.boot()
    lying.wait_for_fate()
    lying.wait_for_promises(4)
    machine.cut_power()
    site.stack.collector.stop()
    machine.boot()
    wait_for(lambda: _records_since(machine) >= 2, 60.0, "records that nobody was told of")
    site.stack.collector.start()
    site.stack.wait(lambda: "witness_suspected" in lying.accusations()["data"], "the suspicion")
    machine.agent.stop()
    machine.agent.start()
    lying.wait_for_fate()
    accused, kind = lying.accusations()["data"], lying.facts()["data"]["witness_loss"]
    machine.agent.stop()

    assert (accused, kind) == ({"witness_lost": True}, "lost_tail")


def test_a_clone_beside_its_original_is_a_fork(site: Site) -> None:
    """Two machines with one state folder, one disk's content and one name: both must begin chains of their own."""
    original = site.machine("vm-cloned")
    machine = original.machine
    machine.boot()
    original.wait_for_promises()
    machine.shut_down()
    clone = site.clone(machine)
    machine.boot()
    clone.boot()
    site.stack.wait(lambda: "witness_forked" in original.accusations()["data"], "the fork", 60.0)
    site.stack.wait(lambda: _claimants(original) == 2, "two claimants", 60.0)
    accused = original.accusations()["data"]
    for each in (machine, clone):
        each.agent.stop()

    assert accused == {"witness_forked": True}


def test_a_machine_made_from_an_old_copy_is_restored_and_says_how_old(site: Site) -> None:
    """Another instance with the disk of before: the recovery point that was achieved, in seconds."""
    restored = site.machine("vm-restored")
    machine, disk = restored.machine, restored.machine.disks["data"]
    machine.boot()
    restored.wait_for_promises()
    machine.shut_down()
    disk.save(site.folder / "backup.img")
    machine.boot()
    restored.wait_for_fate()
    restored.wait_for_promises(3)
    machine.cut_power()
    disk.put_back(site.folder / "backup.img")
    machine.be_another(machine_id=machine.machine_id)
    machine.boot()
    site.stack.wait(lambda: "witness_suspected" in restored.accusations()["data"], "the suspicion")
    machine.agent.stop()
    machine.agent.start()
    fate = restored.wait_for_fate()
    facts, accused = restored.facts()["data"], restored.accusations()["data"]
    machine.agent.stop()

    assert (accused, facts["witness_loss"]) == ({"witness_lost": True}, "restored")
    assert facts["witness_loss_seconds"] > 0
    assert fate.startswith("restored: ")


def test_an_agent_that_is_killed_again_and_again_accuses_nobody(site: Site) -> None:
    """The machine runs on: whatever was in flight, nothing was promised that is not there."""
    killed = site.machine("vm-killed", "volatile", "xfs")
    killed.machine.boot()
    for _ in range(3):
        killed.wait_for_promises()
        killed.machine.agent.kill()
        killed.machine.agent.start()
    killed.wait_for_promises()
    accused = killed.accusations()["data"]
    killed.machine.agent.stop()

    assert accused == {}


def test_a_collector_that_was_restored_knows_it_and_accuses_no_volume(tmp_path: Path) -> None:
    """Its memory is behind what the agents hold acknowledgements of: that is its own loss, not theirs."""
    with ExitStack() as held:
        site = Site(tmp_path, held)
        collector = site.stack.collector
        known = site.machine("vm-1")
        known.machine.boot()
        known.wait_for_promises()
        collector.stop()
        shutil.copytree(collector.folder / "data", tmp_path / "backup")
        collector.start()
        known.wait_for_promises(3)
        collector.stop()
        shutil.rmtree(collector.folder / "data")
        shutil.copytree(tmp_path / "backup", collector.folder / "data")
        collector.start()
        known.machine.agent.stop()
        known.machine.agent.start()
        site.stack.wait(lambda: collector.firing(alertname="CollectorBehind"), "the collector to know", 60.0)
        known.wait_for_promises()

        assert known.accusations()["data"] == {}


def test_a_mountpoint_that_lost_its_disk_is_called_so(site: Site) -> None:
    """Its services now write to the disk above it. It is waited for: mounts come one after the other."""
    missed, disk = site.unmounted, site.unmounted.machine.disks["data"]
    site.stack.wait(lambda: missed.accusations()["data"], "the missing disk", 60.0)
    accused, reason = missed.accusations()["data"], missed.facts()["data"]["witness_missing_reason"]
    disk.power_on()
    site.stack.wait(lambda: not missed.accusations()["data"], "the disk to be back", 60.0)

    assert (accused, reason) == ({"witness_missing": True}, "mount_missing")


def test_a_loss_is_told_after_a_second_read_and_leaves_by_an_operators_word(site: Site) -> None:
    """One read alone is a suspicion; the agent reads again by itself, half a minute later.

    What is lost stays lost until somebody says what was done about it.
    """
    lying = site.lying
    site.stack.wait(lambda: "witness_lost" in lying.accusations()["data"], "the loss", 60.0)
    lost, accused = lying.facts()["data"], lying.accusations()["data"]
    fate = lying.wait_for_fate()
    lying.acknowledge("restored from the replica; the disk is being exchanged")

    assert accused == {"witness_lost": True}
    assert (lost["witness_loss"], lost["witness_loss_records"] >= 2) == ("lost_tail", True)
    assert f"{lying.machine.disks['data'].mountpoint}: record " in lost["witness_loss_evidence"]
    assert fate.startswith("crash: ")
    assert lying.accusations()["data"] == {}


def _claimants(witnessed: Witnessed) -> object:
    node = witnessed.machine.node
    return witnessed.stack.collector.facts(node, "node", node).get("claimants")


def _records_since(machine: Machine) -> int:
    """Records of this boot on the disk, seen from outside."""
    ring = chain_file(machine.disks["data"].mountpoint).read_bytes()
    slots = (ring[at : at + SLOT_BYTES] for at in range(SLOT_BYTES, len(ring), SLOT_BYTES))
    whole = (decode_record(slot) for slot in slots)
    return sum(found is not None and found.record.boot_id == machine.boot_id for found in whole)
