"""Reading sysfs: a tree of files as the kernel lays it out for devices this machine does not have."""

from pathlib import Path

from holdfast_agent.probes.block_sysfs_linux import read_btrfs, read_devices, read_platform
from holdfast_agent.probes.media_raw import BtrfsRaw, DeviceRaw, MdRaw, PlatformRaw

GUID = "f8b3781a-1e82-4818-a1c3-63d806ec15bb"
SCSI = f"devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00/MSFT1000:00/{GUID}/host0/target0:0:0/0:0:0:1"


class Tree:
    """/sys and / in a folder."""

    def __init__(self, folder: Path) -> None:
        self.sysfs = folder / "sys"
        self.rootfs = folder
        (self.sysfs / "class" / "block").mkdir(parents=True)

    def write(self, path: str, text: str) -> None:
        file = self.sysfs / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def add(self, path: str, number: str, **attributes: str) -> None:
        """A block device; the attributes' `__` are slashes."""
        for name, text in {"dev": number, "size": "2048", "ro": "0", **attributes}.items():
            self.write(f"{path}/{name.replace('__', '/')}", text)
        (self.sysfs / "class" / "block" / path.rpartition("/")[2]).symlink_to(self.sysfs / path)

    def read(self) -> dict[str, DeviceRaw]:
        return read_devices(self.sysfs, self.rootfs)


