"""The witness inside the agent: in which order it speaks, what it hears, what it misses, how it ends."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from msgspec import structs

from holdfast_agent.background import BackgroundThreads
from holdfast_agent.core.delivery import Spooled
from holdfast_agent.core.resume import Clocks
from holdfast_agent.core.testimony import Confirmed, ReadBack, Testimony
from holdfast_agent.cursors import CursorFolder
from holdfast_agent.witness import volume_keeper, witnessing
from holdfast_agent.witness.clocks import read_clocks
from holdfast_agent.witness.ring_file_linux import read_ring
from holdfast_agent.witness.volume_chain import VolumeChain
from holdfast_agent.witness.witness_choice import WitnessConfig
from holdfast_agent.witness.witnessing import Witnessing
from holdfast_wire import Acknowledgement, ChainHead, Expect, Expected, Position, ReadCause, Section
from holdfast_wire.fact import FACTS_OF
from holdfast_wire.message import Value
from tests import needs
from tests.agent.witness.kept import INSTALL_ID, WHO
from tests.rigs.loop_disk import LoopDisk, run
from tests.waiting import wait_until

pytestmark = pytest.mark.system


async def unmounted(disk: LoopDisk) -> None:
    """While a record is written the filesystem is busy; between two it is not."""
    await wait_until(lambda: not _unmount(disk), what="the filesystem to be left alone")


def _unmount(disk: LoopDisk) -> bool:
    """Whether it is still mounted."""
    disk.unmount(check=False)
    return os.path.ismount(disk.mountpoint)


class User:
    """Keeps what the witness says, as the agent would spool it."""

    def __init__(self, folder: Path, mountpoint: Path, interval: float) -> None:
        self.said: list[Testimony] = []
        self.sections: list[Section] = []
        self.cursors = CursorFolder(folder / "cursors")
        self.name = str(mountpoint)
        config = WitnessConfig(include=(self.name,), interval=interval)
        cursors = self.cursors.of("witness")
        self.slept = Clocks(0.0, 0.0, 0.0)
        """What the clocks show beyond what this machine's do."""
        self.witness = Witnessing(config, WHO, self, cursors, folder, 0.2, lambda: "dirty", self.clocks)

    def clocks(self) -> Clocks:
        now, more = read_clocks(), self.slept
        return Clocks(now.wall + more.wall, now.boot + more.boot, now.monotonic + more.monotonic)

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
async def witnessing_of(folder: Path, mountpoint: Path, interval: float = 1.0) -> AsyncIterator[User]:
    """Runs until the block ends, which stops it in order."""
    asyncio.get_running_loop().set_default_executor(BackgroundThreads())
    user = User(folder, mountpoint, interval)
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
        await wait_until(lambda: len(user.reports) >= 3, what="the second reading")
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
        await wait_until(lambda: len(user.reports) >= 3, what="the reading")

    assert user.reports[2].cause is ReadCause.FORK
    assert user.reports[2].head is not None


SLEPT = Clocks(wall=3600.0, boot=3600.0, monotonic=0.0)
TAKEN_BACK = Clocks(wall=3600.0, boot=0.0, monotonic=0.0)
PAUSED = Clocks(wall=60.0, boot=60.0, monotonic=60.0)


