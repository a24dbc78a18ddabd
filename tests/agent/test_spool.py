"""The spool: what `append` confirmed is never lost, whatever kills the process; and its disk may fail at any time."""

import asyncio
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_agent.core.delivery import Spooled
from holdfast_agent.spool import Spool
from holdfast_wire import Acknowledgement, Position
from tests import needs
from tests.agent.spooling import message
from tests.rigs.failing_disk import FailingDisk
from tests.rigs.loop_disk import LoopDisk, run
from tests.waiting import wait_until

KILLS = 12


class Told:
    """What the spool said of itself."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __call__(self, event: str, detail: str) -> None:
        self.events.append(event)


def spool_in(
    folder: Path,
    told: Told | None = None,
    *,
    bytes_max: int = 2**26,
    messages_max: int = 10_000,
    patience_seconds: float = 5.0,
    retry_seconds: float = 0.05,
) -> Spool:
    return Spool(
        folder,
        bytes_max=bytes_max,
        messages_max=messages_max,
        changed=told or Told(),
        patience_seconds=patience_seconds,
        retry_seconds=retry_seconds,
    )


async def opened(folder: Path, told: Told | None = None, **bounds: int) -> Spool:
    spool = spool_in(folder, told, **bounds)
    await spool.open()
    return spool


def ack(*messages: Spooled) -> list[Acknowledgement]:
    return [Acknowledgement(each.position.epoch, each.position.seq, each.digest) for each in messages]


async def seqs(spool: Spool, after: Position | None = None) -> list[int]:
    return [each.position.seq for each in await spool.unacknowledged(after, 10**6, 2**30)]


# Keeping and forgetting


async def test_spooled_messages_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    spool = await opened(tmp_path)
    for each in (message(2), message(1, epoch=2), message(1)):
        await spool.append(each)
    await spool.close()
    again = await opened(tmp_path)

    assert await again.unacknowledged(None, 10, 2**20) == [message(1), message(2), message(1, epoch=2)]
    assert (again.facts.oldest, again.facts.state.messages) == (Position(1, 1), 3)
    await again.close()


async def test_reading_goes_on_after_a_position_within_the_bounds(tmp_path: Path) -> None:
    spool = await opened(tmp_path)
    for seq in range(1, 7):
        await spool.append(message(seq))

    assert [m.position.seq for m in await spool.unacknowledged(Position(1, 2), 2, 2**20)] == [3, 4]
    assert [m.position.seq for m in await spool.unacknowledged(None, 10, 150)] == [1, 2]
    assert [m.position.seq for m in await spool.unacknowledged(None, 10, 1)] == [1]
    await spool.close()


async def test_acknowledged_messages_are_gone_after_a_restart_and_the_newest_is_remembered(
    tmp_path: Path,
) -> None:
    spool = await opened(tmp_path)
    for seq in (1, 2, 3):
        await spool.append(message(seq))
    spool.acknowledge(ack(message(3), message(1)))
    await spool.close()
    again = await opened(tmp_path)

    assert (await seqs(again), again.facts.acknowledged, again.facts.state.bytes) == (
        [2],
        Position(1, 3),
        100,
    )
    await again.close()


async def test_acknowledgement_with_another_digest_deletes_nothing(tmp_path: Path) -> None:
    spool = await opened(tmp_path)
    await spool.append(message(1))
    spool.acknowledge([Acknowledgement(1, 1, "0" * 16)])

    assert await seqs(spool) == [1]
    await spool.close()


async def test_full_spool_drops_the_oldest_and_counts_it_for_ever(tmp_path: Path) -> None:
    spool = await opened(tmp_path, messages_max=3)
    for seq in range(1, 6):
        await spool.append(message(seq))
    await spool.close()
    again = await opened(tmp_path, messages_max=3)
    await again.append(message(6))

    assert (await seqs(again), again.facts.state.dropped_total) == ([4, 5, 6], 3)
    await again.close()


async def test_spool_is_bounded_in_bytes_but_keeps_the_newest_whatever_its_size(tmp_path: Path) -> None:
    spool = await opened(tmp_path, bytes_max=250)
    await spool.append(message(1))
    await spool.append(message(2))
    await spool.append(message(3, size=1000))

    assert (await seqs(spool), spool.facts.state.dropped_total, spool.facts.state.bytes) == ([3], 2, 1000)
    await spool.close()


async def test_concurrent_appends_share_a_commit(tmp_path: Path) -> None:
    """A burst of events must not pay one fsync each."""
    spool = await opened(tmp_path)
    commits = _WalCommits(tmp_path / "spool.sqlite")
    await asyncio.gather(*(spool.append(message(seq)) for seq in range(1, 201)))

    assert (len(await seqs(spool)), commits.made() < 40) == (200, True)
    await spool.close()


class _WalCommits:
    """Counts commits by the frames of the WAL that end a transaction (sqlite.org/walformat.html, frame header)."""

    def __init__(self, database: Path) -> None:
        self._wal = database.with_name(database.name + "-wal")
        self._before = self._count()

    def made(self) -> int:
        return self._count() - self._before

    def _count(self) -> int:
        content = self._wal.read_bytes()
        page = int.from_bytes(content[8:12], "big")
        frames = range(32, len(content) - 24, 24 + page)
        return sum(content[start + 4 : start + 8] != b"\0\0\0\0" for start in frames)


# Crashes


@pytest.mark.parametrize("lanes", [1, 8])
def test_kill_at_any_moment_loses_nothing_that_was_confirmed(tmp_path: Path, lanes: int) -> None:
    confirmed: set[int] = set()
    chance = random.Random(20240 + lanes)
    for number in range(KILLS):
        folder = tmp_path / str(number)
        folder.mkdir()
        confirmed = _spool_until_killed(folder, lanes, after_lines=chance.randrange(1, 60))
        held = asyncio.run(_held(folder))

        assert confirmed <= held, f"lost {sorted(confirmed - held)} in run {number}"


def _spool_until_killed(folder: Path, lanes: int, after_lines: int) -> set[int]:
    """Run the spooling process, SIGKILL it once it has confirmed so many; what it had confirmed by then."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.agent.spooling", str(folder), str(lanes)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(after_lines)]
        process.kill()
        lines += process.stdout.readlines()
    return {int(line) for line in lines if line.endswith("\n")}


