"""Files behind loop devices: cut, deleted, or on a filesystem without room; none of which the kernel log tells in time."""

import os
import subprocess
from pathlib import Path

import pytest

from holdfast_agent.probe import NoData, ProbeContext
from holdfast_agent.probes.loop_backing_linux import LoopBacking
from holdfast_wire.message import Value
from tests import needs
from tests.agent.probes.recordings import recorded
from tests.rigs.loop_disk import LoopDisk, run

Facts = dict[str, Value]


def look(probe: LoopBacking, device: str) -> Facts:
    return {r.name: r.facts for r in probe.interpret(probe.read()).resources}[device]


def test_what_is_wrong_with_a_backing_file_shows_in_sizes() -> None:
    observation = LoopBacking(ProbeContext(node="n")).interpret(
        recorded(LoopBacking, "cut-deleted-and-hidden")
    )
    found = {resource.name: resource.facts for resource in observation.resources}

    assert found["loop0"] == {
        "backing_file": "/var/lib/images/whole.img",
        "backing_deleted": False,
        "backing_missing_bytes": 0,
        "backing_unallocated_bytes": 524288,
        "backing_free_bytes": 1073741824,
    }
    assert found["loop1"]["backing_missing_bytes"] == 528384
    assert found["loop2"] == {"backing_file": "/var/lib/images/gone.img", "backing_deleted": True}


def test_a_read_only_image_never_needs_room() -> None:
    """Snaps lie on full root filesystems and do not care."""
    observation = LoopBacking(ProbeContext(node="n")).interpret(
        recorded(LoopBacking, "cut-deleted-and-hidden")
    )
    snap = next(resource.facts for resource in observation.resources if resource.name == "loop3")

    assert "backing_free_bytes" not in snap


def test_a_file_out_of_sight_is_neither_whole_nor_cut() -> None:
    observation = LoopBacking(ProbeContext(node="n")).interpret(
        recorded(LoopBacking, "cut-deleted-and-hidden")
    )
    hidden = next(resource.facts for resource in observation.resources if resource.name == "loop4")

    assert "backing_missing_bytes" not in hidden
    assert observation.missing == {"loop4 backing": "/root/private.img may not be looked at"}


def test_a_machine_without_loop_devices_has_no_data(tmp_path: Path) -> None:
    probe = LoopBacking(ProbeContext(node="n", sysfs=tmp_path))

    with pytest.raises(NoData):
        probe.interpret(probe.read())


# Real loop devices


@pytest.mark.system
def test_a_cut_backing_file_is_found_and_cleared(tmp_path: Path) -> None:
    """Readers get EIO of it and the kernel log says nothing."""
    probe = LoopBacking(ProbeContext(node="n"))
    with LoopDisk(tmp_path, "ext4") as disk:
        size = disk.image.stat().st_size
        before = look(probe, disk.name)
        os.truncate(disk.image, size - (1 << 20))
        cut = look(probe, disk.name)
        os.truncate(disk.image, size)
        after = look(probe, disk.name)

    assert before["backing_file"] == str(disk.image)
    assert [facts["backing_missing_bytes"] for facts in (before, cut, after)] == [0, 1 << 20, 0]


@pytest.mark.system
def test_a_deleted_backing_file_is_found(tmp_path: Path) -> None:
    probe = LoopBacking(ProbeContext(node="n"))
    with LoopDisk(tmp_path, "ext4") as disk:
        disk.image.unlink()
        facts = look(probe, disk.name)

    assert facts == {"backing_file": str(disk.image), "backing_deleted": True}


@pytest.mark.system
def test_a_backing_file_without_room_to_grow_is_found_before_a_write_fails(tmp_path: Path) -> None:
    """ext4 above it shows room, stays rw and counts no error when fsync fails for want of room below."""
    needs.root()
    store = tmp_path / "store"
    store.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=24M", "tmpfs", str(store))
    probe = LoopBacking(ProbeContext(node="n"))
    try:
        with LoopDisk(store, "ext4") as disk:
            roomy = look(probe, disk.name)
            subprocess.run(
                ["dd", "if=/dev/zero", f"of={store}/filler", "bs=1M"], stderr=subprocess.DEVNULL, check=False
            )
            full = look(probe, disk.name)
            (store / "filler").unlink()
            cleared = look(probe, disk.name)
    finally:
        run("umount", str(store))

    assert full["backing_free_bytes"] == 0
    for facts in (roomy, full, cleared):
        assert isinstance(facts["backing_unallocated_bytes"], int)
        assert facts["backing_unallocated_bytes"] > 0
    assert isinstance(roomy["backing_free_bytes"], int)
    assert roomy["backing_free_bytes"] > 0
    assert cleared["backing_free_bytes"] == pytest.approx(roomy["backing_free_bytes"], abs=1 << 20)
