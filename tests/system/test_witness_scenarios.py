"""What can happen to a machine's disks, each done to a real filesystem, and by which name the collector calls it.

Two machines ran and were shut down in order. Then every disk of the first met its own fate, and it was booted once
more; under three disks that nothing had happened to, their chains went while the agent wrote them. So the scenarios
share their processes and their waiting, and each has a volume to itself.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from holdfast_agent.core.chain import SLOT_BYTES
from tests.rigs.loop_disk import run
from tests.rigs.powered_disk import FILESYSTEMS, PoweredDisk
from tests.system.machine import Machine, MountArea, each
from tests.system.stack import Stack, hurried_rules
from tests.system.witnessed import Witnessed, chain_file, records, witness_tables

pytestmark = pytest.mark.system

DISKS = {
    **{f"{fate}-{fs}": fs for fate in ("rolled-back", "rotten", "spoiled", "half") for fs in FILESYSTEMS},
    "formatted": "xfs",
    "stranger": "ext4",
    "deleted": "ext4",
    "left": "xfs",
    "right": "ext4",
    "untouched": "btrfs",
    "gone-deleted": "ext4",
    "gone-exchanged": "xfs",
    "gone-formatted": "ext4",
}
"""Fate → filesystem."""


class Aftermath(Witnessed):
    """What the collector says after it all."""

    promised_before: Mapping[str, int]
    """Disk → the newest record that the collector held when everything was shut down."""
    fates: list[str]
    """What the collector said the two boots after the first were."""

    def stands_accused_of(self, disk: str, *names: str) -> bool:
        """Whether just this is said against a volume, in the end: some of it takes a second read."""

        def told() -> bool:
            return self.accusations()[disk].keys() == set(names)

        self.stack.wait(told, f"{disk} to be accused of {names}: {self.facts()[disk]}", 15.0)
        return True

    def alert(self, disk: str, name: str) -> dict[str, Any]:
        """The alert that calls somebody about a volume, once it fires."""
        place = str(self.machine.disks[disk].mountpoint)

        def fires() -> dict[str, Any] | None:
            found = self.stack.collector.firing(node=self.machine.node, alertname=name, resource=place)
            return found[0] if found else None

        return self.stack.wait(fires, f"{name} of {disk}: {self.facts()[disk]}", 15.0)

    def went_on(self, disk: str) -> bool:
        """Whether the volume's chain was continued where it stood."""
        return self.promised()[disk] >= self.promised_before[disk] > 0


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    """The machine after its third boot, judged."""
    folder = tmp_path_factory.mktemp("witness")
    with ExitStack() as held:
        stack = held.enter_context(
            Stack(folder / "stack", rules=hurried_rules(folder / "rules"), shipped_rules=False)
        )
        area = held.enter_context(MountArea(folder / "area"))
        victim = held.enter_context(_machine(stack, area, "vm-1", DISKS, held))
        other = held.enter_context(_machine(stack, area, "vm-2", {"other": "ext4"}, held))
        found = Aftermath(stack, victim)
        bystander = Witnessed(stack, other)
        for machine in (victim, other):
            machine.boot()
        bystander.wait_for_promises()
        found.wait_for_promises()
        for machine in (victim, other):
            machine.shut_down()
        old = _saved(victim, folder)
        victim.boot()
        found.fates = [found.wait_for_fate()]
        found.promised_before = found.wait_for_promises(3)
        victim.shut_down()
        _do_to_each(victim, old, other.disks["other"], folder)
        victim.boot()
        stack.wait(lambda: _suspected(found), "the first read's suspicions", 30.0)
        _take_chains_away(found)
        victim.agent.stop()
        victim.agent.start()
        found.fates.append(found.wait_for_fate())
        yield found


