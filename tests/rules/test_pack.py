"""Packs: every mistake at once, each with its place, and rule sets that fit together."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_rules import PackError, RuleSet, load
from tests.rules.resource import Resource

GOOD = """\
rules:
  - alert: VolumeAlmostFull
    id: R-31
    resource: volume
    when: writable and free_ratio < 0.05
    for: 30m
    keep_firing_for: 1h30m
    severity: page
    verdict: at_risk
    sticky: true
    inhibited_by: [VolumeDead]
    summary: "{node}: {mountpoint} has {free_ratio:.1%} free"
    description: "{free_bytes:bytes} of {size_bytes:bytes}"
  - {alert: VolumeDead, resource: volume, when: dead, severity: page, summary: dead}
  - {alert: Watchdog, resource: collector, when: True, severity: info, summary: watching, runbook: "https://x/y#z"}
"""


KINDS = "node, device, volume, service, state_path, probe, collector, group"


def mistakes(*packs: str) -> list[str]:
    """What is said of packs a.yaml, b.yaml, …"""
    with pytest.raises(PackError) as caught:
        load({f"{'abc'[index]}.yaml": pack for index, pack in enumerate(packs)})
    return str(caught.value).splitlines()


def test_a_pack_becomes_rules() -> None:
    rules = load({"a.yaml": GOOD})

    full = rules.by_name["VolumeAlmostFull"]
    assert [rule.alert for rule in rules.rules] == ["VolumeAlmostFull", "VolumeDead", "Watchdog"]
    assert (full.id, full.resource, full.when) == ("R-31", "volume", "writable and free_ratio < 0.05")
    assert (full.for_seconds, full.keep_firing_for_seconds) == (1800.0, 5400.0)
    assert (full.severity, full.verdict, full.sticky) == ("page", "at_risk", True)
    assert (full.inhibited_by, full.runbook, full.file) == (("VolumeDead",), "volumealmostfull", "a.yaml")
    assert full.names == ("writable", "free_ratio")
    assert not full.timed


def test_what_is_left_out_has_plain_defaults() -> None:
    dead = load({"a.yaml": GOOD}).by_name["VolumeDead"]

    assert (dead.id, dead.for_seconds, dead.keep_firing_for_seconds) == ("VolumeDead", 0.0, 0.0)
    assert (dead.verdict, dead.sticky, dead.inhibited_by, dead.description) == ("", False, (), "")


def test_an_alert_is_given_its_sentences_and_its_evidence() -> None:
    rules = load({"a.yaml": GOOD})
    resource = Resource(
        facts={"mountpoint": "/srv", "free_ratio": 0.031, "writable": True, "free_bytes": 2048}
    )

    said = rules.by_name["VolumeAlmostFull"].annotations(resource, 0.0, "https://docs/rules")

    assert said == {
        "summary": "vm-1: /srv has 3.1% free",
        "description": "2.0 KiB of unknown",
        "evidence": "writable=yes, free_ratio=0.031",
        "runbook_url": "https://docs/rules#volumealmostfull",
    }
    assert rules.by_name["Watchdog"].annotations(resource, 0.0) == {
        "summary": "watching",
        "runbook_url": "https://x/y#z",
    }


def test_a_rule_set_answers_by_kind() -> None:
    rules = load(
        {
            "a.yaml": """\
rules:
  - {alert: One, resource: volume, when: 'time_to_zero(free_bytes, "6h") < 9', severity: info, summary: x}
  - {alert: Two, resource: volume, when: 'delta(free_bytes, "1h") < 0', severity: info, summary: x}
  - {alert: Three, resource: node, when: boot_dirty, severity: info, summary: x}
"""
        }
    )

    assert [rule.alert for rule in rules.of_kind("volume")] == ["One", "Two"]
    assert (rules.windows("volume"), rules.windows("node")) == ({"free_bytes": 21600.0}, {})
    assert (rules.of_kind("engine"), rules.windows("engine")) == ((), {})
    assert rules.judge(Resource(kind="engine"), 0.0) == ()
    assert rules.judge(Resource(kind="node", facts={"boot_dirty": True}), 0.0) == ("holds",)


def test_every_mistake_of_every_pack_comes_at_once() -> None:
    first = """\
rules:
  - alert: VolumeAlmostFull
    resource: volume
    when: >
      writable
      and free_ration < 0.05
    for: 30 minutes
    keep_fireing_for: 5m
    severity: critical
    verdict: dead
    sticky: "true"
    inhibited_by: VolumeDead
    summary: "{nod} full"
  - alert: volume_dead
    resource: volumes
    when: dead
