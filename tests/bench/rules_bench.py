"""What judging costs: 20 flat rules on one volume, beside the fastest expression library where it is installed.

    python -m tests.bench.rules_bench

The peer is common-expression-language (CEL in Rust, `pip install common-expression-language`): its column is left out
when it is absent. Both must give the same answers. Medians of several rounds, CPU time of this process.
"""

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any

from holdfast_rules import Others, RuleSet, load
from holdfast_wire.message import Value

CONDITIONS = (
    "free_ratio < 0.05",
    "not writable and expected_writable",
    "dead",
    "free_ratio < 0.03 and writable and not volatile",
    "inodes_free_ratio < 0.05 and writable",
    "read_only and expected_writable",
    "not reachable",
    'fstype == "ext4" and dead',
    "free_bytes < 1000000000 and not network",
    "free_bytes / size_bytes < 0.01",
    "not reachable and network",
    "filesystem_errors_total > 0",
    "inodes_free < 1000 or free_bytes < 1000000",
    "volatile and network",
    'fstype == "xfs" and free_ratio < 0.1',
    "not (writable or read_only)",
    "size_bytes - free_bytes > 10000000000000",
    'mountpoint == "/" and free_ratio < 0.1',
    "dead or not reachable or read_only and expected_writable",
    "free_ratio < 0.2 and inodes_free_ratio < 0.2",
)
HEALTHY: dict[str, Value] = {
    "mountpoint": "/srv",
    "fstype": "ext4",
    "size_bytes": 100_000_000_000,
    "free_bytes": 54_000_000_000,
    "free_ratio": 0.54,
    "inodes_free": 100_000,
    "inodes_free_ratio": 0.9,
    "read_only": False,
    "dead": False,
    "writable": True,
    "expected_writable": True,
    "filesystem_errors_total": 0,
    "reachable": True,
    "network": False,
    "volatile": False,
}
QUOTIENT = "double(free_bytes) / double(size_bytes)"
"""In CEL the quotient of two whole numbers is a whole number; here, as in Python, it is not."""
ROUNDS = 9
ROUND_SECONDS = 0.05


class Volume:
    """A resource with plain facts."""

    node, kind, name = "vm-1", "volume", "/srv"

    def __init__(self, facts: dict[str, Value]) -> None:
        self.facts = facts

    def related(self, kind: str) -> None:
        return None

    def others(self, kind: str, resting: bool) -> Others:
        return Others((), complete=True)

    def series(self, fact: str) -> tuple[()]:
        return ()

    def observed_at(self, fact: str) -> None:
        return None


def microseconds(work: Callable[[], object]) -> float:
    """CPU time of one call, the median of several rounds."""
    rounds = []
    for _ in range(ROUNDS):
        started, calls = time.process_time(), 0
        while (spent := time.process_time() - started) < ROUND_SECONDS:
            for _ in range(100):
                work()
            calls += 100
        rounds.append(spent / calls * 1e6)
    return statistics.median(rounds)


def pack() -> RuleSet:
    entries = [
        f"  - {{alert: Rule{number}, resource: volume, severity: info, summary: x, when: '{condition}'}}"
        for number, condition in enumerate(CONDITIONS)
    ]
    return load({"bench.yaml": "\n".join(["rules:", *entries])})


def peer(facts: dict[str, Value]) -> Callable[[], list[Any]] | None:
    """The same conditions in CEL, compiled, one context per subject; None when the library is not installed."""
    try:
        cel = importlib.import_module("cel")
    except ImportError:
        return None
    words = {" and ": " && ", " or ": " || ", "not ": "!", "free_bytes / size_bytes": QUOTIENT}
    programs = []
    for condition in CONDITIONS:
        for ours, theirs in words.items():
            condition = condition.replace(ours, theirs)
        programs.append(cel.compile(condition))

    def work() -> list[Any]:
        context = cel.Context(variables=facts)
        return [program.execute(context) for program in programs]

    return work


def main() -> None:
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    rules = pack()
    healthy, sparse = Volume(HEALTHY), Volume({"mountpoint": "/srv", "fstype": "nfs4", "network": True})
    listed = rules.of_kind("volume")
    rows = [
        ("all rules in one call (RuleSet.judge)", lambda: rules.judge(healthy, 0.0)),
        ("rule by rule (Rule.judge)", lambda: [rule.judge(healthy, 0.0) for rule in listed]),
        ("all rules in one call, most facts absent", lambda: rules.judge(sparse, 0.0)),
    ]
    theirs = peer(HEALTHY)
    if theirs is not None:
        assert [finding == "holds" for finding in rules.judge(healthy, 0.0)] == theirs(), "answers differ"
        rows.append(("common-expression-language, one context per subject", theirs))
    print("| 20 flat rules on one volume | µs | µs per rule |\n|---|---|---|")
    for name, work in rows:
        spent = microseconds(work)
        print(f"| {name} | {spent:.1f} | {spent / len(CONDITIONS):.2f} |")
    if theirs is None:
        print("\ncommon-expression-language is not installed: no peer to compare with")


if __name__ == "__main__":
    main()
