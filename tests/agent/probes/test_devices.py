"""Devices: on which medium every volume of a machine ends, and the class that makes; and where nothing can be told."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from holdfast_agent.probe import Observation, ProbeContext
from holdfast_agent.probes.devices_linux import Devices
from holdfast_agent.probes.media_facts import MediaSettings
from holdfast_agent.probes.media_raw import DeviceRaw, MediaRaw, PlatformRaw
from holdfast_agent.probes.medium import MEDIA, medium_of
from holdfast_wire.fact import FACTS_OF
from holdfast_wire.message import Value
from tests import needs
from tests.agent.probes.recordings import machines, recorded
from tests.agent.probes.watching import watching
from tests.rigs.loop_disk import LoopDisk, attach, available, detach, run

Facts = Mapping[str, Value]


def observed(machine: str | MediaRaw, settings: MediaSettings | None = None) -> Observation:
    raw = recorded(Devices, machine) if isinstance(machine, str) else machine
    return Devices(ProbeContext(node="n", settings=settings or MediaSettings())).interpret(raw)


def known(observation: Observation, kind: str) -> dict[str, Facts]:
    return {resource.name: resource.facts for resource in observation.resources if resource.kind == kind}


def standings(machine: str) -> dict[str, tuple[Value | None, Value]]:
    found = known(observed(machine), "volume")
    return {
        name: (facts.get("durability_class"), facts["durability_class_reason"])
        for name, facts in found.items()
    }


# Clouds

OS_DISK = "an Azure OS disk, managed or ephemeral: only the metadata service or a declaration can tell"


def test_azures_temporary_disk_is_known_by_its_controller_on_generation_1() -> None:
    assert standings("azure-gen1") == {
        "/": (None, f"sda1: {OS_DISK}"),
        "/data": (2, "sdc1: a managed data disk of Azure"),
        "/mnt/resource": (1, "sdb1: the temporary disk of an Azure VM"),
    }


def test_the_same_controllers_mean_nothing_outside_azure() -> None:
    """Every Hyper-V names its IDE controllers so: an ordinary second disk would be called temporary."""
    assert {level for level, _ in standings("hyper-v-gen1").values()} == {None}


def test_azures_temporary_disk_is_known_by_its_lun_on_generation_2_also_below_lvm() -> None:
    """A volume that somebody extended onto the temporary disk is worth that."""
    assert standings("azure-gen2-lvm-thin") == {
        "/": (None, f"sda1: {OS_DISK}"),
        "/mnt": (1, "sdb1: the temporary disk of an Azure VM"),
        "/srv": (
            1,
            "mixed-srv (lvm) on sdc, sdb2: sdc is a managed data disk of Azure, sdb is the temporary disk of an Azure VM",
        ),
        "/var/lib/postgresql": (
            2,
            (
                "data-pg (lvm) on data-pool-tpool (lvm) on [data-pool_tmeta (lvm) on sdc], "
                "[data-pool_tdata (lvm) on sdc, sdd]: both managed data disks of Azure"
            ),
        ),
    }


def test_local_nvme_of_azure_is_found_below_a_stripe_and_a_zone_redundant_disk_by_the_metadata() -> None:
    assert standings("azure-nvme") == {
        "/": (2, "nvme0n1p1: a managed OS disk of Azure"),
        "/data": (3, "nvme0n2: a managed disk of Azure in three zones"),
        "/mnt/fast": (1, "md0 (raid0) on nvme1n1, nvme2n1: both local NVMe disks of an Azure VM"),
    }


def test_an_ephemeral_os_disk_goes_with_the_host_though_it_looks_like_any_other() -> None:
    found = known(observed("azure-ephemeral-os"), "volume")

    assert standings("azure-ephemeral-os")["/"] == (1, "sda1: an ephemeral OS disk of Azure")
    assert (found["/"]["host_cache"], found["/data"]["host_cache"]) == ("ReadOnly", "ReadWrite")
    assert "host_cache" not in found["/mnt/resource"]


def test_without_an_answer_an_azure_os_disk_has_no_class_and_the_reason_is_told() -> None:
    assert observed("azure-gen1").missing == {
        "what Azure says of its disks": "the instance metadata service does not answer: timed out"
    }


def test_instance_store_is_not_saved_by_a_mirror_and_ebs_is_made_redundant_by_one() -> None:
    assert standings("ec2-nitro") == {
        "/": (2, "nvme0n1p1: an EBS volume"),
        "/data": (3, "md1 (raid1) on nvme1n1, nvme2n1: both EBS volumes"),
        "/fast": (
            1,
            (
                "bcache0 (bcache) on nvme3n1, nvme6n1: nvme3n1 is an EBS volume, nvme6n1 is instance store of EC2; "
                "its cache nvme6n1 writes back"
            ),
        ),
        "/scratch": (
            1,
            "md2 (raid1) on nvme4n1, nvme5n1: both instance store of EC2; both copies go with the host",
        ),
        "/steady": (2, "bcache1 (bcache) on nvme8n1: an EBS volume; its cache nvme7n1 writes through"),
    }


def test_googles_boot_disk_is_no_local_ssd_although_its_name_begins_like_one() -> None:
    assert standings("gcp-local-ssd") == {
        "/": (2, "nvme0n1p1: a persistent disk of Google Cloud"),
        "/mnt/disks/old": (2, "sda: a persistent disk of Google Cloud"),
        "/mnt/disks/scratch": (1, "sdb: a local SSD of Google Cloud"),
        "/mnt/disks/ssd": (1, "md127 (raid0) on nvme1n1, nvme2n1: both local SSDs of Google Cloud"),
    }


GOOGLE = PlatformRaw(vendor="Google", product="Google Compute Engine", hypervisor=True)
AMAZON = PlatformRaw(vendor="Amazon EC2", product="m6id.metal", hypervisor=False)
XEN_AMAZON = PlatformRaw(vendor="Xen", product="HVM domU", version="4.11.amazon", hypervisor=True)
BARE = PlatformRaw(vendor="Dell Inc.", product="PowerEdge R740", hypervisor=False)
QEMU = PlatformRaw(vendor="QEMU", product="Standard PC", hypervisor=True)
ARM = PlatformRaw(vendor="Ampere(R)", product="Mt. Jade")
PCI = "devices/pci0000:00/0000:00:04.0"


@pytest.mark.parametrize(
    ("name", "device", "platform", "word"),
    [
        ("nvme0n1", DeviceRaw(number="", model="nvme_card"), GOOGLE, "gcp_local_ssd"),
        ("nvme0n1", DeviceRaw(number="", model="nvme_card15"), GOOGLE, "gcp_local_ssd"),
        ("nvme0n1", DeviceRaw(number="", model="nvme_card-pd"), GOOGLE, "gcp_persistent_disk"),
        ("nvme0n1", DeviceRaw(number="", model="nvme_card-x"), GOOGLE, "virtual_disk"),
        ("nvme0n1", DeviceRaw(number="", model="nvme_card"), QEMU, "virtual_disk"),
        (
            "nvme1n1",
            DeviceRaw(number="", model="Amazon EC2 NVMe Instance Storage"),
            AMAZON,
            "ec2_instance_store",
        ),
        ("nvme0n1", DeviceRaw(number="", model="Amazon Elastic Block Store 2"), AMAZON, "virtual_disk"),
        ("nvme0n1", DeviceRaw(number="", model="Microsoft NVMe Direct Disk v3"), QEMU, "virtual_disk"),
        ("xvdb", DeviceRaw(number="", path="devices/vbd-51728/block/xvdb"), XEN_AMAZON, "ec2_xen_disk"),
        ("xvdb", DeviceRaw(number="", path="devices/vbd-51728/block/xvdb"), BARE, "virtual_disk"),
        ("sda", DeviceRaw(number="", path=f"{PCI}/ata1/host0/block/sda"), BARE, "local_disk"),
        ("sda", DeviceRaw(number="", path=f"{PCI}/ata1/host0/block/sda"), QEMU, "virtual_disk"),
        ("sda", DeviceRaw(number="", path=f"{PCI}/ata1/host0/block/sda"), ARM, "local_disk"),
        ("sda", DeviceRaw(number="", path=f"{PCI}/ata1/host0/block/sda"), PlatformRaw(), "unknown"),
        ("vda", DeviceRaw(number="", path=f"{PCI}/virtio1/block/vda"), ARM, "virtual_disk"),
        ("sdx", DeviceRaw(number="", path=f"{PCI}/host8/rport-8:0-0/block/sdx"), BARE, "network_disk"),
        ("nvme4n1", DeviceRaw(number="", transport="tcp"), BARE, "network_disk"),
        ("nvme4n1", DeviceRaw(number="", transport="pcie"), BARE, "local_disk"),
        ("rbd0", DeviceRaw(number=""), BARE, "network_disk"),
        ("nbd3", DeviceRaw(number=""), QEMU, "network_disk"),
        ("zram0", DeviceRaw(number=""), BARE, "memory"),
        ("sdb", DeviceRaw(number="", vendor="Linux", model="scsi_debug"), BARE, "memory"),
        ("pmem0", DeviceRaw(number=""), BARE, "persistent_memory"),
        ("sr0", DeviceRaw(number=""), BARE, "optical"),
    ],
)
def test_a_disk_is_what_it_says_word_for_word(
    name: str, device: DeviceRaw, platform: PlatformRaw, word: str
) -> None:
    """Nothing that merely looks like a disk is taken for a durable one."""
    assert medium_of(name, device, platform).word == word


def test_the_vocabulary_lists_every_medium() -> None:
    assert FACTS_OF["device"]["medium"].values == tuple(sorted({medium.word for medium in MEDIA}))


# Machines of one's own


def test_redundancy_needs_two_disks() -> None:
    assert standings("bare-metal-raid") == {
        "/": (
            3,
            "sys-root (lvm) on luks-root (crypt) on md0 (raid1) on sda1, sdb1: both disks of this bare machine",
        ),
        "/archive": (3, "md3 (raid5) on sdf, sdg, sdh: all disks of this bare machine"),
        "/build": (0, "zram0: memory"),
        "/home": (
            2,
            (
                "loop1 (loop) on /vault/images/home.img on md2 (raid1) on sdc: a disk of this bare machine; "
                "1 of its members is missing; one copy is left"
            ),
        ),
        "/oracle": (
            None,
            "mpatha (mpath) on sdx, sdy: dm-2 is a disk on another machine, whose class is that of the storage there",
        ),
        "/same-disk": (
            2,
            "md1 (raid1) on sda2, sda3: a disk of this bare machine; its copies share a disk, so they are no redundancy",
        ),
        "/share": (None, "nfs4 filer:/share; its class is that of the storage there"),
        "/var/lib/mysql": (0, "tmpfs: memory"),
        "/vault": (
            2,
            "md2 (raid1) on sdc: a disk of this bare machine; 1 of its members is missing; one copy is left",
        ),
    }


def test_lvm_shows_its_mirrors_and_caches_in_the_tables() -> None:
    levels = {name: level for name, (level, _) in standings("bare-metal-lvm").items()}

    assert levels == {"/db": 2, "/half": 2, "/logs": 2, "/pg": 3}
    assert str(standings("bare-metal-lvm")["/db"][1]).endswith("its cache nvme0n1 writes through")
    assert str(standings("bare-metal-lvm")["/half"][1]).endswith(
        "1 of its members is missing; one copy is left"
    )


def test_without_root_no_redundancy_of_lvm_is_claimed() -> None:
    observation = observed("bare-metal-lvm-no-root")
    found = standings("bare-metal-lvm-no-root")

    assert found["/pg"][0] == 2
    assert str(found["/pg"][1]).endswith("whether it is a mirror shows only to root (dmsetup table)")
    assert str(found["/db"][1]).endswith("how its cache writes shows only to root (dmsetup table)")
    assert "how device mapper lays out its devices" in observation.missing


def test_a_volume_turns_when_every_disk_below_it_does() -> None:
    """A cache on an SSD in front of it answers as quickly as the SSD does; a disk of another machine says nothing."""
    raid = known(observed("bare-metal-raid"), "volume")
    cached = known(observed("bare-metal-lvm-no-root"), "volume")

    assert (raid["/archive"]["rotational"], "rotational" in raid["/oracle"]) == (True, False)
    assert (cached["/logs"]["rotational"], cached["/db"]["rotational"]) == (True, False)


def test_pools_and_btrfs_are_worth_their_worst_part() -> None:
    """A pool's intent log in memory loses acknowledged writes; metadata without a copy takes raid1 data along."""
    levels = {name: level for name, (level, _) in standings("bare-metal-zfs-btrfs").items()}

    assert levels == {
        "/gone": None,
        "/home": 3,
        "/logged": 0,
        "/mixed": 2,
        "/tank": 3,
        "/tank/db": 3,
        "/thin": 2,
    }
    assert known(observed("bare-metal-zfs-btrfs"), "volume")["/tank"]["leaf_devices"] == "sda, sdb, sdc, sdd"
    assert standings("bare-metal-zfs-btrfs")["/thin"][1] == (
        "zpool thin on raidz1-0 on sdf, sdg: both disks of this bare machine; 1 of raidz1-0's devices is missing; "
        "no redundancy is left"
    )