"""
    second = """\
rules:
  - {alert: Loud, resource: volume, when: "dead > 1", severity: page, summary: x, inhibited_by: [Quiet, Gone]}
  - {alert: Quiet, resource: volume, when: dead, severity: page, summary: x, inhibited_by: [Loud]}
"""

    assert mistakes(first, second) == [
        "a.yaml:6:11: VolumeAlmostFull: `free_ration` is not a fact of a volume; did you mean `free_ratio`?",
        "a.yaml:7:10: VolumeAlmostFull: '30 minutes' is not a duration; write it like 90s, 5m, 1h30m or 2d",
        "a.yaml:8:5: VolumeAlmostFull: there is no key `keep_fireing_for` here; did you mean `keep_firing_for`?",
        "a.yaml:9:15: VolumeAlmostFull: `severity` is one of page, ticket, info; 'critical' is not",
        "a.yaml:10:14: VolumeAlmostFull: `verdict` is one of unknown, at_risk, not_durable, lost; 'dead' is not",
        "a.yaml:11:13: VolumeAlmostFull: `sticky` is true or false; 'true' is not",
        "a.yaml:12:19: VolumeAlmostFull: `inhibited_by` is a list, not a single value: write [inhibited_by]",
        "a.yaml:13:15: VolumeAlmostFull: {nod} is not a fact of a volume; did you mean {node}?",
        "a.yaml:14:5: volume_dead: `severity` is missing",
        "a.yaml:14:5: volume_dead: `summary` is missing",
        "a.yaml:14:12: volume_dead: `alert` is CamelCase, like VolumeAlmostFull; 'volume_dead' is not",
        f"a.yaml:15:15: volume_dead: `resource` is one of {KINDS}; 'volumes' is not; did you mean `volume`?",
        "b.yaml:2:44: Loud: `dead` is yes or no and `1` is a number: they cannot be compared",
        "b.yaml:2:98: Loud: Quiet is itself inhibited by Loud: both would be silent",
        "b.yaml:2:105: Loud: `inhibited_by` names Gone, which no pack has",
        "b.yaml:3:93: Quiet: Loud is itself inhibited by Quiet: both would be silent",
    ]


@pytest.mark.parametrize(
    ("when", "place"),
    [
        ("dead and ded", "5:20"),
        ('"dead and ded"', "5:21"),
        ("'dead and ded'", "5:21"),
        ("   dead and ded", "5:23"),
        ("dead and\n      ded", "6:7"),
        (">\n      dead\n\n      and ded", "8:11"),
        ("|\n      dead and\n        ded", "7:9"),
        (">-\n      dead\n      and\n      ded", "8:7"),
        ('"dead\n      and ded"', "6:11"),
        ('"dead and \\\n      ded"', "5:11"),
        ("|2\n      dead and\n        ded", "7:9"),
        ('"\\u0064ead and ded"', "5:11"),
    ],
)
def test_a_place_inside_a_condition_is_found_however_yaml_wraps_it(when: str, place: str) -> None:
    text = f"rules:\n  - alert: Tested\n    resource: volume\n    severity: info\n    when: {when}\n    summary: x\n"

    assert mistakes(text) == [
        f"a.yaml:{place}: Tested: `ded` is not a fact of a volume; did you mean `dead`?",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a.yaml:1:1: the file is empty"),
        ("# only a comment", "a.yaml:1:1: the file is empty"),
        ("- alert: X", "a.yaml:1:1: the file is a mapping, not a list"),
        ("rules", "a.yaml:1:1: the file is a mapping, not a single value"),
        ("rules: {}", "a.yaml:1:8: `rules` is a list, not a mapping"),
        ("rules: [x]", "a.yaml:1:9: a rule is a mapping, not a single value"),
        ("other: 1", "a.yaml:1:1: a pack has `rules:`, a list of rules"),
        ("rules: [\n", "a.yaml:2:1: not YAML: "),
        ("rules:\n\t- x", "a.yaml:2:1: not YAML: found character '\\t' that cannot start any token"),
        ("rules: []\n---\nrules: []", "a.yaml:2:1: not YAML: but found another document"),
        ("rules: []\nrules: []", "a.yaml:2:1: `rules` is given twice, first in line 1"),
        ("? [a]\n: 1", "a.yaml:1:3: a key is a single word"),
        ("rules: \0", "a.yaml:1:1: not YAML: unacceptable character #x0000"),
        (
            "rules: !!python/object/apply:os.system [x]",
            "a.yaml:1:41: a rule is a mapping, not a single value",
        ),
        ("rules: " + "[" * 30 + "]" * 30, "a.yaml:1:20: nested too deeply"),
        ("rules: " + "[" * 5000, "a.yaml:1:1: nested too deeply"),
        ("x" * 2**20 + "x", "a.yaml:1:1: the file has 1048577 characters; 1048576 are the most there may be"),
    ],
)
def test_what_is_no_pack_is_refused(text: str, said: str) -> None:
    assert any(line.startswith(said) for line in mistakes(text)), mistakes(text)


def test_a_few_bytes_that_stand_for_billions_are_refused() -> None:
    layers = ["rules: [&a0 [x, x, x, x, x, x, x, x, x, x]"]
    layers += [f"&a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]

    assert any("too many values" in line for line in mistakes(", ".join(layers) + "]"))


def test_names_are_unique_across_packs() -> None:
    pack = "rules:\n  - {alert: One, id: R-1, resource: volume, when: dead, severity: info, summary: x}\n"

    assert mistakes(pack, pack) == [
        "b.yaml:2:13: One: `alert` One is taken, at a.yaml:2",
    ]


def test_ids_are_unique_where_names_are() -> None:
    one = "rules:\n  - {alert: One, id: R-1, resource: volume, when: dead, severity: info, summary: x}\n"

    assert mistakes(one, one.replace("One", "Two")) == ["b.yaml:2:22: Two: `id` R-1 is taken, at a.yaml:2"]


def test_an_id_may_not_be_the_name_another_rule_is_known_by() -> None:
    """A rule without an id goes by its name; two alerts of one key would overwrite each other."""
    one = "rules:\n  - {alert: One, resource: volume, when: dead, severity: info, summary: x}\n"
    other = "rules:\n  - {alert: Two, id: One, resource: volume, when: dead, severity: info, summary: x}\n"

    assert mistakes(one, other) == ["b.yaml:2:22: Two: `id` One is taken, at a.yaml:2"]


def test_an_operator_can_take_a_shipped_rule_out_of_force_and_write_it_anew() -> None:
    own = """\
