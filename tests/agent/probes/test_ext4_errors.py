"""What ext4 records of its errors, and how soon: by sysfs without any right, by fanotify with CAP_SYS_ADMIN."""

import os
import struct
from pathlib import Path

import msgspec
import pytest

from holdfast_agent.probe import NoData, ProbeContext
from holdfast_agent.probes.ext4_errors_linux import Ext4Errors
from holdfast_agent.probes.fanotify_linux import FilesystemError, fsid_of, parse_events
from holdfast_agent.probes.filesystem_events_linux import FilesystemEvents
from holdfast_wire.message import Value
from tests.agent.probes.recordings import recorded
from tests.agent.probes.watching import watching
from tests.rigs.loop_disk import LoopDisk
from tests.rigs.unprivileged import as_nobody

Facts = dict[str, Value]


def facts_of(probe: Ext4Errors) -> dict[str, Facts]:
    return {r.name: r.facts for r in probe.interpret(recorded(Ext4Errors, "two-errors")).resources}


def test_the_record_is_told_in_words() -> None:
    found = facts_of(Ext4Errors(ProbeContext(node="n")))

    assert found == {
        "/": {
            "filesystem_first_error": "",
            "filesystem_last_error": "",
            "filesystem_warnings_total": 1,
            "delayed_allocation_bytes": 0,
        },
        "/data": {
            "filesystem_first_error": "EFSCORRUPTED in htree_dirblock_to_tree:1080, inode 2097154, "
            "block 8396832, at 2025-11-24 16:00:00 UTC",
            "filesystem_last_error": "EIO in __ext4_get_inode_loc_noinmem:4420, inode 12, "
            "at 2025-11-24 16:06:00 UTC",
            "filesystem_warnings_total": 3,
            "delayed_allocation_bytes": 32 << 20,
        },
    }


def test_a_machine_without_ext4_has_no_record() -> None:
    raw = msgspec.structs.replace(recorded(Ext4Errors, "two-errors"), records={})

    with pytest.raises(NoData):
        Ext4Errors(ProbeContext(node="n")).interpret(raw)


def test_what_waits_is_unknown_where_the_size_of_a_block_is() -> None:
    """Not 0: that would say that nothing waits."""
    raw = msgspec.structs.replace(recorded(Ext4Errors, "two-errors"), block_bytes={})

    found = {r.name: r.facts for r in Ext4Errors(ProbeContext(node="n")).interpret(raw).resources}
    assert "delayed_allocation_bytes" not in found["/data"]
    assert found["/"]["delayed_allocation_bytes"] == 0


@pytest.mark.system
def test_what_a_real_ext4_has_not_placed_yet_is_told_until_it_is_synchronised(tmp_path: Path) -> None:
    probe = Ext4Errors(ProbeContext(node="n"))

    def waiting(at: Path) -> Value | None:
        found = {r.name: r.facts for r in probe.interpret(probe.read()).resources}
        return found[str(at)].get("delayed_allocation_bytes")

    with LoopDisk(tmp_path, "ext4", size_bytes=256 << 20) as disk:
        with (disk.mountpoint / "file").open("wb", buffering=0) as file:
            file.write(bytes(40 << 20))
            before = waiting(disk.mountpoint)
            os.fsync(file.fileno())
        after = waiting(disk.mountpoint)

    assert (before, after) == (32 << 20, 0)


def event(mask: int, records: bytes) -> bytes:
    return struct.pack("=IBBHQii", 24 + len(records), 3, 0, 24, mask, -1, 0) + records


ERROR = struct.pack("=BBHiI", 5, 0, 12, 117, 3)
FID = struct.pack("=BBHii", 1, 0, 12, -2, 1)


def test_error_events_are_read_and_others_passed_over() -> None:
    raw = event(0x8000, FID + ERROR) + event(0x4000, b"") + event(0x8000, ERROR)

    assert list(parse_events(raw)) == [
        FilesystemError(fsid_of(-2, 1), 117, 3),
        FilesystemError(0, 117, 3),
    ]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 24,
        event(0x8000, ERROR)[:-1],
        struct.pack("=IBBHQii", 7, 3, 0, 24, 0x8000, -1, 0),
    ],
)
def test_a_cut_event_is_no_event(raw: bytes) -> None:
    assert list(parse_events(raw)) == []


def test_a_record_whose_length_is_nonsense_ends_the_event() -> None:
    assert list(parse_events(event(0x8000, struct.pack("=BBH", 5, 0, 0)))) == [FilesystemError(0, 0, 0)]


# Real filesystems of this kernel


@pytest.mark.system
async def test_an_error_of_ext4_is_reported_the_moment_it_is_recorded(tmp_path: Path) -> None:
    """Of a filesystem mounted after the watch began; it can be unmounted and checked all the same."""
    probe = Ext4Errors(ProbeContext(node="n"))
    async with watching(probe) as watched:
        await watched.started()
        with LoopDisk(tmp_path, "ext4", mount_options="errors=continue") as disk:
            at = str(disk.mountpoint)
            before = {r.name: r.facts for r in probe.interpret(probe.read()).resources}[at]
            await watched.refreshed()
            disk.trigger_ext4_error()
            told = await watched.seen(at, "filesystem_damage")
            after = {r.name: r.facts for r in probe.interpret(probe.read()).resources}[at]
            disk.repair()
            repaired = {r.name: r.facts for r in probe.interpret(probe.read()).resources}[at]

    assert len(watched.of(at)) == 1
    assert before["filesystem_last_error"] == ""
    assert f"ext4 on {disk.name} recorded an error: " in told.summary
    assert "trigger_test_error" in told.summary
    assert told.summary.endswith("; 1 in all")
    assert "trigger_test_error" in str(after["filesystem_first_error"])
    assert repaired["filesystem_first_error"] == ""


@pytest.mark.system
async def test_fanotify_reports_an_error_of_ext4(tmp_path: Path) -> None:
    probe = FilesystemEvents(ProbeContext(node="n"))
    with LoopDisk(tmp_path, "ext4") as disk:
        async with watching(probe) as watched:
            await watched.started()
            disk.trigger_ext4_error()
            told = await watched.seen(str(disk.mountpoint), "filesystem_error_event")
            disk.repair()

    assert told.summary.startswith(f"the filesystem on {disk.mountpoint} met an error: ")
    assert told.fields["errno"] != 0


@pytest.mark.system
def test_without_the_right_fanotify_names_it_and_sysfs_needs_none() -> None:
    said = as_nobody(
        """
        from holdfast_agent.probe import Denied, ProbeContext
        from holdfast_agent.probes.ext4_errors_linux import Ext4Errors
        from holdfast_agent.probes.filesystem_events_linux import FilesystemEvents
        try:
            FilesystemEvents(ProbeContext(node="n")).check()
        except Denied as denied:
            print(denied.reason)
        Ext4Errors(ProbeContext(node="n")).check()
        print("sysfs may be read")
        """
    )

    assert "CAP_SYS_ADMIN" in said
    assert said.endswith("sysfs may be read\n")
