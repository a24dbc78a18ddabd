"""btrfs and XFS by their own account in sysfs."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast_agent.probe import NoData, Poll, ProbeContext
from holdfast_agent.probes.btrfs_linux import Btrfs
from holdfast_agent.probes.xfs_linux import Xfs
from holdfast_wire.message import Value
from tests import needs
from tests.agent.probes.recordings import recorded
from tests.rigs.failing_disk import FailingDisk
from tests.rigs.loop_disk import LoopDisk, run
from tests.waiting import wait_for

Facts = dict[str, Value]


def look(probe: Poll[Any]) -> dict[str, Facts]:
    return {resource.name: resource.facts for resource in probe.interpret(probe.read()).resources}


@pytest.fixture
def found() -> dict[str, Facts]:
    observation = Btrfs(ProbeContext(node="n")).interpret(recorded(Btrfs, "two-devices-one-failing"))
    return {resource.name: resource.facts for resource in observation.resources}


def test_errors_are_added_up_over_the_devices_and_told_by_device(found: dict[str, Facts]) -> None:
    facts = found["/backup"]

    assert [facts[f"btrfs_{kind}_errors_total"] for kind in ("write", "read", "flush", "corruption")] == [
        8,
        1,
        2,
        3,
    ]
    assert facts["btrfs_errors"] == (
        "device 1: 8 write, 1 read, 2 flush, 3 corruption; device 2: 4 generation"
    )
    assert facts["btrfs_devices_missing"] == 1


def test_room_is_what_is_unallocated_and_what_metadata_has_left(found: dict[str, Facts]) -> None:
    assert found["/backup"]["btrfs_unallocated_bytes"] == 0
    assert found["/backup"]["btrfs_metadata_free_ratio"] == pytest.approx(0.05)
    assert found["/clean"]["btrfs_metadata_free_ratio"] == pytest.approx(0.9)


def test_a_scrub_is_as_old_as_the_first_device_it_began_with(found: dict[str, Facts]) -> None:
    assert (found["/backup"]["scrub_age_seconds"], found["/backup"]["scrub_uncorrectable_errors"]) == (4e6, 3)


def test_an_unfinished_scrub_and_a_kernel_without_stats_say_nothing(found: dict[str, Facts]) -> None:
    """No data is never health: no zeros are made up."""
    assert found["/old"] == {"btrfs_devices_missing": 0}


def test_a_record_that_may_not_be_read_is_named_with_its_cure() -> None:
    raw = recorded(Btrfs, "two-devices-one-failing")
    denied = msgspec.structs.replace(raw.filesystems["/clean"], scrub_status="", scrub_unread="is root's")
    observation = Btrfs(ProbeContext(node="n")).interpret(
        msgspec.structs.replace(raw, filesystems={"/clean": denied})
    )

    assert observation.missing == {"/clean scrub": "is root's"}
    assert "scrub_age_seconds" not in observation.resources[0].facts


def test_a_machine_without_btrfs_has_no_data() -> None:
    raw = msgspec.structs.replace(recorded(Btrfs, "two-devices-one-failing"), filesystems={})

    with pytest.raises(NoData):
        Btrfs(ProbeContext(node="n")).interpret(raw)


def test_how_long_xfs_tries_is_told_in_words() -> None:
    observation = Xfs(ProbeContext(node="n")).interpret(recorded(Xfs, "defaults-and-limits"))

    assert {resource.name: resource.facts for resource in observation.resources} == {
        "/": {
            "xfs_retries_forever": True,
            "xfs_retries": "EIO for ever; ENOSPC for ever; ENODEV not at all; default for ever",
        },
        "/data": {
            "xfs_retries_forever": False,
            "xfs_retries": "EIO 5 times; ENOSPC for 120 s; ENODEV not at all; default for ever",
        },
    }


# Real filesystems of this kernel


@pytest.mark.system
def test_a_failing_disk_leaves_its_errors_on_record_and_z_clears_them(tmp_path: Path) -> None:
    """Written to the disk by the next commit that works; here the counters of the running filesystem are read."""
    program = needs.tool("btrfs", package="btrfs-progs")
    probe = Btrfs(ProbeContext(node="n"))
    with FailingDisk(tmp_path, "btrfs") as disk:
        at = str(disk.mountpoint)
        before = look(probe)[at]
        disk.fail()
        (disk.mountpoint / "file").write_bytes(bytes(1 << 16))
        run("sync", "-f", at, check=False)
        failed = wait_for(lambda: (found := look(probe)[at])["btrfs_write_errors_total"] and found)
        disk.work()
        run(program, "device", "stats", "-z", at)
        cleared = look(probe)[at]

    assert (before["btrfs_write_errors_total"], before["btrfs_errors"]) == (0, "")
    assert isinstance(failed, dict)
    assert str(failed["btrfs_errors"]).startswith("device 1: ")
    assert " write" in str(failed["btrfs_errors"])
    assert (cleared["btrfs_write_errors_total"], cleared["btrfs_errors"]) == (0, "")


@pytest.mark.system
def test_a_scrub_gives_a_btrfs_an_age(tmp_path: Path) -> None:
    program = needs.tool("btrfs", package="btrfs-progs")
    probe = Btrfs(ProbeContext(node="n"))
    with LoopDisk(tmp_path, "btrfs") as disk:
        at = str(disk.mountpoint)
        before = look(probe)[at]
        run(program, "scrub", "start", "-B", at)
        after = look(probe)[at]
        uuid = run("blkid", "-p", "-s", "UUID", "-o", "value", disk.device).strip()
        Path(f"/var/lib/btrfs/scrub.status.{uuid}").unlink()

    assert "scrub_age_seconds" not in before
    assert isinstance(after["scrub_age_seconds"], float)
    assert (after["scrub_age_seconds"] < 3600, after["scrub_uncorrectable_errors"]) == (True, 0)
    assert isinstance(after["btrfs_unallocated_bytes"], int)
    assert after["btrfs_unallocated_bytes"] > 0


@pytest.mark.system
def test_a_limit_an_administrator_sets_ends_the_retries(tmp_path: Path) -> None:
    probe = Xfs(ProbeContext(node="n"))
    with LoopDisk(tmp_path, "xfs") as disk:
        before = look(probe)[str(disk.mountpoint)]
        for error in ("EIO", "ENOSPC"):
            Path(f"/sys/fs/xfs/{disk.name}/error/metadata/{error}/max_retries").write_text("3")
        after = look(probe)[str(disk.mountpoint)]

    assert (before["xfs_retries_forever"], after["xfs_retries_forever"]) == (True, False)
    assert str(after["xfs_retries"]).startswith("EIO 3 times; ENOSPC 3 times")