def test_a_virtual_disk_of_an_unknown_host_has_no_class_and_neither_has_what_lies_on_it() -> None:
    """KVM with cache=unsafe looks the same from inside."""
    levels = {name: level for name, (level, _) in standings("kvm-overlays").items()}

    assert levels == {
        "/": None,
        "/data": 0,
        "/fastlun": 0,
        "/lun": None,
        "/many": None,
        "/odd": None,
        "/s3": None,
        "/srv/a": None,
        "/srv/b": 0,
        "/srv/c": 0,
        "/srv/d": 0,
        "/srv/e": None,
        "/tmp": 0,
        "/usb": None,
    }


def test_a_part_that_goes_with_the_host_takes_the_rest_along() -> None:
    """The same class for a whole stripe of local disks is how somebody meant it."""
    mixed = {
        machine: {
            name
            for name, facts in known(observed(machine), "volume").items()
            if facts.get("partly_host_local")
        }
        for machine in (
            "azure-gen2-lvm-thin",
            "azure-nvme",
            "ec2-nitro",
            "bare-metal-zfs-btrfs",
            "kvm-overlays",
        )
    }

    assert mixed == {
        "azure-gen2-lvm-thin": {"/srv"},
        "azure-nvme": set(),
        "ec2-nitro": {"/fast"},
        "bare-metal-zfs-btrfs": {"/logged"},
        "kvm-overlays": {"/data"},
    }


