"""Paths to storage: multipathd's maps, iSCSI sessions, SCSI states; and how multipathd and the kernel are heard."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast_agent.errors import NoData
from holdfast_agent.probe import Observation, ProbeContext
from holdfast_agent.probes.multipathd_linux import show_maps
from holdfast_agent.probes.paths_linux import Paths, PathsRaw, concerns_paths
from holdfast_agent.probes.uevent_linux import parse_uevent
from holdfast_wire.message import Value
from tests.agent.probes.recordings import recorded

LENGTH = struct.Struct("@N")
ABSENT = "\0holdfast-test-nobody-listens-here"


def by_name(observation: Observation) -> dict[str, dict[str, Value]]:
    return {resource.name: resource.facts for resource in observation.resources}


def paths() -> Paths:
    return Paths(ProbeContext(node="n", boot_id="b"))


def test_a_map_with_all_its_paths_says_so() -> None:
    assert by_name(paths().interpret(recorded(Paths, "all")))["dm-1"] == {
        "multipath_name": "mpathb",
        "paths": 2,
        "paths_active": 2,
        "paths_expected": 2,
        "paths_failed": "",
        "queues_without_path": True,
    }


def test_one_path_left_of_two_is_one_and_the_failed_one_is_named() -> None:
    probe = paths()
    probe.interpret(recorded(Paths, "all"))
    left = by_name(probe.interpret(recorded(Paths, "one-left")))

    assert (left["dm-1"]["paths_active"], left["dm-1"]["paths_expected"]) == (1, 2)
    assert left["dm-1"]["paths_failed"] == "sda"
    assert (left["sda"]["scsi_state"], left["sda"]["multipath_member"]) == ("offline", True)


def test_no_path_left_is_none() -> None:
    assert by_name(paths().interpret(recorded(Paths, "none")))["dm-1"]["paths_active"] == 0


@pytest.mark.parametrize(
    ("dm", "checker", "working"),
    [
        ("active", "ready", 1),
        ("active", "ghost", 1),
        ("active", "faulty", 0),
        ("active", "shaky", 0),
        ("failed", "ready", 0),
        ("undef", "undef", 0),
    ],
)
def test_a_path_works_when_kernel_and_checker_say_so(dm: str, checker: str, working: int) -> None:
    """A ghost is the passive controller's path and takes over; what a checker finds faulty the kernel has yet to try."""
    path = f'{{"dev": "sda", "dm_st": "{dm}", "chk_st": "{checker}"}}'
    raw = PathsRaw(maps=f'{{"maps": [{{"sysfs": "dm-1", "path_groups": [{{"paths": [{path}]}}]}}]}}')

    assert by_name(paths().interpret(raw))["dm-1"]["paths_active"] == working


def test_a_path_that_was_removed_is_still_expected() -> None:
    """multipathd forgets a path whose device is gone; the most that the map had in this boot is what it ought to have."""
    probe = paths()
    probe.interpret(recorded(Paths, "all"))
    raw = PathsRaw(
        maps='{"maps": [{"name": "mpathb", "uuid": "35000c50015ea71ac", "sysfs": "dm-1", "path_groups": '
        '[{"paths": [{"dev": "sda", "dm_st": "active", "chk_st": "ready"}]}]}]}'
    )
    restarted = Paths(ProbeContext(node="n", boot_id="b", cursors=probe.context.cursors))
    next_boot = Paths(ProbeContext(node="n", boot_id="c", cursors=probe.context.cursors))

    assert by_name(restarted.interpret(raw))["dm-1"]["paths_expected"] == 2
    assert by_name(next_boot.interpret(raw))["dm-1"]["paths_expected"] == 1


def test_sessions_are_told_of_the_disks_below_them() -> None:
    observation = paths().interpret(recorded(Paths, "iscsi"))
    found = by_name(observation)

    assert found["sdb"] == {
        "scsi_state": "running",
        "multipath_member": False,
        "iscsi_state": "FAILED",
        "iscsi_logged_in": False,
        "iscsi_target": "iqn.2003-01.org.example:store",
        "iscsi_recovery_seconds": 120,
    }
    assert found["sdc"]["iscsi_logged_in"] is True
    assert "iscsi_recovery_seconds" not in found["sdc"]
    assert found["sda"]["scsi_state"] == "offline"


