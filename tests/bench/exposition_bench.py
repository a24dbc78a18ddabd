"""What a scrape costs: our page beside prometheus_client's, same nodes, same series, same run.

    python -m tests.bench.exposition_bench [--nodes N] [--runs R]

Twenty series per node. CPU includes gzip, as Prometheus asks for it. A stall is how late a one-millisecond ticker on the
event loop was while the page was made; the last row is what the machine does by itself. prometheus_client is used as
its documentation shows for data kept elsewhere: a custom collector, `generate_latest`, and gzip at the level its own
server uses.
"""

import argparse
import asyncio
import gzip
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from holdfast_collector.core.node import Node
from holdfast_collector.core.record import NodeRecord
from holdfast_collector.exposition import Exposition, Format
from holdfast_collector.own_metrics import OwnMetrics
from holdfast_wire import Position, Resource, Section, SectionStatus
from tests.bench.figures import MB, milliseconds, print_heading, print_table, ratio

SERIES = 20
TARGET_CPU_SECONDS, TARGET_STALL_SECONDS = 0.1, 0.02


class Measured(NamedTuple):
    """One way to make a page."""

    way: str
    cpu_seconds: float
    stall_seconds: float
    busy_seconds: float
    page_bytes: int
    sent_bytes: int


def section(name: str, turn: int) -> Section:
    """A node with one volume; `turn` moves the numbers that move in life."""
    size = 500 * 2**30
    free = size // 3 - turn * 4096 - len(name)
    volume: dict[str, Any] = {
        "mountpoint": "/var/lib/postgresql",
        "source": "/dev/nvme1n1",
        "fstype": "ext4",
        "device": "nvme1n1",
        "size_bytes": size,
        "free_bytes": free,
        "free_ratio": free / size,
        "inodes_free": 31_999_000 - turn,
        "writable": True,
        "read_only": False,
        "reachable": True,
    }
    return Section(
        probe="volumes",
        status=SectionStatus.OK,
        observed_at=0.0,
        mono=0.0,
        period_seconds=10.0,
        duration_seconds=0.0042,
        resources=[
            Resource(kind="node", name=name, facts={"uptime_seconds": 86_400.5 + turn, "kernel": "6.1"}),
            Resource(kind="volume", name="/var/lib/postgresql", facts=volume),
        ],
    )


def fleet(count: int) -> dict[str, Node]:
    """Nodes as the core keeps them."""
    nodes = {}
    for index in range(count):
        name = f"vm-{index:05d}.prod.example"
        record = NodeRecord(node=name, install_id=name, boot_id="b", position=Position(1, 1))
        nodes[name] = node = Node(record, 0.0)
        node.reporting = True
    change(nodes, 0)
    return nodes


def change(nodes: dict[str, Node], turn: int) -> None:
    """Every node reports."""
    for name, node in nodes.items():
        touched = node.hold(section(name, turn), str(turn), float(turn))
        node.rebuild(touched)
        node.last_report_at = 1_800_000_000.0 + turn


class PeerCollector(Collector):
    """The same series for prometheus_client, read from the same nodes."""

    def __init__(self, nodes: dict[str, Node]) -> None:
        self._nodes = nodes
        self._families = _families(nodes)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for family, (kind, fact, labels) in self._families.items():
            metric = GaugeMetricFamily(family, "Help text.", labels=labels)
            for name, node in self._nodes.items():
                if kind == "node":
                    facts = node.resources["node", name]
                    metric.add_metric((name,), _value(node, facts, fact))
                else:
                    mountpoint = "/var/lib/postgresql"
                    facts = node.resources["volume", mountpoint]
                    metric.add_metric(
                        (name, mountpoint, mountpoint)[: len(labels)], _value(node, facts, fact)
                    )
            yield metric


def _families(nodes: dict[str, Node]) -> dict[str, tuple[str, str, list[str]]]:
    """As many families as ours has series per node, with as many labels."""
    node = next(iter(nodes.values()))
    facts = [name for name, value in node.resources["node", node.name].items() if not isinstance(value, str)]
    own = [name for name in facts if name != "reporting"] + ["up", "last_report"]
    volume = node.resources["volume", "/var/lib/postgresql"]
    stated = [name for name, value in volume.items() if not isinstance(value, str)] + ["info"]
    probe = ["duration_seconds", "success"]
    families = {f"peer_node_{name}": ("node", name, ["node"]) for name in own}
    families |= {f"peer_volume_{name}": ("volume", name, ["node", "volume", "mountpoint"]) for name in stated}
    families |= {f"peer_probe_{name}": ("volume", name, ["node", "probe"]) for name in probe}
    return dict(list(families.items())[:SERIES])


def _value(node: Node, facts: dict[str, Any], name: str) -> float:
    return node.last_report_at if name == "last_report" else float(facts.get(name, 1.0))