async def _held(folder: Path) -> set[int]:
    spool = await opened(folder)
    held = set(await seqs(spool))
    assert not spool.facts.state.in_memory
    await spool.close()
    return held


# Damage


async def _filled(folder: Path, count: int) -> None:
    spool = await opened(folder)
    for seq in range(1, count + 1):
        await spool.append(message(seq, size=1000))
    await spool.close()


async def test_file_that_is_no_database_is_set_aside_and_said(tmp_path: Path) -> None:
    (tmp_path / "spool.sqlite").write_bytes(b"no database at all" * 500)
    told = Told()
    spool = await opened(tmp_path, told)
    await spool.append(message(1))

    assert (told.events, await seqs(spool), spool.facts.state.in_memory) == (["spool repaired"], [1], False)
    assert (tmp_path / "spool.sqlite.corrupt").read_bytes().startswith(b"no database")
    await spool.close()


async def test_damaged_page_costs_no_more_than_the_messages_on_it(tmp_path: Path) -> None:
    await _filled(tmp_path, 60)
    path = tmp_path / "spool.sqlite"
    content = bytearray(path.read_bytes())
    page = int.from_bytes(content[16:18], "big")
    content[-page:] = b"\xa5" * page
    path.write_bytes(content)
    told = Told()
    spool = await opened(tmp_path, told)
    held = await seqs(spool)

    assert told.events == ["spool repaired"]
    assert 30 < len(held) < 60
    assert [
        m for m in await spool.unacknowledged(None, 100, 2**20) if m != message(m.position.seq, size=1000)
    ] == []
    await spool.close()


async def test_rotten_payload_is_dropped_and_counted(tmp_path: Path) -> None:
    """Sent as it is, it would be evidence of a twin, and no acknowledgement would ever match it."""
    await _filled(tmp_path, 3)
    with sqlite3.connect(tmp_path / "spool.sqlite") as connection:
        connection.execute("UPDATE message SET payload = x'00' WHERE seq = 2")
    connection.close()
    spool = await opened(tmp_path)

    assert (await seqs(spool), spool.facts.state.dropped_total) == ([1, 3], 1)
    await spool.close()


# A disk that fails


