"""What the collector's database carries: transactions and rows per second, beside a transaction per row.

    python -m tests.bench.store_bench [--events 5000] [--rounds 3] [--folder DIR]

`SqliteStore.commit` with what the core itself wants committed for durable events: the event, its count, the identity of
the message and the node's record, four rows per event. So many events share a transaction, as they do under load. The
peer is the standard library's sqlite3, one event-sized row per transaction, WAL and `synchronous=FULL` like ours.
"""

import argparse
import tempfile
import time
from pathlib import Path

from holdfast_collector.core.collector import Collector
from holdfast_collector.core.effect import Commit
from holdfast_collector.core.event import BrokerChanged, Received
from holdfast_collector.core.record import State
from holdfast_collector.ingest import PARTITION
from holdfast_collector.store.sqlite import SqliteStore
from holdfast_rules import RuleSet
from tests.bench import plain_sqlite
from tests.bench.figures import milliseconds, percentile, print_heading, print_table
from tests.bench.fleet_load import EventSource

EVENTS_PER_COMMIT = (1, 10, 100, 1000)


def commits_of(events: int, per_commit: int) -> list[Commit]:
    """What the core wants made durable for that many events of 100 nodes, merged as the engine merges."""
    began = time.time()
    collector = Collector(State(), rules=RuleSet.of([]), started_at=began)
    collector.handle(BrokerChanged(began, connected=True))
    sources = [EventSource(f"bench-{number:03}") for number in range(100)]
    for source in sources:
        collector.handle(Received(began, source.node, source.birth()[1]))
    merged: list[Commit] = []
    for number in range(events):
        source = sources[number % len(sources)]
        effect = collector.handle(Received(began + number * 0.001, source.node, source.event()[1]))[0]
        assert isinstance(effect, Commit), effect
        if number % per_commit:
            merged[-1].merge(effect)
        else:
            merged.append(effect)
    return merged


def rows_in(commit: Commit) -> int:
    """Rows that a commit writes."""
    return (
        len(commit.nodes)
        + len(commit.alerts)
        + len(commit.notices)
        + len(commit.seen)
        + len(commit.events)
        + len(commit.counts)
    )


def timed_commits(folder: Path, commits: list[Commit]) -> list[float]:
    """Seconds of each transaction."""
    store = SqliteStore.open(folder / "store.sqlite")
    epoch = store.take(PARTITION)
    taken = []
    for commit in commits:
        began = time.perf_counter()
        store.commit(PARTITION, epoch, [commit])
        taken.append(time.perf_counter() - began)
    store.close()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--events", type=int, default=5000, help="per round and row; at most 300 transactions"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, default=None, help="on the disk to measure; default: the temporary one"
    )
    asked = parser.parse_args()
    print_heading(f"Store: durable events of the core, {asked.rounds} rounds")
    prepared = {
        per_commit: commits_of(min(asked.events, 300 * per_commit), per_commit)
        for per_commit in EVENTS_PER_COMMIT
    }
    peer_count = min(asked.events, 600)
    payload = EventSource("bench").event()[1]
    ours: dict[int, list[float]] = {per_commit: [] for per_commit in prepared}
    peer: list[float] = []
    bare: list[float] = []
    for _ in range(asked.rounds):
        for per_commit, commits in prepared.items():
            with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=asked.folder) as own:
                ours[per_commit] += timed_commits(Path(own), commits)
        with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=asked.folder) as own:
            peer += plain_sqlite.timed_single_commits(Path(own), payload, peer_count)
            bare += plain_sqlite.timed_syncs(Path(own), peer_count)
    peer_rate = len(peer) / sum(peer)
    table = []
    for per_commit, taken in ours.items():
        rows = sum(map(rows_in, prepared[per_commit])) * asked.rounds
        events = len(taken) * per_commit
        table.append(
            [
                f"holdfast store, {per_commit:,} events a transaction",
                f"{len(taken) / sum(taken):,.0f}",
                f"{events / sum(taken):,.0f}",
                f"{rows / sum(taken):,.0f}",
                f"{events / sum(taken) / peer_rate:.2g}×",
                milliseconds(percentile(taken, 0.5)),
                milliseconds(percentile(taken, 0.99)),
            ]
        )
    for name, taken in (("sqlite3, one row a transaction", peer), ("fdatasync of 4 KiB alone", bare)):
        rate = f"{len(taken) / sum(taken):,.0f}"
        cells = [rate, rate, rate, f"{len(taken) / sum(taken) / peer_rate:.2g}×"]
        table.append(
            [name, *cells, milliseconds(percentile(taken, 0.5)), milliseconds(percentile(taken, 0.99))]
        )
    columns = ["subject", "transactions/s", "events/s", "rows/s", "events to sqlite3", "p50", "p99"]
    print_table(columns, table)


if __name__ == "__main__":
    main()
