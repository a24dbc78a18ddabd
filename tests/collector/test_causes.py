"""Which alert may explain which, one condition after the other: what is kept quiet wrongly is a page that nobody gets."""

from typing import Any

import pytest
from msgspec import structs

from holdfast_collector.core.causality import (
    NAMED_MAX,
    TOGETHER_SECONDS,
    around,
    began_together,
    beneath,
    counts,
    may_explain,
    named,
    root,
)
from holdfast_collector.core.docket import Docket
from holdfast_collector.core.record import Tracked
from holdfast_rules import AlertState, RuleSet, load
from tests.collector.judged import BEGAN, alert, known_node, rule, tracked

MEMORY = 'delta(kernel_data_loss_total, "1h") > 0'


def disk(**fields: Any) -> Tracked:
    said = {"alertname": "DiskBad", "rule_id": "T-0", "kind": "device", "resource": "sdb", "notified": True}
    return tracked(**{**said, **fields})


def disk_rule(when: str = "smart_failing", **fields: Any) -> Any:
    return rule(when, **{"resource": "device", **fields})


@pytest.mark.parametrize(
    ("cause", "of_cause", "of_effect", "may"),
    [
        (disk(), disk_rule(), rule(), True),
        (disk(notified=False), disk_rule(), rule(), False),
        (disk(), disk_rule(verdict=None), rule(), False),
        (disk(), disk_rule(), rule(verdict=None), False),
        (disk(), disk_rule(severity="ticket"), rule(), False),
        (disk(), disk_rule(), rule(severity="ticket"), True),
        (disk(), disk_rule(), rule(verdict="lost"), False),
        (disk(), disk_rule(verdict="lost"), rule(), True),
        (disk(), disk_rule(), rule(sticky=True), False),
        (disk(), disk_rule(sticky=True), rule(sticky=True), True),
        (disk(), disk_rule(verdict="lost"), rule(sticky=True), True),
        (disk(cleared_since=BEGAN), disk_rule(sticky=True), rule(), False),
        (disk(cleared_since=BEGAN), disk_rule(), rule(), True),
        (disk(cleared_since=BEGAN), disk_rule(MEMORY, sticky=True), rule(), True),
    ],
    ids=[
        "may",
        "nobody was told",
        "the cause says nothing of state",
        "the effect does not",
        "would wake nobody",
        "woke more than it must",
        "says less",
        "says more",
        "waits for its own word",
        "both wait for a word",
        "a loss is the greater word",
        "waits only for a word",
        "clears by itself",
        "a memory stands on",
    ],
)  # fmt: skip
def test_a_cause_may_keep_an_effect_quiet(cause: Tracked, of_cause: Any, of_effect: Any, may: bool) -> None:
    assert may_explain(cause, of_cause, alert(), of_effect) is may


@pytest.mark.parametrize(
    ("began", "together"),
    [
        (BEGAN - TOGETHER_SECONDS - 1, False),
        (BEGAN - TOGETHER_SECONDS, True),
        (BEGAN + 600, True),
        (BEGAN + 600 + TOGETHER_SECONDS, True),
        (BEGAN + 600 + TOGETHER_SECONDS + 1, False),
    ],
)
def test_alerts_begin_together_around_the_time_in_which_the_cause_came_up(
    began: float, together: bool
) -> None:
    """From when it was first seen until it fired: its `for` is no time in which nothing else can begin."""
    cause = alert(fired_at=BEGAN + 600)

    assert began_together(alert(pending_since=began), cause) is together


def test_a_cause_that_does_not_fire_yet_began_when_it_was_first_seen() -> None:
    cause = alert(state=AlertState.PENDING, fired_at=None)

    assert began_together(alert(pending_since=BEGAN + TOGETHER_SECONDS), cause)
    assert not began_together(alert(pending_since=BEGAN + TOGETHER_SECONDS + 1), cause)


def test_a_memory_explains_what_began_with_the_event_and_a_state_whatever_is_on_it() -> None:
    late = alert(pending_since=BEGAN + 3600)

    assert not may_explain(disk(), disk_rule(MEMORY), late, rule())
    assert may_explain(disk(), disk_rule(), late, rule())


@pytest.mark.parametrize(
    ("when", "remembers"),
    [
        (MEMORY, True),
        ('rate(kernel_data_loss_total, "1h") > 0', True),
        ('changed(smart_failing, "1h")', True),
        ('smart_failing and age(size_bytes) > "1h"', False),
        ("smart_failing", False),
    ],
)
def test_a_condition_that_looks_back_on_what_happened_remembers(when: str, remembers: bool) -> None:
    """It ends by the clock. An age is a state: it ends when somebody does something."""
    assert disk_rule(when).remembers is remembers


