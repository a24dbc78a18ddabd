"""What a pack changes of others: constants, keys, rules taken out of force; everywhere, or on some nodes."""

import pytest

from holdfast_rules import Finding, NodeLabels, PackError, RuleSet, load
from holdfast_rules.changes import fits
from holdfast_rules.packtest import read_cases, run
from holdfast_wire.message import Value
from tests.rules.resource import Resource

BASE = """\
constants: {low: 0.05, floor: 5GiB, kind: ext4, strict: false}
rules:
  - {alert: VolumeLow, id: V-1, resource: volume, when: free_ratio < low, for: 30m, severity: ticket, summary: low}
  - {alert: VolumeSmall, id: V-2, resource: volume, when: free_bytes < floor and fstype == kind, severity: info,
     summary: small}
  - {alert: VolumeDead, id: V-3, resource: volume, when: dead or strict, severity: page, summary: dead}
"""


def rules(*packs: str) -> RuleSet:
    return load({"base.yaml": BASE} | {f"{'abc'[index]}.yaml": pack for index, pack in enumerate(packs)})


def mistakes(*packs: str) -> list[str]:
    with pytest.raises(PackError) as caught:
        rules(*packs)
    return str(caught.value).splitlines()


def low(found: RuleSet, ratio: float) -> Finding:
    facts: dict[str, Value] = {"free_ratio": ratio}
    return found.by_name["VolumeLow"].judge(Resource(facts=facts), 0.0)


def test_conditions_name_constants_of_any_pack() -> None:
    more = (
        "rules: [{alert: TwiceLow, resource: volume, when: free_ratio < low * 2, severity: info, summary: x}]"
    )
    found = rules(more)

    small = found.by_name["VolumeSmall"]
    facts: dict[str, Value] = {"free_ratio": 0.06, "free_bytes": 5 * 2**30 - 1, "fstype": "ext4"}
    findings = dict(zip([r.alert for r in found.rules], found.judge(Resource(facts=facts), 0.0), strict=True))
    assert findings == {
        "VolumeLow": Finding.CLEAR,
        "VolumeSmall": Finding.HOLDS,
        "VolumeDead": Finding.UNKNOWN,
        "TwiceLow": Finding.HOLDS,
    }
    assert (small.constants, small.names) == (("floor", "kind"), ("free_bytes", "fstype"))


def test_a_pack_sets_constants_and_overrides_keys_of_others() -> None:
    found = rules(
        "set: {low: 0.02}\noverride: {VolumeLow: {for: 1h, severity: page, clear_when: free_ratio > 0.1}}"
    )

    changed = found.by_name["VolumeLow"]
    assert (changed.id, changed.for_seconds, changed.severity, changed.summary) == (
        "V-1",
        3600.0,
        "page",
        "low",
    )
    assert (changed.clear_when, changed.file) == ("free_ratio > 0.1", "a.yaml")
    assert (low(found, 0.03), low(found, 0.01)) == (Finding.CLEAR, Finding.HOLDS)


def test_nodes_have_their_own_thresholds_by_name_and_by_label() -> None:
    found = rules(
        """
where:
  - {nodes: ["db-*", vault], set: {low: 0.02}}
  - {nodes: ["*-eu"], labels: {role: [cache, "scratch*"]}, override: {VolumeLow: {for: 0s}}, disable: [VolumeDead]}
"""
    ).labelled(
        [NodeLabels(("cache-*", "db-2-eu"), {"role": "cache"}), NodeLabels(("cache-9-eu",), {"role": "x"})]
    )

    def said(node: str) -> tuple[Finding, float, bool]:
        there = found.of_node(node)
        return low(there, 0.03), there.by_name["VolumeLow"].for_seconds, "VolumeDead" in there.by_name

    assert said("web-1") == (Finding.HOLDS, 1800.0, True)
    assert said("db-1") == said("vault") == (Finding.CLEAR, 1800.0, True)
    assert said("cache-1-eu") == (Finding.HOLDS, 0.0, False)
    assert said("cache-1-us") == said("cache-9-eu") == said("other-eu") == (Finding.HOLDS, 1800.0, True)
    assert said("db-2-eu") == (Finding.CLEAR, 0.0, False), "both are in force"
    assert found.of_node("web-1") is found, "nodes that nobody means cost nothing"
    assert found.of_node("db-1") is found.of_node("vault"), "nodes that are alike share their rules"
    assert found.of_node("") is found