@pytest.mark.parametrize("standstill", [SLEPT, TAKEN_BACK], ids=["slept", "taken back"])
async def test_chain_is_read_back_after_a_standstill_before_any_record_is_written(
    standstill: Clocks, disk: LoopDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine taken back to a snapshot would otherwise write over what it promised before it looks."""
    monkeypatch.setattr(witnessing, "TICK_SECONDS", 1000.0)
    async with witnessing_of(tmp_path, disk.mountpoint) as user:
        await user.until_confirmed(1)
        user.slept, place = standstill, len(user.said)
        await wait_until(lambda: len(user.reports) >= 3, what="the reading")
        await user.until_confirmed(len(user.confirmed) + 1)
        between = [said for said in user.said[place:] if isinstance(said, ReadBack)]

    written = user.said[place : user.said.index(between[0])]
    assert len(written) <= 1  # the one that was under way when the clocks jumped
    assert [report.cause for report in between] == [ReadCause.RESUME]
    assert between[0].head == [said for said in user.said[: user.said.index(between[0])] if said][-1].head


@pytest.mark.parametrize("standstill", [SLEPT, TAKEN_BACK, PAUSED], ids=["slept", "taken back", "paused"])
async def test_standstill_is_noticed_long_before_the_next_record_is_due_and_once(
    standstill: Clocks, disk: LoopDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnessing, "TICK_SECONDS", 0.3)
    async with witnessing_of(tmp_path, disk.mountpoint, interval=1000.0) as user:
        await user.until_confirmed(1)
        user.slept = standstill
        await wait_until(lambda: len(user.reports) >= 3, what="the reading")
        await user.until_confirmed(2)

    assert [report.cause for report in user.reports[2:]] == [ReadCause.RESUME]


async def test_chain_is_read_back_once_a_day_and_what_rotted_since_is_told(
    disk: LoopDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_keeper, "DAY_SECONDS", 2.5)
    async with witnessing_of(tmp_path, disk.mountpoint) as user:
        await user.until_confirmed(2)
        with chain_of(disk).open("r+b") as file:
            file.seek(4096 + 100)
            file.write(b"rot")
        await wait_until(lambda: user.reports[-1].cause is ReadCause.DAILY, what="the daily reading")
        daily = user.reports[-1]
        place = len(user.confirmed)
        await user.until_confirmed(place + 1)

    assert daily.broken == [1]
    assert daily.head is not None
    assert user.confirmed[place].head.seq == daily.head.seq + 1


def chain_of(disk: LoopDisk) -> Path:
    return disk.mountpoint / ".holdfast" / INSTALL_ID / "chain"


def deleted(chain: Path) -> None:
    chain.unlink()


def exchanged(chain: Path) -> None:
    fresh = chain.with_name("fresh")
    fresh.write_bytes(bytes(chain.stat().st_size))
    fresh.rename(chain)


def truncated(chain: Path) -> None:
    os.truncate(chain, 0)


def written_over(chain: Path) -> None:
    with chain.open("r+b") as file:
        file.write(bytes(chain.stat().st_size))


@pytest.mark.parametrize("harm", [deleted, exchanged, truncated, written_over])
async def test_chain_that_is_gone_is_told_with_the_next_record(
    harm: Callable[[Path], None], disk: LoopDisk, tmp_path: Path
) -> None:
    async with witnessing_of(tmp_path, disk.mountpoint) as user:
        before = await user.until_confirmed(1)
        harm(chain_of(disk))
        begun = await wait_until(
            lambda: next((each for each in user.reports[2:] if each.cause is ReadCause.BEGUN), None),
            what=lambda: f"the loss and the new chain to be told: {[each.cause for each in user.reports]}",
        )
        lost = next(each for each in user.reports[2:] if each.cause is not ReadCause.RESUME)
        await wait_until(
            lambda: user.confirmed[-1].chain_id == begun.chain_id,
            what=lambda: f"a record in the new one: {[each.cause for each in user.reports]}",
        )

    assert (lost.cause, lost.head, lost.mounted) == (ReadCause.CHANGED, None, True)
    assert lost.chain_id in ("", before.chain_id)
    assert (begun.cause, begun.chain_id != before.chain_id) == (ReadCause.BEGUN, True)


async def test_chain_put_back_in_place_to_an_earlier_state_is_told_with_the_next_record(
    disk: LoopDisk, tmp_path: Path
) -> None:
    """As a restore does that writes into the files that are there."""
    async with witnessing_of(tmp_path, disk.mountpoint) as user:
        first = await user.until_confirmed(1)
        earlier = chain_of(disk).read_bytes()
        await user.until_confirmed(3)
        with chain_of(disk).open("r+b") as file:
            file.write(earlier)
        await wait_until(lambda: len(user.reports) >= 3, what="the reading")

    lost = user.reports[2]
    assert (lost.cause, lost.chain_id) == (ReadCause.CHANGED, first.chain_id)
    assert lost.head is not None
    assert lost.head.seq < user.confirmed[2].head.seq


@pytest.mark.parametrize("filesystem", ["ext4", "ext2"])
async def test_volume_formatted_anew_at_the_same_place_is_told_at_once(
    filesystem: str, disk: LoopDisk, tmp_path: Path
) -> None:
    async with witnessing_of(tmp_path, disk.mountpoint, interval=1000.0) as user:
        before = await user.until_confirmed(1)
        await unmounted(disk)
        run(f"mkfs.{filesystem}", "-q", "-F", disk.device)
        run("mount", "-t", filesystem, disk.device, str(disk.mountpoint))
        await wait_until(lambda: user.reports[-1].cause is ReadCause.BEGUN, what="another chain")
        await wait_until(lambda: user.reports[-1].chain_id != before.chain_id, what="another chain")

    absent = user.reports[-2]
    assert (absent.cause, absent.mounted, absent.chain_id) == (ReadCause.MOUNT, True, "")
    assert absent.identity.filesystem_id != user.reports[0].identity.filesystem_id


async def test_volume_that_is_excluded_while_the_agent_runs_ends_in_order_and_is_not_missed(
    disk: LoopDisk, tmp_path: Path
) -> None:
    async with witnessing_of(tmp_path, disk.mountpoint) as user:
        await user.until_confirmed(1)
        excluded = WitnessConfig(include=(user.name,), exclude=(user.name,), interval=1.0)
        replanned = await user.witness.configure(excluded, 0.2)
        await wait_until(lambda: user.confirmed[-1].clean_stop, what="the last record")
        await wait_until(lambda: facts_of(user)["witness_enabled"] is False, what="the facts to go")
        last = len(user.said)
        await unmounted(disk)
        await wait_until(lambda: user.name not in named(user), what="the volume to be gone")
        looks = len(user.sections)
        await wait_until(lambda: len(user.sections) > looks + 3, what="three more looks")
        disk.mount()

    assert (replanned.begun, replanned.ended) == ([], [user.name])
    assert len(user.said) == last


async def test_volume_that_is_included_again_goes_on_with_its_chain(disk: LoopDisk, tmp_path: Path) -> None:
    """Not before the first keeper is done, whatever it waits for: two at once would give one number to two records."""
    fsfreeze = needs.tool("fsfreeze", package="util-linux")
    included = WitnessConfig(include=(str(disk.mountpoint),), interval=1.0)
    async with witnessing_of(tmp_path, disk.mountpoint) as user:
        before = await user.until_confirmed(1)
        run(fsfreeze, "-f", str(disk.mountpoint))
        try:
            off = await user.witness.configure(structs.replace(included, enabled=False), 0.2)
            on = await user.witness.configure(included, 0.2)
        finally:
            run(fsfreeze, "-u", str(disk.mountpoint))
        place = await wait_until(
            lambda: next((n for n, said in enumerate(user.confirmed) if said.clean_stop), 0), what="its end"
        )
        await user.until_confirmed(place + 2)

    assert (off.ended, on.begun) == ([user.name], [])
    numbers = [said.head.seq for said in user.confirmed]
    assert {said.chain_id for said in user.confirmed} == {before.chain_id}
    assert numbers == list(range(1, len(numbers) + 1))


async def test_interval_is_changed_without_a_break(disk: LoopDisk, tmp_path: Path) -> None:
    async with witnessing_of(tmp_path, disk.mountpoint, interval=1000.0) as user:
        await user.until_confirmed(1)
        replanned = await user.witness.configure(WitnessConfig(include=(user.name,), interval=1.0), 0.2)
        await user.until_confirmed(3)

    assert (replanned.begun, replanned.ended, len(user.reports)) == ([], [], 2)
    assert facts_of(user)["witness_interval_seconds"] == 1.0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_keeper_that_breaks_is_not_called_well_and_is_begun_anew(
    disk: LoopDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of ours in one volume's thread: a witness that has fallen silent must not look like one that agrees."""
    monkeypatch.setattr(witnessing, "PLAN_SECONDS", 3.0)
    append, mistakes = VolumeChain.append, [RuntimeError("a mistake")]

    def breaks_once(chain: VolumeChain, *, clean_stop: bool = False) -> bool:
        if mistakes and chain.open:
            raise mistakes.pop()
        return append(chain, clean_stop=clean_stop)

    async with witnessing_of(tmp_path, disk.mountpoint) as user:
        await user.until_confirmed(1)
        monkeypatch.setattr(VolumeChain, "append", breaks_once)
        await wait_until(lambda: facts_of(user)["witness_enabled"] is False, what="the break to be told")
        said = len(user.confirmed)
        await user.until_confirmed(said + 1)

    assert mistakes == []
    assert [report.cause for report in user.reports[2:]] == [ReadCause.AGENT_START]
    assert [one.head.seq for one in user.confirmed] == list(range(1, len(user.confirmed) + 1))


def facts_of(user: User) -> dict[str, Value]:
    return next(each.facts for each in user.sections[-1].resources if each.name == user.name)


def named(user: User) -> set[str]:
    return {each.name for each in user.sections[-1].resources}


async def test_volume_that_is_not_mounted_any_more_is_missed_and_greeted_when_it_is_back(
    disk: LoopDisk, tmp_path: Path
) -> None:
    """Told once each. A machine that stood still meanwhile, as a busy one seems to, has its chain read besides."""
    async with witnessing_of(tmp_path, disk.mountpoint) as user:
        before = await user.until_confirmed(1)
        await unmounted(disk)
        await wait_until(lambda: missed(user), what="the volume to be missed")
        disk.mount()
        await wait_until(lambda: greeted(user), what="the volume to be read")

    assert [(each.identity.volume, each.chain_id) for each in missed(user)] == [(user.name, "")]
    assert [each.chain_id for each in greeted(user)] == [before.chain_id]


def missed(user: User) -> list[ReadBack]:
    return [report for report in user.reports if not report.mounted]


def greeted(user: User) -> list[ReadBack]:
    return [report for report in user.reports if report.mounted and report.cause is ReadCause.MOUNT]


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
