"""The rules we ship: each one tested, explained in the runbook, and built of facts that somebody states."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from holdfast_collector.packs import load_rules, shipped_packs, shipped_tests
from holdfast_rules import Rule, load
from holdfast_rules.packtest import Case, Shows, read_cases, run
from holdfast_wire.fact import ResourceKind
from holdfast_wire.relation import RELATED

RULES = load_rules()
CASES = read_cases(shipped_tests(), RULES)
README = (Path(__file__).parents[2] / "rules" / "README.md").read_text(encoding="utf-8")
CATALOGUE = README[README.index("\n## Catalogue") :]
ENTRIES = {
    match[1]: match[2]
    for match in re.finditer(r"^### (\w+)\n(.*?)(?=^##|\Z)", CATALOGUE, re.MULTILINE | re.DOTALL)
}
PARTS = ("Means.", "May be lost.", "First.", "Never.", "Tested.")


def name_of(thing: Rule | Case) -> str:
    return thing.alert if isinstance(thing, Rule) else f"{thing.rule.alert}: {thing.name}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_packs_own_test_passes(case: Case) -> None:
    assert run(case).failures == ()


@pytest.mark.parametrize("rule", RULES.rules, ids=name_of)
def test_each_rule_is_shown_to_fire_to_stay_quiet_to_miss_data_and_to_clear(rule: Rule) -> None:
    shown = {case.shows for case in CASES if case.rule is rule}

    assert shown >= ({Shows.FIRES} if rule.expression.constant else set(Shows))


@pytest.mark.parametrize("rule", RULES.rules, ids=name_of)
def test_each_rule_has_a_runbook_entry_with_all_its_parts(rule: Rule) -> None:
    entry = ENTRIES.get(rule.alert, "")

    head = f"`{rule.severity}` · {rule.id} · {rule.resource}"

    assert entry.splitlines()[:1] == [f"{head} · {rule.verdict}" if rule.verdict else head]
    assert [part for part in PARTS if f"**{part}**" not in entry] == []


def test_the_runbook_speaks_of_no_rule_that_is_not_shipped() -> None:
    assert sorted(ENTRIES) == sorted(rule.alert for rule in RULES.rules)


def test_the_examples_of_the_language_page_work() -> None:
    pack, changes, tests = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)

    rules = load({**shipped_packs(), "srv.yaml": pack, "changes.yaml": changes})

    assert "ClockStepped" not in rules.by_name
    assert rules.by_name["NodeStopped"].severity == "ticket"
    assert "VolumeSpaceLow" in rules.of_node("db-1").by_name
    assert [run(case).failures for case in read_cases({"srv.test.yaml": tests}, rules)] == [()]


def test_the_names_of_tests_are_sentences_of_their_own() -> None:
    names = defaultdict(list)
    for case in CASES:
        names[case.rule.alert, case.name].append(case)

    assert {name: cases for name, cases in names.items() if len(cases) > 1} == {}


@pytest.mark.parametrize("rule", RULES.rules, ids=name_of)
def test_a_page_names_the_node_it_is_about(rule: Rule) -> None:
    """The collector is on none, and a group on several: that one is named itself."""
    if rule.resource != "collector":
        assert ("{resource}" if rule.resource == "group" else "{node}") in rule.summary


KNOWN_WORK = {("PoolDegraded", "PoolResilvering")}
"""A ticket that keeps a page quiet on purpose: somebody replaces the disk, and is seen to do it."""


def test_no_alert_is_kept_quiet_by_a_lesser_one() -> None:
    """A page that a ticket explains would wait until the morning."""
    order = ("info", "ticket", "page")
    lesser = {
        (rule.alert, other)
        for rule in RULES.rules
        for other in rule.inhibited_by
        if order.index(RULES.by_name[other].severity) < order.index(rule.severity)
    }

    assert lesser == KNOWN_WORK


@pytest.mark.parametrize("rule", [rule for rule in RULES.rules if rule.inhibited_by], ids=name_of)
def test_what_explains_an_alert_is_on_the_same_resource_or_one_it_rests_on(rule: Rule) -> None:
    """An alert of a kind that cannot be reached never explains anything: the list would be a false promise."""
    reached = {rule.resource, "collector"}  # whose alerts concern the whole fleet
    for _ in ResourceKind:
        reached |= {other for kind in reached for other in RELATED[kind]}

    assert {RULES.by_name[name].resource for name in rule.inhibited_by} <= reached


KERNEL_LINES = [
    rule
    for rule in RULES.rules
    if rule.resource == "device" and all(name.startswith("kernel_") for name in rule.names)
]


@pytest.mark.parametrize("rule", [rule for rule in RULES.rules if rule.resource == "device"], ids=name_of)
def test_an_alert_about_a_device_names_it(rule: Rule) -> None:
    assert "{resource}" in rule.summary


@pytest.mark.parametrize("rule", KERNEL_LINES, ids=name_of)
def test_an_alert_from_the_kernel_log_gives_the_kernels_line(rule: Rule) -> None:
    [counter] = rule.names

    assert f"{{{counter.removesuffix('_total')}_last}}" in rule.summary


def test_thresholds_say_where_they_come_from() -> None:
    """A comment stands above each rule that has a number or a duration in it."""
    packs = Path(__file__).parents[2] / "rules" / "holdfast_rules" / "packs"
    silent = []
    for rule in RULES.rules:
        text = (packs / Path(rule.file).name).read_text(encoding="utf-8")
        above = text[: text.index(f"  - alert: {rule.alert}\n")].rstrip("\n").splitlines()[-1]
        if re.search(r"\d", rule.when) and not above.lstrip().startswith("#"):
            silent.append(rule.alert)

    assert silent == []