def test_the_later_where_wins_and_where_wins_over_everywhere() -> None:
    found = rules(
        "set: {low: 0.5}\nwhere: [{nodes: [n1], set: {low: 0.4}}]",
        "where: [{nodes: ['n*'], set: {low: 0.2}}, {nodes: [n2], set: {low: 0.1}}]",
    )

    assert [low(found.of_node(node), 0.3) for node in ("x", "n1", "n2")] == [
        Finding.HOLDS,
        Finding.CLEAR,
        Finding.CLEAR,
    ]
    assert low(found.of_node("n2"), 0.15) is Finding.CLEAR


def test_history_reaches_back_as_far_as_any_node_needs() -> None:
    found = rules("where: [{nodes: [n1], override: {VolumeLow: {when: 'delta(free_bytes, \"2h\") < 0'}}}]")

    assert (found.lookback_seconds, found.windows("volume")) == (7200.0, {})
    assert found.of_node("n1").windows("volume") == {"free_bytes": 7200.0}


@pytest.mark.parametrize(
    ("pack", "said"),
    [
        ("set: {lwo: 0.1}", "a.yaml:1:12: no pack has a constant lwo; `constants` brings a new one; did you mean low?"),
        ("set: {low: 5%}", "a.yaml:1:12: low is a number, 0.05; '5%' is not"),
        ("set: {strict: 1}", "a.yaml:1:15: strict is true or false, False; 1 is not"),
        ("set: {low: 5}", "a.yaml:1:12: VolumeLow: `free_ratio < low` always holds: free_ratio lies between 0 and 1"),
        ("set: {floor: 5m}", "a.yaml:1:14: VolumeSmall: '5m' is an amount of seconds; what it is compared with is in bytes"),
        ("constants: {low: 0.1}", "a.yaml:1:18: the constant low is taken, at base.yaml:1; `set` gives it another value"),
        ("constants: {free_ratio: 1}", "a.yaml:1:13: `free_ratio` means something in conditions already: call the constant otherwise"),
        ("constants: {Low: 1}", "a.yaml:1:13: `Low` is no name for a constant; write it like volume_space_low"),
        ("constants: {volumes: 1}", "a.yaml:1:13: `volumes` means something in conditions already: call the constant otherwise"),
        ("constants: {many: 99999999999999999}", "a.yaml:1:19: a number this large means nothing; 9007199254740992 is the largest"),
        ("override: {VolumeLwo: {for: 1h}}", "a.yaml:1:12: there is no alert VolumeLwo to change; did you mean VolumeLow?"),
        ("override: {VolumeLow: {fro: 1h}}", "a.yaml:1:24: VolumeLow: a rule has no key `fro`; did you mean `for`?"),
        ("override: {VolumeLow: {id: X-1}}", "a.yaml:1:24: VolumeLow: `id` stays as it is: disable the rule and write it anew"),
        ("override: {VolumeLow: {for: soon}}", "a.yaml:1:29: VolumeLow: 'soon' is not a duration; write it like 90s, 5m, 1h30m or 2d"),
        ("override: {VolumeLow: {when: free_ratoi < low}}", "a.yaml:1:30: VolumeLow: `free_ratoi` is not a fact of a volume; did you mean `free_ratio`?"),
        ("override: {VolumeLow: 1h}", "a.yaml:1:23: `VolumeLow` is a mapping of keys to change, not a single value"),
        ("disable: [VolumeLow]\noverride: {VolumeLow: {for: 1h}}", "a.yaml:2:12: VolumeLow is disabled; there is nothing to change"),
        ("where: [{set: {low: 0.1}}]", "a.yaml:1:9: a `where` says which nodes it means: by `nodes`, by `labels` or by both"),
        ("where: [{nodes: [n1]}]", "a.yaml:1:9: a `where` changes something: by `set`, `disable` or `override`"),
        ("where: [{nodes: [n1], disable: [VolumeLwo]}]", "a.yaml:1:33: there is no alert VolumeLwo to disable; did you mean VolumeLow?"),
        ("where: [{nodes: [n1], lables: {}, set: {low: 0.1}}]", "a.yaml:1:23: there is no key `lables` here; did you mean `labels`?"),
        ("where: [{nodes: [n1], set: {low: 5}}]", "a.yaml:1:34: VolumeLow: `free_ratio < low` always holds: free_ratio lies between 0 and 1"),
        ("where: {nodes: [n1]}", "a.yaml:1:8: `where` is a list, not a mapping"),
    ],
)  # fmt: skip
def test_a_change_that_cannot_be_is_a_mistake_where_it_stands(pack: str, said: str) -> None:
    assert mistakes(pack) == [said]


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("db-1", "db-1", True),
        ("db-12", "db-1", False),
        ("db-12", "db-*", True),
        ("db-12", "*2", True),
        ("db-12", "*b*1*", True),
        ("db-12", "*1*b*", False),
        ("aba", "ab*ba", False),
        ("abba", "ab*ba", True),
        ("", "*", True),
        ("a" * 63, "*a" * 60 + "b", False),
    ],
)
def test_a_star_stands_for_any_characters(name: str, pattern: str, expected: bool) -> None:
    assert fits(name, pattern) is expected