def test_a_disk_of_hyper_v_is_read_with_the_controller_it_hangs_on(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.write(f"devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00/MSFT1000:00/{GUID}/device_id", f"{{{GUID}}}")
    tree.write(f"{SCSI}/device_id", "0x0010")  # another kind of id, nearer
    tree.add(f"{SCSI}/block/sdb", "8:16", queue__rotational="1", queue__io_timeout="300000")
    (tree.sysfs / SCSI / "block" / "sdb" / "device").symlink_to(tree.sysfs / SCSI)
    tree.write(f"{SCSI}/vendor", "Msft    ")
    tree.write(f"{SCSI}/model", "Virtual Disk    ")
    (tree.sysfs / SCSI / "vpd_pg80").write_bytes(b"\x00\x80\x00\x0b  60022480ab")
    tree.add(f"{SCSI}/block/sdb/sdb1", "8:17", partition="1", queue__rotational="1")
    udev = tmp_path / "run" / "udev" / "data" / "b8:17"
    udev.parent.mkdir(parents=True)
    udev.write_text("S:disk/azure/resource-part1\nE:ID_FS_UUID=0f8d1c3e-51a5\nE:ID_FS_TYPE=ext4\nG:systemd\n")

    assert tree.read() == {
        "sdb": DeviceRaw(
            number="8:16",
            path=f"{SCSI}/block/sdb",
            size_bytes=1 << 20,
            rotational=True,
            io_timeout_ms=300000,
            vendor="Msft",
            model="Virtual Disk",
            serial="60022480ab",
            vmbus_id=f"{{{GUID}}}",
        ),
        "sdb1": DeviceRaw(
            number="8:17",
            path=f"{SCSI}/block/sdb/sdb1",
            whole="sdb",
            size_bytes=1 << 20,
            filesystem_uuid="0f8d1c3e-51a5",
        ),
    }


def test_an_nvme_disk_with_several_paths_is_read_through_its_subsystem(tmp_path: Path) -> None:
    """There the transport is the controllers', and each path is a hidden device of its own."""
    tree = Tree(tmp_path)
    subsystem = "devices/virtual/nvme-subsystem/nvme-subsys0"
    tree.add(f"{subsystem}/nvme0n1", "259:0", nsid="2", queue__rotational="0")
    (tree.sysfs / subsystem / "nvme0n1" / "device").symlink_to(tree.sysfs / subsystem)
    tree.write(f"{subsystem}/model", "MSFT NVMe Accelerator v1.0              ")
    tree.write(f"{subsystem}/serial", "SN: 000001")
    tree.write("devices/pci0/nvme/nvme0/transport", "pcie")
    (tree.sysfs / subsystem / "nvme0").symlink_to(tree.sysfs / "devices/pci0/nvme/nvme0")
    tree.add("devices/pci0/nvme/nvme0/nvme0c0n1", "259:1", hidden="1")
    found = tree.read()

    assert found["nvme0n1"] == DeviceRaw(
        number="259:0",
        path=f"{subsystem}/nvme0n1",
        size_bytes=1 << 20,
        rotational=False,
        model="MSFT NVMe Accelerator v1.0",
        serial="SN: 000001",
        transport="pcie",
        namespace_id=2,
    )
    assert found["nvme0c0n1"].hidden is True


def test_what_rests_on_others_is_read_with_how(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    virtual = "devices/virtual/block"
    tree.add("devices/pci0/ata1/block/sda", "8:0", bcache__cache_replacement_policy="[lru] fifo random")
    tree.add(f"{virtual}/dm-0", "253:0", dm__name="vg-data", dm__uuid="LVM-abc")
    tree.add(f"{virtual}/md0", "9:0", md__level="raid10", md__layout="258", md__degraded="1")
    tree.write(f"{virtual}/md0/md/dev-sda/state", "in_sync,write_mostly")
    tree.add(f"{virtual}/bcache0", "252:0", bcache__cache_mode="writethrough [writeback] none")
    tree.add(f"{virtual}/loop0", "7:0", loop__backing_file="/srv/image")
    tree.add(f"{virtual}/loop1", "7:1", size="0", queue__rotational="1")
    for name in ("dm-0", "md0", "bcache0"):
        (tree.sysfs / virtual / name / "slaves").mkdir()
        (tree.sysfs / virtual / name / "slaves" / "sda").symlink_to(
            tree.sysfs / "devices/pci0/ata1/block/sda"
        )
    found = tree.read()

    assert found["sda"].bcache_cache is True
    assert (found["dm-0"].mapper_name, found["dm-0"].mapper_uuid) == ("vg-data", "LVM-abc")
    assert found["md0"].md == MdRaw(
        level="raid10", layout=258, degraded=1, members={"sda": "in_sync,write_mostly"}
    )
    assert found["bcache0"].bcache_mode == "writethrough [writeback] none"
    assert [found[name].slaves for name in ("dm-0", "md0", "bcache0")] == [["sda"]] * 3
    assert (found["loop0"].loop_file, found["loop1"]) == ("/srv/image", DeviceRaw(number="7:1"))


def test_a_btrfs_is_read_with_its_profiles_and_what_it_misses(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    uuid = "6a1f8f4e-7d0e-4c0b-9f0e-2f4b1d1c0a01"
    for path in (
        "devices/sdb/size",
        "allocation/data/raid1/total_bytes",
        "allocation/metadata/single/total_bytes",
    ):
        tree.write(f"fs/btrfs/{uuid}/{path}", "1")
    tree.write(f"fs/btrfs/{uuid}/allocation/data/flags", "1")
    tree.write(f"fs/btrfs/{uuid}/devinfo/1/missing", "0")
    tree.write(f"fs/btrfs/{uuid}/devinfo/2/missing", "1")
    tree.write("fs/btrfs/features/raid56", "0")

    assert read_btrfs(tree.sysfs) == {
        uuid: BtrfsRaw(devices=["sdb"], profiles=["raid1", "single"], missing=1)
    }


def test_a_machine_says_whether_it_is_one(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    procfs = tmp_path / "proc"
    nothing = read_platform(tree.sysfs, procfs)
    tree.write("class/dmi/id/sys_vendor", "Dell Inc.")
    tree.write("class/dmi/id/product_name", "PowerEdge R740")
    procfs.mkdir()
    (procfs / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu vme\n")
    bare = read_platform(tree.sysfs, procfs)
    (procfs / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu vme hypervisor\n")
    virtual = read_platform(tree.sysfs, procfs)

    assert nothing == PlatformRaw()
    assert bare == PlatformRaw(vendor="Dell Inc.", product="PowerEdge R740", hypervisor=False)
    assert virtual.hypervisor is True
