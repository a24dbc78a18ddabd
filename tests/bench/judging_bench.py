"""What judging a fleet costs: 10,000 nodes that report every 10 s, all shipped rules, as a share of one core.

    python -m tests.bench.judging_bench [--nodes 10000] [--rounds 6]

The collector's own core is fed what simulated nodes send, message by message, with a tick each second, in virtual time:
once with all shipped rules and once with none. What the first takes more is what judging takes: finding the rules that
a change concerns, asking them, keeping the history they look back on, asking again what time alone may change.

The peers are common-expression-language (CEL in Rust) and cel-expr-python (CEL in C++), `pip install` both. CEL has no
history, no other resources and no unknown: of the volumes' rules they get those that ask for a volume's own facts, with
every fact known, and are timed on as many volumes as the fleet reports in the same time. They have no notion of what a
change concerns, so they ask every rule of every volume; the same without that notion is the line of ours beside them.
All must give the same answers.
"""

import argparse
import gc
import importlib
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from holdfast.simulated_node import Shape, SimulatedNode, Stamp
from holdfast_collector.core.collector import Collector
from holdfast_collector.core.event import BrokerChanged, Received, Ticked
from holdfast_collector.core.record import State
from holdfast_collector.packs import shipped_packs
from holdfast_rules import Finding, Rule, RuleSet, judge_all, load
from holdfast_rules.tree import (
    Compared,
    Computed,
    Constant,
    Joined,
    Named,
    Negated,
    Node,
    Type,
    Within,
    type_of,
)
from holdfast_wire import Report, decode_up, fact
from holdfast_wire.message import Value
from tests.bench.figures import print_heading, print_table, ratio
from tests.bench.rules_bench import Volume, microseconds

INTERVAL_SECONDS = 10.0
VOLUMES, SERVICES = 8, 3
_BEGAN = 1_800_000_000.0
_WARM_ROUNDS = 3


class Cost(Struct, frozen=True):
    """CPU seconds of the core per interval of the fleet: the median of the rounds."""

    messages: float
    ticks: float

    @property
    def whole(self) -> float:
        return self.messages + self.ticks


class Fleet:
    """Nodes that report in turn over each interval."""

    def __init__(self, nodes: int) -> None:
        entropy = random.Random(1)
        shape = Shape(
            interval_seconds=INTERVAL_SECONDS, volumes=VOLUMES, services=SERVICES, events_per_hour=0.0
        )
        self.nodes = [
            SimulatedNode(
                f"bench-{number:05}", shape, random.Random(entropy.getrandbits(64)), Stamp(_BEGAN, 0.0)
            )
            for number in range(nodes)
        ]

    def round(self, number: int) -> list[Received]:
        """One report of each node, the first time after its birth."""
        found = []
        for index, node in enumerate(self.nodes):
            elapsed = (number + index / len(self.nodes)) * INTERVAL_SECONDS
            stamp = Stamp(_BEGAN + elapsed, elapsed)
            if number == 0:
                node.birth(stamp)
                node.connecting(stamp)
                found += [Received(stamp.at, node.name, payload) for payload in node.due(stamp, 1e9)]
                node.waiting.clear()
            found.append(Received(stamp.at, node.name, node.report(stamp)))
        return found


def cost(rules: RuleSet, nodes: int, rounds: int) -> Cost:
    """What a core with these rules takes for the fleet."""
    fleet = Fleet(nodes)
    core = Collector(State(), rules=rules, started_at=_BEGAN)
    core.handle(BrokerChanged(_BEGAN, connected=True))
    spent = []
    for number in range(_WARM_ROUNDS + rounds):
        messages = fleet.round(number)
        gc.collect()
        taken = _feed(core, messages, _BEGAN + number * INTERVAL_SECONDS)
        if number >= _WARM_ROUNDS:
            spent.append(taken)
    assert not [row for row in core.alerts.values() if row.alert.state == "firing" and row.alert.node], (
        "the fleet is meant to be well"
    )
    return Cost(
        statistics.median(row.messages for row in spent), statistics.median(row.ticks for row in spent)
    )


def _feed(core: Collector, messages: Sequence[Received], since: float) -> Cost:
    """One interval: the messages in the order of time, and a tick each second."""
    ticks, began = 0.0, time.process_time()
    due = since + 1.0
    for message in messages:
        if message.at >= due:
            before = time.process_time()
            core.handle(Ticked(due))
            ticks += time.process_time() - before
            due += 1.0
        core.handle(message)
    return Cost(time.process_time() - began - ticks, ticks)


class Unspeakable(Exception):
    """CEL has no word for it."""


def spell(node: Node) -> str:
    """A condition in CEL; all numbers are doubles. Raises Unspeakable."""
    match node:
        case Constant(value=bool() | str() as value):
            return json.dumps(value)
        case Constant(value=value):
            return repr(float(value))
        case Named(fact=named, kind=""):
            return named.name
        case Negated(item=item):
            return f"!({spell(item)})"
        case Joined(word=word, items=items):
            return "(" + (" && " if word == "and" else " || ").join(spell(item) for item in items) + ")"
        case Compared(order=order, left=left, right=right):
            return f"({spell(left)} {order} {spell(right)})"
        case Within(item=item, values=values, negated=negated) if type_of(item) is Type.TEXT:
            return f"{'!' if negated else ''}({spell(item)} in {json.dumps(values)})"
        case Computed(operation=operation, left=left, right=right):
            return f"({spell(left)} {operation} {spell(right)})"
        case _:
            raise Unspeakable


