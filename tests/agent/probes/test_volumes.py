"""Volumes: what counts as one, what is said of room, and each way in which a filesystem stops taking writes."""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from holdfast_agent.probe import NoData, Observation, ProbeContext
from holdfast_agent.probes.filesystem_raw import VolumesRaw
from holdfast_agent.probes.volumes_linux import Volumes
from holdfast_wire.message import Value
from tests import needs
from tests.agent.probes.recordings import machines, recorded
from tests.agent.probes.watching import watching
from tests.rigs.failing_disk import FailingDisk, NbdFuse
from tests.rigs.loop_disk import LoopDisk, run
from tests.rigs.systemd_box import SystemdBox
from tests.waiting import wait_for

Facts = dict[str, Value]


def observed(machine: str) -> Observation:
    return Volumes(ProbeContext(node="n", boot_id="b")).interpret(recorded(Volumes, machine))


def volumes(observation: Observation) -> dict[str, Facts]:
    return {resource.name: resource.facts for resource in observation.resources}


def volume(machine: str, mountpoint: str = "/data") -> Facts:
    return volumes(observed(machine))[mountpoint]


# Which mounts are volumes


def test_a_volume_is_what_state_can_live_on() -> None:
    assert list(volumes(observed("azure-ubuntu-22.04"))) == [
        "/",
        "/boot/efi",
        "/home/ana/cloud",
        "/media/cdrom",
        "/mnt/resource",
        "/mnt/share",
        "/mnt/with space",
        "/tmp",
        "/var/lib/postgresql",
    ]


def test_mounts_of_one_filesystem_are_one_volume_with_the_shortest_name() -> None:
    assert list(volumes(observed("fedora-btrfs-zfs"))) == [
        "/",
        "/boot",
        "/mnt/host",
        "/mnt/old",
        "/scratch",
        "/tank",
        "/tank/db",
        "/var/lib/mysql",
    ]


def test_where_two_are_mounted_on_one_place_the_later_counts() -> None:
    assert volume("fedora-btrfs-zfs", "/mnt/old")["fstype"] == "ext4"


def test_a_database_in_memory_is_volatile() -> None:
    found = volumes(observed("fedora-btrfs-zfs"))

    assert {name for name, facts in found.items() if facts["volatile"]} == {"/var/lib/mysql", "/scratch"}


def test_what_another_machine_holds_is_network() -> None:
    found = volumes(observed("azure-ubuntu-22.04")) | volumes(observed("fedora-btrfs-zfs"))

    assert {name for name, facts in found.items() if facts["network"]} == {
        "/home/ana/cloud",
        "/mnt/host",
        "/mnt/share",
    }


def test_a_machine_with_nothing_but_memory_has_no_data() -> None:
    raw = VolumesRaw(
        machine_mounts="",
        own_mounts="1 0 0:2 / /run rw - tmpfs tmpfs rw\n2 1 0:3 / /proc rw - proc proc rw\n",
        fstab="",
        kernel="6.18.0",
        booted_at=0.0,
    )

    with pytest.raises(NoData):
        Volumes(ProbeContext(node="n")).interpret(raw)


# Room


def test_room_is_what_an_ordinary_user_may_still_write() -> None:
    facts = volume("azure-ubuntu-22.04", "/var/lib/postgresql")

    assert (facts["size_bytes"], facts["free_bytes"], facts["free_ratio"]) == (500 << 30, 25 << 30, 0.05)
    assert facts["device"] == "dm-0"


def test_a_filesystem_without_an_inode_limit_has_no_inode_facts() -> None:
    assert "inodes" not in volume("azure-ubuntu-22.04", "/boot/efi")
    assert "inodes" not in volume("fedora-btrfs-zfs", "/")


def test_a_full_cd_is_no_news() -> None:
    facts = volume("azure-ubuntu-22.04", "/media/cdrom")

    assert "free_ratio" not in facts
    assert (facts["writable"], facts["expected_writable"]) == (False, False)


def test_a_share_whose_server_is_dead_is_unreachable() -> None:
    facts = volume("azure-ubuntu-22.04", "/mnt/share")

    assert (facts["reachable"], facts["writable"], facts["unwritable_reason"]) == (
        False,
        False,
        "it does not answer",
    )
    assert "size_bytes" not in facts


def test_a_users_mount_that_root_may_not_see_is_neither_healthy_nor_dead() -> None:
    observation = observed("azure-ubuntu-22.04")
    facts = volumes(observation)["/home/ana/cloud"]

    assert "size_bytes" not in facts
    assert "reachable" not in facts
    assert observation.missing == {"/home/ana/cloud": "its room: Permission denied"}


