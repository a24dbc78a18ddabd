"""Expected against actual mounts: every way of naming a filesystem, what is missing, exchanged, or there by hand."""

import os
from pathlib import Path

import msgspec
import pytest

from holdfast_agent.command.glance import Glance
from holdfast_agent.command.glance_check import judge as check
from holdfast_agent.command.glance_table import volume_state
from holdfast_agent.probe import ProbeContext
from holdfast_agent.probes.expected_mounts_linux import ExpectedMounts, ExpectedMountsRaw
from holdfast_agent.probes.mount_table import fstab_mounts, unit_mount
from holdfast_agent.probes.mounted_linux import Mounted
from holdfast_wire import Resource, Section, SectionStatus
from holdfast_wire.message import Value
from tests.agent.probes.recordings import recorded
from tests.agent.probes.watching import watching
from tests.rigs.loop_disk import LoopDisk, run

Facts = dict[str, Value]


def found_in(raw: ExpectedMountsRaw) -> dict[str, Facts]:
    found = ExpectedMounts(ProbeContext(node="n")).interpret(raw)
    return {resource.name: resource.facts for resource in found.resources}


@pytest.fixture
def found() -> dict[str, Facts]:
    return found_in(recorded(ExpectedMounts, "all-forms"))


def test_what_is_wanted_and_not_there_is_missing_and_nothing_else_is(found: dict[str, Facts]) -> None:
    """No swap, no tmpfs, no `noauto`, no unit with a condition; what an automount will mount is there in time."""
    missing = {name for name, facts in found.items() if facts["expected_mounted"] and not facts["mounted"]}

    assert missing == {"/missing", "/var/log", "/missing-bind", "/gone", "/lazy2"}


def test_an_absent_mount_says_who_wants_it_and_where_writes_go_meanwhile(found: dict[str, Facts]) -> None:
    assert found["/missing"]["mount_trouble"] == (
        "fstab wants UUID=55555555-aaaa-4bbb-8ccc-000000000005 here, and nothing is mounted: "
        "what is written here goes to the filesystem of /"
    )
    assert str(found["/gone"]["mount_trouble"]).startswith("gone.mount wants /dev/disk/by-label/gone here")


def test_a_look_by_hand_shows_a_missing_mount_in_capitals(found: dict[str, Facts]) -> None:
    """So that `once` shows it, and `once --check` calls it critical."""
    answer = check(
        Glance(
            sections=[
                Section(
                    probe="expected_mounts",
                    status=SectionStatus.OK,
                    observed_at=0.0,
                    mono=0.0,
                    period_seconds=30.0,
                    duration_seconds=0.0,
                    resources=[Resource(kind="volume", name="/missing", facts=found["/missing"])],
                )
            ],
            happenings=[],
        )
    )

    assert volume_state(found["/missing"]).startswith("NOT MOUNTED fstab wants UUID=55555555")
    assert answer.line.startswith("HOLDFAST CRITICAL: /missing NOT MOUNTED fstab wants")


def test_an_automount_unit_beside_a_mount_unit_is_enough() -> None:
    raw = recorded(ExpectedMounts, "all-forms")
    lazy = raw.mounted.machine_mounts + "77 1 0:70 / /lazy2 rw - autofs systemd-1 rw,direct\n"
    mounted = msgspec.structs.replace(raw.mounted, machine_mounts=lazy)

    assert "/lazy2" not in found_in(msgspec.structs.replace(raw, mounted=mounted, automounts=["lazy2.mount"]))


@pytest.mark.parametrize(
    ("mountpoint", "differs"),
    [
        ("/", False),
        ("/boot/efi", False),
        ("/data", False),
        ("/labelled", False),
        ("/pool", False),
        ("/mnt/nfs", False),
        ("/unit", False),
        ("/wrong", True),
        ("/mnt/moved", True),
    ],
)
def test_another_filesystem_than_the_one_wanted_is_told(
    found: dict[str, Facts], mountpoint: str, differs: bool
) -> None:
    """UUIDs in either case, labels with spaces, any device of a btrfs, exports with a slash behind."""
    facts = found[mountpoint]

    assert (facts["expected_mounted"], facts["source_differs"]) == (True, differs)


def test_an_exchanged_device_is_named_in_words(found: dict[str, Facts]) -> None:
    assert found["/wrong"]["mount_trouble"] == (
        "fstab wants UUID=44444444-aaaa-4bbb-8ccc-000000000004 here, but /dev/sdc1 is mounted"
    )


