"""What the collector says of itself: the one place where prometheus_client is known.

The series of nodes do not go through prometheus_client: it builds every sample anew at every scrape, five times the
cost of the ready lines that `exposition` keeps when every node has news, and near thirty times when none has
(`tests/bench/exposition_bench.py`). The collector's own few dozen series are exactly its trade.

Methods are named for what happened, so that nobody else handles a metric object.
"""

import platform
from collections.abc import Mapping

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_latest_openmetrics

from holdfast_wire.message import Value

# Series named `…_created` double every counter in the plain format, and nobody reads them. The library has this as a
# switch for the whole process only.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left it untyped

_EOF = b"# EOF\n"
# An fsync on an SSD takes 0.1 to 2 ms, on a spinning disk 10 to 30 ms; a second means that the disk is in trouble.
_COMMIT_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_BATCH_MESSAGES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
# From a webhook on the same machine up to a receiver that was away for an hour.
_DELIVERY_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0, 3600.0)
_SCRAPE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class OwnMetrics:
    """The collector's own metrics. Not shared between threads: the event loop's."""

    def __init__(self, version: str, started_at: float) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        build = self._gauge("holdfast_build_info", "The running holdfast.", "version", "python")
        build.labels(version, platform.python_version()).set(1)
        self._gauge(
            "holdfast_collector_start_timestamp_seconds", "When this collector started, Unix time."
        ).set(started_at)
        self._ingest_metrics()
        self._sample_metrics()
        self._outbox_metrics()
        self._page_metrics()

    def _ingest_metrics(self) -> None:
        self._messages = self._counter(
            "holdfast_collector_messages_total", "Messages that arrived from agents."
        )
        self._message_bytes = self._counter(
            "holdfast_collector_message_bytes_total", "Their payloads together."
        )
        self._rejected = self._counter(
            "holdfast_collector_rejected_total", "Messages that were not taken, by reason.", "reason"
        )
        self._commit_seconds = self._histogram(
            "holdfast_collector_commit_seconds",
            "How long one transaction took, fsync included.",
            _COMMIT_SECONDS,
        )
        self._batch_messages = self._histogram(
            "holdfast_collector_batch_messages", "Messages that shared one transaction.", _BATCH_MESSAGES
        )
        self._commit_failures = self._counter(
            "holdfast_collector_commit_failures_total", "Transactions that the store's disk refused."
        )
        self._broker_connected = self._gauge(
            "holdfast_collector_broker_connected", "1 while the collector holds a session with a broker."
        )
        self._broker_sessions = self._counter(
            "holdfast_collector_broker_sessions_total", "Sessions with a broker that were begun."
        )
        self._down_messages = self._counter(
            "holdfast_collector_down_messages_total", "Messages to agents, by how they ended.", "outcome"
        )
        self._warm = self._gauge(
            "holdfast_collector_warm",
            "1 when the collector has watched for a full grace period since its start.",
        )
        self._nodes = self._gauge("holdfast_collector_nodes", "Nodes the collector knows.")
        self._nodes_reporting = self._gauge("holdfast_collector_nodes_reporting", "Nodes whose reports come.")

    def _sample_metrics(self) -> None:
        self._samples_bytes = self._gauge(
            "holdfast_collector_samples_bytes", "Size of what is recorded for a replay of rules."
        )
        self._samples_since = self._gauge(
            "holdfast_collector_samples_oldest_timestamp_seconds",
            "Since when that is recorded, Unix time; 0 when nothing is.",
        )
        self._samples_lost = self._counter(
            "holdfast_collector_samples_lost_total", "Messages that could not be recorded for a replay."
        )

    def _outbox_metrics(self) -> None:
        self._outbox_notices = self._gauge(
            "holdfast_collector_outbox_notices", "Notifications that wait for their receiver.", "receiver"
        )
        self._outbox_age = self._gauge(
            "holdfast_collector_outbox_age_seconds", "How long the oldest of them has waited.", "receiver"
        )
        self._deliveries = self._counter(
            "holdfast_collector_deliveries_total",
            "Attempts to notify, by how they ended.",
            "receiver",
            "outcome",
        )
        self._delivery_seconds = self._histogram(
            "holdfast_collector_delivery_seconds",
            "From the decision to notify until the receiver took the notice.",
            _DELIVERY_SECONDS,
            "receiver",
        )

    def _page_metrics(self) -> None:
        self._scrape_seconds = self._histogram(
            "holdfast_collector_scrape_seconds",
            "How long it took to put this page together.",
            _SCRAPE_SECONDS,
        )
        self._scrape_bytes = self._gauge(
            "holdfast_collector_scrape_bytes", "Size of the newest page before gzip."
        )
        self._resources_cut = self._gauge(
            "holdfast_collector_resources_cut",
            "Resources without series, because their nodes have more than a page can carry.",
        )
        self._http_refused = self._counter(
            "holdfast_collector_http_refused_total", "HTTP requests that were not taken, by reason.", "reason"
        )
        self._stream_clients = self._gauge(
            "holdfast_collector_stream_clients", "Clients that listen to the stream of changes."
        )
        self._stream_dropped = self._counter(
            "holdfast_collector_stream_dropped_total", "Clients cut off because they read too slowly."
        )

    # ---- what happened -------------------------------------------------------------------------------------------

    def received(self, messages: int, total_bytes: int) -> None:
        """Messages came in, `total_bytes` of payload together."""
        self._messages.inc(messages)
        self._message_bytes.inc(total_bytes)

    def rejected(self, reason: str) -> None:
        """A message was not taken. `reason` is from a closed set, see `core.effect.Rejected`."""
        self._rejected.labels(reason).inc()

    def committed(self, seconds: float, messages: int) -> None:
        """A transaction with the effects of so many messages is on the disk."""
        self._commit_seconds.observe(seconds)
        self._batch_messages.observe(messages)

    def commit_failed(self) -> None:
        """The store could not commit."""
        self._commit_failures.inc()

    def samples_kept(self, total_bytes: int, since: float) -> None:
        """So much is recorded for a replay, since then."""
        self._samples_bytes.set(total_bytes)
        self._samples_since.set(since)

    def samples_lost(self, events: int) -> None:
        """So many events could not be recorded."""
        self._samples_lost.inc(events)

    def published(self, outcome: str) -> None:
        """A message to an agent was `sent`, was `refused` by the broker, or was `lost` with the session."""
        self._down_messages.labels(outcome).inc()

    def broker_session_begun(self) -> None:
        """A broker took the collector's CONNECT."""
        self._broker_sessions.inc()

    def delivered(self, receiver: str, outcome: str, age_seconds: float | None = None) -> None:
        """An attempt to notify ended as `outcome`; with an age, the notice was taken that long after its creation."""
        self._deliveries.labels(receiver, outcome).inc()
        if age_seconds is not None:
            self._delivery_seconds.labels(receiver).observe(age_seconds)

    def scraped(self, seconds: float, page_bytes: int) -> None:
        """A page was put together."""
        self._scrape_seconds.observe(seconds)
        self._scrape_bytes.set(page_bytes)

    def resources_cut(self, resources: int) -> None:
        """So many resources have no series at present."""
        self._resources_cut.set(resources)

    def http_refused(self, reason: str) -> None:
        """A request was not taken: `unauthenticated`, `forbidden`, `host`, …, see `web.guard`."""
        self._http_refused.labels(reason).inc()

    def stream_clients(self, clients: int) -> None:
        """So many clients listen at present."""
        self._stream_clients.set(clients)

    def stream_dropped(self) -> None:
        """A client read too slowly and was cut off."""
        self._stream_dropped.inc()

    def observe_health(self, facts: Mapping[str, Value], outbox: Mapping[str, tuple[int, float]]) -> None:
        """Take over `Collector.health`, and per receiver how many notices wait and how old the oldest is."""
        self._broker_connected.set(bool(facts["broker_connected"]))
        self._warm.set(bool(facts["warm"]))
        self._nodes.set(float(facts["nodes"]))
        self._nodes_reporting.set(float(facts["nodes_reporting"]))
        for receiver, (notices, age_seconds) in outbox.items():
            self._outbox_notices.labels(receiver).set(notices)
            self._outbox_age.labels(receiver).set(age_seconds)

    # ---- reading -------------------------------------------------------------------------------------------------

    def rejected_by_reason(self) -> dict[str, int]:
        """How many messages were not taken since the start, by reason."""
        return {
            sample.labels["reason"]: int(sample.value)
            for family in self._rejected.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        }

    def render(self, *, openmetrics: bool) -> bytes:
        """All of it in the text format, without the end mark of OpenMetrics: more is to follow."""
        if openmetrics:
            page: bytes = generate_latest_openmetrics(self._registry)  # type: ignore[no-untyped-call]  # as above
            return page.removesuffix(_EOF)
        return generate_latest(self._registry)

    # ---- making --------------------------------------------------------------------------------------------------

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(name, help_, labels, registry=self._registry)

    def _gauge(self, name: str, help_: str, *labels: str) -> Gauge:
        return Gauge(name, help_, labels, registry=self._registry)

    def _histogram(self, name: str, help_: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, help_, labels, buckets=buckets, registry=self._registry)
