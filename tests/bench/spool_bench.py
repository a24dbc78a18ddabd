"""What the agent's spool carries: appends that are on disk when they return, beside a transaction per row.

    python -m tests.bench.spool_bench [--appends 2000] [--rounds 3] [--folder DIR]

`Spool.append` as the agent calls it, from an event loop, with so many appends under way at once: those that gather
while the disk is busy share a transaction. The peer is sqlite3 with a transaction for every row, same payload, same
pragmas, same folder, rounds interleaved.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from holdfast_agent.core.delivery import Spooled
from holdfast_agent.spool import Spool
from holdfast_wire import Position, content_digest
from tests.bench import plain_sqlite
from tests.bench.figures import milliseconds, percentile, print_heading, print_table
from tests.bench.fleet_load import EventSource

UNDER_WAY = (1, 10, 100)
PEER = "sqlite3, one transaction per row"


def messages(count: int) -> list[Spooled]:
    """Events as an agent spools them, about 400 bytes each."""
    source = EventSource("bench")
    payloads = [source.event()[1] for _ in range(count)]
    return [
        Spooled(position=Position(1, number), digest=content_digest(payload), payload=payload)
        for number, payload in enumerate(payloads, 1)
    ]


async def timed_appends(folder: Path, spooled: list[Spooled], under_way: int) -> list[float]:
    """Seconds of each append, `under_way` at a time. Raises AssertionError when one was not on disk."""
    spool = Spool(
        folder, bytes_max=1 << 30, messages_max=10**6, changed=lambda event, detail: print(event, detail)
    )
    await spool.open()
    taken: list[float] = []
    waiting = iter(spooled)

    async def append_in_turn() -> None:
        for message in waiting:
            began = time.perf_counter()
            await spool.append(message)
            taken.append(time.perf_counter() - began)

    await asyncio.gather(*(append_in_turn() for _ in range(under_way)))
    state = spool.facts.state
    assert (state.messages, state.in_memory) == (len(spooled), False), state
    await spool.close()
    return taken


def subjects(spooled: list[Spooled]) -> dict[str, Callable[[Path], list[float]]]:
    """Every row of the table."""

    def ours(under_way: int) -> Callable[[Path], list[float]]:
        return lambda folder: asyncio.run(timed_appends(folder, spooled, under_way))

    payload = spooled[0].payload
    return {
        **{f"holdfast spool, {count} under way": ours(count) for count in UNDER_WAY},
        PEER: lambda folder: plain_sqlite.timed_single_commits(folder, payload, len(spooled)),
        "fdatasync of 4 KiB alone": lambda folder: plain_sqlite.timed_syncs(folder, len(spooled)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--appends", type=int, default=2000, help="per round and row")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, default=None, help="on the disk to measure; default: the temporary one"
    )
    asked = parser.parse_args()
    spooled = messages(asked.appends)
    size = len(spooled[0].payload)
    print_heading(f"Spool: durable appends of {size} bytes, {asked.rounds} rounds of {asked.appends}")
    runs = subjects(spooled)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    walls = dict.fromkeys(runs, 0.0)
    for _ in range(asked.rounds):
        for name, run in runs.items():
            with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=asked.folder) as own:
                began = time.perf_counter()
                taken[name] += run(Path(own))
                walls[name] += time.perf_counter() - began
    peer = len(taken[PEER]) / walls[PEER]
    print_table(
        ["subject", "per second", "to sqlite3", "p50", "p99", "max"],
        [
            [
                name,
                f"{len(all_taken) / walls[name]:,.0f}",
                f"{len(all_taken) / walls[name] / peer:.2g}×",
                milliseconds(percentile(all_taken, 0.5)),
                milliseconds(percentile(all_taken, 0.99)),
                milliseconds(max(all_taken)),
            ]
            for name, all_taken in taken.items()
        ],
    )


if __name__ == "__main__":
    main()
