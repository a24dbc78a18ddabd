"""What the web pages, the API and the exposition may know of the running collector, and ask of it.

`app` builds the one instance. Everything here lives in the event loop's thread.
"""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from msgspec import Struct

from holdfast_collector.config import Config
from holdfast_collector.core.collector import Collector
from holdfast_collector.core.effect import Noted, Transitioned, Turned
from holdfast_collector.core.event import CoreEvent
from holdfast_collector.exposition import Exposition
from holdfast_collector.own_metrics import OwnMetrics
from holdfast_collector.store import Happened
from holdfast_wire.message import Value

REJECTIONS_MAX = 100
"""Samples of refused bytes kept for the operator: enough to see a pattern, at most 100 × 4 KiB."""
REJECTION_BYTES_MAX = 4096


class Rejection(Struct, frozen=True, kw_only=True):
    """A sample of bytes that were not taken."""

    at: float
    node: str
    reason: str
    detail: str
    bytes: int
    """The payload's full length."""
    payload: str
    """Its beginning, with anything unprintable escaped: hostile input."""


class StreamItem(Struct, frozen=True, kw_only=True):
    """Something people who watch are told as it happens."""

    at: float
    happened: Transitioned | Turned | Noted


@dataclass(kw_only=True)
class Context:
    """The running collector as its visitors see it."""

    config: Config
    """Replaced when SIGHUP brings a new valid one."""
    collector: Collector
    """Read freely between awaits; change only through `submit`."""
    exposition: Exposition
    """Told after a commit which nodes to render anew."""
    metrics: OwnMetrics
    rejections: deque[Rejection]
    """The newest last, at most REJECTIONS_MAX."""
    started_at: float
    now: Callable[[], float]
    """The collector's clock: Unix seconds UTC that never run backwards. Stamp events with it."""
    submit: Callable[[CoreEvent], Awaitable[None]]
    """Give the core an event; resolves when its effect is committed, which a failing disk may delay for long."""
    happened: Callable[[str, str, str, int], Awaitable[Happened]]
    """What the store remembers of (node, kind, resource; empty: any), at most so many of each sort. Raises StoreError."""
    subscribe: Callable[[], AsyncIterator[StreamItem]]
    """What happens from now on. Ends when the collector stops, or when the subscriber falls 1,000 items behind."""
    readiness: Callable[[], list[str]]
    """Why the collector does not do its whole work; empty when it does."""
    health: Callable[[], dict[str, Value]]
    """The facts of the collector itself, and what only the shell knows: `store_writable`, `store_quarantined`."""
    stopping: Callable[[], bool]
    """Whether the collector is about to end: streams should."""
