"""An agent killed, or a machine without power, between any two steps: what is left never looks like a loss.

The steps are the calls that touch the disk. A child process replaces them by calls that count, and SIGKILLs itself
before or after number n; the parent reads what is left as the next agent would. The product has no hook for that.
"""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast_agent.witness import ring_file_linux
from holdfast_wire import ReadCause
from tests import needs
from tests.agent.witness.kept import Kept
from tests.rigs.loop_disk import LoopDisk

pytestmark = pytest.mark.system
CALLS = ("open", "pwrite", "fdatasync", "fsync", "rename", "replace", "mkdir", "write", "unlink")
_WRITE = os.write
"""For the child's own words, which are no step."""


def stand_in(kill_at: int, *, after: bool) -> None:
    """Replace every call by one that counts, and kills this process at number `kill_at`, before or after it is made."""
    count = itertools.count(1)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any, **keywords: Any) -> Any:
            due = next(count) == kill_at
            if due and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return call(*arguments, **keywords)
            finally:
                if due:
                    os.kill(os.getpid(), signal.SIGKILL)

        return made

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def in_child(work: Callable[[int], None], kill_at: int, *, after: bool) -> tuple[bool, list[str]]:
    """Do the work in a child; whether it was killed, and the lines it wrote to the descriptor it was given."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        stand_in(kill_at, after=after)
        code = 1
        code = 1
        try:
            work(writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as told:
        lines = told.read().splitlines()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status), lines


def steps(work: Callable[[int], None], *, after: bool, stride: int = 1) -> Iterator[list[str]]:
    """The work killed at one step after the other; what the child had told. Ends when it was not killed."""
    for kill_at in itertools.count(1, stride):
        killed, told = in_child(work, kill_at, after=after)
        yield told
        if not killed:
            return


class Telling(Kept):
    """Writes every confirmed record to a pipe the moment it is said, as the agent's event loop would hear it."""

    def __init__(self, mountpoint: Path, say: int) -> None:
        super().__init__(mountpoint)
        self.chain._say = lambda said: self._tell(say, said)

    def _tell(self, say: int, said: Any) -> None:
        if hasattr(said, "fsync_seconds"):
            line = f"{said.chain_id} {said.head.seq} {said.head.hash} {said.metadata_seq}\n"
            _WRITE(say, line.encode())


def work_on(mountpoint: Path) -> Callable[[int], None]:
    def work(say: int) -> None:
        kept = Telling(mountpoint, say)
        kept.chain.read(ReadCause.AGENT_START)
        kept.chain.renew_metadata()
        for _ in range(3):
            kept.chain.append()

    return work


def assert_nothing_told_is_missing(path: Path, told: dict[int, str], metadata: int) -> None:
    found = ring_file_linux.read_ring(path).found

    assert found.broken == []
    assert found.head is not None or not told
    for seq, digest in told.items():
        if seq >= found.oldest_seq:
            assert found.hashes[seq].hex() == digest
    if metadata:
        assert int((path.parent / "metadata").read_text().partition('"count":')[2].rstrip("}")) >= metadata


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_agent_killed_at_any_step_leaves_a_chain_that_the_next_goes_on_with(
    after: bool, tmp_path: Path
) -> None:
    """From the making of the ring on; each life begins with what the one before left."""
    with LoopDisk(tmp_path, "ext4") as disk:
        told: dict[int, str] = {}
        chains, metadata, path = set(), 0, Kept(disk.mountpoint).path
        for lines in steps(work_on(disk.mountpoint), after=after):
            for line in lines:
                chain_id, seq, digest, count = line.split()
                chains.add(chain_id)
                assert int(seq) not in told, "a number was given twice"
                told[int(seq)] = digest
                metadata = max(metadata, int(count))
            if path.exists():
                assert_nothing_told_is_missing(path, told, metadata)

        assert len(chains) == 1
        assert len(told) >= 8


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_no_record_that_was_told_is_lost_when_the_power_goes(filesystem: str, tmp_path: Path) -> None:
    """The filesystem drops everything it has not synchronised (XFS_IOC_GOINGDOWN) right after the agent is killed."""
    needs.tool("xfs_io", package="xfsprogs")
    with LoopDisk(tmp_path, filesystem) as disk:
        told: dict[int, str] = {}
        metadata, path = 0, Kept(disk.mountpoint).path
        for lines in steps(work_on(disk.mountpoint), after=True, stride=3):
            for line in lines:
                _, seq, digest, count = line.split()
                told[int(seq)] = digest
                metadata = max(metadata, int(count))
            disk.shut_down()
            disk.unmount()
            disk.mount()
            if path.exists():
                assert_nothing_told_is_missing(path, told, metadata)
            else:
                assert not told

        assert len(told) >= 3
