"""What the agent must still deliver: on disk before `append` returns, bounded, and never in the way.

All blocking work happens in one thread, which commits whatever has gathered while it was busy: concurrent appends
share one fsync. The event loop keeps the policy.

    on disk ──write fails, file damaged, no answer within the patience──▶ in memory
            ◀──a later try writes everything and is answered────────────

In memory the agent delivers as before and says so in every report: messages then survive a crash of the broker and
of the collector, but not one of the agent. The newest are kept, up to a smaller bound. A thread that hangs in an
fsync is left alone; no second one is sent after it.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

from holdfast_agent.core.delivery import Spooled
from holdfast_agent.core.session import SpoolFacts
from holdfast_agent.spool_file import DiskFacts, SpoolFile, damaged, full
from holdfast_wire import Acknowledgement, Position, SpoolState

MEMORY_BYTES_MAX = 8 * 1024 * 1024
"""What the agent may grow by while its disk fails."""
ACKNOWLEDGED_MEANWHILE_MAX = 10_000
"""Acknowledgements kept while the disk fails. One forgotten means one message sent twice."""
PATIENCE_SECONDS = 5.0
"""An fsync on a busy spinning disk takes up to a second or two; an event shall not wait longer than this."""
RETRY_SECONDS = 30.0


class SpoolLost(Exception):
    """The disk did not take it, or not in time. The text says why."""


class _Job(Struct, eq=False, kw_only=True):
    """One request to the thread; `answer` is set on the event loop."""

    answer: "asyncio.Future[list[Spooled]]"
    messages: list[Spooled] = []
    acknowledged: list[Acknowledgement] = []
    dropped: int = 0
    read: tuple[Position | None, int, int] | None = None
    close: bool = False


class _Outcome(Struct):
    """What became of a batch of jobs."""

    jobs: list[_Job]
    found: list[list[Spooled]]
    facts: DiskFacts | None
    failure: str = ""
    repaired: str = ""


class Spool:
    """See the module. Used from one event loop."""

    def __init__(
        self,
        folder: Path,
        *,
        bytes_max: int,
        messages_max: int,
        changed: Callable[[str, str], None],
        patience_seconds: float = PATIENCE_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """`changed(event, detail)` is told when the spool moves between disk and memory, or repairs itself."""
        self._messages_max = messages_max
        self._memory_bytes_max = min(bytes_max, MEMORY_BYTES_MAX)
        self._changed = changed
        self._patience = patience_seconds
        self._retry = retry_seconds
        self._thread = _DiskThread(folder / "spool.sqlite", bytes_max, messages_max, self._answered)
        self._disk = DiskFacts()
        self._memory: dict[Position, Spooled] = {}
        self._memory_bytes = 0
        self._dropped_in_memory = 0
        self._acknowledged_meanwhile: list[Acknowledgement] = []
        self._acknowledged: Position | None = None
        self._in_memory = False
        self._detail = ""
        self._recovery: asyncio.Task[None] | None = None
        self._rescue: _Job | None = None
        """The job that writes memory to disk, while it has no answer."""

    @property
    def facts(self) -> SpoolFacts:
        """How the spool stands, as far as is known; never blocks."""
        oldest = [position for position in (self._disk.oldest, min(self._memory, default=None)) if position]
        state = SpoolState(
            messages=self._disk.messages + len(self._memory),
            bytes=self._disk.bytes + self._memory_bytes,
            dropped_total=self._disk.dropped_total + self._dropped_in_memory,
            in_memory=self._in_memory,
            detail=self._detail,
        )
        return SpoolFacts(state=state, oldest=min(oldest, default=None), acknowledged=self._acknowledged)

    async def open(self) -> None:
        """Open the file and learn what it holds; with a failing disk the spool begins in memory."""
        self._thread.start(asyncio.get_running_loop())
        await self.answers()

    async def append(self, message: Spooled) -> None:
        """Returns when the message is on disk, or when it is in memory and the facts say so."""
        if not self._in_memory:
            try:
                await self._ask(self._job(messages=[message]))
            except SpoolLost as error:
                self._lose_disk(str(error))
            else:
                return
        self._remember(message)

    def acknowledge(self, acknowledged: list[Acknowledgement]) -> None:
        """The collector holds these: forget them, soon. Another digest at the same position is left alone."""
        if not acknowledged:
            return
        newest = max(Position(each.epoch, each.seq) for each in acknowledged)
        self._acknowledged = max(newest, self._acknowledged or newest)
        for each in acknowledged:
            held = self._memory.get(Position(each.epoch, each.seq))
            if held is not None and held.digest == each.digest:
                self._forget(held.position)
        self._acknowledged_meanwhile += acknowledged
        del self._acknowledged_meanwhile[:-ACKNOWLEDGED_MEANWHILE_MAX]
        if not self._in_memory:
            self._write_acknowledgements()

    async def unacknowledged(
        self, after: Position | None, messages_max: int, bytes_max: int
    ) -> list[Spooled]:
        """The oldest messages after a position, until either bound is met, from disk and memory together."""
        found: dict[Position, Spooled] = {}
        if not self._hangs():
            try:
                on_disk = await self._ask(self._job(read=(after, messages_max, bytes_max)))
                found = {message.position: message for message in on_disk}
            except SpoolLost as error:
                self._lose_disk(str(error))
        for position, message in self._memory.items():
            if after is None or position > after:
                found[position] = message
        for each in self._acknowledged_meanwhile:
            held = found.get(Position(each.epoch, each.seq))
            if held is not None and held.digest == each.digest:
                del found[held.position]
        return _within([found[position] for position in sorted(found)], messages_max, bytes_max)

    async def answers(self) -> bool:
        """Ask the disk for a sign of life. False: it gave none, and the spool is in memory from now on."""
        if self._in_memory:
            return False
        try:
            await self._ask(self._job())
        except SpoolLost as error:
            self._lose_disk(str(error))
            return False
        return True

    async def close(self) -> None:
        """Write what can be written and let go. Waits no longer than the patience for each of the two."""
        if self._recovery is not None:
            self._recovery.cancel()
        if self._in_memory and not self._hangs():
            await self._write_memory()
        if not self._hangs():
            await asyncio.wait([self._job(close=True).answer], timeout=self._patience)

    # The disk

    def _hangs(self) -> bool:
        return self._thread.busy_seconds() >= self._patience

    def _job(self, **what: Any) -> _Job:
        job = _Job(answer=asyncio.get_running_loop().create_future(), **what)
        # Whoever waits is told of a failure. When nobody waits any more, nobody needs to be.
        job.answer.add_done_callback(lambda answer: answer.cancelled() or answer.exception())
        self._thread.submit(job)
        return job

    async def _ask(self, job: _Job) -> list[Spooled]:
        """Raises SpoolLost when the disk fails or does not answer; then it may still do so later."""
        await asyncio.wait([job.answer], timeout=self._patience)
        if not job.answer.done():
            raise SpoolLost(f"the disk of the spool has not answered for {self._patience:g} s")
        return job.answer.result()

    def _answered(self, outcome: _Outcome) -> None:
        """What the disk thread reports; here, so that the facts are learned in the order they became true."""
        if outcome.facts is not None:
            self._disk = outcome.facts
            known = outcome.facts.acknowledged
            self._acknowledged = max(filter(None, (known, self._acknowledged)), default=None)
        if outcome.repaired:
            self._changed("spool repaired", outcome.repaired)
        for job, found in zip(outcome.jobs, outcome.found, strict=True):
            if job.answer.done():
                continue
            if outcome.failure:
                job.answer.set_exception(SpoolLost(outcome.failure))
            else:
                job.answer.set_result(found)

    def _write_acknowledgements(self) -> None:
        acknowledged, self._acknowledged_meanwhile = self._acknowledged_meanwhile, []

        def written(answer: "asyncio.Future[list[Spooled]]") -> None:
            error = None if answer.cancelled() else answer.exception()
            if error is not None:
                self._acknowledged_meanwhile = acknowledged + self._acknowledged_meanwhile
                self._lose_disk(str(error))

        self._job(acknowledged=acknowledged).answer.add_done_callback(written)

    # Memory

    def _lose_disk(self, why: str) -> None:
        self._detail = f"{why}; what must be delivered is kept in memory"
        if self._in_memory:
            return
        self._in_memory = True
        self._changed("spool moved to memory", why)
        self._recovery = asyncio.get_running_loop().create_task(self._recover(), name="spool recovery")

    async def _recover(self) -> None:
        while self._in_memory:
            if self._hangs() or not await self._write_memory():
                await asyncio.sleep(self._retry)

    async def _write_memory(self) -> bool:
        """Write all that is in memory; whether the spool is on disk again."""
        while self._in_memory:
            # One that was given up on may still succeed; to ask again beside it would count its losses twice.
            job = self._rescue or self._job(
                messages=list(self._memory.values()),
                acknowledged=list(self._acknowledged_meanwhile),
                dropped=self._dropped_in_memory,
            )
            self._rescue = job
            try:
                await self._ask(job)
            except SpoolLost as error:
                self._rescue = None if job.answer.done() else job
                self._lose_disk(str(error))
                return False
            self._rescue = None
            self._dropped_in_memory -= job.dropped
            del self._acknowledged_meanwhile[: len(job.acknowledged)]
            for message in job.messages:
                self._forget(message.position)
            if not self._memory and not self._acknowledged_meanwhile:
                self._in_memory, self._detail = False, ""
                self._changed("spool back on disk", "everything that must be delivered is on disk again")
        return True

    def _remember(self, message: Spooled) -> None:
        self._memory[message.position] = message
        self._memory_bytes += len(message.payload)
        while len(self._memory) > 1 and (
            len(self._memory) > self._messages_max or self._memory_bytes > self._memory_bytes_max
        ):
            self._forget(min(self._memory))
            self._dropped_in_memory += 1

    def _forget(self, position: Position) -> None:
        message = self._memory.pop(position, None)
        if message is not None:
            self._memory_bytes -= len(message.payload)


def _within(messages: list[Spooled], messages_max: int, bytes_max: int) -> list[Spooled]:
    chosen: list[Spooled] = []
    size = 0
    for message in messages:
        if len(chosen) >= messages_max or size >= bytes_max:
            break
        chosen.append(message)
        size += len(message.payload)
    return chosen


class _DiskThread:
    """The one thread that touches the file. What gathers while it works is one transaction."""

    def __init__(
        self, path: Path, bytes_max: int, messages_max: int, answered: Callable[[_Outcome], None]
    ) -> None:
        self._path = path
        self._bounds = bytes_max, messages_max
        self._answered = answered
        self._queue: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._file: SpoolFile | None = None
        self._busy_since: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """A daemon thread: an fsync that never returns must not keep the process."""
        self._loop = loop
        threading.Thread(target=self._run, name="spool", daemon=True).start()

    def submit(self, job: _Job) -> None:
        self._queue.put(job)

    def busy_seconds(self) -> float:
        """For how long the thread has been at its present batch."""
        since = self._busy_since
        return time.monotonic() - since if since is not None else 0.0

    def _run(self) -> None:
        assert self._loop is not None
        ended = False
        while not ended:
            jobs = [self._queue.get()]
            while not self._queue.empty():
                jobs.append(self._queue.get())
            self._busy_since = time.monotonic()
            # Apart, because a full disk can still be read.
            writing = [job for job in jobs if job.read is None]
            outcomes = [self._work(each) for each in (writing, *([job] for job in jobs if job.read)) if each]
            ended = any(job.close for job in jobs)
            if ended:
                self._let_go()
            self._busy_since = None
            try:
                for outcome in outcomes:
                    self._loop.call_soon_threadsafe(self._answered, outcome)
            except RuntimeError:
                return  # the loop is closed: the agent ended without waiting for us

    def _work(self, jobs: list[_Job]) -> _Outcome:
        try:
            try:
                return self._transact(jobs)
            except sqlite3.DatabaseError as error:
                if not damaged(error):
                    raise
                self._let_go()
                return self._transact(jobs)  # opening repairs the file
        except (sqlite3.Error, OSError) as error:
            if not full(error):
                self._let_go()  # to be opened anew; on a full disk that would fail, and reading still works
            failure = f"{self._path}: {error}"
            return _Outcome(jobs=jobs, found=[[] for _ in jobs], facts=None, failure=failure)

    def _transact(self, jobs: list[_Job]) -> _Outcome:
        repaired = ""
        if self._file is None:
            self._file = SpoolFile(self._path, *self._bounds)
            repaired = self._file.repaired
        messages = [message for job in jobs for message in job.messages]
        acknowledged = [each for job in jobs for each in job.acknowledged]
        dropped = sum(job.dropped for job in jobs)
        if messages or acknowledged or dropped:
            self._file.commit(messages, acknowledged, dropped)
        found = [self._file.read(*job.read) if job.read else [] for job in jobs]
        return _Outcome(jobs=jobs, found=found, facts=self._file.facts(), repaired=repaired)

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
