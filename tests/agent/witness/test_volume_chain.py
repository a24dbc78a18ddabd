"""A chain on real filesystems: ext4, XFS, btrfs; disks that fail, fill up, hang, rot and are exchanged."""

import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from msgspec import structs

from holdfast_agent.core.testimony import Testimony
from holdfast_agent.witness.ring_file_linux import read_ring
from holdfast_agent.witness.volume_keeper import VolumeKeeper, spread
from holdfast_agent.witness.witness_choice import Candidate
from holdfast_wire import ChainHead, Expected, ReadCause
from tests import needs
from tests.agent.witness.kept import INSTALL_ID, WHO, Kept, volume_at
from tests.rigs.failing_disk import FailingDisk
from tests.rigs.loop_disk import LoopDisk, run
from tests.waiting import wait_for

pytestmark = pytest.mark.system
FILESYSTEMS = ("ext4", "xfs", "btrfs")


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[LoopDisk]:
    with LoopDisk(tmp_path, "ext4") as disk:
        yield disk


def begun(mountpoint: Path, records: int = 3) -> Kept:
    kept = Kept(mountpoint)
    kept.chain.read(ReadCause.AGENT_START)
    for _ in range(records):
        assert kept.chain.append()
    return kept


def started_again(mountpoint: Path, remembered: str = "") -> Kept:
    kept = Kept(mountpoint, remembered=remembered)
    kept.chain.read(ReadCause.AGENT_START)
    return kept


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_records_are_found_again_on_the_medium(filesystem: str, tmp_path: Path) -> None:
    """After a remount nothing is left in the cache."""
    with LoopDisk(tmp_path, filesystem) as disk:
        kept = begun(disk.mountpoint)
        disk.unmount()
        disk.mount()
        again = started_again(disk.mountpoint)
        report = again.reports[0]

        assert [said.head.seq for said in kept.confirmed] == [1, 2, 3]
        assert (report.head, report.read_mode) == (kept.confirmed[-1].head, "direct")
        assert (report.broken, report.torn_seq, report.cache_differs) == ([], 0, False)
        assert (report.owner, report.began_on) == (INSTALL_ID, str(disk.mountpoint))
        assert (
            report.identity.filesystem_id
            == run("blkid", "-p", "-o", "value", "-s", "UUID", disk.device).strip()
        )
        assert report.identity.device == disk.name


def test_filesystem_without_direct_reads_is_read_through_its_cache_and_that_is_said(
    ext4: LoopDisk, tmp_path: Path
) -> None:
    """The weaker proof must not pass for the stronger one. Of the kernel's own filesystems ramfs has no O_DIRECT."""
    kept = begun(ext4.mountpoint)
    place = tmp_path / "ramfs"
    place.mkdir()
    run("mount", "-t", "ramfs", "ramfs", str(place))
    try:
        chain = place / ".holdfast" / INSTALL_ID / "chain"
        chain.parent.mkdir(parents=True)
        chain.write_bytes(kept.path.read_bytes())
        device = place.stat().st_dev
        volume = structs.replace(
            kept.volume,
            volume=str(place),
            path=str(place),
            number=f"{os.major(device)}:{os.minor(device)}",
            fstype="ramfs",
            candidates=(Candidate(chain, place),),
        )
        there = Kept(place, volume=volume)
        there.chain.read(ReadCause.AGENT_START)
        assert there.chain.append()
    finally:
        run("umount", str(place))

    assert (there.reports[0].read_mode, there.facts["witness_mode"]) == ("buffered", "buffered")
    assert there.reports[0].head == kept.confirmed[-1].head
    assert there.confirmed[0].previous == kept.confirmed[-1].head


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_volume_that_is_witnessed_can_be_unmounted(filesystem: str, tmp_path: Path) -> None:
    """The keeper holds nothing open between two calls. It must not notice by writing into the bare folder either."""
    with LoopDisk(tmp_path, filesystem) as disk:
        said: list[Testimony] = []
        ended = threading.Event()
        volume = volume_at(disk.mountpoint)
        keeper = VolumeKeeper(volume, WHO, ReadCause.AGENT_START, "", said.append, ended.set, Random(1))
        keeper.start()
        wait_for(lambda: not keeper.facts()["witness_reason"], what="a chain")
        disk.unmount()
        keeper.read(ReadCause.MOUNT)
        wait_for(lambda: "not mounted" in str(keeper.facts()["witness_reason"]), what="the keeper to notice")
        keeper.stop(last_record=True)
        assert ended.wait(30)

        assert os.listdir(disk.mountpoint) == []


