"""The loop around the core: events in, one transaction, then the effects.

    submit ─┐                                              ┌─ resolve whoever waits: the source acknowledges
    batch  ─┼─▶ pending ─▶ core.handle ─▶ store.commit ─▶ ─┼─ publish, notify
    ticks  ─┘    (slices)                 (own thread)     └─ expose, log, stream

One batch at a time: the core sees the next events only when the effects of the last are durable. Whatever arrives
during a commit shares the next one, so batches grow with load by themselves; a lone event is committed at once.

A commit that fails is tried again, the same one, until it succeeds. Meanwhile nothing is acknowledged, no tick reaches
the core and nobody is called silent; notices already committed go on being delivered. The messages of that time wait in
the broker and in the agents' spools.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import structlog
from msgspec import Struct, structs

from holdfast_collector.config import Retention
from holdfast_collector.core.collector import Collector
from holdfast_collector.core.effect import Commit, Effect, Rejected
from holdfast_collector.core.event import BrokerChanged, CoreEvent, Received, Ticked
from holdfast_collector.errors import StoreUnwritable
from holdfast_collector.ingest import PARTITION
from holdfast_collector.own_metrics import OwnMetrics
from holdfast_collector.store import Happened, Store

TICK_SECONDS = 1.0
COMMIT_SPACING_SECONDS = 0.005
"""Transactions begin at least this far apart: two hundred fsyncs a second are enough for any page to be prompt."""
SLICE_SECONDS = 0.005
_SLICE_EVENTS = 32
"""Looked at the clock this often: a message takes 10 to 50 µs."""
RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 5.0
DEAF_SECONDS = 5.0
"""A stall longer than this has cost reports: as after a lost session, silence proves nothing for a while."""
PRUNE_SECONDS = 600.0
STUCK_SECONDS = 60.0
"""A disk that does not answer at all for this long will not: the supervisor's restart is the better bet."""

P = ParamSpec("P")
R = TypeVar("R")


class Released(Struct, frozen=True, kw_only=True):
    """A batch whose effects are durable."""

    at: float
    commits: Sequence[Commit]
    effects: Sequence[Effect]
    """Without the commits."""


class _Work(Struct):
    """Events that take effect together, and who waits for them."""

    events: Sequence[CoreEvent]
    done: asyncio.Future[None]