disable: [VolumeAlmostFull, Watchdog]
rules:
  - {alert: VolumeAlmostFull, resource: volume, when: free_ratio < 0.2, severity: page, summary: x}
"""

    rules = load({"shipped.yaml": GOOD, "own.yaml": own})

    assert [(rule.alert, rule.file) for rule in rules.rules] == [
        ("VolumeDead", "shipped.yaml"),
        ("VolumeAlmostFull", "own.yaml"),
    ]


def test_a_rule_may_be_inhibited_by_one_that_is_out_of_force() -> None:
    rules = load({"shipped.yaml": GOOD, "own.yaml": "disable: [VolumeDead]"})

    assert rules.by_name["VolumeAlmostFull"].inhibited_by == ("VolumeDead",)


def test_only_what_exists_can_be_taken_out_of_force() -> None:
    assert mistakes(GOOD, "disable: [VolumeAlmostFul]") == [
        "b.yaml:1:11: there is no alert VolumeAlmostFul to disable; did you mean VolumeAlmostFull?"
    ]


def test_a_mistake_in_a_rule_that_is_out_of_force_still_is_one() -> None:
    [mistake] = mistakes(GOOD.replace("free_ratio <", "free_rati <"), "disable: [VolumeAlmostFull]")

    assert "`free_rati` is not a fact of a volume" in mistake


PIECES = [
    *(
        "rules",
        "alert",
        "when",
        "for",
        "summary",
        "disable",
        "inhibited_by",
        "severity",
        "resource",
        "volume",
        "Alert",
    ),
    *(
        ":",
        " ",
        "\n",
        "\n  ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "&a ",
        "*a",
        "|",
        ">",
        '"',
        "'",
        "#",
        "---",
        "!!",
        "\t",
        "\0",
        "%",
    ),
    *("dead", "5m", "<<", "? ", "true", "~", "é", "\u2028", "\x85", "\ud800"),
]


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_hostile_packs_are_refused_with_places_and_nothing_else(text: str) -> None:
    try:
        loaded = load({"a.yaml": text})
        found = []
    except PackError as error:
        loaded = RuleSet.of(())
        found = error.mistakes

    assert loaded.rules == ()
    assert all(mistake.line >= 1 and mistake.column >= 1 for mistake in found)
