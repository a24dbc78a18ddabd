"""How classes combine over layers: what is unknown stays so unless what is known settles it."""

import pytest

from holdfast_agent.probes.durability import (
    Medium,
    Standing,
    cached,
    declared,
    leaf,
    mirrored,
    parity,
    weakest,
)


def disk(name: str, level: int | None) -> Standing:
    return leaf(name, Medium("disk", level, "a disk", "disks"))


def disks(*levels: int | None) -> list[Standing]:
    return [disk(f"sd{letter}", level) for letter, level in zip("abcdef", levels, strict=False)]


@pytest.mark.parametrize(
    ("levels", "level"),
    [
        ((2, 2), 2),
        ((2, 1), 1),
        ((3, 0), 0),
        ((2, None), None),
        ((1, None), 1),
        ((None, None), None),
        ((), None),
    ],
)
def test_a_stripe_is_worth_its_worst_member(levels: tuple[int | None, ...], level: int | None) -> None:
    """An unknown member can only make it worse: with a host-local one beside it, it is host-local at most."""
    assert weakest("md0", "raid0", disks(*levels)).level == level


@pytest.mark.parametrize(
    ("levels", "level"),
    [
        ((2, 2), 3),
        ((2, 1), 2),
        ((1, 1), 1),
        ((0, 1), 1),
        ((2, None), 2),
        ((1, None), None),
        ((None, None), None),
        ((2,), 2),
        ((2, 2, None), 3),
        ((3, 2), 3),
    ],
)
def test_a_mirror_is_worth_its_best_leg_and_redundant_with_two_that_outlive_the_host(
    levels: tuple[int | None, ...], level: int | None
) -> None:
    """Two legs that both go with the host are one failure."""
    assert mirrored("md0", "raid1", disks(*levels)).level == level


def test_two_legs_on_one_disk_are_no_redundancy() -> None:
    found = mirrored("md0", "raid1", [disk("sda", 2), disk("sda", 2)])

    assert (found.level, found.reason) == (
        2,
        "md0 (raid1) on sda, sda: a disk; its copies share a disk, so they are no redundancy",
    )


def test_with_fewer_copies_than_members_the_worst_members_count() -> None:
    """Of btrfs raid1 over four disks, some chunk lies on the two worst."""
    assert mirrored("btrfs", "raid1", disks(2, 1, 1, 2), copies=2).level == 1


@pytest.mark.parametrize(
    ("levels", "losses", "level"),
    [((2, 2, 2), 1, 3), ((2, 2), 0, 2), ((2, 1, 2), 1, 1), ((2, None, 2), 1, None), ((2, None, 1), 1, 1)],
)
def test_parity_is_redundant_while_it_can_lose_a_member(
    levels: tuple[int | None, ...], losses: int, level: int | None
) -> None:
    assert parity("md0", "raid5", disks(*levels), losses=losses).level == level


@pytest.mark.parametrize(
    ("mode", "level"), [("writeback", 1), ("", 1), ("writethrough", 2), ("writearound", 2), ("none", 2)]
)
def test_a_cache_that_may_write_back_is_worth_the_worse_of_both(mode: str, level: int) -> None:
    """What was acknowledged may lie in the cache alone; a mode nobody can see may be that one."""
    assert cached("bcache0", "bcache", disk("nvme0n1", 1), disk("sda", 2), mode).level == level


def test_the_reason_says_the_chain_what_it_ends_on_and_whose_word_the_class_is() -> None:
    below = weakest("md0", "raid0", disks(None, None))

    assert weakest("vg-data", "lvm", [declared("md0", below, 2)]).reason == (
        "vg-data (lvm) on md0 (raid0) on sda, sdb: both disks; declared D2 in the configuration"
    )


def test_members_of_different_kinds_are_named_one_by_one() -> None:
    members = [disk("sda", 2), leaf("ram0", Medium("memory", 0, "memory", "memory"))]

    assert (
        weakest("md0", "linear", members).reason == "md0 (linear) on sda, ram0: sda is a disk, ram0 is memory"
    )