# What operators declare


def test_a_declared_class_wins_and_says_so() -> None:
    """On the medium's own word the temporary disk is D1; the operator may know better, and both are shown."""
    settings = MediaSettings(classes={"/": "D2", "/mnt/resource": "D2", "/dev/sdc": "D4"})
    found = known(observed("azure-gen1", settings), "volume")

    assert {
        name: (
            facts["durability_class"],
            facts["durability_class_declared"],
            facts.get("durability_class_found"),
            facts["durability_class_overstated"],
        )
        for name, facts in found.items()
    } == {"/": (2, True, None, False), "/mnt/resource": (2, True, 1, True), "/data": (4, True, 2, False)}
    assert found["/"]["durability_class_reason"] == f"sda1: {OS_DISK}; declared D2 in the configuration"


def test_a_declaration_counts_for_everything_that_rests_on_it() -> None:
    settings = MediaSettings(classes={"/dev/mapper/mpatha": "D3", "/vault": "D4"})
    raw = recorded(Devices, "bare-metal-raid")
    found = known(observed(raw, settings), "volume")

    assert (found["/oracle"]["durability_class"], found["/oracle"]["durability_class_declared"]) == (3, True)
    assert (found["/home"]["durability_class"], found["/home"]["durability_class_declared"]) == (4, True)


