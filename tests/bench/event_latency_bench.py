"""From the death of a process to the page: kill -9 → webhook, beside node_exporter + Prometheus + Alertmanager.

    python -m tests.bench.event_latency_bench [--faults 200] [--peers tight] [--peers defaults,tight] [--spacing 0.3]

A real systemd (`tests/rigs/systemd_box.py`; needs root) runs as many services as there are faults. Each fault is one
SIGKILL to a main process, and all subjects watch the same systemd: the agent on its bus, publishing through a real
mosquitto to a collector with the shipped rules and a durable outbox; and node_exporter's systemd collector with
Prometheus and Alertmanager at their usual pace (15 s / 15 s / 30 s) and the tightest sane one (5 s / 5 s / 1 s), with a
rule that does not wait. The clock runs from just before kill(2) to the arrival of the POST.
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
from functools import partial
from pathlib import Path

import pytest
from msgspec import Struct

from tests.bench.alerting_stack import DEFAULTS, TIGHT, AlertingStack, Arrivals, start_exporter
from tests.bench.figures import milliseconds, percentile, print_heading, print_table
from tests.bench.holdfast_parts import CollectorUnderTest, start_agent, start_broker
from tests.bench.processes import Missing, installed_command
from tests.bench.service_deaths import BoxedServices
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


def start_holdfast(stack: contextlib.ExitStack, folder: Path, bus_address: str, services: int) -> Subject:
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
        command=[installed_command("holdfast-agent")],
        environment={"DBUS_SYSTEM_BUS_ADDRESS": bus_address},
    )
    stack.callback(agent.stop)

    def known() -> bool:
        assert agent.running, f"the agent ended:\n{agent.log}"
        return collector.metric("holdfast_service_up") >= services

    wait_for(known, 60.0, lambda: f"the collector to know {services} services up:\n{agent.log[-2000:]}")
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


def cause_faults(services: BoxedServices, first: Subject, spacing_seconds: float) -> dict[str, float]:
    """Kill one service after the other, at uneven distances; service → when."""
    entropy = random.Random(1)
    killed: dict[str, float] = {}
    for service, pid in services.pids().items():
        killed[service] = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        wait_for(partial(_arrived, first, service), 30.0, f"the page about {service}")
        time.sleep(spacing_seconds * entropy.uniform(0.5, 1.5))
    return killed


def _arrived(subject: Subject, service: str) -> bool:
    return service in subject.arrivals.first()


def row(subject: Subject, killed: dict[str, float], reference: float) -> list[str]:
    """The latencies of one subject as a table's row."""
    arrived = subject.arrivals.first()
    taken = [arrived[service] - at for service, at in killed.items() if service in arrived]
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
        ours = start_holdfast(stack, folder / "holdfast", box.bus_address, faults)
        subjects = [ours, *start_peers(stack, folder / "peers", box.bus_address, paces)]
        killed = cause_faults(services, ours, spacing_seconds)
        wait_for(
            lambda: all(killed.keys() <= subject.arrivals.first().keys() for subject in subjects),
            _PATIENCE_SECONDS,
            "the slowest subject to tell of every fault",
        )
        reference = percentile([ours.arrivals.first()[service] - at for service, at in killed.items()], 0.5)
        print_table(
            ["subject", "faults told", "min", "p50", "p99", "max", "p50 to holdfast's"],
            [row(subject, killed, reference) for subject in subjects],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--peers", default="defaults,tight", help="of defaults, tight; empty for none")
    parser.add_argument("--spacing", type=float, default=0.3, help="mean seconds between two faults")
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
