"""Which filesystems the kernel has given up, followed through its log."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_agent.probes.given_up_linux import GivenUp, speaks_of_filesystems
from holdfast_agent.probes.kmsg_device_linux import KmsgReader
from tests.agent.probes.kmsg_socket import KmsgSocket

DIED = "EXT4-fs (sda1): Remounting filesystem read-only"
SHUT = "XFS (sdb): Metadata I/O Error (0x1) detected at x (y:1).  Shutting down filesystem."
MOUNTED = "EXT4-fs (sda1): mounted filesystem 7f0c r/w with ordered data mode. Quota mode: none."
UNMOUNTED = "XFS (sdb): Unmounting Filesystem 4fbf"


@pytest.fixture
def log() -> Iterator[KmsgSocket]:
    with KmsgSocket() as log:
        yield log


def follower_of(log: KmsgSocket, sysfs: Path = Path(os.devnull)) -> GivenUp:
    return GivenUp(Path(os.devnull), reader=KmsgReader(log.descriptor, after=None), sysfs=sysfs)


def given_up(log: KmsgSocket) -> set[str]:
    follower = follower_of(log)
    follower.follow()
    return set(follower.devices)


def test_a_death_holds_until_the_filesystem_is_mounted_or_unmounted(log: KmsgSocket) -> None:
    follower = follower_of(log)
    seen = []
    for line in (DIED, SHUT, MOUNTED, UNMOUNTED):
        log.say(line)
        follower.follow()
        seen.append(sorted(follower.devices))

    assert seen == [["sda1"], ["sda1", "sdb"], ["sdb"], []]


def test_the_first_words_are_kept(log: KmsgSocket) -> None:
    follower = follower_of(log)
    log.say(DIED)
    log.say("EXT4-fs (sda1): shut down requested (1)")
    follower.follow()

    assert follower.devices == {"sda1": DIED}


def test_lines_that_were_lost_may_have_been_mounts(log: KmsgSocket) -> None:
    log.say(DIED)
    log.say("something else", seq=4)

    assert given_up(log) == set()


def mount(sysfs: Path, folder: str) -> None:
    """What mounting shows in sysfs; the folder it had before stays aside, so that the inode is another."""
    place = sysfs / "fs" / folder
    if place.exists():
        place.rename(place.with_name(f"{place.name}-before"))
    place.mkdir(parents=True)


@pytest.mark.parametrize(
    ("folder", "device", "words"), [("ext4/sda1", "sda1", DIED), ("xfs/sdb", "sdb", SHUT)]
)
def test_a_death_ends_with_the_mount_although_nobody_logs_the_next_one(
    log: KmsgSocket, tmp_path: Path, folder: str, device: str, words: str
) -> None:
    """ext4 limits the rate of that line: a repaired disk would page until the next reboot."""
    mount(tmp_path, folder)
    follower = follower_of(log, tmp_path)
    log.say(words)
    seen = []
    for _ in range(2):
        follower.follow()
        seen.append(sorted(follower.devices))
    mount(tmp_path, folder)
    follower.follow()
    seen.append(sorted(follower.devices))

    assert seen == [[device], [device], []]


def test_a_filesystem_that_is_mounted_anew_can_die_anew(log: KmsgSocket, tmp_path: Path) -> None:
    mount(tmp_path, "ext4/sda1")
    follower = follower_of(log, tmp_path)
    log.say(DIED)
    follower.follow()
    mount(tmp_path, "ext4/sda1")
    log.say("EXT4-fs (sda1): shut down requested (1)")
    follower.follow()

    assert follower.devices == {"sda1": "EXT4-fs (sda1): shut down requested (1)"}


@pytest.mark.parametrize("folder", ["xfs/sda1", "btrfs/4fbf/devices/sda1"])
def test_a_filesystem_does_not_answer_for_another_kind_that_was_there_before(
    log: KmsgSocket, tmp_path: Path, folder: str
) -> None:
    """An agent that starts reads the log of the whole boot, and loop devices go from hand to hand."""
    mount(tmp_path, folder)
    follower = follower_of(log, tmp_path)
    log.say(DIED)
    follower.follow()

    assert follower.devices == {}


def test_nobody_but_the_kernel_can_give_a_filesystem_up(log: KmsgSocket) -> None:
    log.say(DIED, priority=10)

    assert given_up(log) == set()


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([DIED], True),
        ([MOUNTED], True),
        (["EXT4-fs error (device sda1): ext4_lookup:1785: inode #2: comm ls: x"], True),
        (["usb 1-1: new device"], False),
        (["nvme nvme0: I/O 1 QID 1 timeout, aborting"], False),
        ([], False),
    ],
)
def test_a_watch_looks_when_the_log_speaks_of_filesystems(
    log: KmsgSocket, lines: list[str], told: bool
) -> None:
    reader = KmsgReader(log.descriptor, after=None)
    for line in lines:
        log.say(line)

    assert [speaks_of_filesystems(reader), speaks_of_filesystems(reader)] == [told, False]


def test_without_a_log_the_reason_is_kept(tmp_path: Path) -> None:
    follower = GivenUp(tmp_path / "kmsg")
    follower.follow()

    assert "container" in follower.unreadable