def test_unidentified_disks_get_the_class_the_operator_gives_them_and_no_others() -> None:
    found = known(observed("kvm-overlays", MediaSettings(unidentified="D2")), "volume")
    given = {name: facts["durability_class"] for name, facts in found.items() if "durability_class" in facts}

    assert {name for name, level in given.items() if level == 2} == {"/", "/many", "/srv/a", "/usb"}
    assert "/lun" not in given
    assert found["/tmp"]["durability_class_declared"] is False


def test_a_declaration_of_what_is_not_there_is_told_with_the_nearest() -> None:
    settings = MediaSettings(classes={"/dta": "D2", "/dev/sdz": "D2", "/nowhere/at/all": "D2"})

    missing = observed("azure-gen1", settings).missing

    assert {name: why for name, why in missing.items() if name.startswith("classes")} == {
        "classes /dta": "there is no such volume; did you mean '/data'?",
        "classes /dev/sdz": "there is no such device; did you mean '/dev/sdc'?",
        "classes /nowhere/at/all": "there is no such volume",
    }


# Devices


def test_a_device_says_what_it_is_and_on_what_it_rests() -> None:
    found = known(observed("ec2-nitro"), "device")
    disk, array, partition = found["nvme1n1"], found["md1"], found["nvme0n1p1"]

    assert (disk["type"], disk["medium"], disk["serial"], disk["transport"]) == (
        "disk",
        "ebs_volume",
        "vol0a1b2c3d4e5f60001",
        "nvme",
    )
    assert (array["type"], array["parents"], array["leaf_devices"]) == (
        "raid1",
        "nvme1n1, nvme2n1",
        "nvme1n1, nvme2n1",
    )
    assert (partition["type"], partition["parents"], partition["leaf_devices"]) == (
        "part",
        "nvme0n1",
        "nvme0n1",
    )
    assert "medium" not in array
    assert "queue_io_timeout_seconds" not in partition


