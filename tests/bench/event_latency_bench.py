"""From the death of a process to the page: kill -9 → webhook, beside node_exporter + Prometheus + Alertmanager.

    python -m tests.bench.event_latency_bench [--faults 100] [--peers defaults,tight] [--spacing 2]

A real systemd (`tests/rigs/systemd_box.py`; needs root) runs as many services as there are faults. Each fault is one
SIGKILL to a main process, and all subjects watch the same systemd: the agent on its bus, publishing through a real
mosquitto to a collector with the shipped rules and a durable outbox; and node_exporter's systemd collector with
Prometheus and Alertmanager at their usual pace (15 s / 15 s / 30 s) and the tightest sane one (5 s / 5 s / 1 s), with a
rule that does not wait. The clock runs from just before kill(2) to the arrival of the POST. Faults come one at a time:
the agent looks at once at the first five changes and then once a second, so that a crash loop costs nothing.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from msgspec import Struct

from tests.bench.alerting_stack import DEFAULTS, TIGHT, AlertingStack, Arrivals, start_exporter
from tests.bench.boxed_services import BoxedServices
from tests.bench.figures import milliseconds, percentile, print_heading, print_table
from tests.bench.holdfast_parts import CollectorUnderTest, start_agent, start_broker
from tests.bench.processes import Missing, installed_command
from tests.ports import free_port
from tests.rigs.systemd_box import SystemdBox
from tests.waiting import wait_for

PACES = {"defaults": DEFAULTS, "tight": TIGHT}
_PATIENCE_SECONDS = 120.0
"""For the slowest subject: a scrape, an evaluation and a group wait, twice."""


class Subject(Struct, frozen=True):
    """One pipeline and where its pages arrive."""

    name: str
    arrivals: Arrivals


def holdfast_names(body: bytes) -> list[str]:
    """The service of a webhook notice, when its failure fires."""
    notice = json.loads(body)
    failed = notice["alertname"] == "ServiceFailed" and notice["status"] == "firing"
    return [notice["resource"]] if failed else []


def start_holdfast(stack: contextlib.ExitStack, folder: Path, services: BoxedServices) -> Subject:
    """Broker, collector and agent; returns when the collector knows every service."""
    arrivals = Arrivals(holdfast_names)
    stack.callback(arrivals.close)
    broker = start_broker(folder)
    stack.callback(broker.stop)
    collector = CollectorUnderTest(
        folder / "collector", broker_url=broker.url, webhook_url=f"{arrivals.receiver.url}/hook"
    )
    stack.callback(collector.stop)
    agent = start_agent(
        folder / "agent",
        broker_url=broker.url,
        command=services.watched_by([installed_command("holdfast-agent")]),
    )
    stack.callback(agent.stop)

    def known() -> bool:
        assert agent.running, f"the agent ended:\n{agent.log}"
        return collector.metric("holdfast_service_up") >= len(services.names)

    wait_for(known, 60.0, lambda: f"the collector to know all services up:\n{agent.log[-2000:]}")
    return Subject("holdfast: agent → mosquitto → collector → webhook", arrivals)


def start_peers(
    stack: contextlib.ExitStack, folder: Path, bus_address: str, paces: list[str]
) -> list[Subject]:
    """The stacks that were asked for, all on one exporter."""
    if not paces:
        return []
    port = free_port()
    subjects = []
    try:
        stack.enter_context(start_exporter(folder, port, bus_address))
        for pace in paces:
            alerting = AlertingStack(folder / pace, PACES[pace], port)
            stack.callback(alerting.stop)
            alerting.wait_scraped()
            name = f"node_exporter → Prometheus → Alertmanager, {alerting.pace.name}"
            subjects.append(Subject(name, alerting.arrivals))
    except Missing as missing:
        print(f"left out: {missing}")
    return subjects


class Death(Struct, frozen=True):
    """The moment before kill(2)."""

    at: float
    """On the clock of `time.perf_counter`."""
    wall: float
    """Unix seconds."""


def cause_faults(services: BoxedServices, first: Subject, spacing_seconds: float) -> dict[str, Death]:
    """Kill one service after the other, at uneven distances; service → when."""
    entropy = random.Random(1)
    killed: dict[str, Death] = {}
    for service, pid in services.pids().items():
        killed[service] = Death(time.perf_counter(), time.time())
        os.kill(pid, signal.SIGKILL)
        wait_for(partial(_arrived, first, service), 30.0, f"the page about {service}")
        time.sleep(spacing_seconds * entropy.uniform(0.5, 1.5))
    return killed


def _arrived(subject: Subject, service: str) -> bool:
    return service in subject.arrivals.first()


def latencies(subject: Subject, killed: dict[str, Death]) -> list[float]:
    """Seconds from each death to the arrival of its page."""
    arrived = subject.arrivals.first()
    return [arrived[service].at - death.at for service, death in killed.items() if service in arrived]


def decided_after(subject: Subject, killed: dict[str, Death]) -> list[float]:
    """Seconds from each death to the collector's decision to page, as its notices say it, to the millisecond."""
    arrived = subject.arrivals.first()
    return [
        datetime.fromisoformat(json.loads(arrived[service].body)["starts_at"]).timestamp() - death.wall
        for service, death in killed.items()
    ]