def _suspected(found: Aftermath) -> bool:
    accused = found.accusations()
    short = [name for name in accused if name.startswith(("rolled-back", "spoiled", "formatted"))]
    return all("witness_suspected" in accused[name] for name in short)


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_a_volume_that_was_set_back_is_lost_by_a_rollback(aftermath: Aftermath, filesystem: str) -> None:
    """A snapshot was reverted: everything is whole, and what was promised since is gone."""
    facts = aftermath.facts()[f"rolled-back-{filesystem}"]

    assert aftermath.stands_accused_of(f"rolled-back-{filesystem}", "witness_lost")
    assert facts["witness_loss"] == "rolled_back"
    assert facts["witness_loss_records"] >= 3
    assert facts["witness_loss_seconds"] > 0


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_an_old_record_with_a_flipped_bit_is_corruption_and_no_loss(
    aftermath: Aftermath, filesystem: str
) -> None:
    """Bit rot; btrfs sees it itself and refuses to read the block."""
    assert aftermath.stands_accused_of(f"rotten-{filesystem}", "witness_corrupt")


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_the_newest_acknowledged_record_with_a_flipped_bit_is_lost(
    aftermath: Aftermath, filesystem: str
) -> None:
    """It was promised, and is not whole."""
    facts = aftermath.facts()[f"spoiled-{filesystem}"]

    assert aftermath.stands_accused_of(f"spoiled-{filesystem}", "witness_lost")
    assert (facts["witness_loss"], facts["witness_loss_records"]) == ("torn", 1)


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_half_a_record_that_nobody_was_told_of_is_nothing(aftermath: Aftermath, filesystem: str) -> None:
    """A power cut in the middle of a write leaves that behind on the best of disks."""
    assert aftermath.stands_accused_of(f"half-{filesystem}")
    assert aftermath.went_on(f"half-{filesystem}")


def test_a_volume_that_was_formatted_is_lost_by_that(aftermath: Aftermath) -> None:
    """What was promised is gone with the filesystem it was on."""
    facts = aftermath.facts()["formatted"]

    assert aftermath.stands_accused_of("formatted", "witness_lost", "witness_missing")
    assert (facts["witness_loss"], facts["witness_missing_reason"]) == ("reformatted", "reformatted")


def test_a_disk_of_another_machine_is_called_so(aftermath: Aftermath) -> None:
    """Its chain is another machine's; our own is missed, and not called lost."""
    assert aftermath.stands_accused_of("stranger", "witness_foreign", "witness_missing")
    assert aftermath.facts()["stranger"]["witness_missing_reason"] == "wrong_disk"


def test_a_chain_that_was_deleted_is_missed_and_not_called_lost(aftermath: Aftermath) -> None:
    """A cleaner, or a restore that leaves out folders with a dot: the volume itself broke no promise."""
    assert aftermath.stands_accused_of("deleted", "witness_missing")
    assert aftermath.facts()["deleted"]["witness_missing_reason"] == "deleted"


@pytest.mark.parametrize("how", ["deleted", "exchanged"])
def test_a_chain_that_goes_while_it_is_written_is_missed_at_once_and_leaves_by_an_operators_word(
    aftermath: Aftermath, how: str
) -> None:
    """Not at the next boot, when nobody remembers who cleaned up."""
    disk = f"gone-{how}"
    assert aftermath.stands_accused_of(disk, "witness_missing")

    alert = aftermath.alert(disk, "ChainDeleted")
    aftermath.stack.collector.post("/api/v1/acks", {"key": alert["key"], "reason": "a cleaner, excluded now"})

    assert aftermath.stands_accused_of(disk)
    aftermath.stack.wait(lambda: not _fires(aftermath, alert), "the alert to leave")


def test_a_volume_that_is_formatted_while_its_machine_runs_is_lost_and_leaves_by_an_operators_word(
    aftermath: Aftermath,
) -> None:
    alert = aftermath.alert("gone-formatted", "VolumeReformatted")
    assert aftermath.stands_accused_of("gone-formatted", "witness_lost", "witness_missing")

    aftermath.stack.collector.post("/api/v1/acks", {"key": alert["key"], "reason": "set up anew"})

    aftermath.stack.wait(lambda: not _fires(aftermath, alert), "the alert to leave")
    assert "witness_lost" not in aftermath.accusations()["gone-formatted"]


def test_disks_that_changed_places_are_called_so_and_nothing_is_lost(aftermath: Aftermath) -> None:
    """Each chain is whole, on the other's mountpoint."""
    accused = aftermath.accusations()

    assert [accused[disk].get("witness_swapped") for disk in ("left", "right")] == [True, True]
    assert not any("witness_lost" in accused[disk] for disk in ("left", "right"))