def test_other_disk_at_the_same_place_is_read_before_it_is_written(ext4: LoopDisk, tmp_path: Path) -> None:
    kept = begun(ext4.mountpoint)
    ext4.unmount()
    (tmp_path / "b").mkdir()
    with LoopDisk(tmp_path / "b", "ext4") as other:
        run("mount", other.device, str(ext4.mountpoint))
        try:
            written = kept.chain.append()
            names = os.listdir(ext4.mountpoint)
        finally:
            ext4.unmount()

        assert (written, names) == (False, ["lost+found"])


def test_same_disk_mounted_anew_is_read_again(ext4: LoopDisk) -> None:
    """Device, inode and even the mount's listed number are the same as before (statx knows better, Linux 6.8)."""
    kept = begun(ext4.mountpoint)
    ext4.unmount()
    ext4.mount()

    assert (kept.chain.append(), len(kept.confirmed)) == (False, 3)


def test_new_volume_says_that_it_has_no_chain_and_begins_one(ext4: LoopDisk) -> None:
    kept = begun(ext4.mountpoint, records=1)

    absent, begun_now = kept.reports
    assert (absent.chain_id, absent.head) == ("", None)
    assert (begun_now.cause, begun_now.chain_id) == (ReadCause.BEGUN, kept.confirmed[0].chain_id)
    assert begun_now.identity == absent.identity
    assert kept.confirmed[0].previous == ChainHead(0, "")
    assert oct(kept.path.parent.stat().st_mode & 0o777) == "0o700"
    assert kept.path.stat().st_size * 50 <= os.statvfs(ext4.mountpoint).f_blocks * 4096


def test_record_of_an_earlier_boot_makes_the_first_reading_one_after_a_boot(ext4: LoopDisk) -> None:
    begun(ext4.mountpoint)
    kept = Kept(ext4.mountpoint, who=structs.replace(WHO, boot_id="another", epoch=4))
    kept.chain.read(ReadCause.AGENT_START)

    assert kept.reports[0].cause is ReadCause.BOOT
    assert kept.reports[0].written_by_boot == WHO.boot_id


def test_last_record_of_an_orderly_stop_says_so(ext4: LoopDisk) -> None:
    kept = begun(ext4.mountpoint)
    kept.chain.append(clean_stop=True)

    assert kept.confirmed[-1].clean_stop
    assert started_again(ext4.mountpoint).reports[0].clean_stop


def test_renamed_file_is_counted_in_the_next_record_and_read_back(ext4: LoopDisk) -> None:
    kept = begun(ext4.mountpoint)
    kept.chain.renew_metadata()
    kept.chain.renew_metadata()
    kept.chain.append()

    assert kept.confirmed[-1].metadata_seq == 2
    assert started_again(ext4.mountpoint).reports[0].metadata_seq == 2


def test_lost_renamed_file_shows_beside_a_record_that_promised_it(ext4: LoopDisk) -> None:
    kept = begun(ext4.mountpoint)
    kept.chain.renew_metadata()
    kept.chain.append()
    (kept.path.parent / "metadata").unlink()
    again = started_again(ext4.mountpoint)
    again.chain.renew_metadata()
    again.chain.append()

    assert again.reports[0].metadata_seq == 0
    assert again.confirmed[-1].metadata_seq == 2


def test_frozen_chain_is_put_aside_and_another_begun(ext4: LoopDisk) -> None:
    kept = begun(ext4.mountpoint)
    chain_id = kept.confirmed[0].chain_id
    answer = kept.chain.expected(
        Expected(volume=kept.volume.volume, chain_id=chain_id, head=None, frozen=True)
    )
    kept.chain.begin_anew()
    kept.chain.append()
    aside = read_ring(kept.path.with_name(f"chain.{chain_id}.frozen"))

    assert answer == "begin_anew"
    assert kept.confirmed[-1].head.seq == 1
    assert kept.confirmed[-1].chain_id != chain_id
    assert aside.found.chain_head == kept.confirmed[2].head