def test_one_begins_with_the_deepest_and_there_with_the_worst() -> None:
    """And of equals always with the same one."""
    volume = (tracked(notified=True), rule(verdict="lost"))
    mild = (disk(resource="sda"), disk_rule())
    bad = (disk(resource="sdb"), disk_rule(verdict="not_durable"))
    same = (disk(resource="sdc"), disk_rule(verdict="not_durable"))

    for causes in ([volume, mild, bad, same], [same, bad, mild, volume]):
        assert root(causes) is bad[0]
    assert root([]) is None


@pytest.mark.parametrize(
    ("facts", "counted"),
    [
        ({"role": "data", "confidence": "high"}, True),
        ({}, True),
        ({"role": "data", "confidence": "low"}, False),
        ({"role": "cache"}, False),
        ({"role": "temp"}, False),
    ],
)
def test_a_service_rests_on_paths_that_hold_its_state(facts: dict[str, Any], counted: bool) -> None:
    """What merely is open there, or may vanish, explains nothing about it."""
    path = ("state_path", "pg:/srv")
    resources = {
        path: {"service": "pg", "mountpoint": "/srv", **facts},
        ("volume", "/srv"): {"device": "sdb"},
    }

    assert counts(facts) is counted
    assert beneath(resources, ("service", "pg")) == (
        {path, ("volume", "/srv"), ("device", "sdb")} if counted else set()
    )


def test_what_lies_beneath_is_what_facts_name_and_no_more() -> None:
    """Another service's paths are not its own, whatever else names it; a filesystem of a server has no device."""
    resources: dict[tuple[str, str], dict[str, Any]] = {
        ("state_path", "pg:/srv"): {"service": "pg", "mountpoint": "/srv"},
        ("state_path", "redis:/var"): {"service": "redis", "mountpoint": "/var"},
        ("volume", "/srv"): {"leaf_devices": "sda, sdb", "device": "md0"},
        ("volume", "/var"): {"service": "pg"},
    }

    assert beneath(resources, ("volume", "/srv")) == {("device", name) for name in ("sda", "sdb", "md0")}
    assert beneath(resources, ("volume", "/var")) == set()
    assert {kind_name for kind_name in beneath(resources, ("service", "pg")) if kind_name[0] != "device"} == {
        ("state_path", "pg:/srv"),
        ("volume", "/srv"),
    }
    assert beneath(resources, ("node", "n1")) == set()


def test_a_path_lies_within_those_of_its_service_on_its_volume() -> None:
    """A prefix of the name is no folder; what has a volume of its own, or one that nobody knows, has a fate
    of its own."""
    facts = {"service": "pg", "mountpoint": "/srv"}
    resources: dict[tuple[str, str], dict[str, Any]] = {
        ("state_path", "a"): {**facts, "path": "/srv/pg"},
        ("state_path", "b"): {**facts, "path": "/srv/pg/wal"},
        ("state_path", "c"): {**facts, "path": "/srv/pg/wal/archive"},
        ("state_path", "d"): {**facts, "path": "/srv/pg-old"},
        ("state_path", "e"): {**facts, "path": "/srv/pg/fast", "mountpoint": "/srv/pg/fast"},
        ("state_path", "f"): {**facts, "path": "/", "service": "other"},
        ("state_path", "g"): facts,
        ("state_path", "h"): {"service": "pg", "path": "/var/pg"},
        ("state_path", "i"): {"service": "pg", "path": "/var/pg/wal"},
        ("volume", "/srv"): {"path": "/srv/pg/x", "service": "pg", "mountpoint": "/srv"},
    }

    assert around(resources, ("state_path", "c")) == [("state_path", "a"), ("state_path", "b")]
    for outermost in ("a", "d", "e", "f", "g", "h", "i", "unheard"):
        assert around(resources, ("state_path", outermost)) == []
    assert around(resources, ("volume", "/srv")) == []


PATHS = """
rules:
  - {alert: InMemory, id: T-1, resource: state_path, when: volatile, severity: page, verdict: not_durable, summary: x}
  - {alert: Moved, id: T-2, resource: state_path, when: moved, severity: page, verdict: not_durable, summary: x}
"""


def test_what_befalls_a_database_s_folder_is_one_alert_and_not_one_for_each_folder_in_it() -> None:
    """Its log lies inside its data, as with most of them. Another rule's word on the outer one explains nothing."""
    docket, node = Docket(), known_node()
    facts: dict[str, Any] = {"service": "pg", "mountpoint": "/srv"}
    node.resources = {
        ("state_path", "pg:/srv/pg"): {**facts, "path": "/srv/pg"},
        ("state_path", "pg:/srv/pg/wal"): {**facts, "path": "/srv/pg/wal"},
    }
    said: dict[str, Any] = {"alertname": "InMemory", "kind": "state_path"}
    outer = tracked(resource="pg:/srv/pg", notified=True, **said)
    inner = tracked(resource="pg:/srv/pg/wal", **said)
    moved = tracked(resource="pg:/srv/pg/wal", **{**said, "alertname": "Moved", "rule_id": "T-2"})
    for row in (outer, inner, moved):
        docket.put(row)
    rules = load({"own.yaml": PATHS})

    assert docket.cause(inner, node, rules) is outer
    assert docket.cause(outer, node, rules) is None
    assert docket.cause(moved, node, rules) is None


