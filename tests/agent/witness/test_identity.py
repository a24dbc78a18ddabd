"""What volumes and machines are known by, from trees as sysfs and udev make them."""

from pathlib import Path

import pytest

from holdfast_agent.witness import identity_linux
from holdfast_agent.witness.identity_linux import device_id, filesystem_id, machine
from holdfast_wire import Machine
from tests.rigs.loop_disk import available, make_filesystem, run


def put(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize(
    ("files", "instance_id"),
    [
        ({"board_asset_tag": "i-0abc1234def567890\n", "product_uuid": "EC2A\n"}, "i-0abc1234def567890"),
        ({"board_asset_tag": "Default string\n", "product_uuid": "4C4C4544-0043\n"}, "4c4c4544-0043"),
        ({"board_asset_tag": "7783-7084-3265-9085-8269-3286-77\n"}, ""),
        ({}, ""),
    ],
)
def test_instance_is_known_by_what_tells_one_machine_from_its_copy(
    files: dict[str, str], instance_id: str, tmp_path: Path
) -> None:
    """An asset tag that all machines of a cloud or a maker share is none."""
    put(tmp_path, {f"class/dmi/id/{name}": content for name, content in files.items()})
    put(tmp_path, {"etc/machine-id": "3d12\n"})

    assert machine(tmp_path, tmp_path) == Machine(machine_id="3d12", instance_id=instance_id)


def test_instance_without_firmware_is_known_by_what_cloud_init_wrote_in_this_boot(tmp_path: Path) -> None:
    put(tmp_path, {"run/cloud-init/.instance-id": "06b4\n", "etc/machine-id": "3d12\n"})

    assert machine(tmp_path, tmp_path).instance_id == "06b4"


def test_partition_is_known_by_its_disk_and_its_number(tmp_path: Path) -> None:
    disk = tmp_path / "devices" / "pci0" / "block" / "sda"
    put(disk, {"device/wwid": "naa.5000c500\n", "sda1/partition": "1\n"})
    (tmp_path / "class" / "block").mkdir(parents=True)
    (tmp_path / "class" / "block" / "sda1").symlink_to(disk / "sda1")
    (tmp_path / "class" / "block" / "sda").symlink_to(disk)

    assert (device_id("sda1", tmp_path), device_id("sda", tmp_path)) == (
        "naa.5000c500-part1",
        "naa.5000c500",
    )
    assert device_id("sdz", tmp_path) == ""


def test_filesystem_is_known_by_what_udev_wrote(tmp_path: Path) -> None:
    """Before Linux 6.9 the kernel does not say, and an agent without root cannot read the disk."""
    put(tmp_path, {"b8:1": "E:ID_FS_TYPE=ext4\nE:ID_FS_UUID=69fbf6ae-3fa1\n"})
    (tmp_path / "by-uuid").mkdir()
    (tmp_path / "by-uuid" / "1234-ABCD").symlink_to("../../sdb1")

    assert identity_linux._by_udev(tmp_path, "8:1") == "69fbf6ae-3fa1"
    assert identity_linux._by_link(tmp_path / "by-uuid", "sdb1") == "1234-ABCD"
    assert identity_linux._by_udev(tmp_path, "8:2") == identity_linux._by_link(tmp_path, "sdb2") == ""


@pytest.mark.parametrize("filesystem", ["ext4", "xfs", "btrfs"])
def test_superblock_says_what_blkid_reads(filesystem: str, tmp_path: Path) -> None:
    available(filesystem)
    image = tmp_path / "image"
    make_filesystem(image, filesystem)

    assert (
        identity_linux._by_superblock(image, filesystem)
        == run("blkid", "-p", "-o", "value", "-s", "UUID", str(image)).strip()
    )


def test_filesystem_nobody_knows_is_not_given_a_name(tmp_path: Path) -> None:
    assert filesystem_id(str(tmp_path / "nowhere"), "ext4", "", "0:0") == ""
