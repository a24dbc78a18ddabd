"""Conditions over many resources: what they answer, and that what nobody has seen is never taken for well."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_rules import Finding, PackError, RuleSet, load
from holdfast_rules.case import Shows
from holdfast_rules.errors import ExpressionInvalid
from holdfast_rules.expression import compile_expression
from holdfast_rules.packtest import read_cases, run
from holdfast_wire.message import Value
from tests.rules.resource import Resource

Facts = dict[str, Value]


def node(*volumes: Facts, whole: bool = True, kind: str = "node", **more: Any) -> Resource:
    """A node with volumes /0, /1, …"""
    neighbours = [
        Resource(kind="volume", name=f"/{number}", facts=facts, resting=True)
        for number, facts in enumerate(volumes)
    ]
    known = frozenset({"volume"} if whole else ())
    return Resource(kind=kind, name="vm-1", neighbours=neighbours, whole=known, **more)


def answer(text: str, subject: Resource, at: float = 1000.0) -> bool | None:
    return compile_expression(text, subject.kind).program(subject.facts.get, subject, at)


DEAD: Facts = {"dead": True}
WELL: Facts = {"dead": False}
BLIND: Facts = {}


@pytest.mark.parametrize(
    ("volumes", "any_", "all_", "count"),
    [
        ([DEAD, WELL], True, False, True),
        ([DEAD, DEAD], True, True, True),
        ([WELL, WELL], False, False, False),
        ([], False, True, False),
        ([DEAD, BLIND], True, None, True),
        ([WELL, BLIND], None, False, None),
        ([BLIND], None, None, None),
    ],
)
def test_many_answers_are_one(
    volumes: list[Facts], any_: bool | None, all_: bool | None, count: bool | None
) -> None:
    there = node(*volumes)

    assert answer("any(v.dead for v in volumes)", there) is any_
    assert answer("all(v.dead for v in volumes)", there) is all_
    assert answer("count(v.dead for v in volumes) >= 1", there) is count
    assert answer("count(v for v in volumes if v.dead) >= 1", there) is count


@pytest.mark.parametrize("text", ["any(v.dead for v in volumes)", "all(not v.dead for v in volumes)"])
def test_resources_that_nobody_sees_may_be_anything(text: str) -> None:
    """A probe that may not look lists no dead volume, and no well one."""
    assert answer(text, node(whole=False)) is None
    assert answer(text, node(WELL, whole=False)) is None
    assert answer(text, node(DEAD, whole=False)) is text.startswith("any")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("count(v.dead for v in volumes) >= 2", True),
        ("count(v.dead for v in volumes) > 2", None),
        ("count(v.dead for v in volumes) > 3", False),
        ("4 <= count(v.dead for v in volumes)", False),
        ("2 <= count(v.dead for v in volumes)", True),
        ("count(v.dead for v in volumes) < 2", False),
        ("count(v.dead for v in volumes) <= 3", True),
        ("count(v.dead for v in volumes) == 2", None),
        ("count(v for v in volumes) == 4", True),
        ("count(v.dead for v in volumes) < count(v for v in volumes)", True),
        ("count(v.dead for v in volumes) + 0 >= 2", None),
    ],
)
def test_a_count_is_answered_as_soon_as_no_unknown_could_change_it(text: str, expected: bool | None) -> None:
    assert answer(text, node(DEAD, DEAD, WELL, BLIND)) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("min(v.free_ratio for v in volumes) < 0.2", True),
        ("min(v.free_ratio for v in volumes) > 0.2", False),
        ("min(v.free_ratio for v in volumes) < 0.1", None),
        ("max(v.free_ratio for v in volumes) > 0.8", True),
        ("max(v.free_ratio for v in volumes) <= 0.95", None),
        ("min(v.free_ratio for v in volumes if v.writable) < 0.2", None),
        ("min(v.free_ratio for v in volumes if not v.network) < 0.2", True),
        ("max(v.free_bytes for v in volumes) > '1KiB'", None),
    ],
)
def test_the_least_and_the_greatest_are_bounded_by_what_is_known(text: str, expected: bool | None) -> None:
    there = node(
        {"free_ratio": 0.1, "network": False}, {"free_ratio": 0.9, "network": False}, {"network": False}
    )

    assert answer(text, there) is expected
    assert answer("min(v.free_ratio for v in volumes) < 0.5", node()) is None, "of none there is no least"


def test_rests_on_this_one_and_is_on_the_same_node_are_two_questions() -> None:
    own = Resource(kind="volume", name="/own", facts={"dead": True}, resting=True)
    other = Resource(kind="volume", name="/other", facts={"dead": True})
    disk = Resource(kind="device", name="sda", neighbours=[own, other], whole=frozenset({"volume"}))

    assert answer("count(v.dead for v in volumes) == 1", disk) is True
    assert answer("count(v.dead for v in node.volumes) == 2", disk) is True


def test_the_rules_own_facts_and_history_go_together_with_those_of_each() -> None:
    seen = [(0.0, 1.0), (900.0, 4.0)]
    there = node(facts={"boot_dirty": True})
    there.neighbours = [
        Resource(
            kind="service",
            name="a.service",
            facts={"restarts_total": 4},
            histories={"restarts_total": seen},
            observed={"restarts_total": 990.0},
        )
    ]
    there.whole = frozenset({"service"})
    text = 'any(delta(s.restarts_total, "10m") >= 3 and boot_dirty and age(s.restarts_total) < "1m" for s in services)'

    assert answer(text, there) is True
    assert compile_expression(text, "node").windows == {}
    assert compile_expression(text, "node").windows_elsewhere == {"service": {"restarts_total": 600.0}}
    pack = f"rules: [{{alert: Many, resource: node, when: '{text}', severity: info, summary: x}}]"
    assert load({"a.yaml": pack}).windows("service") == {"restarts_total": 600.0}


def test_evidence_names_those_that_decide() -> None:
    pack = """