def test_chain_of_another_installation_is_told_and_left_alone(ext4: LoopDisk) -> None:
    """A disk that was moved here, or an agent that was installed anew: the collector knows which."""
    kept = begun(ext4.mountpoint)
    kept.chain.renew_metadata()
    os.rename(kept.path.parent, kept.path.parent.with_name("another"))
    again = started_again(ext4.mountpoint)
    again.chain.append()

    assert [(report.chain_id, report.head, report.metadata_seq) for report in again.reports] == [
        (kept.confirmed[0].chain_id, kept.confirmed[-1].head, 1),
        (again.confirmed[0].chain_id, None, 0),
    ]
    assert again.confirmed[0].head.seq == 1
    assert again.confirmed[0].chain_id != kept.confirmed[0].chain_id


# Rot


def flip_on_medium(disk: LoopDisk, content: bytes, byte: int) -> None:
    """Change one bit where the disk keeps these bytes, below the filesystem and its cache."""
    image = disk.image.read_bytes()
    place = image.index(content)
    assert image.count(content) == 1
    with disk.image.open("r+b") as file:
        file.seek(place + byte)
        file.write(bytes([content[byte] ^ 1]))


def slot(path: Path, number: int) -> bytes:
    return path.read_bytes()[number * 4096 : (number + 1) * 4096]


def test_rotten_record_is_seen_behind_a_cache_that_hides_it(ext4: LoopDisk) -> None:
    """Programs would still read it from memory; after a reboot it is gone."""
    kept = begun(ext4.mountpoint, records=5)
    content = slot(kept.path, 2)  # reading it puts the file into the cache
    run("sync", "-f", str(ext4.mountpoint))
    flip_on_medium(ext4, content, 900)
    report = started_again(ext4.mountpoint).reports[0]

    assert (report.broken, report.cache_differs) == ([2], True)
    assert report.head == kept.confirmed[-1].head


def test_rotten_header_is_told_as_record_0_and_the_chain_begun_anew(ext4: LoopDisk) -> None:
    kept = begun(ext4.mountpoint)
    with kept.path.open("r+b") as file:
        file.write(b"X")
    again = started_again(ext4.mountpoint)
    again.chain.append()

    assert (again.reports[0].broken, again.reports[0].head) == ([0], kept.confirmed[-1].head)
    assert again.confirmed[0].chain_id != kept.confirmed[0].chain_id


def test_chain_of_which_nothing_is_left_is_missed_by_what_is_remembered(ext4: LoopDisk) -> None:
    kept = begun(ext4.mountpoint)
    size = kept.path.stat().st_size
    kept.path.write_bytes(b"\xff" * size)
    report = started_again(ext4.mountpoint, kept.confirmed[0].chain_id).reports[0]

    assert (report.chain_id, report.head) == (kept.confirmed[0].chain_id, None)


def test_truncated_chain_misses_what_was_cut_off(ext4: LoopDisk) -> None:
    kept = begun(ext4.mountpoint, records=5)
    os.truncate(kept.path, 4 * 4096)
    report = started_again(ext4.mountpoint).reports[0]

    assert report.head == kept.confirmed[2].head


# Refusals and failures


def test_read_only_filesystem_is_said_and_leaves_no_flag(ext4: LoopDisk) -> None:
    """Nothing was promised and broken: the filesystem said no."""
    kept = begun(ext4.mountpoint)
    ext4.remount("ro")
    kept.chain.append()
    refused = kept.facts
    ext4.remount("rw")
    kept.chain.append()

    assert (refused["write_probe_error"], refused["witness_failed"]) == ("EROFS", False)
    assert (kept.facts["write_probe_error"], kept.confirmed[-1].previous.seq) == ("", 3)


def test_full_filesystem_takes_no_new_ring_and_says_so(ext4: LoopDisk) -> None:
    ext4.fill()
    kept = Kept(ext4.mountpoint)
    kept.chain.read(ReadCause.AGENT_START)

    assert not kept.facts["witness_enabled"]
    assert "are free" in str(kept.facts["witness_reason"])
    assert not kept.path.exists()


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_full_filesystem_still_takes_records_into_a_ring_it_has(filesystem: str, tmp_path: Path) -> None:
    """The ring was written when it was made: its blocks are there."""
    with LoopDisk(tmp_path, filesystem) as disk:
        kept = begun(disk.mountpoint)
        disk.fill()
        kept.chain.append()

        assert (len(kept.confirmed), kept.facts["write_probe_error"]) == (4, "")