# Writes


@pytest.mark.parametrize(
    ("machine", "read_only", "dead", "reason"),
    [
        (
            "ext4-emergency-6.18",
            False,
            True,
            "the filesystem found an error and went into emergency read-only; it still says rw",
        ),
        (
            "ext4-emergency-6.1",
            False,
            True,
            "the filesystem gave up; in the kernel's words: EXT4-fs (sdb): Remounting filesystem read-only",
        ),
        ("ext4-shutdown", False, True, "the filesystem has shut down; it still says rw"),
        (
            "xfs-shutdown",
            False,
            True,
            "the filesystem has shut down: its root directory gives an input/output error",
        ),
        ("btrfs-forced-read-only", True, False, "the filesystem is mounted read-only"),
        ("remounted-read-only", True, False, "the filesystem is mounted read-only"),
        ("bind-read-only", True, False, "the mount is read-only, the filesystem is not"),
        ("device-read-only", False, False, "its device sdb is read-only"),
    ],
)
def test_a_filesystem_that_takes_no_writes_says_why(
    machine: str, read_only: bool, dead: bool, reason: str
) -> None:
    facts = volume(machine)

    assert (facts["writable"], facts["expected_writable"]) == (False, True)
    assert (facts["read_only"], facts["dead"], facts["unwritable_reason"]) == (read_only, dead, reason)


def test_a_disk_that_was_pulled_leaves_a_dead_filesystem() -> None:
    facts = volume("fedora-btrfs-zfs", "/mnt/old")

    assert (facts["dead"], facts["unwritable_reason"]) == (True, "its device is gone")


def test_where_only_the_unreadable_log_could_tell_nothing_is_claimed() -> None:
    """No data is never health: this ext4 may be in emergency or mounted anew, and both look the same."""
    observation = observed("ext4-emergency-6.1-blind")
    facts = volumes(observation)["/data"]

    assert "writable" not in facts
    assert "dead" not in facts
    assert "grant CAP_SYSLOG" in observation.missing["/data writable"]


def test_an_error_of_an_earlier_boot_stops_nobody() -> None:
    facts = volume("ext4-old-errors")

    assert (facts["writable"], facts["filesystem_errors_total"]) == (True, 1)


@pytest.mark.parametrize("machine", ["hardened-unit", "hardened-unit-blind"])
def test_a_hardened_unit_does_not_take_its_own_walls_for_the_machines(machine: str) -> None:
    """Under ProtectSystem=strict statvfs and the mounts' own options say ro for every filesystem."""
    found = volumes(observed(machine))

    assert {
        name: facts["writable"] for name, facts in found.items() if name != "/media/cdrom"
    } == dict.fromkeys(found.keys() - {"/media/cdrom"}, True)
    assert {facts["expected_writable"] for name, facts in found.items() if name != "/media/cdrom"} == {True}
    assert "/home" not in found


def test_a_volume_that_was_writable_in_this_boot_is_expected_to_be() -> None:
    """It is not in fstab, so only what was seen before can tell that read-only is not how it was meant."""
    rw = VolumesRaw(
        machine_mounts="7 1 8:16 / /data rw - ext4 /dev/sdb rw\n",
        own_mounts="",
        fstab="",
        kernel="6.18.0",
        booted_at=0.0,
    )
    ro = VolumesRaw(
        machine_mounts="7 1 8:16 / /data ro - ext4 /dev/sdb ro\n",
        own_mounts="",
        fstab="",
        kernel="6.18.0",
        booted_at=0.0,
    )
    context = ProbeContext(node="n", boot_id="one")

    never = volumes(Volumes(context).interpret(ro))["/data"]["expected_writable"]
    Volumes(context).interpret(rw)
    after = volumes(Volumes(context).interpret(ro))["/data"]["expected_writable"]
    next_boot = ProbeContext(node="n", boot_id="two", cursors=context.cursors)
    later = volumes(Volumes(next_boot).interpret(ro))["/data"]["expected_writable"]

    assert (never, after, later) == (False, True, False)


def test_a_filesystem_that_is_dead_at_first_sight_was_meant_to_be_written() -> None:
    """It says rw, so somebody mounted it to be written, though no agent ever saw it work."""
    raw = msgspec.structs.replace(recorded(Volumes, "xfs-shutdown"), fstab="")
    facts = volumes(Volumes(ProbeContext(node="n")).interpret(raw))["/data"]

    assert (facts["dead"], facts["expected_writable"]) == (True, True)


