"""Packs under test: the notation of samples, what a failed test says, and mistakes in test files."""

import pytest

from holdfast_rules import PackError, load
from holdfast_rules.document import Items, Mistakes, Place, Text
from holdfast_rules.packtest import Shows, read_cases, run
from holdfast_rules.samples import Samples, read_samples
from holdfast_wire.fact import FACTS_OF

RULES = load(
    {
        "a.yaml": """\
rules:
  - alert: VolumeAlmostFull
    resource: volume
    when: writable and free_ratio < 0.05
    for: 2m
    keep_firing_for: 1m
    severity: page
    summary: "{node}: {mountpoint} has {free_ratio:.1%} free"
  - {alert: Lost, resource: volume, when: 'node.session == "lost"', severity: page, summary: x, sticky: true}
  - {alert: Errors, resource: volume, when: 'delta(filesystem_errors_total, "2m") > 0', severity: page, summary: x}
  - {alert: Old, resource: volume, when: age(free_bytes) > 90, severity: page, summary: x}
"""
    }
)
PLACE = Place(3, 9)


def text(value: str) -> Text:
    return Text(place=PLACE, value=value, quoted=False, source=value)


def samples(fact: str, value: str | list[str]) -> Samples | str:
    """The samples, or what is wrong with them."""
    mistakes = Mistakes("a.test.yaml")
    given = text(value) if isinstance(value, str) else Items(place=PLACE, items=tuple(map(text, value)))
    found = read_samples(FACTS_OF["volume"][fact], given, mistakes)
    return str(mistakes.found[0]) if mistakes.found else found


@pytest.mark.parametrize(
    ("fact", "value", "expected"),
    [
        ("free_ratio", "0.5", (0.5,)),
        ("free_ratio", "0.5x2 0.05 x3", (0.5, 0.5, 0.05, 0.05, 0.05)),
        ("free_ratio", "0.4-0.01x3 1", (0.4, 0.39, 0.38, 1.0)),
        ("free_ratio", "_x2 0 _", (None, None, 0.0, None)),
        ("free_bytes", "10+5x3 1e3", "a.test.yaml:3:9: `free_bytes` is a whole number; 1e3 is not"),
        ("free_bytes", "10+5x3", (10, 15, 20)),
        ("free_bytes", "-3", (-3,)),
        ("free_bytes", "1.5", "a.test.yaml:3:9: `free_bytes` is a whole number; 1.5 is not"),
        ("free_bytes", "true", "a.test.yaml:3:9: `free_bytes` is int; true is not"),
        ("writable", "true x2 false", (True, True, False)),
        ("writable", "1", "a.test.yaml:3:9: `writable` is bool; 1 is not"),
        ("writable", "yes", "a.test.yaml:3:9: 'yes' is not a sample; write like 0.5x2 _x3 true x4"),
        ("free_ratio", "0.5x2x3", "a.test.yaml:3:9: '0.5x2x3' is not a sample; write like 0.5x2 _x3 true x4"),
        ("free_ratio", "1x99999", "a.test.yaml:3:9: more than 20000 samples"),
        ("free_ratio", ["1"], "a.test.yaml:3:9: `free_ratio` is float; its samples are not a list"),
        ("fstype", "ext4 x3", ("ext4 x3",)),
        ("fstype", ["ext4 x2", "_x2", "xfs", "_", "max3"], ("ext4", "ext4", None, None, "xfs", None, "max3")),
        ("fstype", ["x x99999"], "a.test.yaml:3:9: more than 20000 samples"),
    ],
)
def test_samples_are_read(fact: str, value: str | list[str], expected: Samples | str) -> None:
    assert samples(fact, value) == expected


def case(body: str) -> str:
    return "tests:\n  - name: tried\n    resource: /srv\n    every: 1m\n" + "".join(
        f"    {line}\n" for line in body.splitlines()
    )


def failures(body: str) -> str:
    """What the one test of a file says, without its first line."""
    [one] = read_cases({"a.test.yaml": case(body)}, RULES)
    return "\n".join(run(one).failures)


@pytest.mark.parametrize(
    "body",
    [
        """\
rule: VolumeAlmostFull
facts: {writable: true, free_ratio: 0.5 0.04x4, mountpoint: /srv}
expect: {0: inactive, 1m: pending, 3m: firing}
summary: "vm-1: /srv has 4.0% free\"""",
        """\
rule: VolumeAlmostFull
facts: {writable: true, free_ratio: 0.04x4 0.5x2}
expect: {4m: firing, 5m: inactive}""",
        """\
rule: Lost
related: {node: {session: [connected, lost, connected x4]}}
acknowledge: {4m: seen}
expect: {1m: firing, 3m: firing, 4m: inactive}""",
        """\
rule: Errors
facts: {filesystem_errors_total: 4x3 5x3}
expect: {2m: inactive, 3m: firing, 5m: inactive}""",
        """\
rule: Old
facts: {free_bytes: 4 _x3}
expect: {1m: inactive, 2m: firing}""",
        """\
rule: VolumeAlmostFull
node: db-7
facts: {writable: true, free_ratio: 0.04x9, mountpoint: /srv}
expect: {3m: firing}
summary: "db-7: /srv has 4.0% free\"""",
    ],
)
def test_a_test_that_tells_the_truth_passes(body: str) -> None:
    assert failures(body) == ""