def test_full_btrfs_is_called_full_and_not_lying(tmp_path: Path) -> None:
    """It needs room for every overwrite. Whether it finds some in its reserve or not, no flag of a failure is raised."""
    with LoopDisk(tmp_path, "btrfs") as disk:
        kept = begun(disk.mountpoint)
        disk.fill()
        for _ in range(20):
            kept.chain.append()

        assert kept.facts["write_probe_error"] in ("", "ENOSPC")
        assert kept.facts["witness_failed"] is False


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_failed_record_is_never_told_and_the_flag_stays_until_the_volume_is_mounted_anew(
    filesystem: str, tmp_path: Path
) -> None:
    """After an error later calls return 0 and prove nothing (fsyncgate)."""
    with FailingDisk(tmp_path, filesystem) as disk:
        kept = begun(disk.mountpoint)
        disk.fail()
        kept.chain.append()
        failed = kept.facts
        told = len(kept.confirmed)
        disk.work()
        kept.chain.append()
        afterwards = kept.facts

        assert (failed["witness_failed"], failed["write_probe_error"], told) == (True, "EIO", 3)
        assert "EIO at " in str(failed["witness_failed_reason"])
        if afterwards["write_probe_error"] == "":  # else the filesystem has shut down for good
            assert (kept.confirmed[-1].head.seq, kept.confirmed[-1].previous.seq) == (5, 3)
        assert (afterwards["witness_failed"], afterwards["witness_failed_reason"]) == (
            True,
            failed["witness_failed_reason"],
        )
        run("umount", str(disk.mountpoint))
        run("mount", disk.device, str(disk.mountpoint))
        kept.chain.read(ReadCause.MOUNT)
        report = kept.reports[-1]

        assert (kept.facts["witness_failed"], report.broken) == (False, [])
        assert report.head is not None
        assert report.head.seq >= 3


def test_records_of_many_machines_are_spread_by_a_fifth_of_the_interval_to_either_side() -> None:
    assert [spread(60.0, chance) for chance in (0.0, 0.5, 1.0)] == [48.0, 60.0, 72.0]


def test_call_that_hangs_is_said_and_holds_nobody_up(ext4: LoopDisk) -> None:
    fsfreeze = needs.tool("fsfreeze", package="util-linux")
    said: list[Testimony] = []
    ended = threading.Event()
    keeper = VolumeKeeper(
        volume_at(ext4.mountpoint), WHO, ReadCause.AGENT_START, "", said.append, ended.set, Random(1)
    )
    keeper.start()
    wait_for(lambda: not keeper.facts()["witness_reason"], what="a chain")
    subprocess.run([fsfreeze, "-f", str(ext4.mountpoint)], check=True)
    try:
        keeper.stop(last_record=True)
        stuck = wait_for(lambda: keeper.facts()["witness_stuck_seconds"], what="the hang to be said")
        hung = not ended.is_set()
    finally:
        subprocess.run([fsfreeze, "-u", str(ext4.mountpoint)], check=True)
    assert ended.wait(30)

    assert (hung, stuck != 0.0, keeper.facts()["witness_stuck_seconds"]) == (True, True, 0.0)


def test_data_that_another_file_lost_is_found_by_syncfs_and_not_by_the_records(tmp_path: Path) -> None:
    with FailingDisk(tmp_path, "ext4") as disk:
        kept = begun(disk.mountpoint)
        victim = disk.mountpoint / "victim"
        victim.write_bytes(bytes(1 << 16))
        disk.fail()
        with victim.open("r+b") as file:
            file.write(b"new" * 1000)
            file.flush()
            with pytest.raises(OSError) as failed:
                os.fdatasync(file.fileno())
        disk.work()
        kept.chain.ask_for_lost_writes(0)
        first = kept.facts
        kept.chain.ask_for_lost_writes(0)

        assert failed.value.errno == errno.EIO
        assert (first["writeback_failed"], kept.facts["writeback_failed"]) == (True, True)


def test_syncfs_is_not_asked_while_much_waits_to_be_written(ext4: LoopDisk) -> None:
    """It would write out everybody's data, and delay them."""
    kept = begun(ext4.mountpoint)
    kept.chain.ask_for_lost_writes(1 << 30)

    assert "writeback_failed" not in kept.facts
    assert "MiB wait to be written" in kept.board.trouble()[2]