def row(subject: Subject, killed: dict[str, Death], reference: float) -> list[str]:
    """The latencies of one subject as a table's row."""
    taken = latencies(subject, killed)
    if not taken:
        return [subject.name, f"0 of {len(killed)}", *["–"] * 5]
    median = percentile(taken, 0.5)
    return [
        subject.name,
        f"{len(taken)} of {len(killed)}",
        milliseconds(min(taken)),
        milliseconds(median),
        milliseconds(percentile(taken, 0.99)),
        milliseconds(max(taken)),
        f"{median / reference:,.2g}×" if median < 10 * reference else f"{median / reference:,.0f}×",
    ]


def bench(faults: int, paces: list[str], spacing_seconds: float) -> None:
    """Run it and print the table."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-")))
        box = stack.enter_context(SystemdBox(folder))
        services = BoxedServices(box, faults)
        ours = start_holdfast(stack, folder / "holdfast", services)
        subjects = [ours, *start_peers(stack, folder / "peers", box.bus_address, paces)]
        killed = cause_faults(services, ours, spacing_seconds)
        wait_for(
            lambda: all(killed.keys() <= subject.arrivals.first().keys() for subject in subjects),
            _PATIENCE_SECONDS,
            "the slowest subject to tell of every fault",
        )
        ours_taken = latencies(ours, killed)
        reference = percentile(ours_taken, 0.5)
        print_table(
            ["subject", "faults told", "min", "p50", "p99", "max", "p50 to holdfast's"],
            [row(subject, killed, reference) for subject in subjects],
        )
        decided = decided_after(ours, killed)
        rest = [whole - part for whole, part in zip(ours_taken, decided, strict=True)]
        print(
            f"holdfast's p50 is {milliseconds(percentile(decided, 0.5))} from the death to the decision (systemd, D-Bus,"
            " the probe's look, report, broker, judging) and"
            f" {milliseconds(percentile(rest, 0.5))} from there to the POST (commit with fsync, HTTP)."
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--peers", default="defaults,tight", help="of defaults, tight; empty for none")
    parser.add_argument("--spacing", type=float, default=2.0, help="mean seconds between two faults")
    asked = parser.parse_args()
    paces = [pace for pace in asked.peers.split(",") if pace]
    if unknown := set(paces) - PACES.keys():
        parser.error(f"--peers: {', '.join(sorted(unknown))}: must be of {', '.join(PACES)}")
    print_heading(f"Death of a process → webhook, {asked.faults} faults")
    try:
        bench(asked.faults, paces, asked.spacing)
    except (pytest.skip.Exception, Missing) as missing:
        print(f"skipped: {missing}")
        sys.exit(0)


if __name__ == "__main__":
    main()
