"""What waits in memory, standstills, and the announcement that the machine is a copy."""

import os
import socket
from pathlib import Path
from uuid import uuid4

import pytest

from holdfast_agent.errors import ProbeStop
from holdfast_agent.probe import ProbeContext
from holdfast_agent.probes.block_media_linux import Medium
from holdfast_agent.probes.standstill import Standstill, Ticked, standstill, steal_seconds
from holdfast_agent.probes.standstill_linux import Standstills
from holdfast_agent.probes.uevent_linux import Uevent, parse_uevent, take, uevents
from holdfast_agent.probes.vm_generation_linux import VmGeneration, forked
from holdfast_agent.probes.writeback_linux import Writeback, swap_facts, swap_media_facts
from holdfast_wire.message import Value
from tests import needs
from tests.agent.probes.recordings import recorded
from tests.agent.probes.watching import watching

# Memory


def seen(machine: str) -> tuple[dict[str, Value], set[str]]:
    observation = Writeback(ProbeContext(node="n")).interpret(recorded(Writeback, machine))
    return observation.resources[0].facts, set(observation.missing)


def test_exposure_is_the_age_limit_and_the_pause_of_the_flusher() -> None:
    """Linux's defaults: 30 s, looked at every 5 s."""
    facts, missing = seen("firecracker-6.18")

    assert (facts["dirty_expire_seconds"], facts["swap_bytes"]) == (35.0, 0)
    assert "swap_free_ratio" not in facts
    assert missing == set()


def test_all_swap_areas_are_one() -> None:
    facts, _ = seen("swap")

    assert facts == {
        "written_back_bytes_total": 4_096_000,
        "dirty_expire_seconds": 605.0,
        "swap_bytes": 2 * 1048572 * 1024,
        "swap_free_ratio": 0.0232,
        "swap_devices": "sda, sdb",
    }


@pytest.mark.parametrize(
    ("media", "facts"),
    [
        ({}, {}),
        ({"/swap": []}, {}),
        ({"/dev/zram0": [Medium("zram0")]}, {"swap_devices": "zram0", "swap_temporary": True}),
        (
            {"/dev/zram0": [Medium("zram0")], "/dev/sdb1": [Medium("sdb", "Virtual Disk", True)]},
            {"swap_devices": "sdb, zram0", "swap_temporary": True},
        ),
        (
            {"/dev/zram0": [Medium("zram0")], "/s": [Medium("nvme0n1", "Amazon Elastic Block Store")]},
            {"swap_devices": "nvme0n1, zram0", "swap_temporary": False},
        ),
        ({"/s": [Medium("sda", "QEMU HARDDISK")]}, {"swap_devices": "sda"}),
        ({"/dev/zram0": [Medium("zram0")], "/swap": []}, {"swap_devices": "zram0"}),
    ],
    ids=[
        "none",
        "on btrfs",
        "memory",
        "and Azure's temporary disk",
        "and a lasting one",
        "unknown",
        "half known",
    ],
)
def test_swap_is_temporary_when_all_it_lies_on_is(
    media: dict[str, list[Medium]], facts: dict[str, Value]
) -> None:
    """Swap on a temporary disk is as it should be; a disk of which nothing is known is not called lasting."""
    assert swap_media_facts(media) == facts


def test_a_swap_file_lies_on_the_disk_of_its_filesystem_and_a_partition_on_its_own(tmp_path: Path) -> None:
    """As sysfs has it: `dev/block` by number, a partition's folder in its disk's."""
    (tmp_path / "swap file").touch()
    number = (tmp_path / "swap file").stat().st_dev
    sysfs = tmp_path / "sys"
    for disk, part in (("sda", "sda1"), ("sdb", "sdb1")):
        partition = sysfs / "devices" / disk / part
        partition.mkdir(parents=True)
        (partition / "partition").touch()
        (sysfs / "class/block").mkdir(parents=True, exist_ok=True)
        (sysfs / "class/block" / part).symlink_to(partition)
    (sysfs / "dev/block").mkdir(parents=True)
    (sysfs / f"dev/block/{os.major(number)}:{os.minor(number)}").symlink_to(sysfs / "devices/sda/sda1")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/sdb1").touch()
    procfs = tmp_path / "proc"
    procfs.mkdir()
    (procfs / "vmstat").write_text("nr_written 1\n")
    (procfs / "swaps").write_text(
        "Filename Type Size Used Priority\n/swap\\040file file 8 0 -2\n/dev/sdb1 partition 8 0 -3\n"
    )

    raw = Writeback(ProbeContext(node="n", rootfs=tmp_path, sysfs=sysfs, procfs=procfs)).read()

    assert raw.swap_media == {"/swap\\040file": [Medium("sda")], "/dev/sdb1": [Medium("sdb")]}