def test_a_failed_test_says_when_what_and_why() -> None:
    [one] = read_cases(
        {
            "a.test.yaml": case(
                "rule: VolumeAlmostFull\nfacts: {writable: true, free_ratio: 0.04x3}\n"
                "expect: {1m: firing, 2m: firing, 3m: inactive}"
            )
        },
        RULES,
    )

    assert str(run(one)) == (
        "a.test.yaml:2: VolumeAlmostFull: tried\n"
        "    at 1m: expected firing, is pending (holds, held for 1m of 2m)\n"
        "        writable and free_ratio < 0.05\n"
        "        writable=yes, free_ratio=0.04\n"
        "    at 3m: expected inactive, is firing (unknown, held for 2m of 2m)\n"
        "        writable and free_ratio < 0.05\n"
        "        writable=yes, free_ratio=unknown"
    )


def test_wrong_words_fail_a_test() -> None:
    said = failures("rule: Lost\nrelated: {node: {session: lost}}\nexpect: {0: firing}\nsummary: y")

    assert said == "expected to say 'y'\n       but said 'x'"


@pytest.mark.parametrize(
    ("facts", "expect", "shows"),
    [
        ("{writable: true, free_ratio: 0.04}", "{3m: firing}", Shows.FIRES),
        ("{writable: true, free_ratio: 0.04x5 0.5x3}", "{3m: firing, 7m: inactive}", Shows.CLEARS),
        ("{writable: true, free_ratio: 0.5}", "{3m: inactive}", Shows.QUIET),
        ("{writable: true, free_ratio: 0.04x2 0.5}", "{1m: pending, 2m: inactive}", Shows.QUIET),
        ("{writable: true, free_ratio: 0.04x5 _}", "{3m: firing}", Shows.MISSING),
        ("{free_ratio: 0.04x5}", "{3m: inactive}", Shows.MISSING),
    ],
)
def test_what_a_test_shows_is_read_from_its_facts_and_its_hopes(
    facts: str, expect: str, shows: Shows
) -> None:
    [one] = read_cases(
        {"a.test.yaml": case(f"rule: VolumeAlmostFull\nfacts: {facts}\nexpect: {expect}")}, RULES
    )

    assert one.shows is shows


def mistakes(file: str) -> list[str]:
    with pytest.raises(PackError) as caught:
        read_cases({"a.test.yaml": file}, RULES)
    return str(caught.value).splitlines()


def test_every_mistake_of_a_test_file_comes_at_once() -> None:
    file = """\
tests:
  - name: one
    rule: VolumeAlmostFul
    resource: /srv
    every: 1m
    expect: {1m: fireing}
  - name: two
    rule: VolumeAlmostFull
    every: 1m
    facts: {free_ration: 1, writable: maybe}
    related: {service: {up: true}, node: {sesion: lost}, device: 1}
    expect: {90s: firing, 1 m: firing, 2m: [firing]}
    expects: {}
  - {name: three, rule: Lost, resource: x, every: 0s, expect: {}}
  - {name: four, rule: Lost, resource: x, every: 1m, expect: {}}
  - five
"""

    assert mistakes(file) == [
        "a.test.yaml:3:11: one: there is no alert VolumeAlmostFul; did you mean VolumeAlmostFull?",
        "a.test.yaml:6:18: one: an alert is inactive, pending, firing; 'fireing' it never is; did you mean firing?",
        "a.test.yaml:7:5: two: `resource` is missing",
        "a.test.yaml:10:13: two: `free_ration` is not a fact of a volume; did you mean free_ratio?",
        "a.test.yaml:10:39: two: 'maybe' is not a sample; write like 0.5x2 _x3 true x4",
        "a.test.yaml:11:24: two: a volume has no one service",
        "a.test.yaml:11:43: two: `sesion` is not a fact of a node; did you mean session?",
        "a.test.yaml:11:66: two: `device` is a mapping of facts, not a single value",
        "a.test.yaml:12:14: two: 90s is not one of the steps, which are 1m apart",
        "a.test.yaml:12:27: two: '1 m' is not a duration; write it like 90s, 5m, 1h30m or 2d",
        "a.test.yaml:12:44: two: `2m` is a single value, not a list",
        "a.test.yaml:13:5: two: there is no key `expects` here; did you mean `expect`?",
        "a.test.yaml:14:51: three: `every` is longer than nothing",
        "a.test.yaml:14:55: three: `expect` is empty: a test without it shows nothing",
        "a.test.yaml:15:54: four: `expect` is empty: a test without it shows nothing",
        "a.test.yaml:16:5: a test is a mapping, not a single value",
    ]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("tests: 1", "a.test.yaml:1:8: `tests` is a list, not a single value"),
        ("rules: []", "a.test.yaml:1:1: there is no key `rules` here"),
        ("", "a.test.yaml:1:1: the file is empty"),
    ],
)
def test_what_is_no_test_file_is_refused(file: str, said: str) -> None:
    assert said in mistakes(file)
