"""The Prometheus page: put together in slices from ready lines, packed in a thread, so that no scrape stalls the loop.

    after a commit            a scrape
    ──────────────            ────────
    refreshed(node) ─▶ list ─▶ rewrite the lines of listed nodes, every few milliseconds a turn for others
    forgot(node)              write the alerts, the times of the newest reports, the collector's own metrics
                              join the families, a slice at a time
                              gzip level 1 in a thread: zlib lets go of the interpreter's lock

A slice ends after SLICE_SECONDS, whatever it did. What changes while a page is being put together is on this page or on
the next one; a page is no snapshot, nor is a scrape of a hundred exporters.
"""

import asyncio
import time
import zlib
from collections.abc import Callable, Mapping
from enum import Enum

from msgspec import Struct

from holdfast_collector.core.node import Node
from holdfast_collector.core.record import Tracked
from holdfast_collector.core.rulings import Rulings
from holdfast_collector.own_metrics import OwnMetrics
from holdfast_collector.series import AlertSeries, NodeSeries
from holdfast_collector.text_format import Family
from holdfast_collector.verdict_series import VerdictSeries
from holdfast_collector.witness_series import WitnessSeries

SLICE_SECONDS = 0.003
"""Work between two turns for others. A turn costs some 20 µs, so this is thrift; what must not be passed is 20 ms."""
_PIECES = 1024
"""Lines of nodes that are joined at once: half a millisecond for a usual fleet."""
_ALERTS = 256
_GZIP_LEVEL = 1
"""Level 9, which prometheus_client uses, takes ten times as long for 6 % less (10,000 nodes, 15.7 MB)."""
_GZIP_WINDOW = 31
"""zlib's largest window, in a gzip frame."""


class Format(Enum):
    """The text formats a scraper may ask for."""

    PLAIN = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Page(Struct, frozen=True):
    """A page ready to be sent."""

    format: Format
    gzipped: bool
    chunks: list[bytes]

    @property
    def total_bytes(self) -> int:
        return sum(map(len, self.chunks))


def wanted_format(accept: str) -> Format:
    """What a scraper prefers, by its Accept header (RFC 9110 §12.5.1). In doubt the plain format, which all read."""
    best = {Format.PLAIN: 0.0, Format.OPENMETRICS: 0.0}
    for part in accept.split(","):
        media, *parameters = (token.strip() for token in part.split(";"))
        given = dict(parameter.partition("=")[::2] for parameter in parameters)
        try:
            quality = float(given.get("q", "1"))
        except ValueError:
            continue
        if media == "application/openmetrics-text" and given.get("version", "1.0.0") == "1.0.0":
            best[Format.OPENMETRICS] = max(best[Format.OPENMETRICS], quality)
        elif media in {"text/plain", "text/*"} and given.get("version", "0.0.4") == "0.0.4":
            best[Format.PLAIN] = max(best[Format.PLAIN], quality)
    return Format.OPENMETRICS if best[Format.OPENMETRICS] > best[Format.PLAIN] else Format.PLAIN


def gzip_accepted(accept_encoding: str) -> bool:
    """Whether a client takes gzip, by its Accept-Encoding header (RFC 9110 §12.5.3)."""
    for part in accept_encoding.split(","):
        coding, _, weight = part.partition(";")
        if coding.strip().lower() in {"gzip", "*"}:
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