def test_a_notice_names_what_it_explains_and_counts_what_it_does_not_name() -> None:
    rows = [tracked(resource=f"/srv/{number}") for number in range(NAMED_MAX + 2)]
    of_node = tracked(alertname="NodeBad", kind="node", resource="")

    assert named(rows[:1]) == "1 alert: VolumeBad on /srv/0"
    assert named([of_node, rows[0]]) == "2 alerts: NodeBad on n1, VolumeBad on /srv/0"
    assert named(rows[:NAMED_MAX]).endswith("VolumeBad on /srv/4")
    assert named(rows).endswith("VolumeBad on /srv/4 and 2 more")


CHAIN = """
rules:
  - {alert: DiskBad, id: T-0, resource: device, when: smart_failing, severity: page, verdict: at_risk, summary: x}
  - {alert: VolumeBad, id: T-1, resource: volume, when: dead, severity: page, verdict: at_risk, summary: x}
"""


def on_the_docket(before: Tracked, *told: str) -> list[Tracked]:
    """What is found to be part of a disk's alert that was just told, where this one on its volume stood. `told`: with it."""
    docket, node = Docket(), known_node()
    node.resources = {("volume", "/srv"): {"device": "sdb"}, ("device", "sdb"): {"smart_failing": True}}
    for row in (disk(), before):
        docket.put(row)
    rules: RuleSet = load({"own.yaml": CHAIN})
    return docket.told_before_their_cause([disk().key, *told], [node], lambda _: rules)


def test_what_was_told_before_its_cause_is_named_as_its_part() -> None:
    (found,) = on_the_docket(tracked(notified=True))

    assert (found.explained_by, found.inhibited_by) == (disk().key, "")


@pytest.mark.parametrize(
    "before",
    [
        tracked(),
        tracked(notified=True, state=AlertState.PENDING),
        tracked(notified=True, explained_by=disk().key),
        tracked(notified=True, resource="/elsewhere"),
    ],
    ids=["nobody was told", "does not fire", "known already", "on another disk"],
)
def test_nothing_else_is(before: Tracked) -> None:
    assert on_the_docket(before) == []


def test_a_memory_stands_on_what_it_explains_and_a_state_does_not() -> None:
    docket = Docket()
    cause, effect = disk(), tracked(explained_by=disk().key)
    for row in (cause, effect):
        docket.put(row)

    assert docket.stands_on(cause, disk_rule(MEMORY))
    assert not docket.stands_on(cause, disk_rule())
    docket.put(structs.replace(effect, explained_by=""))
    assert not docket.stands_on(cause, disk_rule(MEMORY))


def test_what_is_told_together_was_not_told_before() -> None:
    effect = tracked(notified=True)

    assert on_the_docket(effect, effect.key) == []


def chained() -> tuple[Docket, list[Tracked]]:
    """A disk explains a volume, which explains two paths."""
    rows = [
        disk(),
        tracked(explained_by=disk().key),
        tracked(alertname="PathBad", kind="state_path", resource="pg:/srv", explained_by=tracked().key),
        tracked(alertname="PathBad", kind="state_path", resource="redis:/srv", explained_by=tracked().key),
    ]
    docket = Docket()
    for row in reversed(rows):
        docket.put(row)
    return docket, rows


def test_an_alert_explains_what_its_effects_explain_the_deepest_first() -> None:
    docket, rows = chained()

    assert docket.explained(rows[0].key) == rows[1:]
    assert list(docket.causes(rows[3])) == [rows[1], rows[0]]
    assert docket.explained(rows[3].key) == []


def test_alerts_that_would_explain_each_other_are_gone_through_once() -> None:
    """No rule of ours makes such a pair; what an operator's `inhibited_by` names may."""
    docket, rows = chained()
    docket.put(structs.replace(rows[0], explained_by=rows[1].key))

    assert docket.explained(rows[0].key) == rows[1:]
    assert [row.key for row in docket.causes(rows[1])] == [rows[0].key]
    assert [row.key for row in docket.causes(rows[3])] == [rows[1].key, rows[0].key]


def test_an_episode_that_is_over_leaves_nothing_in_the_books() -> None:
    """They are kept for as long as the collector runs."""
    docket, rows = chained()

    for row in rows:
        docket.remove(row)

    new = Docket()
    assert {**vars(docket), "beneath_group": None} == {**vars(new), "beneath_group": None}