constants: {limit: 1}
rules:
  - {alert: Two, resource: node, severity: info, summary: x,
     when: boot_dirty and count(v.dead for v in volumes) > limit and not all(v.dead for v in volumes)}
"""
    rule = load({"a.yaml": pack}).by_name["Two"]

    assert rule.evidence(node(DEAD, WELL, DEAD, facts={"boot_dirty": True}), 0.0) == (
        "boot_dirty=yes, count(v.dead for v in volumes)=2 (/0, /2), all(v.dead for v in volumes)=no (/1)"
    )
    assert "all(v.dead for v in volumes)=unknown" in rule.evidence(node(BLIND), 0.0)


def faults(text: str, kind: str = "node") -> list[tuple[str, str, str]]:
    with pytest.raises(ExpressionInvalid) as caught:
        compile_expression(text, kind)
    return [(text[fault.offset :], fault.message, fault.nearest) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("text", "kind", "place", "said", "near"),
    [
        ("any(v.ded for v in volumes)", "node", "v.ded for", "`ded` is not a fact of a volume", "`v.dead`"),
        ("any(v.dead for v in volume)", "node", "volume)", "there are no volume; there are devices", "`volumes`"),
        ("any(v.dead for v in node.volums)", "node", "node.volums)", "there are no volums", "`volumes`"),
        ("any(v.dead for v in nodes)", "node", "nodes)", "there are no nodes", ""),
        ("any(v.dead for v in [1])", "node", "[1])", "`for` goes over resources", ""),
        ("any(v.free_ratio for v in volumes)", "node", "v.free_ratio for", "`any` wants yes or no", ""),
        ("min(v.dead for v in volumes) < 1", "node", "v.dead for", "`min` wants a number", ""),
        ("any(v for v in volumes)", "node", "v for v", "`v` is a volume; name one of its facts", ""),
        ("any(v.dead for v in volumes if v)", "node", "v)", "`v` is a volume", ""),
        ("any(v.dead)", "node", "any(", "write `any(v.dead for v in volumes)`", ""),
        ("count(dead) > 1", "node", "count(", "write `count(v.dead for v in volumes)`", ""),
        ("any([v.dead for v in volumes])", "node", "any(", "write `any(v.dead for v in volumes)`", ""),
        ("any(v.dead for v, w in volumes)", "node", "any(", "one `for` with one name", ""),
        ("any(v.dead for v in volumes for w in volumes)", "node", "any(", "one `for` with one name", ""),
        ("any(any(w.dead for w in volumes) for v in volumes)", "node", "any(w", "may not stand within another", ""),
        ("any(kernel.dead for kernel in volumes)", "node", "kernel in", "`kernel` means something already", ""),
        ("any(node.dead for node in node.volumes)", "node", "node in", "`node` means something already", ""),
        ("any(s.up for s in services)", "device", "services)", "no service rests on a device", "`node.services`"),
        ("any(s.up for s in services)", "collector", "services)", "the collector is on no node", ""),
        ("any(v.free_ratio < 5 for v in volumes)", "node", "v.free_ratio < 5", "always holds: each.free_ratio", ""),
        ("count(v.dead for v in volumes) < 0", "node", "count(", "never holds", ""),
        ("any(delta(v.fstype, '1h') > 0 for v in volumes)", "node", "v.fstype", "`delta` wants a number", ""),
        ("any(v.dead.real for v in volumes)", "node", "v.dead.real", "is not part of the rule language", ""),
        ("any(v.__class__ for v in volumes)", "node", "v.__class__", "is not a fact of a volume", ""),
        ("v.dead", "node", "v.dead", "a node has no one v", ""),
        ("any(v.free_bytes < '10m' for v in volumes)", "node", "'10m'", "is an amount of seconds", ""),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(text: str, kind: str, place: str, said: str, near: str) -> None:
    [(at, message, nearest)] = faults(text, kind)

    assert at.startswith(place)
    assert said in message
    assert nearest == near


PACK = """
rules:
  - alert: DeadVolumes
    resource: node
    when: count(v.dead for v in volumes if v.expected_writable) >= 2
    for: 1m
    severity: page
    summary: "{node}: several volumes are dead"
