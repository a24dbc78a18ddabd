"""Runs of the collector under load, each with a broker, a database and a fleet of its own."""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct, structs

from tests.bench.fleet_load import Composed, EventSource, Fleet
from tests.bench.holdfast_parts import CollectorUnderTest, start_broker
from tests.bench.mqtt_load import PACKET_IDS, Listener, Publisher, pace, publish_packet
from tests.bench.processes import CpuMeter, memory
from tests.bench.stand_in_broker import StandInBroker
from tests.broker import Broker

PACED_SECONDS = 5.0
"""How long a paced run takes: a p99 needs some thousand values."""
_CHUNK = 250
_BATCHES = "holdfast_collector_batch_messages_count"


class Plan(Struct, frozen=True, kw_only=True):
    """How large the runs are."""

    nodes: int
    messages: int
    events: int
    mark_every: int
    """A durable event after so many reports, so that every batch of the collector ends in a transaction."""
    window: int
    """Messages under way at most."""


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of one run."""

    messages: int
    cpu_seconds: float
    """The subject's own."""
    wall_seconds: float
    latencies: list[float] = []
    """Seconds, sorted or not."""
    broker_cpu_seconds: float = 0.0
    rss: int = 0
    messages_per_batch: float = 0.0

    @property
    def per_cpu_second(self) -> float:
        return self.messages / self.cpu_seconds

    @property
    def per_second(self) -> float:
        return self.messages / self.wall_seconds


def packed(composed: Sequence[Composed]) -> list[bytes]:
    """PUBLISH packets with ids that count from one."""
    return [
        publish_packet(topic, payload, index % PACKET_IDS + 1)
        for index, (topic, payload) in enumerate(composed)
    ]


def marked_load(plan: Plan, fleet: Fleet, marks: EventSource) -> list[Composed]:
    """Reports with a durable event after every `mark_every` of them."""
    reports: list[Composed] = []
    while len(reports) < plan.messages:
        reports += fleet.reports()
    load: list[Composed] = []
    for start in range(0, plan.messages, plan.mark_every):
        load += reports[start : min(start + plan.mark_every, plan.messages)]
        load.append(marks.event())
    return load


