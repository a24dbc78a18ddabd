"""The witness inside the agent: in which order it speaks, what it hears, what it misses, how it ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from holdfast_agent.background import BackgroundThreads
from holdfast_agent.core.delivery import Spooled
from holdfast_agent.core.testimony import Confirmed, ReadBack, Testimony
from holdfast_agent.cursors import CursorFolder
from holdfast_agent.witness import volume_keeper, witnessing
from holdfast_agent.witness.ring_file_linux import read_ring
from holdfast_agent.witness.witness_choice import WitnessConfig
from holdfast_agent.witness.witnessing import Witnessing
from holdfast_wire import Acknowledgement, ChainHead, Expect, Expected, Position, ReadCause, Section
from holdfast_wire.fact import FACTS_OF
from tests.agent.witness.kept import INSTALL_ID, WHO
from tests.rigs.loop_disk import LoopDisk
from tests.waiting import wait_until

pytestmark = pytest.mark.system


class User:
    """Keeps what the witness says, as the agent would spool it."""

    def __init__(self, folder: Path, mountpoint: Path) -> None:
        self.said: list[Testimony] = []
        self.sections: list[Section] = []
        self.cursors = CursorFolder(folder / "cursors")
        self.name = str(mountpoint)
        config = WitnessConfig(include=(self.name,), interval=1.0)
        cursors = self.cursors.of("witness")
        self.witness = Witnessing(config, WHO, self, cursors, folder, 0.2, lambda: "dirty")

    async def testify(self, said: Testimony) -> Spooled | None:
        self.said.append(said)
        return Spooled(Position(3, len(self.said)), f"digest {len(self.said)}", b"")

    def section(self, section: Section, *, urgent: bool) -> None:
        self.sections.append(section)

    def acknowledge(self, said: Testimony) -> None:
        place = self.said.index(said) + 1
        self.witness.acknowledged([Acknowledgement(3, place, f"digest {place}")])

    def answer(self, chain_id: str, head: ChainHead | None, *, frozen: bool = False) -> None:
        expected = Expected(volume=self.name, chain_id=chain_id, head=head, frozen=frozen)
        self.witness.expect(Expect(install_id=INSTALL_ID, chains=[expected]))

    @property
    def reports(self) -> list[ReadBack]:
        return [said for said in self.said if isinstance(said, ReadBack)]

    @property
    def confirmed(self) -> list[Confirmed]:
        return [said for said in self.said if isinstance(said, Confirmed)]

    async def until_confirmed(self, count: int) -> Confirmed:
        await wait_until(lambda: len(self.confirmed) >= count, what=lambda: f"{self.said[-1:]}")
        return self.confirmed[-1]


@contextlib.asynccontextmanager
async def witnessing_of(folder: Path, mountpoint: Path) -> AsyncIterator[User]:
    """Runs until the block ends, which stops it in order."""
    asyncio.get_running_loop().set_default_executor(BackgroundThreads())
    user = User(folder, mountpoint)
    running = asyncio.create_task(user.witness.run())
    try:
        yield user
    finally:
        running.cancel()
        await asyncio.wait([running])
        await asyncio.wait_for(user.witness.stop(), 30)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    with LoopDisk(tmp_path, "ext4") as disk:
        yield disk


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that are minutes in service are moments here; what follows what stays the same."""
    monkeypatch.setattr(volume_keeper, "ANSWER_AWAITED_SECONDS", 0.1)
    monkeypatch.setattr(volume_keeper, "AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(witnessing, "MISSED_AFTER_SECONDS", 0.1)
    monkeypatch.setattr(witnessing, "MISSED_AFTER_BOOT_SECONDS", 0.1)


async def test_what_was_read_is_told_before_any_record_that_follows(disk: LoopDisk, tmp_path: Path) -> None:
    async with witnessing_of(tmp_path, disk.mountpoint) as user:
        await user.until_confirmed(2)

    numbers = [said.head.seq for said in user.confirmed]
    assert [type(said) for said in user.said[:3]] == [ReadBack, ReadBack, Confirmed]
    assert user.reports[1].cause is ReadCause.BEGUN
    assert (user.reports[0].cause, user.reports[0].previous_boot) == (ReadCause.AGENT_START, "dirty")
    assert (numbers, user.confirmed[-1].clean_stop) == (list(range(1, len(numbers) + 1)), True)


async def test_acknowledged_record_is_on_the_volume_with_the_next(disk: LoopDisk, tmp_path: Path) -> None:
    async with witnessing_of(tmp_path, disk.mountpoint) as user:
        first = await user.until_confirmed(1)
        user.acknowledge(first)
        await user.until_confirmed(2)
        path = disk.mountpoint / ".holdfast" / INSTALL_ID / "chain"

    assert read_ring(path).found.acknowledged_seq == first.head.seq


async def test_collector_that_holds_more_has_the_chain_read_again_before_it_goes_on(
    disk: LoopDisk, tmp_path: Path
) -> None:
    async with witnessing_of(tmp_path, disk.mountpoint) as user:
        before = await user.until_confirmed(1)
        user.answer(before.chain_id, ChainHead(50, "ab" * 32))
        await wait_until(lambda: len(user.reports) == 3, what="the second reading")
        place = len(user.said)
        await wait_until(lambda: len(user.said) > place, what="the chain to go on")
        after = user.said[place]

    assert user.reports[2].cause is ReadCause.AGAIN
    assert isinstance(after, Confirmed)
    assert (after.head.seq, after.chain_id) == (51, before.chain_id)


async def test_fork_has_every_chain_read_back(disk: LoopDisk, tmp_path: Path) -> None:
    async with witnessing_of(tmp_path, disk.mountpoint) as user:
        await user.until_confirmed(1)
        user.witness.reread(ReadCause.FORK)
        await wait_until(lambda: len(user.reports) == 3, what="the reading")

    assert user.reports[2].cause is ReadCause.FORK
    assert user.reports[2].head is not None


async def test_volume_that_is_not_mounted_any_more_is_missed_and_greeted_when_it_is_back(
    disk: LoopDisk, tmp_path: Path
) -> None:
    async with witnessing_of(tmp_path, disk.mountpoint) as user:
        before = await user.until_confirmed(1)
        disk.unmount()
        await wait_until(lambda: len(user.reports) == 3, what="the volume to be missed")
        disk.mount()
        await wait_until(lambda: len(user.reports) == 4, what="the volume to be read")

    missed, back = user.reports[2:4]
    assert (missed.mounted, missed.identity.volume, missed.chain_id) == (False, user.name, "")
    assert (back.mounted, back.cause, back.chain_id) == (True, ReadCause.MOUNT, before.chain_id)


async def test_volume_that_is_missing_when_the_agent_starts_is_missed_by_its_notes(
    disk: LoopDisk, tmp_path: Path
) -> None:
    async with witnessing_of(tmp_path, disk.mountpoint) as user:
        await user.until_confirmed(1)
    assert user.cursors.flush(10.0)
    disk.unmount()
    async with witnessing_of(tmp_path, disk.mountpoint) as user:
        await wait_until(lambda: user.reports, what="the volume to be missed")
        disk.mount()

    assert [report.mounted for report in user.reports[:1]] == [False]


async def test_frozen_chain_is_followed_by_another(disk: LoopDisk, tmp_path: Path) -> None:
    async with witnessing_of(tmp_path, disk.mountpoint) as user:
        before = await user.until_confirmed(1)
        user.answer(before.chain_id, before.head, frozen=True)
        await wait_until(lambda: user.confirmed[-1].chain_id != before.chain_id, what="another chain")

    other = next(said for said in user.confirmed if said.chain_id != before.chain_id)
    assert (other.head.seq, other.previous) == (1, ChainHead(0, ""))


async def test_section_states_what_is_declared_and_only_that(disk: LoopDisk, tmp_path: Path) -> None:
    async with witnessing_of(tmp_path, disk.mountpoint) as user:
        await user.until_confirmed(2)
        await wait_until(
            lambda: any("witness_fsync_p99_seconds" in each.facts for each in user.sections[-1].resources),
            what="the facts",
        )
        section = user.sections[-1]

    facts = next(each.facts for each in section.resources if each.name == user.name)
    wrong = {
        name: value
        for name, value in facts.items()
        if type(value) not in FACTS_OF["volume"][name].type.python_types
    }
    assert wrong == {}
    assert (facts["witness_enabled"], facts["witness_mode"], facts["write_probe_error"]) == (
        True,
        "direct",
        "",
    )
    assert {each.facts["witness_reason"] for each in section.resources if each.name != user.name} <= {
        "not in witness.include"
    }