"""


def test_a_pack_under_test_says_what_else_is_on_the_node() -> None:
    text = """
tests:
  - name: fires
    rule: DeadVolumes
    resource: vm-1
    every: 1m
    others:
      volume:
        /a: {dead: falsex1 truex3 falsex2, expected_writable: true}
        /b: {dead: true, expected_writable: true}
        /c: {dead: true, expected_writable: false}
    expect: {0: inactive, 1m: pending, 2m: firing, 4m: inactive}
  - {name: nobody has seen volumes, rule: DeadVolumes, resource: vm-1, every: 1m, expect: {5m: inactive}}
"""
    cases = read_cases({"a.test.yaml": text}, load({"a.yaml": PACK}))

    assert [run(case).failures for case in cases] == [(), ()]
    assert [case.shows for case in cases] == [Shows.CLEARS, Shows.MISSING]


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ("{volum: {}}", "there is no volum that a node has several of; did you mean volume?"),
        ("{volume: 5}", "`volume` is a mapping of names to facts, not a single value"),
        ("{volume: {/a: {ded: true}}}", "`ded` is not a fact of a volume; did you mean dead?"),
    ],
)
def test_a_mistake_in_them_is_named(others: str, said: str) -> None:
    text = f"tests: [{{name: x, rule: DeadVolumes, resource: n, every: 1m, others: {others}, expect: {{0: inactive}}}}]"
    with pytest.raises(PackError) as caught:
        read_cases({"a.test.yaml": text}, load({"a.yaml": PACK}))

    assert said in str(caught.value)


ROW = st.fixed_dictionaries({}, optional={"dead": st.booleans(), "writable": st.booleans(), "free_ratio": st.sampled_from([0.0, 0.25, 0.5, 1.0])})  # fmt: skip
ASKED: dict[str, Callable[[list[Any]], Any]] = {
    "any(v.dead for v in volumes if v.writable)": lambda rows: any(r["dead"] for r in rows if r["writable"]),
    "all(v.dead for v in volumes if v.writable)": lambda rows: all(r["dead"] for r in rows if r["writable"]),
    "count(v.dead for v in volumes if v.writable) >= 2": lambda rows: (
        sum(r["dead"] and r["writable"] for r in rows) >= 2
    ),
    "min(v.free_ratio for v in volumes if v.writable) < 0.5": lambda rows: (
        min(found) < 0.5 if (found := [r["free_ratio"] for r in rows if r["writable"]]) else None
    ),
    "max(v.free_ratio for v in volumes if v.writable) >= 0.5": lambda rows: (
        max(found) >= 0.5 if (found := [r["free_ratio"] for r in rows if r["writable"]]) else None
    ),
}
"""Condition → what it answers when everything is known."""


@settings(max_examples=300, deadline=None)
@given(st.lists(ROW, max_size=3), st.sampled_from(sorted(ASKED)), st.booleans())
def test_an_answer_holds_whatever_the_unknown_turns_out_to_be(
    rows: list[Facts], text: str, whole: bool
) -> None:
    """Every world that fits the evidence is tried: when all agree that is the answer, or it is unknown."""
    said = answer(text, node(*rows, whole=whole))
    worlds = [list[Facts]()]
    for row in [*rows, *([] if whole else [{}])]:
        full = [
            {**Facts(dead=dead, writable=writable, free_ratio=ratio), **row}
            for dead in (True, False)
            for writable in (True, False)
            for ratio in (0.0, 0.25, 0.5, 1.0)
        ]
        worlds = [[*world, one] for world in worlds for one in {str(each): each for each in full}.values()]
    possible = {ASKED[text](world) for world in worlds} | ({ASKED[text](rows)} if not worlds else set())

    assert said is None or possible - {None} == {said}


def test_rules_over_many_are_judged_like_others() -> None:
    rules: RuleSet = load({"a.yaml": PACK.replace("for: 1m", "for: 0s")})
    both: Facts = {"dead": True, "expected_writable": True}

    assert rules.judge(node(both, both), 0.0) == (Finding.HOLDS,)
