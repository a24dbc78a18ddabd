"""A collector as its visitors see it: the real core and the real pages, with neither broker nor disk behind them."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from holdfast_collector.config import Config
from holdfast_collector.context import Context, Rejection, StreamItem
from holdfast_collector.core.effect import Commit, Effect, Forgot, Noted, Refreshed, Rejected, Transitioned
from holdfast_collector.core.event import CoreEvent, Received, Ticked
from holdfast_collector.errors import StoreUnwritable
from holdfast_collector.exposition import Exposition
from holdfast_collector.own_metrics import OwnMetrics
from holdfast_collector.store import Happened
from holdfast_wire import Resource, Section, SectionStatus, UpMessage, encode
from holdfast_wire.message import Value
from tests.collector.fleet import RULES, T0, Desk


class Visited:
    """Feeds the core and does with its effects what the shell does, less the commit."""

    def __init__(self, config: Config | None = None, *, rules: str = RULES) -> None:
        self.desk = Desk(rules=rules)
        self.now = T0
        self.reasons: list[str] = []
        self.store_stuck = False
        """Submitted events are taken and never committed."""
        self.store_broken = ""
        """Why the store cannot be read; empty: it can."""
        self.committed = Commit()
        self.ended = False
        self._listeners: list[asyncio.Queue[StreamItem | None]] = []
        metrics = OwnMetrics("0.1.0", T0)
        collector = self.desk.collector
        self.context = Context(
            config=config or Config(),
            collector=collector,
            exposition=Exposition(
                collector.nodes, collector.alerts, metrics, collector.rulings, now=lambda: self.now
            ),
            metrics=metrics,
            rejections=deque(maxlen=100),
            started_at=T0,
            now=lambda: self.now,
            submit=self._submit,
            happened=self._happened,
            subscribe=self._subscribe,
            readiness=lambda: self.reasons,
            health=lambda: {**collector.health(self.now), "store_writable": True, "store_quarantined": False},
            stopping=lambda: self.ended,
        )

    def feed(self, message: UpMessage | bytes, *, node: str = "") -> None:
        """A message arrives now. `node` as the topic names it; by default as the message does."""
        payload = message if isinstance(message, bytes) else encode(message)
        named = node or ("n1" if isinstance(message, bytes) else message.node)
        self._do(Received(self.now, named, payload))

    def tick(self, at: float) -> None:
        """Time passes until `at`."""
        self.now = at
        self._do(Ticked(at))

    def end(self) -> None:
        """The collector stops: subscriptions end."""
        self.ended = True
        for listener in self._listeners:
            listener.put_nowait(None)

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    async def _submit(self, event: CoreEvent) -> None:
        if self.store_stuck:
            await asyncio.Event().wait()
        self._do(event)

    async def _happened(self, node: str, kind: str, resource: str, limit: int) -> Happened:
        """As the store does, out of what was committed."""
        if self.store_broken:
            raise StoreUnwritable(self.store_broken)
        turns = [
            turn
            for turn in reversed(self.committed.turns)
            if turn.node == node and kind in {"", turn.kind} and resource in {"", turn.resource}
        ]
        resolved = [row for row in reversed(self.committed.resolved) if row.alert.node == node]
        fates = [
            row for row in reversed(self.committed.events) if (row.node, row.type) == (node, "reboot_fate")
        ]
        return Happened(turns=turns[:limit], resolved=resolved[:limit], fates=fates[:limit])

    async def _subscribe(self) -> AsyncIterator[StreamItem]:
        queue: asyncio.Queue[StreamItem | None] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            while (item := await queue.get()) is not None:
                yield item
        finally:
            self._listeners.remove(queue)

    def _do(self, event: CoreEvent) -> None:
        for effect in self.desk.collector.handle(event):
            self._release(effect)

    def _release(self, effect: Effect) -> None:
        context = self.context
        match effect:
            case Commit():
                self.committed.merge(effect)
            case Refreshed():
                context.exposition.refreshed(effect.node)
            case Forgot():
                context.exposition.forgot(effect.node)
            case Rejected():
                context.metrics.rejected(effect.reason)
                context.rejections.append(
                    Rejection(
                        at=self.now,
                        node=effect.node,
                        reason=effect.reason,
                        detail=effect.detail,
                        bytes=len(effect.payload),
                        payload=repr(effect.payload[:4096]),
                    )
                )
            case Transitioned() | Noted():
                for listener in self._listeners:
                    listener.put_nowait(StreamItem(at=self.now, happened=effect))
            case _:
                pass


def probe(
    name: str,
    *resources: tuple[str, str, dict[str, Value]],
    status: SectionStatus = SectionStatus.OK,
    detail: str = "",
    missing: dict[str, str] | None = None,
) -> Section:
    """What a probe says: (kind, name, facts) of each resource."""
    return Section(
        probe=name,
        status=status,
        observed_at=T0,
        mono=0.0,
        period_seconds=10.0,
        duration_seconds=0.012,
        detail=detail,
        missing=missing or {},
        resources=[Resource(kind=kind, name=resource, facts=facts) for kind, resource, facts in resources],
    )