def speakable(rules: RuleSet) -> tuple[list[Rule], list[str]]:
    """The volumes' rules that CEL can state, and how."""
    found, texts = [], []
    for rule in rules.of_kind("volume"):
        try:
            texts.append(spell(rule.expression.tree))
        except Unspeakable:
            continue
        found.append(rule)
    return found, texts


def known_facts(rules: Sequence[Rule]) -> dict[str, Value]:
    """A healthy volume of the fleet, and every other fact the rules ask for as it is where nothing is wrong."""
    quiet: dict[fact.FactType, Value] = {
        fact.FactType.BOOL: False, fact.FactType.STR: "", fact.FactType.INT: 0, fact.FactType.FLOAT: 0.0,
    }  # fmt: skip
    declared = fact.FACTS_OF["volume"]
    facts = {name: quiet[declared[name].type] for rule in rules for name in rule.names}
    report = decode_up("bench-00000", Fleet(1).round(0)[-1].payload)
    assert isinstance(report, Report)
    resources = [resource for section in report.sections for resource in section.resources]
    facts |= next(resource.facts for resource in resources if resource.kind == "volume")
    return {name: facts[name] for rule in rules for name in rule.names}


def rust_peer(texts: Sequence[str], facts: dict[str, Value]) -> Callable[[], list[Any]] | None:
    """One context per volume; None where it is not installed."""
    try:
        cel = importlib.import_module("cel")
    except ImportError:
        return None
    programs = [cel.compile(text) for text in texts]

    def work() -> list[Any]:
        context = cel.Context(variables=facts)
        return [program.execute(context) for program in programs]

    return work


def cpp_peer(texts: Sequence[str], facts: dict[str, Value]) -> Callable[[], list[Any]] | None:
    """One activation per volume; None where it is not installed."""
    try:
        cel = importlib.import_module("cel_expr_python.cel")
    except ImportError:
        return None
    types = {bool: cel.Type.BOOL, str: cel.Type.STRING, float: cel.Type.DOUBLE}
    environment = cel.NewEnv(variables={name: types[type(value)] for name, value in facts.items()})
    programs = [environment.compile(text) for text in texts]

    def work() -> list[Any]:
        activation = environment.Activation(facts)
        return [program.eval(activation).value() for program in programs]

    return work


def bench(nodes: int, rounds: int) -> None:
    """Run it and print the tables."""
    rules = load(shipped_packs())
    without = cost(RuleSet.of([]), nodes, rounds)
    with_rules = cost(rules, nodes, rounds)
    judging = Cost(with_rules.messages - without.messages, with_rules.ticks - without.ticks)
    rows = [
        ("the core without rules: decode, check, fold", without.whole),
        (f"**judging by all {len(rules.rules)} rules**", judging.whole),
        ("– on messages", judging.messages),
        ("– by time alone", judging.ticks),
    ]
    print_table(
        [
            f"{nodes:,} nodes, {VOLUMES} volumes and {SERVICES} services each",
            "CPU in 10 s",
            "of one core",
            "per report",
        ],
        [[name, f"{spent:.2f} s", share(spent), f"{spent / nodes * 1e6:.1f} µs"] for name, spent in rows],
    )
    own, texts = speakable(rules)
    facts = known_facts(own)
    program, volume = judge_all(own), Volume(facts)
    answers = [finding is Finding.HOLDS for finding in program(facts.get, volume, 0.0)]
    # CEL compares no whole number with a double.
    doubles = {
        name: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in facts.items()
    }
    peers = {
        "common-expression-language": rust_peer(texts, doubles),
        "cel-expr-python": cpp_peer(texts, doubles),
    }
    table = [
        _row("holdfast, every rule", microseconds(lambda: program(facts.get, volume, 0.0)), nodes, judging)
    ]
    for name, work in peers.items():
        if work is None:
            print(f"left out: {name} is not installed; pip install {name}")
            continue
        assert work() == answers, f"{name} answers otherwise"
        table.append(_row(name, microseconds(work), nodes, judging))
    print_table(
        [
            f"{len(own)} rules on each of {VOLUMES} volumes",
            "one volume",
            "of one core",
            "to judging all rules above",
        ],
        table,
    )


def _row(name: str, volume_microseconds: float, nodes: int, judging: Cost) -> list[str]:
    spent = volume_microseconds / 1e6 * nodes * VOLUMES
    return [name, f"{volume_microseconds:.1f} µs", share(spent), ratio(judging.whole, spent)]


def share(spent: float) -> str:
    """Of one core, for what is spent in one interval."""
    return f"{spent / INTERVAL_SECONDS * 100:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=6, help="intervals measured, after three to warm up")
    asked = parser.parse_args()
    print_heading(f"Judging {asked.nodes:,} nodes that report every {INTERVAL_SECONDS:g} s")
    bench(asked.nodes, asked.rounds)


if __name__ == "__main__":
    main()
