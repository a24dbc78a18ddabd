"""Mounts and fstab, as the kernel and administrators write them."""

from holdfast_agent.probes.mountinfo import FstabEntry, Mount, parse_fstab, parse_mountinfo
from holdfast_agent.probes.volume_choice import choose_volumes


def test_a_line_with_optional_fields_and_escapes_is_read_whole() -> None:
    line = r"36 35 98:0 /mnt1 /mnt/with\040space rw,noatime master:1 shared:2 - ext3 /dev/root\134x rw,errors=continue"

    assert parse_mountinfo(line) == (
        Mount(
            mount_id=36,
            number="98:0",
            root="/mnt1",
            mountpoint="/mnt/with space",
            options=("rw", "noatime"),
            fstype="ext3",
            source="/dev/root\\x",
            super_options=("rw", "errors=continue"),
        ),
    )


def test_a_mountpoint_may_hold_the_separator() -> None:
    (mount,) = parse_mountinfo("36 35 98:0 / /mnt/a-b rw - ext4 /dev/sda rw")

    assert mount.mountpoint == "/mnt/a-b"


def test_a_line_of_another_form_is_passed_over() -> None:
    assert parse_mountinfo("\nnonsense\n36 35 980 / /x rw - ext4 /dev/sda rw\n36 35 8:0 / /x rw ext4\n") == ()


def test_fstab_gives_what_is_mounted_somewhere() -> None:
    text = (
        "# comment\nUUID=1 / ext4 errors=remount-ro 0 1\nUUID=2 none swap sw 0 0\n"
        "/dev/sdb /srv/with\\040space/ xfs ro,noatime\nincomplete /x\n"
    )

    assert parse_fstab(text) == {
        "/": FstabEntry(mountpoint="/", fstype="ext4", options=("errors=remount-ro",)),
        "/srv/with space": FstabEntry(mountpoint="/srv/with space", fstype="xfs", options=("ro", "noatime")),
    }


def chosen(text: str) -> list[str]:
    mounts = parse_mountinfo(text)
    return [volume.mount.mountpoint for volume in choose_volumes(mounts, mounts)]


def test_a_containers_root_is_no_volume_but_a_live_systems_is() -> None:
    docker = (
        "1 0 0:50 / /var/lib/docker/overlay2/3f/merged rw - overlay overlay rw,upperdir=/var/lib/docker/u\n"
    )
    live = "2 0 0:51 / / rw - overlay overlay rw,lowerdir=/ro,upperdir=/cow/upper,workdir=/cow/work\n"

    assert chosen(docker + live) == ["/"]


def test_a_live_system_whose_writes_go_to_memory_is_volatile() -> None:
    mounts = parse_mountinfo(
        "1 0 0:40 / /cow rw - tmpfs tmpfs rw\n"
        "2 0 0:51 / / rw - overlay overlay rw,lowerdir=/ro,upperdir=/cow/upper,workdir=/cow/work\n"
    )

    assert {v.mount.mountpoint: v.volatile for v in choose_volumes(mounts, mounts)} == {
        "/": True,
        "/cow": True,
    }


def test_a_trigger_of_autofs_is_not_looked_at() -> None:
    assert chosen("1 0 0:40 / /net rw - autofs /etc/auto.net rw,fd=6\n") == []


def test_fuse_and_network_filesystems_are_asked_by_a_child() -> None:
    mounts = parse_mountinfo(
        "1 0 0:40 / /a rw - nfs4 server:/x rw\n"
        "2 0 0:41 / /b rw - fuse.unknown thing rw\n"
        "3 0 8:1 / /c rw - fuseblk /dev/sda1 rw\n"
        "4 0 8:2 / /d rw - ext4 /dev/sda2 rw\n"
    )

    isolated = {v.mount.mountpoint: v.isolated for v in choose_volumes(mounts, mounts)}
    assert isolated == {"/a": True, "/b": True, "/c": True, "/d": False}
