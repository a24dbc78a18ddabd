"""`holdfast rules check`, `test` and `export`: an operator's own packs, judged before the collector sees them.

Exit codes: 0 good; 1 a test failed, or with `--strict` a rule cannot fire; 2 a pack or test cannot be used, with every mistake as `file:line:column: …`.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from holdfast.fleet_lint import Remark, remarks
from holdfast.terminal import printable
from holdfast_collector.packs import shipped_packs, shipped_tests, user_packs, user_tests
from holdfast_rules import PackError, RuleSet, load, prometheus
from holdfast_rules.packtest import Outcome, read_cases, run
from holdfast_rules.yaml_document import write_document


def check(paths: Sequence[str], facts: Callable[[], Any] | None = None, *, strict: bool = False) -> int:
    """Check packs together with the shipped ones; without paths, the shipped ones alone.

    With `facts`, a collector's answer, also whether its fleet can make them fire; `strict`: one that it cannot is bad news.
    """
    try:
        rules, files = _load(paths)
    except PackError as error:
        return _refuse(error)
    own = [rule for rule in rules.rules if not paths or rule.file in files]
    print(f"{_count(len(own), 'rule')} in {_count(len(files), 'file')}: good")
    if facts is not None:
        return _held_against(remarks(rules, own, files, answer := facts()), answer["nodes"], strict=strict)
    for rule in own:
        print(f"  {rule.severity:7}{rule.resource:12}{rule.alert}")
    return 0


def _held_against(found: Sequence[Remark], nodes: int, *, strict: bool) -> int:
    for remark in found:
        for line in remark.lines:
            print(printable(line))
    levels = Counter(remark.level for remark in found)
    said = ", ".join(f"{levels[level]} {level}" for level in ("dead", "partly", "idle") if levels[level])
    print(f"against {_count(nodes, 'node')} that report: {said or 'every rule has what it needs'}")
    return 1 if strict and levels["dead"] else 0


def test(paths: Sequence[str]) -> int:
    """Run the tests beside packs; without paths, those of the shipped ones."""
    try:
        rules, _ = _load(paths)
        cases = read_cases(user_tests(map(Path, paths)) if paths else shipped_tests(), rules)
    except PackError as error:
        return _refuse(error)
    outcomes = [run(case) for case in cases]
    failed = [outcome for outcome in outcomes if outcome.failures]
    for outcome in failed:
        print(f"{outcome}\n")
    print(_verdict(outcomes, failed))
    return 1 if failed or not outcomes else 0


HEAD = """\
# Rules of holdfast on the metrics of its collector, for a Prometheus that scrapes it. Made by `holdfast rules export`.
# The collector's own alerts know more: when evidence is missing they stay, Prometheus' resolve; `delta` counts from the
# first event, `increase` from the second; nothing inhibits, nothing is sticky here.
"""


def export(paths: Sequence[str]) -> int:
    """Print packs as a Prometheus rule file; without paths, the shipped ones. What cannot be said is a comment."""
    try:
        rules, files = _load(paths)
    except PackError as error:
        return _refuse(error)
    exported = prometheus.export([rule for rule in rules.rules if rule.file in files])
    print(HEAD, end="")
    for alert, why in exported.left_out:
        print(f"# left out: {alert}: {why}")
    print(write_document({"groups": exported.groups}), end="")
    return 0


def _load(paths: Sequence[str]) -> tuple[RuleSet, list[str]]:
    """The rules, and the names of the files that were asked about."""
    shipped = shipped_packs()
    # A test file among the paths stands for its pack.
    packs = [
        Path(path.removesuffix(".test.yaml") + ".yaml" if path.endswith(".test.yaml") else path)
        for path in paths
    ]
    own = user_packs(packs)
    return load({**shipped, **own}), list(own if paths else shipped)


def _refuse(error: PackError) -> int:
    for mistake in error.mistakes:
        print(mistake, file=sys.stderr)
    print(_count(len(error.mistakes), "mistake"), file=sys.stderr)
    return 2


def _verdict(outcomes: list[Outcome], failed: list[Outcome]) -> str:
    if not outcomes:
        return "there are no tests here: a pack's tests stand beside it in <pack>.test.yaml"
    if failed:
        return f"{len(failed)} of {_count(len(outcomes), 'test')} failed"
    return f"{_count(len(outcomes), 'test')} passed"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
