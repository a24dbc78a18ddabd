"""A chain on a disk that returns other bytes than were written to it, below the filesystem."""

from pathlib import Path

import pytest

from holdfast_agent.core.chain import SLOT_BYTES, SLOTS, slot_of
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
