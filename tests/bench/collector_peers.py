"""The same job done by others, through the same broker: collectd as a server, and a bare aiomqtt subscriber."""

import sys
import time
import urllib.request
from pathlib import Path

from tests.bench import collectd
from tests.bench.collector_runs import Outcome, Plan, packed
from tests.bench.fleet_load import Composed, Fleet
from tests.bench.holdfast_parts import start_broker
from tests.bench.mqtt_load import Publisher
from tests.bench.processes import CpuMeter, Program, cpu_seconds, memory
from tests.ports import free_port
from tests.waiting import wait_for

_FAMILIES = 20
"""Metric families the values of a node spread over: collectd's good case; one family costs it five times as much."""
_CHUNK = 500
_SETTLED_SECONDS = 0.5
_IDLE_SHARE = 0.02
"""A process that uses less than this share of a core for so long has done its work."""


def collectd_run(plan: Plan, folder: Path, values: int) -> Outcome:
    """collectd's mqtt → write_prometheus: one message per value, as collectd sends them, 20 series per node."""
    nodes = min(plan.nodes, values // _FAMILIES)
    passes = max(2, values // (nodes * _FAMILIES))
    broker = start_broker(folder)
    port = free_port()
    server = collectd.start_server(folder / "collectd", broker_port=broker.port, http_port=port)
    try:
        newest = int(time.time())
        load = packed(_collectd_values(nodes, passes, newest))
        began = time.perf_counter()
        with Publisher(broker.port, "bench-load") as publisher:
            meter = CpuMeter(server.pid)
            for start in range(0, len(load), _CHUNK):
                publisher.wait_taken(2 * _CHUNK)
                publisher.send(load[start : start + _CHUNK])
            publisher.wait_taken()
            ended = _settled_at(server.pid)
            cpu, _ = meter.read()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60.0) as reply:
            page = reply.read().decode()
        fresh = page.count(f" {newest * 1000}\n")
        assert fresh == nodes * _FAMILIES, f"collectd shows {fresh} of {nodes * _FAMILIES} newest values"
        return Outcome(
            messages=len(load),
            cpu_seconds=cpu,
            wall_seconds=ended - began,
            rss=memory(server.pid).rss,
        )
    finally:
        server.stop()
        broker.stop()


def _collectd_values(nodes: int, passes: int, newest: int) -> list[Composed]:
    """collectd's own text encoding: time and value, ended by a zero byte."""
    return [
        (
            f"collectd/vm-{node:05}/df{family}-data{family}/percent_bytes-used".encode(),
            f"{newest - (passes - 1 - one_pass)}.000:{(node + family + one_pass) % 100}.5\0".encode(),
        )
        for one_pass in range(passes)
        for node in range(nodes)
        for family in range(_FAMILIES)
    ]


def _settled_at(pid: int) -> float:
    """When the process had done its work: the beginning of the first quiet stretch."""
    quiet_since, used = time.perf_counter(), cpu_seconds(pid)
    while time.perf_counter() - quiet_since < _SETTLED_SECONDS:
        time.sleep(0.05)
        now = cpu_seconds(pid)
        if now - used > 0.05 * _IDLE_SHARE:
            quiet_since = time.perf_counter()
        used = now
    return quiet_since


def bare_subscriber_run(plan: Plan, folder: Path) -> Outcome:
    """aiomqtt, decoding the same messages as the collector and doing nothing else with them."""
    broker = start_broker(folder)
    fleet = Fleet(plan.nodes)
    load: list[Composed] = []
    while len(load) < plan.messages:
        load += fleet.reports()
    packets = packed(load)
    command = [sys.executable, "-m", "tests.bench.bare_subscriber", str(broker.port), str(len(load))]
    try:
        with Program("aiomqtt", command, folder=folder) as subscriber:
            subscriber.wait_ready("ready")
            with Publisher(broker.port, "bench-load") as publisher:
                meter = CpuMeter(subscriber.pid)
                for start in range(0, len(packets), _CHUNK):
                    publisher.wait_taken(2 * _CHUNK)
                    publisher.send(packets[start : start + _CHUNK])
                wait_for(lambda: "done" in subscriber.log, 300.0, "the bare subscriber to be done")
                cpu, wall = meter.read()
            return Outcome(
                messages=len(load),
                cpu_seconds=cpu,
                wall_seconds=wall,
                rss=memory(subscriber.pid).rss,
            )
    finally:
        broker.stop()