def test_a_flusher_that_is_switched_off_has_no_limit_which_is_not_a_small_one() -> None:
    assert seen("switched-off") == ({"swap_bytes": 0}, {"written_back_bytes_total", "dirty_expire_seconds"})


@pytest.mark.parametrize("text", ["", "Filename\n", "header\nnonsense\n/dev/x partition big small 1\n"])
def test_odd_swaps_are_none(text: str) -> None:
    assert swap_facts(text) == {"swap_bytes": 0}


# Standstills


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (Ticked(105.0, 205.0), None),
        (Ticked(109.9, 209.9), None),
        (Ticked(165.0, 265.0), Standstill(60.0, 0.0, 0.0)),
        (Ticked(105.0, 3805.0), Standstill(3600.0, 3600.0, 0.0)),
        (Ticked(120.0, 220.0, steal=14.0), Standstill(15.0, 0.0, 14.0)),
    ],
    ids=["in time", "on a busy machine", "paused", "asleep", "starved"],
)
def test_what_a_tick_misses_is_a_standstill(now: Ticked, found: Standstill | None) -> None:
    assert standstill(Ticked(100.0, 200.0), now) == found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("cpu  1 2 3 4 5 6 7 800 9 10\ncpu0 1\n", 8.0),
        ("cpu 1 2 3\n", 0.0),
        ("", 0.0),
        ("intr 1 2 3 4 5 6 7 8 9", 0.0),
    ],
)
def test_steal_is_read_where_there_is_one(text: str, seconds: float) -> None:
    assert steal_seconds(text, 100) == seconds


async def test_a_standstill_is_told_once_with_what_it_was() -> None:
    clocks = iter([Ticked(100.0, 100.0), Ticked(105.0, 334.0)])
    probe = Standstills(ProbeContext(node="vm-1", boot_id="b"), lambda: next(clocks))

    told = [probe.tick(), probe.tick()]
    facts = probe.interpret(probe.read()).resources[0].facts

    assert told[0] is None
    assert told[1] is not None
    assert (told[1].type, told[1].summary) == ("freeze", "the machine slept for 229.0 s")
    assert facts == {"freezes_total": 1, "freeze_seconds": 229.0}


async def test_the_watch_tells_a_standstill_and_asks_for_a_look() -> None:
    clocks = iter([Ticked(100.0, 100.0), Ticked(100.1, 100.1), Ticked(161.0, 161.0)])
    probe = Standstills(
        ProbeContext(node="vm-1"), lambda: next(clocks, Ticked(161.0, 161.0)), tick_seconds=0.0
    )
    async with watching(probe) as watched:
        await watched.refreshed()

    assert [event.summary for event in watched.happenings] == [
        "the machine, or the agent alone, stood still for 60.9 s"
    ]


def test_this_machines_clocks_tick() -> None:
    probe = Standstills(ProbeContext(node="vm-1"))

    assert [probe.tick(), probe.tick()] == [None, None]


# Copies


def test_the_kernels_announcement_of_a_copy_is_known() -> None:
    """As drivers/virt/vmgenid.c sends it: a change of the device, with NEW_VMGENID=1."""
    event = parse_uevent(
        b"change@/devices/LNXSYSTM:00/QEMUVGID:00\0ACTION=change\0DEVPATH=/devices/LNXSYSTM:00/QEMUVGID:00\0"
        b"SUBSYSTEM=acpi\0NEW_VMGENID=1\0SEQNUM=1234\0"
    )

    assert event is not None
    assert forked(event)
    assert not forked({"ACTION": "change", "SUBSYSTEM": "block"})
    assert not forked({}), "what was lost is no proof of a copy"


def test_the_kernel_is_heard_and_an_ordinary_announcement_is_no_copy() -> None:
    """A real announcement, of /dev/null, as the kernel makes it on request."""
    needs.root()
    try:
        VmGeneration(ProbeContext(node="vm-1")).check()
    except ProbeStop as stop:
        needs.condition(False, stop.reason)
    heard: list[Uevent] = []
    with uevents() as listener:
        Path("/sys/class/mem/null/uevent").write_text(f"change {uuid4()}", encoding="ascii")
        take(listener, heard.append)

    announced = [event for event in heard if event.get("DEVPATH", "").endswith("/mem/null")]
    assert [event["ACTION"] for event in announced] == ["change"]
    assert not any(map(forked, announced))


def test_only_the_kernel_is_believed() -> None:
    """Another process may send to our socket; it does not come from port 0."""
    needs.root()
    heard: list[Uevent] = []
    with uevents() as listener, socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15) as liar:
        liar.bind((0, 0))
        liar.sendto(b"change@/x\0ACTION=change\0NEW_VMGENID=1\0", (listener.getsockname()[0], 0))
        take(listener, heard.append)

    assert not any(map(forked, heard))
