"""`clear_when`: a firing alert ends where its rule says it is well, not a hair below the threshold."""

import pytest

from holdfast_rules import Finding, PackError
from holdfast_rules.pack import load
from holdfast_rules.packtest import read_cases, run
from holdfast_wire.message import Value
from tests.rules.resource import Resource, rule

LOW = rule("free_ratio < 0.05", clear_when="free_ratio > 0.08", keep_firing_for="2m")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"free_ratio": 0.09}, Finding.CLEAR),
        ({"free_ratio": 0.06}, Finding.BETWEEN),
        ({}, Finding.UNKNOWN),
    ],
)
def test_what_clears_is_known_to_be_well(facts: dict[str, Value], expected: Finding) -> None:
    assert LOW.clearing(Resource(facts=facts), 0.0) is expected


def test_without_it_whatever_does_not_hold_is_clear() -> None:
    assert rule("free_ratio < 0.05").clearing(Resource(), 0.0) is Finding.CLEAR


def test_its_facts_and_history_are_those_of_the_rule() -> None:
    """What it reads must be kept, and must wake the rule when it changes."""
    both = rule(
        'delta(inodes_free, "10m") < 0',
        clear_when='writable and delta(inodes_free, "1h") > 0 and age(dead) > 5',
    )

    assert both.names == ("inodes_free", "writable", "dead")
    assert both.windows == {"inodes_free": 3600.0}
    assert rule(clear_when="age(dead) > 5").timed


PACK = """
rules:
  - alert: VolumeLow
    resource: volume
    when: free_ratio < 0.05
    clear_when: free_ratio > 0.08
    keep_firing_for: 2m
    severity: page
    summary: low
"""


def test_a_pack_under_test_lives_through_it() -> None:
    """Back over 5 %, blind, in the middle, well for too short, well for two minutes; and pending without any of it."""
    text = """
tests:
  - name: hysteresis
    rule: VolumeLow
    resource: /srv
    every: 1m
    facts: {free_ratio: 0.04 0.06x2 0.09 0.06 _ 0.09x3 0.06x2}
    expect: {0: firing, 2m: firing, 3m: firing, 5m: firing, 7m: firing, 8m: inactive, 10m: inactive}
"""
    [case] = read_cases({"low.test.yaml": text}, load({"low.yaml": PACK}))

    assert run(case).failures == ()


@pytest.mark.parametrize(
    ("when", "clear_when", "said"),
    [
        ("free_ratio < 0.05", "free_ratio < 0.03", "the alert could never end"),
        ("free_ratio < 0.05", "free_ratio >= 0.05", "it changes nothing"),
        ("dead", "not dead", "it changes nothing"),
        ("free_ratio < 0.05", "free_ration > 0.1", "did you mean `free_ratio`?"),
        ("free_ratio < 0.05", "free_ratio > 5", "never holds"),
        ("free_ratio < 0.05", "free_ratio", "a condition is yes or no"),
    ],
)
def test_one_that_cannot_do_its_work_is_refused_with_its_place(when: str, clear_when: str, said: str) -> None:
    text = PACK.replace("free_ratio < 0.05", when).replace("free_ratio > 0.08", clear_when)
    with pytest.raises(PackError) as caught:
        load({"low.yaml": text})
    [mistake] = caught.value.mistakes

    assert (mistake.line, mistake.column, mistake.rule) == (6, 17, "VolumeLow")
    assert said in str(mistake)


def test_one_about_other_facts_is_let_through() -> None:
    assert rule("dead", clear_when="writable").clear_when == "writable"