class _Turns:
    """Gives others their turn whenever enough work was done."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + SLICE_SECONDS

    @property
    def due(self) -> bool:
        return time.perf_counter() > self._until

    async def give(self) -> None:
        await asyncio.sleep(0)
        self._until = time.perf_counter() + SLICE_SECONDS


class Exposition:
    """Keeps the page. Lives in the event loop's thread."""

    def __init__(
        self,
        nodes: Mapping[str, Node],
        alerts: Mapping[str, Tracked],
        own: OwnMetrics,
        rulings: Rulings | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now`: the collector's clock, for ages."""
        self._nodes = nodes
        self._rulings = rulings or Rulings()
        self._verdict_series = VerdictSeries()
        self._witness_series = WitnessSeries()
        self._now = now
        self._alerts = alerts
        self._own = own
        self._node_series = NodeSeries()
        self._alert_series = AlertSeries()
        self._due: dict[str, None] = dict.fromkeys(nodes)
        """Nodes with news, in the order it came."""
        self._one_at_a_time = asyncio.Lock()

    def refreshed(self, node: str) -> None:
        """A node has news, or is new. Its lines are rewritten when somebody asks for the page."""
        self._due[node] = None

    def forgot(self, node: str) -> None:
        """A node is gone, and its series with it."""
        self._due.pop(node, None)
        self._node_series.forget(node)
        self._verdict_series.forget(node)
        self._witness_series.forget(node)

    async def page(self, format_: Format, *, gzipped: bool) -> Page:
        """The page as of now. Two scrapes at once come one after the other: they share what is rewritten."""
        async with self._one_at_a_time:
            began = time.perf_counter()
            turns = _Turns()
            await self._write_nodes(turns)
            await self._write_alerts(turns)
            chunks = await self._join(format_, turns)
            self._own.scraped(time.perf_counter() - began, sum(map(len, chunks)))
            if gzipped:
                chunks = await asyncio.to_thread(_pack, chunks)
            return Page(format_, gzipped, chunks)

    async def _write_nodes(self, turns: _Turns) -> None:
        # Taken out one by one: a scraper that goes away halfway must not cost the news of the rest.
        due = dict(self._due)
        for name in due:
            self._due.pop(name, None)
            node = self._nodes.get(name)
            if node is not None:
                self._node_series.write(node)
                self._verdict_series.write(name, self._rulings.of(name))
                self._witness_series.write(node)
            if turns.due:
                await turns.give()
        # Reports that change nothing else move their node's time all the same.
        for name, node in list(self._nodes.items()):
            if self._nodes.get(name) is node:
                self._witness_series.write_lag(node, self._now())
                if name not in due:
                    self._node_series.write_last_report(node)
            if turns.due:
                await turns.give()
        self._verdict_series.write_groups(self._rulings.groups.rulings)
        self._own.resources_cut(sum(self._node_series.cut.values()))

    async def _write_alerts(self, turns: _Turns) -> None:
        rows = list(self._alerts.values())
        self._alert_series.begin()
        for start in range(0, len(rows), _ALERTS):
            self._alert_series.add(rows[start : start + _ALERTS])
            if turns.due:
                await turns.give()
        self._alert_series.end()

    async def _join(self, format_: Format, turns: _Turns) -> list[bytes]:
        openmetrics = format_ is Format.OPENMETRICS
        # The library's own page cannot be cut in slices: a millisecond or two, which get a turn to themselves.
        await turns.give()
        chunks = [self._own.render(openmetrics=openmetrics)]
        await turns.give()
        families: list[Family] = [
            *self._alert_series.families,
            *self._verdict_series.families,
            *self._witness_series.families,
            *self._node_series.families,
        ]
        pending: list[bytes] = []
        for family in families:
            if not family.lines:
                continue
            pending.append(family.header(openmetrics=openmetrics))
            # A copy: while others have their turn nodes come and go.
            lines = list(family.lines.values())
            for start in range(0, len(lines), _PIECES):
                pending += lines[start : start + _PIECES]
                if len(pending) >= _PIECES:
                    chunks.append(b"".join(pending))
                    pending = []
                if turns.due:
                    await turns.give()
        if openmetrics:
            pending.append(b"# EOF\n")
        chunks.append(b"".join(pending))
        return chunks


def _pack(chunks: list[bytes]) -> list[bytes]:
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    return [b"".join([*map(packer.compress, chunks), packer.flush()])]