def test_what_holds_no_state_is_no_device() -> None:
    """Empty drives, unused loop devices, images of snaps, the kernel's RAM disks."""
    found = known(observed("bare-metal-raid"), "device")

    assert {"loop0", "loop2", "ram0", "sr0"} & found.keys() == set()
    assert {"loop1", "zram0", "dm-2"} <= found.keys()


@pytest.mark.parametrize("machine", machines(Devices))
def test_no_class_is_stated_that_nobody_knows(machine: str) -> None:
    for facts in known(observed(machine), "volume").values():
        assert facts["durability_class_known"] is ("durability_class" in facts)
        assert facts["durability_class_reason"]


def test_devices_that_rest_on_each_other_have_no_class() -> None:
    """A loop device whose file lies on the filesystem it carries: only a broken recording, and no endless loop."""
    raw = MediaRaw(
        own_mounts="1 0 7:0 / / rw - ext4 /dev/loop0 rw\n",
        devices={
            "loop0": DeviceRaw(number="7:0", loop_file="/image", size_bytes=1),
            "dm-0": DeviceRaw(number="253:0", slaves=["dm-1"], mapper_name="a", size_bytes=1),
            "dm-1": DeviceRaw(number="253:1", slaves=["dm-0"], mapper_name="b", size_bytes=1),
        },
        mapper_tables="a: 0 8 linear 253:1 0\nb: 0 8 raid raid1 9\nc: nonsense\n",
    )
    observation = observed(raw)

    assert "durability_class" not in known(observation, "volume")["/"]
    assert "durability_class" not in known(observation, "device")["dm-0"]


# Real filesystems of this kernel


def looked(classes: dict[str, str] | None = None) -> dict[str, Facts]:
    settings = msgspec.convert({"classes": classes or {}}, MediaSettings)
    probe = Devices(ProbeContext(node="this", boot_id="test", settings=settings))
    return known(probe.interpret(probe.read()), "volume")


@contextlib.contextmanager
def mounted(*arguments: str, at: Path) -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    run("mount", *arguments, str(at))
    try:
        yield at
    finally:
        run("umount", str(at))