def test_a_volume_that_nothing_happened_to_is_accused_of_nothing(aftermath: Aftermath) -> None:
    """Not by what happened to its neighbours either."""
    assert aftermath.stands_accused_of("untouched")
    assert aftermath.went_on("untouched")


def test_the_boot_is_told_with_what_came_through_it(aftermath: Aftermath) -> None:
    """One event each: of an orderly reboot that harmed nothing, and of the one after the snapshot was reverted."""
    assert aftermath.fates[0].startswith("clean reboot: ")
    assert "came back whole: " in aftermath.fates[0]
    assert aftermath.fates[1].startswith("rollback: ")
    assert str(aftermath.machine.disks["deleted"].mountpoint) in aftermath.fates[1]


def _machine(
    stack: Stack, area: MountArea, node: str, filesystems: Mapping[str, str], held: ExitStack
) -> Machine:
    disks = {
        name: held.enter_context(PoweredDisk(area.folder / node / name, filesystem))
        for name, filesystem in filesystems.items()
    }
    each(disks.values(), PoweredDisk.power_off)
    tables = witness_tables(disk.mountpoint for disk in disks.values())
    return Machine(stack, node, area.folder / node, disks=disks, tables=tables)


def _saved(machine: Machine, folder: Path) -> dict[str, Path]:
    """Copies of the images that will be put back."""
    copies = {name: folder / f"{name}.img" for name in machine.disks if name.startswith("rolled-back-")}
    for name, copy in copies.items():
        machine.disks[name].save(copy)
    return copies


def _do_to_each(victim: Machine, old: Mapping[str, Path], other: PoweredDisk, folder: Path) -> None:
    disks = victim.disks
    for filesystem in FILESYSTEMS:
        disks[f"rolled-back-{filesystem}"].put_back(old[f"rolled-back-{filesystem}"])
        _spoil(disks[f"rotten-{filesystem}"], newest=3)
        _spoil(disks[f"spoiled-{filesystem}"], newest=1)
        _write_half(disks[f"half-{filesystem}"])
    disks["formatted"].format()
    other.save(folder / "other.img")
    disks["stranger"].put_back(folder / "other.img")
    with disks["deleted"].opened() as inside:
        chain_file(inside).unlink()
    # Both have one filesystem's kind of image behind them; what is mounted is found out by mounting it.
    disks["left"].exchange(disks["right"])


def _take_chains_away(found: Aftermath) -> None:
    """From under a running agent, each in its own way; returns when the collector has heard of all."""
    disks = {name: disk for name, disk in found.machine.disks.items() if name.startswith("gone-")}
    before = found.promised_before
    found.stack.wait(
        lambda: all(found.promised()[name] > before[name] for name in disks), "records of this boot", 30.0
    )
    chain_file(disks["gone-deleted"].mountpoint).unlink()
    chain = chain_file(disks["gone-exchanged"].mountpoint)
    empty = chain.with_name("empty")
    empty.write_bytes(bytes(chain.stat().st_size))
    empty.rename(chain)
    formatted = disks["gone-formatted"]
    formatted.unmount()
    run("mkfs.ext4", "-q", "-F", formatted.device)
    formatted.mount()
    found.stack.wait(lambda: all(found.accusations()[name] for name in disks), "all to be missed", 30.0)


def _fires(aftermath: Aftermath, alert: dict[str, Any]) -> bool:
    return alert["key"] in {one["key"] for one in aftermath.stack.collector.firing()}


def _spoil(disk: PoweredDisk, *, newest: int) -> None:
    """Flip a bit in the newest record, or the one so many before it."""
    _, content, _ = records(disk)[-newest]
    disk.spoil(content)


def _write_half(disk: PoweredDisk) -> None:
    """What a power cut leaves in the slot after the newest record."""
    slot, content, _ = records(disk)[-1]
    with disk.opened() as inside, chain_file(inside).open("r+b") as ring:
        ring.seek((slot + 1) * SLOT_BYTES)
        ring.write(content[: SLOT_BYTES // 2])