def test_a_map_that_nobody_tests_is_unknown_not_healthy() -> None:
    observation = paths().interpret(recorded(Paths, "iscsi"))

    assert observation.missing == {"dm-4.paths_active": "multipathd does not run, so nobody tests the paths"}


@pytest.mark.parametrize("text", ["timeout\n", "", "[]", '{"maps": 3}'])
def test_an_answer_that_is_none_is_missing(text: str) -> None:
    observation = paths().interpret(PathsRaw(maps=text))

    assert observation.missing.keys() == {"paths_active"}


def test_a_map_of_odd_shape_has_no_path_rather_than_an_error() -> None:
    raw = PathsRaw(maps='{"maps": [7, {"sysfs": "dm-9", "path_groups": [null, {"paths": "x"}]}]}')

    assert by_name(paths().interpret(raw))["dm-9"]["paths_active"] == 0


def test_a_machine_without_such_storage_says_so() -> None:
    with pytest.raises(NoData):
        paths().interpret(PathsRaw())


# multipathd's socket


@contextmanager
def listening(path: Path, reply: bytes) -> Iterator[list[bytes]]:
    """Something that answers each question with `reply`, as it is."""
    asked: list[bytes] = []
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen(1)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                (length,) = LENGTH.unpack(connection.recv(LENGTH.size))
                asked.append(connection.recv(length))
                connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        thread.join()


def framed(text: str) -> bytes:
    return LENGTH.pack(len(text) + 1) + text.encode() + b"\0"


def test_multipathd_is_asked_in_its_own_way(tmp_path: Path) -> None:
    with listening(tmp_path / "run" / "multipathd.socket", framed('{"maps": []}')) as asked:
        answer = show_maps(tmp_path, ABSENT)

    assert (answer, asked) == ('{"maps": []}', [b"show maps json\0"])


def test_a_machine_without_multipathd_has_no_answer(tmp_path: Path) -> None:
    assert show_maps(tmp_path, ABSENT) is None


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (LENGTH.pack(100) + b"half", "hung up in the middle"),
        (LENGTH.pack(2**40), "announces an answer"),
        (b"", "hung up"),
    ],
    ids=["half an answer", "an endless one", "none"],
)
def test_an_answer_that_breaks_off_is_an_error(tmp_path: Path, reply: bytes, said: str) -> None:
    with (
        listening(tmp_path / "run" / "multipathd.socket", reply),
        pytest.raises(OSError, match=said),
    ):
        show_maps(tmp_path, ABSENT)


# The kernel's announcements


def test_an_announcement_is_its_fields() -> None:
    """As the kernel sends it when device-mapper loses a path (drivers/md/dm-uevent.c)."""
    message = (
        b"change@/devices/virtual/block/dm-1\0ACTION=change\0DEVPATH=/devices/virtual/block/dm-1\0"
        b"SUBSYSTEM=block\0DM_TARGET=multipath\0DM_ACTION=PATH_FAILED\0DM_NR_VALID_PATHS=1\0DM_PATH=8:0\0"
    )
    event = parse_uevent(message)

    assert event is not None
    assert (event["DM_ACTION"], event["DM_NR_VALID_PATHS"]) == ("PATH_FAILED", "1")
    assert concerns_paths(event)


@pytest.mark.parametrize("message", [b"libudev\0\xfe\xed\xca\xfe", b"", b"\0\0"])
def test_what_is_not_the_kernels_is_ignored(message: bytes) -> None:
    assert parse_uevent(message) is None


def test_disks_without_paths_come_and_go_without_a_look() -> None:
    assert not concerns_paths({"DEVPATH": "/devices/virtual/block/loop3", "SUBSYSTEM": "block"})
    assert concerns_paths({}), "what was lost may have been about paths"
