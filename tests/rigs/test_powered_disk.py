"""The disks the witness is tried on do what is said of them: a rig that keeps everything convicts nobody."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.rigs.loop_disk import run
from tests.rigs.powered_disk import BLOCK_BYTES, FILESYSTEMS, KINDS, Kind, PoweredDisk, flipped, torn

BLOCK = bytes(1 + number % 251 for number in range(BLOCK_BYTES))


@pytest.fixture
def nothing_left_behind(tmp_path: Path) -> Iterator[None]:
    """Mounts and loop devices are the machine's, and outlive a test that forgets them."""
    yield
    assert _mounts_and_loops(str(tmp_path)) == []


@pytest.mark.system
@pytest.mark.usefixtures("nothing_left_behind")
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_power_cut_takes_what_was_flushed_from_the_lying_disk_only(
    tmp_path: Path, kind: Kind, filesystem: str
) -> None:
    with PoweredDisk(tmp_path, filesystem, kind) as disk:
        _write_durably(disk.mountpoint / "flushed", BLOCK)
        disk.cut_power()
        disk.power_on()

        assert (disk.mountpoint / "flushed").exists() == (kind != "lying")


@pytest.mark.system
@pytest.mark.usefixtures("nothing_left_behind")
def test_a_volatile_cache_keeps_nothing_that_was_not_flushed(tmp_path: Path) -> None:
    """Past the filesystem, straight to the device, and back again without a flush."""
    outcome = {}
    with ExitStack() as stack:
        for kind in ("honest", "volatile"):
            disk = stack.enter_context(PoweredDisk(tmp_path / kind, "ext4", kind))
            disk.unmount()
            device = os.open(disk.device, os.O_RDWR)
            served = os.open(disk.folder / "nbd" / "disk", os.O_RDWR)
            at = os.lseek(device, 0, os.SEEK_END) - len(BLOCK)
            os.pwrite(served, BLOCK, at)
            disk.kill()
            os.close(served)
            os.close(device)
            disk.cut_power()
            with disk.image.open("rb") as image:
                image.seek(at)
                outcome[kind] = image.read(len(BLOCK)) == BLOCK

    assert outcome == {"honest": True, "volatile": False}


@pytest.mark.system
@pytest.mark.usefixtures("nothing_left_behind")
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_an_image_is_put_back_and_cloned_with_its_filesystem(tmp_path: Path, filesystem: str) -> None:
    """A snapshot that was reverted, and a copy that runs beside its original."""
    with (
        PoweredDisk(tmp_path / "a", filesystem) as original,
        PoweredDisk(tmp_path / "b", filesystem) as clone,
    ):
        _write_durably(original.mountpoint / "old", BLOCK)
        original.power_off()
        clone.power_off()
        original.save(tmp_path / "copy.img")
        original.power_on()
        _write_durably(original.mountpoint / "new", BLOCK)
        original.power_off()
        original.put_back(tmp_path / "copy.img")
        clone.put_back(tmp_path / "copy.img")
        original.power_on()
        clone.power_on()

        assert [sorted(_files(disk)) for disk in (original, clone)] == [["old"], ["old"]]
        assert _uuid(original) == _uuid(clone)


@pytest.mark.system
@pytest.mark.usefixtures("nothing_left_behind")
@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
@pytest.mark.parametrize(("keep", "left"), [(0, flipped(BLOCK)), (512, torn(BLOCK, 512))])
def test_a_block_is_spoiled_below_the_filesystem(
    tmp_path: Path, filesystem: str, keep: int, left: bytes
) -> None:
    """One bit in the middle, or all after the first sector; nothing of the filesystem notices."""
    with PoweredDisk(tmp_path, filesystem) as disk:
        _write_durably(disk.mountpoint / "file", BLOCK)
        disk.power_off()
        disk.spoil(BLOCK, keep=keep)
        disk.power_on()

        assert (disk.mountpoint / "file").read_bytes() == left


@pytest.mark.system
@pytest.mark.usefixtures("nothing_left_behind")
def test_btrfs_refuses_to_read_a_block_that_was_spoiled(tmp_path: Path) -> None:
    """Its checksums see it: the reader gets an error where others give wrong bytes."""
    with PoweredDisk(tmp_path, "btrfs") as disk:
        _write_durably(disk.mountpoint / "file", BLOCK)
        disk.power_off()
        disk.spoil(BLOCK)
        disk.power_on()

        with pytest.raises(OSError, match="Input/output error"):
            (disk.mountpoint / "file").read_bytes()


@pytest.mark.system
@pytest.mark.usefixtures("nothing_left_behind")
def test_two_disks_are_exchanged_behind_their_mountpoints(tmp_path: Path) -> None:
    """As device names do that come in another order after a boot."""
    with PoweredDisk(tmp_path / "a", "ext4") as first, PoweredDisk(tmp_path / "b", "ext4") as second:
        (first.mountpoint / "of-the-first").touch()
        first.power_off()
        second.power_off()
        first.exchange(second)
        first.power_on()
        second.power_on()

        assert (_files(first), _files(second)) == ([], ["of-the-first"])


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.pwrite(descriptor, content, 0)
        os.fsync(descriptor)
        os.fsync(folder)
    finally:
        os.close(descriptor)
        os.close(folder)


def _files(disk: PoweredDisk) -> list[str]:
    return [path.name for path in disk.mountpoint.iterdir() if path.name != "lost+found"]


def _uuid(disk: PoweredDisk) -> str:
    return run("blkid", "-p", "-s", "UUID", "-o", "value", disk.device).strip()


def _mounts_and_loops(folder: str) -> list[str]:
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    loops = [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    return [each for each in mounts + loops if folder in each]