def test_all_mistakes_come_at_once() -> None:
    pack = "set: {lwo: 1}\ndisable: [Nobody]\noverride: {VolumeLow: {fro: 1h}}\nwhere: [{nodes: [n1], set: {low: x}}]"

    places = [line.split(": ")[0] for line in mistakes(pack)]
    assert places == ["a.yaml:1:12", "a.yaml:2:11", "a.yaml:3:24", "a.yaml:4:34"]


def test_two_packs_do_not_change_the_same_thing() -> None:
    first, second = (
        "set: {low: 0.02}\noverride: {VolumeLow: {for: 1h}}",
        "override: {VolumeLow: {for: 2h}}\nset: {low: 0.1}",
    )

    assert mistakes(first, second) == [
        "b.yaml:1:24: VolumeLow.for is changed already, at a.yaml:2",
        "b.yaml:2:12: low is changed already, at a.yaml:1",
    ]


def test_a_value_fits_the_conditions_that_another_where_gives_the_same_node() -> None:
    pack = """\
where:
  - {nodes: ["a*"], override: {VolumeLow: {when: free_bytes / parts > 9}}}
  - {nodes: ["*b"], set: {parts: 0}}
constants: {parts: 3}
"""

    assert mistakes(pack) == ["a.yaml:3:34: VolumeLow: a division by 0 has no answer"]


def test_a_pack_is_tested_as_a_node_of_some_name_and_labels_sees_it() -> None:
    text = """
tests:
  - {name: eager, rule: VolumeLow, node: db-1, resource: /srv, every: 1m, facts: {free_ratio: 0.1}, expect: {0: firing}}
  - {name: lazy, rule: VolumeLow, resource: /srv, labels: {role: cache}, every: 1m, facts: {free_ratio: 0.001},
     expect: {0: inactive}}
"""
    found = rules(
        """
where:
  - {nodes: [db-1], set: {low: 0.2}, override: {VolumeLow: {for: 0s}}}
  - {labels: {role: cache}, set: {low: 0.0001}}
"""
    )

    assert [run(case).failures for case in read_cases({"x.test.yaml": text}, found)] == [(), ()]
