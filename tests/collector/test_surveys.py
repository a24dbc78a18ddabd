"""Rules over many resources in the collector: judged when any of them changes, comes, goes, or may be there unseen."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_collector.core.effect import Effect
from holdfast_collector.core.node import ResourceSubject
from holdfast_rules import Finding
from holdfast_wire import Section, SectionStatus
from holdfast_wire.message import Value
from tests.collector.fleet import WARM, Agent, Desk, section, transitions

RULES = """
rules:
  - {alert: TwoDown, resource: node, when: count(not s.up for s in services) >= 2, severity: page,
     summary: "{node}: services are down"}
  - {alert: AllUp, resource: node, when: all(s.up for s in services if s.enabled), severity: info, summary: x}
  - {alert: AnyOther, resource: service, when: up and any(not s.up for s in node.services), severity: info, summary: x}
  - {alert: BlindProbe, resource: node, when: any(not p.working for p in probes), severity: info, summary: x}
  - {alert: AnyRestart, resource: node, when: 'any(delta(s.restarts_total, "10m") > 0 for s in services)',
     severity: info, summary: x}
"""


def services(found: dict[str, dict[str, Value]], **more: Any) -> Section:
    return section(found, **more)


def fired(effects: list[Effect]) -> list[tuple[str, str]]:
    return [row for row in transitions(effects) if row[0] not in {"AnyOther", "AllUp", "BlindProbe"}]


def test_a_rule_over_many_is_judged_when_one_of_them_changes_comes_or_goes() -> None:
    desk, agent = Desk(rules=RULES), Agent()
    down: dict[str, Value] = {"up": False}
    well: dict[str, Value] = {"up": True}
    both = {"a": down, "b": down}
    said = [
        fired(desk.feed(agent.report(services(found))))
        for found in ({"a": down}, both, {"b": down}, both, {"a": well, "b": down})
    ]

    assert said == [
        [],
        [("TwoDown", "fired")],
        [("TwoDown", "resolved")],
        [("TwoDown", "fired")],
        [("TwoDown", "resolved")],
    ]


def test_nothing_resolves_while_some_of_them_may_be_there_unseen() -> None:
    """The probe that lists services fails and lists none: that is not a node without services that are down."""
    desk, agent = Desk(rules=RULES), Agent()
    desk.feed(agent.report(services({"a": {"up": False}, "b": {"up": False}})))

    assert fired(desk.feed(agent.report(services({}, status=SectionStatus.ERROR)))) == []
    assert desk.collector.nodes["n1"].whole("service") is False
    assert fired(desk.feed(agent.report(services({}, status=SectionStatus.NO_DATA)))) == [
        ("TwoDown", "resolved")
    ]


def test_history_of_each_is_kept() -> None:
    desk, agent = Desk(rules=RULES), Agent()
    for restarts in (1, 2):
        desk.feed(agent.report(services({"a": {"restarts_total": restarts}})))

    assert ("AnyRestart", "n1") in desk.firing()


SERVICE = st.fixed_dictionaries(
    {}, optional={"up": st.booleans(), "enabled": st.booleans(), "main_pid": st.just(1)}
)
STATUS = st.sampled_from([SectionStatus.OK, SectionStatus.OK, SectionStatus.NO_DATA, SectionStatus.ERROR, SectionStatus.DENIED])  # fmt: skip
STEP = st.one_of(
    st.tuples(st.just("says"), st.dictionaries(st.sampled_from("abc"), SERVICE, max_size=3), STATUS),
    st.tuples(st.just("again"), st.none(), st.none()),
    st.tuples(st.just("marks"), st.none(), st.none()),
    st.tuples(st.just("other"), st.none(), STATUS),
    st.tuples(st.just("passes"), st.integers(1, 60), st.none()),
)


@settings(max_examples=250, deadline=None)
@given(st.lists(STEP, max_size=14))
def test_judging_what_changed_is_judging_everything(history: list[tuple[str, Any, Any]]) -> None:
    """After any history, what fires is what judging every rule of every resource anew at every step would have fired."""
    desk, agent = Desk(rules=RULES), Agent()
    now, held = WARM, list[Section]()
    expected = set[tuple[str, str]]()
    for what, value, status in history:
        match what:
            case "says":
                one = services(value if status is not SectionStatus.ERROR else {}, status=status)
                held = [*(row for row in held if row.probe != one.probe), one]
                desk.feed(agent.report(one, held=tuple(row for row in held if row is not one)), now)
            case "again":
                desk.feed(agent.report(held=tuple(held)), now)
            case "marks":
                missing = Section(probe="lost", status=SectionStatus.OK, observed_at=now, mono=0.0, period_seconds=10.0, duration_seconds=0.0, resources=[])  # fmt: skip
                desk.feed(agent.report(held=(*held, missing)), now)
            case "other":
                one = Section(probe="disks", status=status, observed_at=now, mono=0.0, period_seconds=10.0, duration_seconds=0.0, resources=[])  # fmt: skip
                held = [*(row for row in held if row.probe != "disks"), one]
                desk.feed(agent.report(one, held=tuple(row for row in held if row is not one)), now)
            case _:
                now += value
                desk.tick(now)
        expected = anew(desk, expected, now)

        assert desk.firing() - {("AnyRestart", "n1")} == expected


def anew(desk: Desk, before: set[tuple[str, str]], at: float) -> set[tuple[str, str]]:
    """What fires after judging every rule of every resource; unknown changes nothing, but for what is gone."""
    after = set(before)
    for node in desk.collector.nodes.values():
        for rule in desk.rules.rules:
            named = {name for alert, name in before if alert == rule.alert}
            for key in {*node.resources, *((rule.resource, name) for name in named)}:
                finding = rule.judge(ResourceSubject(node, key), at)
                if key[0] != rule.resource or rule.timed:
                    continue
                if finding is Finding.UNKNOWN and node.gone(key):
                    finding = Finding.CLEAR
                if finding is Finding.HOLDS:
                    after.add((rule.alert, key[1]))
                elif finding is Finding.CLEAR:
                    after.discard((rule.alert, key[1]))
    return after