async def stall(work: Callable[[], Awaitable[Any]]) -> tuple[float, float]:
    """How late the latest tick was while `work` ran, and the most CPU the loop's thread used between two ticks.

    The first is what others feel, on this machine with whatever else runs on it; the second is our own part.
    """
    late = busy = 0.0
    ended = False

    async def tick() -> None:
        nonlocal late, busy
        while not ended:
            began, used = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            late = max(late, time.perf_counter() - began - 0.001)
            busy = max(busy, time.thread_time() - used)

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0.02)
    late = busy = 0.0
    await work()
    await asyncio.sleep(0.002)
    ended = True
    await ticker
    return late, busy


async def measure(
    way: str, runs: int, make: Callable[[], Awaitable[tuple[int, int]]], before: Callable[[], None]
) -> Measured:
    """The median CPU, and the worst stalls of several runs."""
    cpu, stalls, sizes = [], [], (0, 0)
    for _ in range(runs):
        before()
        began = time.process_time()
        sizes = await make()
        cpu.append(time.process_time() - began)
        before()
        stalls.append(await stall(make))
    late, busy = (max(column) for column in zip(*stalls, strict=True))
    return Measured(way, statistics.median(cpu), late, busy, *sizes)


def ours(exposition: Exposition, format_: Format) -> Callable[[], Awaitable[tuple[int, int]]]:
    async def make() -> tuple[int, int]:
        page = await exposition.page(format_, gzipped=True)
        return 0, page.total_bytes

    return make


def peer(nodes: dict[str, Node], level: int, *, threaded: bool) -> Callable[[], Awaitable[tuple[int, int]]]:
    registry = CollectorRegistry()
    registry.register(PeerCollector(nodes))

    def page() -> tuple[int, int]:
        text = generate_latest(registry)
        return len(text), len(gzip.compress(text, level))

    async def make() -> tuple[int, int]:
        return await asyncio.to_thread(page) if threaded else page()

    return make


async def compare(count: int, runs: int) -> list[Measured]:
    """Every way, one after the other."""
    nodes = fleet(count)
    exposition = Exposition(nodes, {}, OwnMetrics("bench", 0.0))
    turn = 0

    def all_report() -> None:
        nonlocal turn
        turn += 1
        change(nodes, turn)
        for name in nodes:
            exposition.refreshed(name)

    def nothing() -> None:
        pass

    plain = await exposition.page(Format.PLAIN, gzipped=False)
    series = sum(
        line.startswith(b"holdfast") and b'node="' in line for line in b"".join(plain.chunks).split(b"\n")
    )
    assert series == count * SERIES, f"{series / count} series per node, not {SERIES}"
    peer_runs = max(1, runs // 2)

    async def half_a_second() -> tuple[int, int]:
        await asyncio.sleep(0.5)
        return 0, 0

    found = [
        await measure("ours, every node changed", runs, ours(exposition, Format.PLAIN), all_report),
        await measure("ours, no facts changed", runs, ours(exposition, Format.PLAIN), nothing),
        await measure("ours, OpenMetrics", runs, ours(exposition, Format.OPENMETRICS), all_report),
        await measure("prometheus_client, gzip 9", peer_runs, peer(nodes, 9, threaded=False), nothing),
        await measure("prometheus_client, gzip 1", peer_runs, peer(nodes, 1, threaded=False), nothing),
        await measure("prometheus_client, in a thread", peer_runs, peer(nodes, 9, threaded=True), nothing),
        await measure("none: half a second of rest", runs, half_a_second, nothing),
    ]
    return [
        one._replace(page_bytes=one.page_bytes or plain.total_bytes * bool(one.sent_bytes)) for one in found
    ]


def show(found: list[Measured], count: int) -> None:
    """A table, each way against ours with every node changed."""
    first = found[0]
    rows = [
        (
            one.way,
            milliseconds(one.cpu_seconds),
            ratio(first.cpu_seconds, one.cpu_seconds),
            milliseconds(one.stall_seconds),
            milliseconds(one.busy_seconds),
            f"{one.page_bytes / MB:.2f}",
            f"{one.sent_bytes / MB:.2f}",
        )
        for one in found
    ]
    print_table(("page", "CPU", "÷ first", "longest stall", "of it our CPU", "MB", "MB sent"), rows)
    aim = TARGET_CPU_SECONDS * count / 10_000
    print(f"Aim at this size: {milliseconds(aim)} of CPU, {milliseconds(TARGET_STALL_SECONDS)} of stall.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--nodes", type=int, default=1000, help="at most 50000; the figures we publish use 10000"
    )
    parser.add_argument("--runs", type=int, default=4)
    asked = parser.parse_args()
    if not 1 <= asked.nodes <= 50_000 or not 1 <= asked.runs <= 50:
        parser.error("1 to 50000 nodes, 1 to 50 runs")
    print_heading(f"A scrape of {asked.nodes:,} nodes × {SERIES} series, gzip included")
    show(asyncio.run(compare(asked.nodes, asked.runs)), asked.nodes)


if __name__ == "__main__":
    main()
