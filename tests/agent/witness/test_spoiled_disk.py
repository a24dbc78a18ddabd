"""A chain on a disk that returns other bytes than were written to it, or loses what it was not told to keep."""

import os
from pathlib import Path

import pytest
from msgspec import structs

from holdfast_agent.core.chain import SLOT_BYTES, SLOTS, decode_record, encode_record, slot_of
from holdfast_agent.witness.ring_file_linux import read_ring
from holdfast_wire import ReadCause
from tests.agent.witness.kept import Kept
from tests.rigs.powered_disk import FILESYSTEMS, PoweredDisk


@pytest.mark.system
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_one_spoiled_record_hides_none_of_those_behind_it(filesystem: str, tmp_path: Path) -> None:
    """btrfs refuses to read the block, and ends a longer read before it without an error."""
    with PoweredDisk(tmp_path, filesystem) as disk:
        kept = Kept(disk.mountpoint)
        kept.chain.read(ReadCause.AGENT_START)
        for _ in range(5):
            assert kept.chain.append()
        at = slot_of(3, SLOTS) * SLOT_BYTES
        content = kept.path.read_bytes()[at : at + SLOT_BYTES]
        disk.power_off()
        disk.spoil(content)
        disk.power_on()
        found = read_ring(kept.path).found

        assert (found.chain_head, found.broken, found.torn_seq) == (kept.confirmed[-1].head, [3], 0)


@pytest.mark.system
@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_what_a_killed_agent_did_not_flush_is_on_the_medium_before_its_successor_says_so(
    filesystem: str, tmp_path: Path
) -> None:
    """Killed between write and fdatasync; the next agent reads the record, and the collector holds it to that."""
    with PoweredDisk(tmp_path, filesystem, "volatile") as disk:
        kept = Kept(disk.mountpoint)
        kept.chain.read(ReadCause.AGENT_START)
        assert kept.chain.append()
        newest = kept.path.read_bytes()[slot_of(1, SLOTS) * SLOT_BYTES :][:SLOT_BYTES]
        record = decode_record(newest)
        assert record is not None
        unflushed = encode_record(
            structs.replace(record.record, seq=2, previous_seq=1, previous_hash=record.hash)
        )
        descriptor = os.open(kept.path, os.O_WRONLY)
        os.pwrite(descriptor, unflushed, slot_of(2, SLOTS) * SLOT_BYTES)
        os.close(descriptor)

        successor = Kept(disk.mountpoint)
        successor.chain.read(ReadCause.AGENT_START)
        disk.cut_power()
        disk.power_on()

        told = successor.reports[-1].head
        assert told is not None
        assert (told.seq, read_ring(kept.path).found.chain_head) == (2, told)
