"""Write caches, device-mapper and bcache: what the kernel shows to everybody."""

from pathlib import Path

import pytest

from holdfast_agent.errors import NoData
from holdfast_agent.probe import Observation, ProbeContext
from holdfast_agent.probes.device_mapper_linux import DeviceMapper, DeviceMapperRaw, chosen, human_bytes
from holdfast_agent.probes.write_cache_linux import WriteCache
from holdfast_wire.message import Value
from tests import needs
from tests.agent.probes.recordings import recorded


def by_name(observation: Observation) -> dict[str, dict[str, Value]]:
    return {resource.name: resource.facts for resource in observation.resources}


def test_a_kernel_told_to_forget_a_cache_contradicts_the_disk() -> None:
    """Somebody wrote `write through` into queue/write_cache; the disk still has its volatile cache."""
    found = by_name(WriteCache(ProbeContext(node="n")).interpret(recorded(WriteCache, "forced")))

    assert found["sdb"] == {"write_cache": "write through", "write_cache_claimed": "write back"}
    assert found["sda"] == {"write_cache": "write back", "write_cache_claimed": "write back"}
    assert found["vda"] == {"write_cache": "write back"}


def test_an_nvme_whose_cache_was_denied_still_has_forced_unit_access() -> None:
    """The kernel's only word on an NVMe's cache that writing to queue/write_cache does not change."""
    found = by_name(WriteCache(ProbeContext(node="n")).interpret(recorded(WriteCache, "nvme")))

    assert found == {
        "nvme0n1": {"write_cache": "write back", "fua": True},
        "nvme1n1": {"write_cache": "write through", "fua": True},
        "nvme2n1": {"write_cache": "write through", "fua": False},
        "vda": {"write_cache": "write back", "fua": False},
    }


def test_words_of_other_kernels_are_read_and_what_is_not_said_is_missing() -> None:
    observation = WriteCache(ProbeContext(node="n")).interpret(recorded(WriteCache, "odd"))

    assert by_name(observation)["sda"]["write_cache_claimed"] == "write back"
    assert observation.missing.keys() == {"sdb.write_cache", "xvda.write_cache"}


def test_a_disk_is_what_has_a_device_behind_it(tmp_path: Path) -> None:
    for name in ("sda/device", "sda/queue", "loop0/queue", "dm-0/queue"):
        (tmp_path / "block" / name).mkdir(parents=True)
    (tmp_path / "block" / "sda" / "queue" / "write_cache").write_text("write back\n")
    (tmp_path / "block" / "sda" / "queue" / "fua").write_text("1\n")

    raw = WriteCache(ProbeContext(node="n", sysfs=tmp_path)).read()

    assert raw.disks == {"sda": {"write_cache": "write back", "fua": "1"}}


def test_this_machines_disks_are_found() -> None:
    needs.condition(any(Path("/sys/block").glob("*/device")), "needs a machine with a disk of its own")
    probe = WriteCache(ProbeContext(node="n"))

    assert by_name(probe.interpret(probe.read()))


def test_a_suspended_volume_is_told_from_the_others() -> None:
    found = by_name(DeviceMapper(ProbeContext(node="n")).interpret(recorded(DeviceMapper, "suspended")))

    assert [facts["dm_name"] for facts in found.values() if facts["dm_suspended"]] == ["data--vg-plain"]


def test_a_dirty_cache_on_a_temporary_disk_is_told() -> None:
    found = by_name(DeviceMapper(ProbeContext(node="n")).interpret(recorded(DeviceMapper, "bcache")))

    assert found["bcache0"] == {
        "cache_state": "dirty",
        "cache_mode": "writeback",
        "cache_dirty_bytes": 1536 * 1024,
        "cache_device": "nvme1n1",
        "cache_temporary": True,
    }
    assert found["bcache1"] == {
        "cache_state": "inconsistent",
        "cache_mode": "writethrough",
        "cache_dirty_bytes": 0,
    }


def test_a_mapped_device_that_does_not_say_is_unknown() -> None:
    raw = DeviceMapperRaw(mapped={"dm-0": {"name": "x"}}, cached={}, media={})
    observation = DeviceMapper(ProbeContext(node="n")).interpret(raw)

    assert observation.missing == {"dm-0.dm_suspended": "the kernel does not say"}


def test_a_machine_without_such_devices_says_so() -> None:
    with pytest.raises(NoData):
        DeviceMapper(ProbeContext(node="n")).interpret(DeviceMapperRaw(mapped={}, cached={}, media={}))


def test_the_caches_of_a_bcache_device_are_found_through_its_set(tmp_path: Path) -> None:
    """As sysfs has it: bcache0/bcache → the backing device's folder, its `cache` → the set, `cache0` → the cache device's."""
    cache = tmp_path / "devices" / "nvme1n1" / "bcache"
    cache_set = tmp_path / "fs" / "bcache" / "uuid"
    backing = tmp_path / "devices" / "sdb" / "bcache"
    for folder in (cache, cache_set, backing, tmp_path / "block" / "bcache0", tmp_path / "class" / "block"):
        folder.mkdir(parents=True)
    (tmp_path / "block" / "bcache0" / "bcache").symlink_to(backing)
    (backing / "cache").symlink_to(cache_set)
    (backing / "state").write_text("dirty\n")
    (cache_set / "cache0").symlink_to(cache)
    (tmp_path / "class" / "block" / "nvme1n1").symlink_to(tmp_path / "devices" / "nvme1n1")
    (tmp_path / "devices" / "nvme1n1" / "device").mkdir()
    (tmp_path / "devices" / "nvme1n1" / "device" / "model").write_text("nvme_card\n")

    raw = DeviceMapper(ProbeContext(node="n", sysfs=tmp_path, rootfs=tmp_path)).read()

    assert [(medium.name, medium.model) for medium in raw.media["bcache0"]] == [("nvme1n1", "nvme_card")]


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("1.5M", 1572864), ("12k", 12288), ("x", None), ("", None)]
)
def test_sizes_are_read_as_bcache_writes_them(text: str, size: int | None) -> None:
    assert human_bytes(text) == size


def test_the_chosen_one_stands_in_brackets() -> None:
    assert (chosen("a [b c] d"), chosen("nothing")) == ("b c", "")