async def test_folder_that_cannot_be_made_leaves_the_spool_in_memory_and_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    told = Told()
    spool = await opened(tmp_path / "state", told)
    await spool.append(message(1))

    assert (told.events, await seqs(spool), spool.facts.state.in_memory) == (
        ["spool moved to memory"],
        [1],
        True,
    )
    assert spool.facts.state.detail.endswith("what must be delivered is kept in memory")
    await spool.close()


async def test_memory_goes_to_disk_when_the_disk_works_again(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text("a file where the folder should be")
    told = Told()
    spool = await opened(state, told)
    for seq in (1, 2, 3):
        await spool.append(message(seq))
    spool.acknowledge(ack(message(2)))
    state.unlink()
    await wait_until(lambda: not spool.facts.state.in_memory, what="the spool to return to disk")
    await spool.close()
    again = await opened(state)

    assert (told.events, await seqs(again)) == (["spool moved to memory", "spool back on disk"], [1, 3])
    await again.close()


async def test_memory_is_bounded_and_what_it_drops_is_counted_on_disk_later(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text("a file where the folder should be")
    spool = await opened(state, messages_max=2)
    for seq in range(1, 6):
        await spool.append(message(seq))
    assert (await seqs(spool), spool.facts.state.dropped_total) == ([4, 5], 3)
    state.unlink()
    await wait_until(lambda: not spool.facts.state.in_memory, what="the spool to return to disk")
    await spool.close()
    again = await opened(state)

    assert again.facts.state.dropped_total == 3
    await again.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[LoopDisk]:
    """An ext4 of eight mebibytes, all of them for everybody."""
    with LoopDisk(tmp_path, "ext4", mkfs=("-m", "0"), size_bytes=8 << 20) as disk:
        yield disk
        # A spool that a failing test left open would keep it mounted.
        run("umount", "--lazy", str(disk.mountpoint))


async def _append_until_in_memory(spool: Spool, first: int) -> int:
    """Append until the disk is full; the last number appended."""
    seq = first
    while True:
        await spool.append(message(seq, size=10_000))
        if spool.facts.state.in_memory:
            return seq
        seq += 1


async def test_full_disk_loses_nothing_and_ends_when_there_is_room_again(small_disk: LoopDisk) -> None:
    told = Told()
    folder = small_disk.mountpoint / "state"
    spool = await opened(folder, told)
    await spool.append(message(1))
    small_disk.fill()
    last = await _append_until_in_memory(spool, 2)
    during = (await seqs(spool), spool.facts.oldest)
    (small_disk.mountpoint / "filler").unlink()
    await wait_until(lambda: not spool.facts.state.in_memory, what="the spool to return to disk")
    await spool.close()
    again = await opened(folder)

    assert during == (list(range(1, last + 1)), Position(1, 1))
    assert (await seqs(again), told.events) == (
        list(range(1, last + 1)),
        ["spool moved to memory", "spool back on disk"],
    )
    await again.close()


async def test_disk_that_gives_errors_leaves_the_spool_in_memory_and_keeps_the_floor(tmp_path: Path) -> None:
    """What lies on the failed disk may come back with it; no report may say that it never will."""
    with FailingDisk(tmp_path, "ext4") as disk:
        told = Told()
        spool = await opened(disk.mountpoint / "state", told)
        await spool.append(message(1))
        disk.fail()
        await spool.append(message(2))
        held = await seqs(spool)

        assert (spool.facts.state.in_memory, spool.facts.oldest, held[-1]) == (True, Position(1, 1), 2)
        assert told.events == ["spool moved to memory"]
        await spool.close()


async def test_disk_that_does_not_answer_does_not_hang_the_agent(small_disk: LoopDisk) -> None:
    """A frozen filesystem blocks every write for ever, as a dead path to a SAN does."""
    freeze = needs.tool("fsfreeze", package="util-linux")
    told = Told()
    spool = spool_in(small_disk.mountpoint / "state", told, patience_seconds=0.5)
    await spool.open()
    await spool.append(message(1))
    run(freeze, "--freeze", str(small_disk.mountpoint))
    try:
        await spool.append(message(2))
        during = (spool.facts.state.in_memory, await seqs(spool), await spool.answers())
    finally:
        run(freeze, "--unfreeze", str(small_disk.mountpoint))
    await wait_until(lambda: not spool.facts.state.in_memory, what="the spool to return to disk")

    assert during == (True, [2], False)
    assert (await seqs(spool), told.events) == ([1, 2], ["spool moved to memory", "spool back on disk"])
    await spool.close()
