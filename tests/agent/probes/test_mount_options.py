"""Mount options that weaken durability: each is named for what it costs, and the harmless ones are not."""

import contextlib
from pathlib import Path

import pytest

from holdfast_agent.probe import ProbeContext
from holdfast_agent.probes.mount_options_linux import MountOptions
from holdfast_wire.message import Value
from tests import needs
from tests.agent.probes.recordings import recorded
from tests.agent.probes.watching import watching
from tests.rigs.loop_disk import LoopDisk, run

Facts = dict[str, Value]


def look(probe: MountOptions) -> dict[str, Facts]:
    return {resource.name: resource.facts for resource in probe.interpret(probe.read()).resources}


def weakened(mountpoint: str) -> Facts:
    found = MountOptions(ProbeContext(node="n")).interpret(recorded(MountOptions, "weakened"))
    return {resource.name: resource.facts for resource in found.resources}[mountpoint]


def test_an_ordinary_mount_is_weakened_by_nothing() -> None:
    facts = weakened("/")

    assert facts == {
        "barriers_disabled": False,
        "write_cache_volatile": True,
        "syncs_ignored": False,
        "errors_behaviour": "remount-ro",
        "data_mode": "ordered",
        "commit_interval_seconds": 5,
        "weakened_by": "",
    }


@pytest.mark.parametrize(
    ("mountpoint", "fact", "words"),
    [
        (
            "/var/lib/db",
            "barriers_disabled",
            "write barriers are off: fsync does not flush the volatile cache",
        ),
        ("/var/lib/db", "write_cache_volatile", "of the device, which has one"),
        ("/backup", "btrfs_degraded", "degraded: it runs without one of its devices"),
        ("/backup", "checksums_disabled", "no checksums over data"),
        ("/mnt/nfs", "network_soft", "soft: a slow server makes writes fail"),
        ("/mnt/cifs", "syncs_ignored", "it ignores fsync"),
        ("/scratch", "syncs_ignored", "it ignores fsync"),
    ],
)
def test_what_an_option_costs_is_said_in_words(mountpoint: str, fact: str, words: str) -> None:
    facts = weakened(mountpoint)

    assert facts[fact] is True
    assert words in str(facts["weakened_by"])


def test_what_ext4_promises_is_what_is_in_force_not_what_was_asked_for() -> None:
    facts = weakened("/var/lib/db")

    assert (facts["errors_behaviour"], facts["data_mode"], facts["commit_interval_seconds"]) == (
        "continue",
        "writeback",
        120,
    )
    assert "a crash loses up to 120 s" in str(facts["weakened_by"])


def test_a_filesystem_without_such_options_states_no_such_facts() -> None:
    """XFS has no barriers to switch off and no commit interval; a share says nothing of a disk's cache."""
    assert weakened("/srv") == {
        "barriers_disabled": False,
        "write_cache_volatile": False,
        "syncs_ignored": False,
        "weakened_by": "",
    }
    assert "write_cache_volatile" not in weakened("/mnt/nfs")


# Real filesystems of this kernel


@pytest.mark.system
def test_an_ext4_without_barriers_is_found_and_cleared_by_a_remount(tmp_path: Path) -> None:
    probe = MountOptions(ProbeContext(node="n"))
    with LoopDisk(tmp_path, "ext4", mount_options="nobarrier,commit=77") as disk:
        before = look(probe)[str(disk.mountpoint)]
        disk.remount("barrier=1,commit=5")
        after = look(probe)[str(disk.mountpoint)]

    assert (before["barriers_disabled"], before["commit_interval_seconds"]) == (True, 77)
    assert "barriers are off" in str(before["weakened_by"])
    assert "write_cache_volatile" in before
    assert (after["barriers_disabled"], after["weakened_by"]) == (False, "")


@pytest.mark.system
def test_a_volatile_overlay_ignores_syncs_and_an_ordinary_one_does_not(tmp_path: Path) -> None:
    needs.root()
    needs.condition("\toverlay\n" in Path("/proc/filesystems").read_text(), "needs a kernel with overlayfs")
    probe, found = MountOptions(ProbeContext(node="n")), []
    with contextlib.ExitStack() as after:
        # An overlay cannot lie on an overlay, and the folder may be on one.
        run("mount", "-t", "tmpfs", "tmpfs", str(tmp_path))
        after.callback(run, "umount", str(tmp_path))
        below = {name: tmp_path / name for name in ("lower", "upper", "work", "merged")}
        for folder in below.values():
            folder.mkdir()
        for more in (",volatile", ""):
            options = f"lowerdir={below['lower']},upperdir={below['upper']},workdir={below['work']}{more}"
            run("mount", "-t", "overlay", "-o", options, "holdfast", str(below["merged"]))
            try:
                found.append(look(probe)[str(below["merged"])]["syncs_ignored"])
            finally:
                run("umount", str(below["merged"]))
            # The mark of a volatile overlay, which forbids to mount it again (overlayfs.rst).
            run("rm", "-rf", f"{below['work']}/work/incompat")

    assert found == [True, False]


@pytest.mark.system
async def test_a_remount_is_looked_at_at_once(tmp_path: Path) -> None:
    with LoopDisk(tmp_path, "ext4") as disk:
        async with watching(MountOptions(ProbeContext(node="n"))) as watched:
            await watched.started()
            disk.remount("nobarrier")
            await watched.refreshed()

    assert watched.refreshes >= 1