@pytest.mark.system
def test_a_loop_device_is_worth_the_filesystem_its_file_lies_on(tmp_path: Path) -> None:
    with (
        LoopDisk(tmp_path, "ext4", size_bytes=512 << 20) as outer,
        LoopDisk(outer.mountpoint, "ext4") as inner,
    ):
        outer_uuid = run("blkid", "-s", "UUID", "-o", "value", outer.device).strip()
        found = looked({str(outer.mountpoint): "D2"})
        facts = found[str(inner.mountpoint)]

    assert (facts["durability_class"], facts["durability_class_declared"]) == (2, True)
    assert str(facts["durability_class_reason"]).startswith(
        f"{inner.name} (loop) on {inner.image} on {outer.name} (loop)"
    )
    assert found[str(outer.mountpoint)]["filesystem_uuid"] == outer_uuid


@pytest.mark.system
@pytest.mark.parametrize("filesystem", ["xfs", "btrfs"])
def test_a_loop_device_whose_file_is_in_memory_is_volatile(tmp_path: Path, filesystem: str) -> None:
    needs.root()
    with (
        mounted("-t", "tmpfs", "tmpfs", at=tmp_path / "memory") as memory,
        LoopDisk(memory, filesystem) as disk,
        mounted("--bind", str(disk.mountpoint), at=tmp_path / "bound"),
    ):
        found = looked()

    assert (found[str(memory)]["durability_class"], found[str(memory)]["media"]) == (0, "memory")
    volume = next(name for name in found if name in (str(disk.mountpoint), str(tmp_path / "bound")))
    assert found[volume]["durability_class"] == 0
    assert "filesystem_uuid" in found[volume]
    assert not {str(disk.mountpoint), str(tmp_path / "bound")} <= found.keys()


@pytest.mark.system
def test_btrfs_raid1_and_its_subvolumes_end_on_both_devices(tmp_path: Path) -> None:
    """Both files lie on one filesystem here, so the two copies are no redundancy."""
    available("btrfs")
    loops = []
    with contextlib.ExitStack() as after:
        memory = after.enter_context(mounted("-t", "tmpfs", "tmpfs", at=tmp_path / "memory"))
        for name in ("one", "two"):
            with (memory / name).open("wb") as image:
                image.truncate(128 << 20)
            loops.append(attach(memory / name))
            after.callback(detach, loops[-1])
        run("mkfs.btrfs", "-q", "-d", "raid1", "-m", "raid1", *loops)
        whole = after.enter_context(mounted(loops[0], at=tmp_path / "whole"))
        run("btrfs", "subvolume", "create", str(whole / "sub"))
        sub = after.enter_context(mounted("-o", "subvol=sub", loops[0], at=tmp_path / "sub"))
        found = looked({f"{memory}": "D2"})

    reason = str(found[str(whole)]["durability_class_reason"])
    assert str(sub) not in found
    assert found[str(whole)]["durability_class"] == 2
    assert reason.startswith("btrfs (raid1) on [loop")
    assert "its copies share a disk" in reason


@pytest.mark.system
def test_an_overlay_is_worth_its_upper_directory_and_nothing_when_it_is_volatile(tmp_path: Path) -> None:
    with contextlib.ExitStack() as after:
        disk = after.enter_context(LoopDisk(tmp_path, "ext4"))
        volumes = []
        for name, more in (("plain", ""), ("volatile", ",volatile")):
            for part in ("lower", "upper", "work"):
                (disk.mountpoint / name / part).mkdir(parents=True)
            folders = [f"{part}dir={disk.mountpoint}/{name}/{part}" for part in ("lower", "upper", "work")]
            options = ",".join(folders) + more
            place = after.enter_context(
                mounted("-t", "overlay", "overlay", "-o", options, at=tmp_path / name)
            )
            volumes.append(str(place))
        found = looked({str(disk.mountpoint): "D2"})

    assert [found[volume]["durability_class"] for volume in volumes] == [2, 0]
    assert "every sync is a no-op" in str(found[volumes[1]]["durability_class_reason"])


@pytest.mark.system
async def test_the_watch_looks_as_soon_as_something_is_mounted(tmp_path: Path) -> None:
    needs.root()
    async with watching(Devices(ProbeContext(node="this"))) as watched:
        await watched.started()
        with mounted("-t", "tmpfs", "tmpfs", at=tmp_path / "memory"):
            await watched.refreshed()

    assert watched.refreshes >= 1