def test_fstab_says_what_is_expected() -> None:
    raw = VolumesRaw(
        machine_mounts="7 1 8:16 / /data ro - ext4 /dev/sdb ro\n8 1 8:17 / /archive ro - ext4 /dev/sdc ro\n",
        own_mounts="",
        fstab="/dev/sdb /data ext4 noatime 0 2\n/dev/sdc /archive/ ext4 ro 0 2\n",
        kernel="6.18.0",
        booted_at=0.0,
    )
    found = volumes(Volumes(ProbeContext(node="n")).interpret(raw))

    assert {name: facts["expected_writable"] for name, facts in found.items()} == {
        "/archive": False,
        "/data": True,
    }


@pytest.mark.parametrize("machine", machines(Volumes))
def test_every_recorded_machine_gives_declared_facts(machine: str) -> None:
    stated = {(r.kind, fact) for r in observed(machine).resources for fact in r.facts}

    assert stated <= set(Volumes.emits)


# Real filesystems of this kernel


class Machine:
    """This machine, looked at by one probe."""

    def __init__(self) -> None:
        self.probe = Volumes(ProbeContext(node="this", boot_id="test"))

    def look(self) -> dict[str, Facts]:
        return volumes(self.probe.interpret(self.probe.read()))

    def at(self, mountpoint: Path) -> Facts:
        return self.look()[str(mountpoint)]


@pytest.mark.system
def test_ext4_in_emergency_is_dead_until_it_is_repaired(tmp_path: Path) -> None:
    machine = Machine()
    with LoopDisk(tmp_path, "ext4", mount_options="errors=remount-ro") as disk:
        before = machine.at(disk.mountpoint)
        disk.trigger_ext4_error()
        dead = machine.at(disk.mountpoint)
        disk.repair()
        after = machine.at(disk.mountpoint)

    assert (before["writable"], before["filesystem_errors_total"]) == (True, 0)
    assert (dead["writable"], dead["dead"], dead["expected_writable"]) == (False, True, True)
    assert dead["filesystem_errors_total"] == 1
    assert "read-only" in str(dead["unwritable_reason"])
    assert (after["writable"], after["dead"], after["filesystem_errors_total"]) == (True, False, 0)


@pytest.mark.system
def test_the_kernel_log_alone_tells_of_an_emergency(tmp_path: Path) -> None:
    """Kernels before 6.15 show no `emergency_ro`; without it this kernel is one of them."""
    machine = Machine()
    with LoopDisk(tmp_path, "ext4", mount_options="errors=remount-ro") as disk:
        disk.trigger_ext4_error()
        raw = machine.probe.read()
        disk.repair()
        repaired = machine.probe.read()

    assert disk.name in raw.given_up
    assert disk.name not in repaired.given_up


@pytest.mark.system
@pytest.mark.parametrize("filesystem", ["xfs", "ext4"])
def test_a_shut_down_filesystem_is_dead_until_it_is_mounted_anew(tmp_path: Path, filesystem: str) -> None:
    machine = Machine()
    with LoopDisk(tmp_path, filesystem) as disk:
        machine.look()
        disk.shut_down()
        dead = machine.at(disk.mountpoint)
        disk.unmount()
        disk.mount()
        after = machine.at(disk.mountpoint)

    assert (dead["writable"], dead["dead"], dead["expected_writable"]) == (False, True, True)
    assert "shut down" in str(dead["unwritable_reason"])
    assert (after["writable"], after["dead"]) == (True, False)


@pytest.mark.system
def test_btrfs_on_a_failing_disk_turns_read_only(tmp_path: Path) -> None:
    machine = Machine()
    with FailingDisk(tmp_path, "btrfs") as disk:
        machine.look()
        disk.fail()
        (disk.mountpoint / "file").write_bytes(bytes(1 << 16))
        run("sync", "-f", str(disk.mountpoint), check=False)
        facts = wait_for(lambda: (found := machine.at(disk.mountpoint)) and not found["writable"] and found)

    assert isinstance(facts, dict)
    assert (facts["writable"], facts["expected_writable"]) == (False, True)


@pytest.mark.system
def test_a_remount_by_hand_is_seen(tmp_path: Path) -> None:
    machine = Machine()
    with LoopDisk(tmp_path, "ext4") as disk:
        before = machine.at(disk.mountpoint)
        disk.remount("ro")
        read_only = machine.at(disk.mountpoint)
        disk.remount("rw")
        after = machine.at(disk.mountpoint)

    assert [facts["read_only"] for facts in (before, read_only, after)] == [False, True, False]
    assert read_only["expected_writable"] is True