class Engine:
    """Owns the core and the store's thread. The source's `Intake`."""

    def __init__(
        self,
        collector: Collector,
        store: Store,
        *,
        epoch: int,
        now: Callable[[], float],
        retention: Retention,
        metrics: OwnMetrics,
        released: Callable[[Released], None],
        taken: Callable[[CoreEvent], None] = lambda event: None,
    ) -> None:
        """`released` acts on what is durable, `taken` notes what the core took. They must be quick and must not fail."""
        self.retention = retention
        self.unwritable = ""
        """Why the store does not commit at present; empty while it does."""
        self._collector = collector
        self._store = store
        self._epoch = epoch
        self._now = now
        self._metrics = metrics
        self._released = released
        self._taken = taken
        self._pending: list[_Work] = []
        self._wanted = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._last_at = 0.0
        self._sealed = False
        """The newest commit of the batch forgets a node: nothing may be merged into it."""
        self._tick_at = time.monotonic() + TICK_SECONDS
        self._prune_at = time.monotonic() + TICK_SECONDS
        self._committed_at = 0.0
        self._moved_at = time.monotonic()
        self._log = structlog.get_logger()

    @property
    def moving(self) -> bool:
        """Neither the loop nor the store's thread hangs. A commit that fails moves: it answers."""
        return time.monotonic() - self._moved_at < STUCK_SECONDS

    @property
    def working(self) -> bool:
        """Events take effect: the loop turns and commits succeed."""
        return not self.unwritable and self.moving

    # ---- the way in ----------------------------------------------------------------------------------------------

    def post(self, event: CoreEvent) -> asyncio.Future[None]:
        """Give the core an event. The future resolves when its effect is durable; nobody need wait for it."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append(_Work([event], done))
        self._wanted.set()
        return done

    async def submit(self, event: CoreEvent) -> None:
        """Give the core an event; returns when its effect is durable."""
        await self.post(event)

    async def opened(self, partition: str) -> None:
        """The source begins. The store's ownership was taken before."""

    async def batch(self, partition: str, messages: Sequence[Received]) -> None:
        """Give the core messages; returns when their effect is durable."""
        self._metrics.received(len(messages), sum(len(message.payload) for message in messages))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append(_Work(messages, done))
        self._wanted.set()
        await done

    async def closed(self, partition: str) -> None:
        """The source has ended."""

    # ---- the loop ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until cancelled. Raises Fenced, StoreCorrupt, and whatever is a mistake of ours."""
        while True:
            await self._wait()
            self._moved_at = time.monotonic()
            work, self._pending = self._pending, []
            self._wanted.clear()
            commits, effects, messages = await self._handle(work)
            stalled = await self._commit(commits, messages)
            self._released(Released(at=self._last_at, commits=commits, effects=effects))
            for item in work:
                if not item.done.done():
                    item.done.set_result(None)
            if stalled >= DEAF_SECONDS:
                self._listen_anew()
            await self._prune()

    async def happened(self, node: str, kind: str, resource: str, limit: int) -> Happened:
        """What the store remembers of a node's past. Raises StoreUnwritable when the disk does not answer."""
        return await self._in_thread(self._store.happened, node, limit=limit, kind=kind, resource=resource)

    async def close(self) -> None:
        """Let the store's thread end, and close the store in it. After `run` was cancelled."""
        await self._in_thread(self._store.close)
        self._thread.shutdown(wait=False)

    async def _wait(self) -> None:
        """Until there is something to do, and the last transaction is not too recent."""
        try:
            async with asyncio.timeout_at(_loop_time(self._tick_at)):
                await self._wanted.wait()
        except TimeoutError:
            return
        spare = self._committed_at + COMMIT_SPACING_SECONDS - time.monotonic()
        if spare > 0:
            await asyncio.sleep(spare)

    async def _handle(self, work: Sequence[_Work]) -> tuple[list[Commit], list[Effect], int]:
        """Run the events through the core, letting others have the loop in between."""
        commits: list[Commit] = []
        effects: list[Effect] = []
        messages = 0
        since_yield = time.monotonic()
        for item in work:
            for event in item.events:
                messages += isinstance(event, Received)
                self._one(event, commits, effects)
                if messages % _SLICE_EVENTS == 0 and time.monotonic() - since_yield > SLICE_SECONDS:
                    await asyncio.sleep(0)
                    since_yield = time.monotonic()
        if time.monotonic() >= self._tick_at:
            self._tick_at = time.monotonic() + TICK_SECONDS
            self._one(Ticked(self._now()), commits, effects)
        return commits, effects, messages

    def _one(self, event: CoreEvent, commits: list[Commit], effects: list[Effect]) -> None:
        if event.at < self._last_at:
            event = structs.replace(event, at=self._last_at)
        self._last_at = event.at
        answer = self._answer(event)
        self._taken(event)
        for effect in answer:
            if not isinstance(effect, Commit):
                effects.append(effect)
                continue
            # A node that is forgotten and met again is two things, in order: one commit could not say so.
            forgets = None in effect.nodes.values()
            if commits and not forgets and not self._sealed:
                commits[-1].merge(effect)
            else:
                commits.append(effect)
            self._sealed = forgets

    def _answer(self, event: CoreEvent) -> list[Effect]:
        if not isinstance(event, Received):
            return self._collector.handle(event)
        try:
            return self._collector.handle(event)
        except Exception:  # noqa: BLE001  # a supervision point: one node's bytes must not blind us to all others
            self._log.exception("message crashed the core", node=event.node, bytes=len(event.payload))
            return [Rejected(event.node, "crashed", "a mistake of ours; see the log", event.payload)]

    # ---- the store -----------------------------------------------------------------------------------------------

    async def _commit(self, commits: Sequence[Commit], messages: int) -> float:
        """Make it durable, however often that takes; how many seconds it was refused for."""
        if not commits:
            if messages:
                self._metrics.committed(0.0, messages)
            return 0.0
        first = self._committed_at = time.monotonic()
        delay = RETRY_SECONDS_MIN
        while True:
            began = time.monotonic()
            try:
                await self._in_thread(self._store.commit, PARTITION, self._epoch, commits)
                break
            except StoreUnwritable as error:
                self._refuse(error.reason)
                self._moved_at = time.monotonic()
                await asyncio.sleep(delay)
                delay = min(2.0 * delay, RETRY_SECONDS_MAX)
        self._metrics.committed(time.monotonic() - began, messages)
        if not self.unwritable:
            return 0.0
        self.unwritable = ""
        self._log.info("store commits again", seconds=round(time.monotonic() - first, 1))
        return time.monotonic() - first

    def _refuse(self, reason: str) -> None:
        self._metrics.commit_failed()
        if reason != self.unwritable:
            self._log.error("commit failed", reason=reason)
        self.unwritable = reason

    def _listen_anew(self) -> None:
        """Nobody was heard while the store stalled, which says nothing about them."""
        if self._collector.broker_connected:
            self.post(BrokerChanged(self._now(), connected=False))
            self.post(BrokerChanged(self._now(), connected=True))

    async def _prune(self) -> None:
        """Delete what is older than anybody looks back, a bounded piece at a time."""
        if time.monotonic() < self._prune_at or self._pending:
            return
        now = self._now()
        try:
            deleted = await self._in_thread(
                self._store.prune,
                PARTITION,
                self._epoch,
                events_before=now - self.retention.events,
                resolved_before=now - self.retention.resolved,
                history_before=now - self.retention.history,
            )
        except StoreUnwritable:
            # The next commit will say so, and must succeed; this need not.
            deleted = 0
        self._prune_at = time.monotonic() + (TICK_SECONDS if deleted else PRUNE_SECONDS)

    async def _in_thread(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(*args, **kwargs))


def _loop_time(monotonic: float) -> float:
    """asyncio's loops count on the same clock in CPython on every platform, but do not promise to."""
    return asyncio.get_running_loop().time() + monotonic - time.monotonic()
