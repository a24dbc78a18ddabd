"""What it takes to keep all that agents say: bytes for a node and day, CPU for a message, and how fast it is replayed.

    python -m tests.bench.samples_bench [--nodes 100] [--minutes 10]

Reports of simulated nodes, one in 10 s, cut into slices as the collector cuts them, packed and unpacked by its own code.
The replay is the core with the shipped rules, twice as `holdfast rules replay` runs it. The peer is gzip, level 6, over the same
messages in the order they came, a file a minute: what keeping a raw log would take.
"""

import argparse
import gzip
import time
from collections.abc import Iterator, Sequence

from holdfast_collector.core.event import BrokerChanged, Received
from holdfast_collector.packs import load_rules
from holdfast_collector.replay import Replay
from holdfast_collector.samples.recorder import SLICE_BYTES, SLICE_SECONDS
from holdfast_collector.samples.slice import HEADER, Recorded, Slice, pack, unpack
from tests.bench.figures import MB, print_heading, print_table
from tests.bench.fleet_load import INTERVAL_SECONDS, Fleet

REPORTS_A_DAY = 86_400.0 / INTERVAL_SECONDS


def slices(nodes: int, minutes: int) -> Iterator[Slice]:
    """What a recorder would cut, births included."""
    fleet = Fleet(nodes)
    began = time.time()
    rounds = [fleet.births()] + [fleet.reports() for _ in range(int(60 * minutes / INTERVAL_SECONDS))]
    events: list[Recorded] = [BrokerChanged(began, connected=True)]
    size, number = 0, 0
    for turn, messages in enumerate(rounds):
        for place, (topic, payload) in enumerate(messages):
            at = began + INTERVAL_SECONDS * (turn + place / len(messages))
            if size >= SLICE_BYTES or (events and at - events[0].at >= SLICE_SECONDS):
                yield _slice(number, events)
                events, size, number = [], 0, number + 1
            events.append(Received(at, topic.decode().split("/")[2], payload))
            size += len(payload)
    yield _slice(number, events)


def _slice(number: int, events: Sequence[Recorded]) -> Slice:
    return Slice(number=number, began_at=events[0].at, ended_at=events[-1].at, connected=True, events=events)


def raw_log(pieces: Sequence[Slice]) -> int:
    """Bytes of the peer."""
    return sum(
        len(
            gzip.compress(
                b"\n".join(event.payload for event in piece.events if isinstance(event, Received)), 6
            )
        )
        for piece in pieces
    )


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--minutes", type=int, default=10)
    asked = parser.parse_args()
    print_heading(
        f"Samples: {asked.nodes} nodes, {asked.minutes} minutes, a report in {INTERVAL_SECONDS:g} s"
    )
    pieces = list(slices(asked.nodes, asked.minutes))
    messages = sum(len(piece.events) for piece in pieces)
    payload = sum(len(one.payload) for piece in pieces for one in piece.events if isinstance(one, Received))

    began = time.process_time()
    frames = [pack(piece) for piece in pieces]
    packing = time.process_time() - began
    began = time.process_time()
    gzipped = raw_log(pieces)
    gzipping = time.process_time() - began
    began = time.process_time()
    back = [unpack(frame[: HEADER.size], frame[HEADER.size :]) for frame in frames]
    unpacking = time.process_time() - began
    assert [len(piece.events) for piece in back] == [len(piece.events) for piece in pieces]
    rules = load_rules()
    replay = Replay([rules, rules], wanted=lambda node: True)
    began = time.process_time()
    replay.play(pieces, pieces[-1].ended_at)
    replaying = time.process_time() - began
    assert replay.messages == messages - 1, "each message but the broker's"

    size = sum(map(len, frames))
    node_days = asked.nodes * asked.minutes / 1440.0
    rows = [
        ("holdfast's slices", size, packing, f"{unpacking / messages * 1e6:.1f} µs"),
        ("gzip -6 of the raw log", gzipped, gzipping, "–"),
    ]
    print(f"{payload / messages:,.0f} bytes of JSON for a message\n")
    print_table(
        ("kept as", "bytes for a message", "MB for a node and day", "CPU to pack a message", "to unpack"),
        [
            (name, f"{total / messages:.0f}", f"{total / messages * REPORTS_A_DAY / MB:.2f}",
             f"{cpu / messages * 1e6:.1f} µs", back_)
            for name, total, cpu, back_ in rows
        ],
    )  # fmt: skip
    print(f"replay under two rule sets: {node_days / replaying:.2f} node-days per CPU-second")


if __name__ == "__main__":
    main()