@pytest.mark.system
def test_a_full_filesystem_has_no_room_until_some_is_made(tmp_path: Path) -> None:
    machine = Machine()
    with LoopDisk(tmp_path, "ext4") as disk:
        disk.fill()
        facts = machine.at(disk.mountpoint)
        (disk.mountpoint / "filler").unlink()
        cleared = machine.at(disk.mountpoint)

    assert (facts["free_bytes"], facts["free_ratio"], facts["writable"]) == (0, 0.0, True)
    assert cleared["free_bytes"]


@pytest.mark.system
def test_a_filesystem_out_of_inodes_says_so_until_a_file_is_removed(tmp_path: Path) -> None:
    machine = Machine()
    with LoopDisk(tmp_path, "ext4", mkfs=("-N", "64")) as disk:
        disk.use_all_inodes()
        facts = machine.at(disk.mountpoint)
        (disk.mountpoint / "empty-0").unlink()
        cleared = machine.at(disk.mountpoint)

    assert (facts["inodes_free"], facts["inodes_free_ratio"]) == (0, 0.0)
    assert facts["free_bytes"]
    assert cleared["inodes_free"] == 1


@pytest.mark.system
def test_a_mount_that_hangs_delays_nobody_and_is_asked_again_when_it_answers(tmp_path: Path) -> None:
    """A stopped FUSE process hangs whoever asks, as a dead NFS server does."""
    machine = Machine()
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    with NbdFuse(tmp_path, image) as fuse, LoopDisk(tmp_path, "ext4") as disk:
        before = machine.at(fuse.mountpoint)
        os.kill(fuse.fuse_pid, signal.SIGSTOP)
        try:
            first = machine.look()
            children = dict(machine.probe._isolated._waiting)
            second = machine.look()
            same = dict(machine.probe._isolated._waiting) == children
        finally:
            os.kill(fuse.fuse_pid, signal.SIGCONT)
        after = wait_for(lambda: (found := machine.at(fuse.mountpoint)).get("reachable") and found)

    assert before["reachable"] is True
    for look in (first, second):
        assert (look[str(fuse.mountpoint)]["reachable"], look[str(fuse.mountpoint)]["writable"]) == (
            False,
            False,
        )
        assert look[str(disk.mountpoint)]["writable"] is True
    assert same, "a second child was sent after the first"
    assert isinstance(after, dict)
    assert after["writable"] is True


@pytest.mark.system
async def test_the_watch_wakes_for_a_mount_of_which_the_kernel_log_says_nothing(tmp_path: Path) -> None:
    needs.root()
    with contextlib.ExitStack() as after:
        after.callback(run, "umount", str(tmp_path), check=False)
        async with watching(Machine().probe) as watched:
            await watched.started()
            for act in (("mount", "-t", "tmpfs", "tmpfs"), ("mount", "-o", "remount,ro"), ("umount",)):
                seen = watched.refreshes
                run(*act, str(tmp_path))
                await watched.refreshed(more_than=seen)

    assert watched.refreshes >= 3


@pytest.mark.system
async def test_the_watch_wakes_for_a_dying_filesystem(tmp_path: Path) -> None:
    probe = Machine().probe
    async with watching(probe) as watched:
        await watched.started()
        with LoopDisk(tmp_path, "ext4", mount_options="errors=remount-ro") as disk:
            await watched.refreshed()
            seen = watched.refreshes
            disk.trigger_ext4_error()
            await watched.refreshed(more_than=seen)
            seen = watched.refreshes
            disk.repair()
            await watched.refreshed(more_than=seen)

    assert watched.happenings == []


@pytest.mark.system
def test_inside_a_real_hardened_unit_the_machine_still_takes_writes(tmp_path: Path) -> None:
    """ProtectSystem=strict makes the unit's own view of every filesystem read-only, statvfs included."""
    look = (
        "import json, os; from holdfast_agent.probe import ProbeContext;"
        "from holdfast_agent.probes.volumes_linux import Volumes; probe = Volumes(ProbeContext(node='n'));"
        "found = {r.name: r.facts for r in probe.interpret(probe.read()).resources};"
        "print(json.dumps([bool(os.statvfs('/').f_flag & os.ST_RDONLY), found['/']]))"
    )
    with SystemdBox(tmp_path) as box:
        hardened = ("systemd-run", "--quiet", "--pipe", "--wait", "--property=ProtectSystem=strict")
        own_view_read_only, facts = json.loads(box.run(*hardened, sys.executable, "-c", look))

    assert own_view_read_only is True
    assert (facts["read_only"], facts["writable"], facts["unwritable_reason"]) == (False, True, "")
