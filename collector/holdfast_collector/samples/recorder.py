"""Gathers what the core takes, and has a thread put it away, a slice at a time. What it cannot keep delays nobody."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import structlog
from msgspec import Struct

from holdfast_collector.config import Retention
from holdfast_collector.core.event import BrokerChanged, CoreEvent, Received, Ticked
from holdfast_collector.core.keyframe import KEYFRAME_SECONDS, keyframe
from holdfast_collector.core.node import Node
from holdfast_collector.own_metrics import OwnMetrics
from holdfast_collector.samples.files import FOLDER, Kept, SampleFiles
from holdfast_collector.samples.slice import Known, Recorded, Slice, pack, recordable

SLICE_SECONDS = 60.0
"""A crash costs this much at most."""
SLICE_BYTES = 8 * 1024 * 1024
"""Of payloads in memory: a minute of a thousand nodes. More nodes make shorter slices, which pack less well."""
WAITING_MAX = 4
"""Slices under way to a disk that is slow; what comes then is lost, and counted."""
KEYFRAME_ROUND_SECONDS = 600.0
"""A round over the fleet takes at most this long."""


class _Written(Struct, frozen=True):
    """How writing one slice went."""

    kept: Kept
    dropped: list[str]
    """Files that went for want of room."""


class Recorder:
    """The event loop's, but for `_write`."""

    def __init__(
        self,
        data_dir: Path,
        nodes: Mapping[str, Node],
        *,
        retention: Retention,
        metrics: OwnMetrics,
        now: Callable[[], float],
    ) -> None:
        self.retention = retention
        self._nodes = nodes
        self._metrics = metrics
        self._now = now
        self._files = SampleFiles(data_dir / FOLDER)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="samples")
        self._waiting: list[tuple[Future[_Written], int]] = []
        """Slices under way, and how many events each holds."""
        self._events: list[Recorded] = []
        self._number = 0
        self._since = self._last_at = now()
        """From when to when the slice in the making is."""
        self._bytes = 0
        self._cut_at = time.monotonic() + SLICE_SECONDS
        self._connected = False
        self._connected_before = False
        """When the slice in the making began."""
        self._round: list[str] = []
        """Nodes whose keyframe is wanted, the next one last."""
        self._keyed: set[str] = set()
        """Nodes that have one, or wait for it in the round."""
        self._round_at = 0.0
        self._failing = ""
        self._off = False
        self._log = structlog.get_logger()

    def note(self, event: CoreEvent) -> None:
        """The core took an event. Quick: it is called for every message."""
        self._last_at = event.at
        if isinstance(event, Received):
            self._events.append(event)
            self._bytes += len(event.payload)
            if self._bytes >= SLICE_BYTES:
                self._cut()
        elif isinstance(event, Ticked):
            self._ticked(event.at)
        elif (kept := recordable(event)) is not None:
            self._events.append(kept)
            if isinstance(kept, BrokerChanged):
                self._connected = kept.connected

    def close(self) -> None:
        """Put away what is left, and wait for it. Blocks."""
        self._cut()
        self._thread.shutdown(wait=True)
        self._look()

    def _ticked(self, at: float) -> None:
        self._look()
        if not self.retention.samples:
            self._switched_off()
            return
        self._off = False
        self._key(at)
        if time.monotonic() >= self._cut_at:
            self._cut()

    def _key(self, at: float) -> None:
        """Some more nodes' keyframes: every node's in each round, and first of all those that were met since."""
        if not self._round and at - self._round_at >= KEYFRAME_SECONDS:
            self._round, self._round_at = list(self._nodes), at
            self._keyed = set(self._round)
        new = self._nodes.keys() - self._keyed
        self._round += new
        self._keyed |= new
        pace = 1 + int(len(self._nodes) / KEYFRAME_ROUND_SECONDS)
        for name in self._round[-pace:]:
            node = self._nodes.get(name)
            if node is not None:
                self._events.append(Known(at, keyframe(node)))
            else:
                self._keyed.discard(name)
        del self._round[-pace:]

    def _switched_off(self) -> None:
        """Nothing is wanted any more: what there was goes, too."""
        self._events.clear()
        self._bytes = 0
        if not self._off:
            self._off = True
            self._thread.submit(self._files.clear)

    def _cut(self) -> None:
        """The slice in the making is complete. One without events says that nobody was heard."""
        events, self._events = self._events, []
        connected, self._connected_before = self._connected_before, self._connected
        self._bytes = 0
        self._cut_at = time.monotonic() + SLICE_SECONDS
        since, self._since = self._since, self._last_at
        if not self.retention.samples:
            return
        number, self._number = self._number, self._number + 1
        if len(self._waiting) >= WAITING_MAX:
            self._lost(len(events), "the disk is slower than the fleet")
            return
        piece = Slice(
            number=number,
            began_at=since,
            ended_at=self._last_at,
            connected=connected,
            events=events,
        )
        before = self._now() - self.retention.samples
        future = self._thread.submit(self._write, piece, before, self.retention.samples_bytes)
        self._waiting.append((future, len(events)))

    def _write(self, piece: Slice, before: float, bytes_max: int) -> _Written:
        self._files.append(pack(piece), piece.began_at, bytes_max)
        dropped = self._files.prune(before, bytes_max)
        return _Written(self._files.kept(), dropped)

    def _look(self) -> None:
        """What became of the slices that were under way."""
        while self._waiting and self._waiting[0][0].done():
            future, events = self._waiting.pop(0)
            error = future.exception()
            if isinstance(error, OSError):
                self._lost(events, str(error))
                continue
            written = future.result()
            self._metrics.samples_kept(written.kept.bytes, written.kept.since)
            if written.dropped:
                self._log.warning("oldest samples dropped", reason="size", files=written.dropped)
            if self._failing:
                self._log.info("samples written again")
                self._failing = ""

    def _lost(self, events: int, reason: str) -> None:
        """A gap, which a replay tells by the numbers."""
        self._metrics.samples_lost(events)
        if not self._failing:
            self._log.error("samples not written", reason=reason)
        self._failing = reason