def reports_run(plan: Plan, folder: Path) -> Outcome:
    """Reports that change facts, through mosquitto, as fast as the collector confirms the events between them.

    The latencies are those of the events: from publishing until the collector's own acknowledgement came back.
    """
    broker = start_broker(folder)
    collector = CollectorUnderTest(folder / "collector", broker_url=broker.url)
    try:
        fleet, marks = Fleet(plan.nodes), EventSource("bench-marks")
        introduced = _introduce(broker, marks, [*fleet.births(), *fleet.reports()])
        load = marked_load(plan, fleet, marks)
        packets = packed(load)
        with (
            Listener(broker.port, "bench-listener", "holdfast/v1/bench-marks/down", marks.delivered),
            Publisher(broker.port, "bench-load") as publisher,
        ):
            batches = collector.metric(_BATCHES)
            meter, broker_meter = CpuMeter(collector.pid), CpuMeter(broker.pid)
            for chunk in _chunks(packets, plan.mark_every + 1):
                marks.wait_acknowledged(plan.window // plan.mark_every)
                marks.sent()
                publisher.send(chunk)
            marks.wait_acknowledged()
            cpu, wall = meter.read()
            broker_cpu, _ = broker_meter.read()
        batches = collector.metric(_BATCHES) - batches
        _check_all_taken(collector, introduced + len(load))
        return Outcome(
            messages=len(load),
            cpu_seconds=cpu,
            wall_seconds=wall,
            latencies=marks.latencies(first=2),
            broker_cpu_seconds=broker_cpu,
            rss=memory(collector.pid).rss,
            messages_per_batch=len(load) / batches,
        )
    finally:
        collector.stop()
        broker.stop()


def events_run(plan: Plan, folder: Path, *, rate: float | None = None) -> Outcome:
    """Durable events only, through mosquitto: as fast as the collector confirms them, or at `rate` per second."""
    broker = start_broker(folder)
    collector = CollectorUnderTest(folder / "collector", broker_url=broker.url)
    try:
        source = EventSource("bench-events")
        introduced = _introduce(broker, source, [])
        count = plan.events if rate is None else int(PACED_SECONDS * rate)
        load = packed([source.event() for _ in range(count)])
        with (
            Listener(broker.port, "bench-listener", "holdfast/v1/bench-events/down", source.delivered),
            Publisher(broker.port, "bench-load") as publisher,
        ):
            batches = collector.metric(_BATCHES)
            meter = CpuMeter(collector.pid)
            if rate is None:
                for chunk in _chunks(load, _CHUNK):
                    source.wait_acknowledged(plan.window - _CHUNK)
                    source.sent(len(chunk))
                    publisher.send(chunk)
            else:
                for number in pace(rate, count):
                    source.sent()
                    publisher.send([load[number]])
            source.wait_acknowledged()
            cpu, wall = meter.read()
        batches = collector.metric(_BATCHES) - batches
        _check_all_taken(collector, introduced + count)
        return Outcome(
            messages=count,
            cpu_seconds=cpu,
            wall_seconds=wall,
            latencies=source.latencies(first=2),
            rss=memory(collector.pid).rss,
            messages_per_batch=count / batches,
        )
    finally:
        collector.stop()
        broker.stop()


def direct_run(plan: Plan, folder: Path, *, rate: float | None = None) -> Outcome:
    """The reports and events of `reports_run` from a stand-in broker; the latencies are from PUBLISH to PUBACK."""
    with StandInBroker() as broker:
        collector = CollectorUnderTest(folder / "collector", broker_url=broker.url)
        try:
            fleet, marks = Fleet(plan.nodes), EventSource("bench-marks")
            introduction = [*fleet.births(), *fleet.reports(), marks.birth()]
            broker.send_all(introduction)
            if rate is not None:
                plan = structs.replace(plan, messages=int(PACED_SECONDS * rate), mark_every=10)
            load = marked_load(plan, fleet, marks)
            batches = collector.metric(_BATCHES)
            meter = CpuMeter(collector.pid)
            latencies = broker.send_all(load, rate=rate)
            cpu, wall = meter.read()
            batches = collector.metric(_BATCHES) - batches
            _check_all_taken(collector, len(introduction) + len(load))
            return Outcome(
                messages=len(load),
                cpu_seconds=cpu,
                wall_seconds=wall,
                latencies=latencies,
                rss=memory(collector.pid).rss,
                messages_per_batch=len(load) / batches,
            )
        finally:
            collector.stop()


def _introduce(broker: Broker, source: EventSource, others: Sequence[Composed]) -> int:
    """Let the collector meet everybody before the clock runs; how many messages that took."""
    made = packed([*others, source.birth()])
    filter_ = f"holdfast/v1/{source.node}/down"
    with (
        Listener(broker.port, "bench-introduction-listener", filter_, source.delivered),
        Publisher(broker.port, "bench-introduction") as publisher,
    ):
        source.sent()
        for chunk in _chunks(made, _CHUNK):
            publisher.send(chunk)
            publisher.wait_taken()
        source.wait_acknowledged()
    return len(made)


def _check_all_taken(collector: CollectorUnderTest, messages: int) -> None:
    """A figure of messages that were refused would be worth nothing."""
    came = collector.metric("holdfast_collector_messages_total")
    refused = collector.metric("holdfast_collector_rejected_total")
    assert (came, refused) == (messages, 0), f"{came:g} of {messages} messages came, {refused:g} were refused"


def _chunks(packets: Sequence[bytes], size: int) -> list[Sequence[bytes]]:
    return [packets[start : start + size] for start in range(0, len(packets), size)]