def test_only_what_somebody_mounted_by_hand_is_gone_after_a_reboot(found: dict[str, Facts]) -> None:
    """Not what was plugged in, not memory, not what a process serves by FUSE, not what fstab lists as `noauto`."""
    assert {name for name, facts in found.items() if facts.get("mount_configured") is False} == {"/by-hand"}
    assert "by hand" in str(found["/by-hand"]["mount_trouble"])
    assert "mount_configured" not in found["/media/usb"] | found["/served"]


def test_a_device_nobody_can_identify_is_neither_right_nor_wrong() -> None:
    raw = recorded(ExpectedMounts, "all-forms")
    facts = found_in(msgspec.structs.replace(raw, identities={}, links={}))["/wrong"]

    assert "source_differs" not in facts


def test_in_a_container_nothing_is_said_of_mounts_by_hand() -> None:
    mounts = (
        "1 0 0:40 / / rw - overlay overlay rw,upperdir=/u,lowerdir=/l,workdir=/w\n"
        "2 1 8:1 / /data rw - ext4 /dev/sda1 rw\n"
    )
    found = found_in(ExpectedMountsRaw(mounted=Mounted(machine_mounts=mounts, own_mounts=mounts), fstab=""))

    assert "mount_configured" not in found["/data"]


@pytest.mark.parametrize(
    ("source", "tag"),
    [
        ("UUID=1-2", ("UUID", "1-2")),
        ('LABEL="a b"', ("LABEL", "a b")),
        ("PARTUUID=f-01", ("PARTUUID", "f-01")),
        ("/dev/disk/by-partlabel/logs", ("PARTLABEL", "logs")),
        ("/dev/vg/data", ("", "/dev/vg/data")),
        ("//nas/share", ("", "//nas/share")),
    ],
)
def test_every_way_to_name_a_filesystem_is_understood(source: str, tag: tuple[str, str]) -> None:
    (entry,) = fstab_mounts(f"{source.replace(' ', chr(92) + '040')} /x ext4 defaults 0 0\n")

    assert entry.tag == tag


@pytest.mark.parametrize("text", ["", "[Mount]\n", "[Mount]\nWhat=/dev/sda\n", "[Unit]\nWhere=/x\n", "\0\n"])
def test_a_unit_that_says_not_where_mounts_nothing(text: str) -> None:
    assert unit_mount("x.mount", text) is None


# Real mounts


@pytest.mark.system
async def test_a_mount_that_fstab_wants_is_missed_at_once_and_found_again(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "dev/disk/by-uuid").mkdir(parents=True)
    probe = ExpectedMounts(ProbeContext(node="n", rootfs=root))
    with LoopDisk(tmp_path, "ext4") as disk:
        uuid = run("blkid", "-p", "-s", "UUID", "-o", "value", disk.device).strip()
        os.symlink(disk.device, root / "dev/disk/by-uuid" / uuid)
        at = str(disk.mountpoint)
        (root / "etc/fstab").write_text(f"UUID={uuid} {at} ext4 defaults,nofail 0 2\n")
        seen = []
        async with watching(probe) as watched:
            await watched.started()
            seen.append(found_in(probe.read())[at])
            for act in (disk.unmount, disk.mount):
                before = watched.refreshes
                act()
                await watched.refreshed(more_than=before)
                seen.append(found_in(probe.read())[at])

    assert [facts["mounted"] for facts in seen] == [True, False, True]
    assert f"fstab wants UUID={uuid} here, and nothing is mounted" in str(seen[1]["mount_trouble"])
    assert (seen[2]["source_differs"], seen[2]["mount_configured"], seen[2]["mount_trouble"]) == (
        False,
        True,
        "",
    )


@pytest.mark.system
def test_a_disk_mounted_by_hand_is_found_and_cleared_by_a_line_in_fstab(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc/systemd/system/multi-user.target.wants").mkdir(parents=True)
    probe = ExpectedMounts(ProbeContext(node="n", rootfs=root))
    with LoopDisk(tmp_path, "ext4") as disk:
        at = str(disk.mountpoint)
        by_hand = found_in(probe.read())[at]
        (root / "etc/systemd/system/x.mount").write_text(f"[Mount]\nWhat={disk.device}\nWhere={at}\n")
        os.symlink("../x.mount", root / "etc/systemd/system/multi-user.target.wants/x.mount")
        by_unit = found_in(probe.read())[at]

    assert by_hand["mount_configured"] is False
    assert (by_unit["mount_configured"], by_unit["expected_mounted"]) == (True, True)
