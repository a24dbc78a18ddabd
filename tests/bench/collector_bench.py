"""What a collector carries: messages of about 20 facts and durable events, acknowledged after the commit.

    python -m tests.bench.collector_bench [--nodes 500] [--rounds 3] [--messages 60000] [--events 20000]

Everything is a process of its own on loopback: mosquitto, the collector with the shipped rules and its database on the
disk of `--folder`, the load in this process, composed before the clock runs. CPU is the process's own, as the scheduler
counts it. Peers in the same run, rounds interleaved: collectd's mqtt → write_prometheus in the shape it likes, and an
aiomqtt subscriber that only decodes.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.collector_peers import bare_subscriber_run, collectd_run
from tests.bench.collector_runs import Outcome, Plan, direct_run, events_run, reports_run
from tests.bench.figures import MB, milliseconds, percentile, print_heading, print_table
from tests.bench.fleet_load import Fleet, mean_facts
from tests.bench.processes import Missing

FACTS_PER_MESSAGE = 20
"""What design and issue call a message; collectd sends each of them as a message of its own."""
EVENT_RATE = 1000.0
REPORT_RATE = 2000.0

Run = Callable[[Path], Outcome]


def subjects(plan: Plan) -> dict[str, Run]:
    """Every row of the table."""
    return {
        f"holdfast, reports + 1 durable event per {plan.mark_every}, mosquitto": lambda folder: reports_run(
            plan, folder
        ),
        "holdfast, durable events only, mosquitto": lambda folder: events_run(plan, folder),
        f"holdfast, durable events at {EVENT_RATE:,.0f}/s, mosquitto": lambda folder: events_run(
            plan, folder, rate=EVENT_RATE
        ),
        "holdfast, reports + events, stand-in broker": lambda folder: direct_run(plan, folder),
        f"holdfast, reports + events at {REPORT_RATE:,.0f}/s, stand-in broker": lambda folder: direct_run(
            plan, folder, rate=REPORT_RATE
        ),
        "collectd mqtt → write_prometheus, single values": lambda folder: collectd_run(
            plan, folder, values=2 * plan.messages
        ),
        "aiomqtt subscriber, decodes only": lambda folder: bare_subscriber_run(plan, folder),
    }


def measure(runs: dict[str, Run], rounds: int, folder: Path) -> dict[str, list[Outcome]]:
    """Every subject in turn, round after round, so that the machine's moods fall on all of them."""
    found: dict[str, list[Outcome]] = {name: [] for name in runs}
    for number in range(rounds):
        for place, (name, run) in enumerate(runs.items()):
            with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=folder) as own:
                try:
                    found[name].append(run(Path(own)))
                except Missing as missing:
                    if number == 0:
                        print(f"left out: {name}: {missing}")
                    continue
            print(
                f"round {number + 1}, {place + 1} of {len(runs)}: {found[name][-1].per_cpu_second:,.0f}/CPU-s"
            )
    return {name: outcomes for name, outcomes in found.items() if outcomes}


def row(name: str, outcomes: Sequence[Outcome], reference: float) -> list[str]:
    """Medians over the rounds; latencies of all rounds together."""
    carried = 1.0 / FACTS_PER_MESSAGE if name.startswith("collectd") else 1.0
    per_cpu = statistics.median(outcome.per_cpu_second for outcome in outcomes)
    latencies = [latency for outcome in outcomes for latency in outcome.latencies]
    batch = statistics.median(outcome.messages_per_batch for outcome in outcomes)
    return [
        name,
        f"{per_cpu:,.0f}",
        f"{statistics.median(outcome.per_second for outcome in outcomes):,.0f}",
        f"{per_cpu * carried:,.0f}",
        f"{reference / (per_cpu * carried):,.2g}×" if reference else "–",
        milliseconds(percentile(latencies, 0.5)) if latencies else "–",
        milliseconds(percentile(latencies, 0.99)) if latencies else "–",
        f"{batch:,.0f}" if batch else "–",
        f"{statistics.median(outcome.rss for outcome in outcomes) / MB:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=60_000, help="reports per round")
    parser.add_argument("--events", type=int, default=20_000, help="durable events per round")
    parser.add_argument("--mark-every", type=int, default=100, help="reports between two durable events")
    parser.add_argument("--window", type=int, default=4000, help="messages under way at most")
    parser.add_argument("--only", default="", help="only the rows whose name holds this text")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where databases go; default: the temporary folder"
    )
    asked = parser.parse_args()
    plan = Plan(
        nodes=asked.nodes,
        messages=asked.messages,
        events=asked.events,
        mark_every=asked.mark_every,
        window=asked.window,
    )
    fleet = Fleet(200)
    fleet.reports()
    facts = mean_facts([one for _ in range(6) for one in fleet.reports()])
    print_heading(f"Collector: {plan.nodes} nodes, {facts:.1f} facts per report, {asked.rounds} rounds")
    runs = {name: run for name, run in subjects(plan).items() if asked.only in name}
    found = measure(runs, asked.rounds, asked.folder)
    ours = next(iter(found.values()))
    reference = statistics.median(outcome.per_cpu_second for outcome in ours)
    print()
    print_table(
        [
            "subject",
            "messages/s per CPU-s",
            "messages/s wall",
            f"in messages of {FACTS_PER_MESSAGE} values, per CPU-s",
            "first row is",
            "p50",
            "p99",
            "messages per commit",
            "RSS MB",
        ],
        [row(name, outcomes, reference) for name, outcomes in found.items()],
    )
    brokers = [
        outcome.messages / outcome.broker_cpu_seconds for outcome in ours if outcome.broker_cpu_seconds
    ]
    if brokers:
        print(
            f"mosquitto itself carried {statistics.median(brokers):,.0f} messages per CPU-s in the first row."
        )
    print(
        "p50 and p99: through mosquitto from publishing an event to the collector's own acknowledgement of it; from"
        " the stand-in broker from PUBLISH to PUBACK. Both come after the commit (SQLite, WAL, synchronous=FULL)."
    )


if __name__ == "__main__":
    main()
