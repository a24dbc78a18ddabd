"""Verdicts in the core: joined by name, kept up with facts and alerts, and told when they turn."""

from typing import Any

from holdfast_collector.core.effect import Effect, Turned
from holdfast_collector.core.event import Acknowledged, NodeForgotten
from holdfast_collector.core.rulings import RELEVANT
from holdfast_rules.verdict import CHECK_AGES, HEEDED_FACTS, JUDGED_FACTS, Verdict
from holdfast_wire import Resource, Section, SectionStatus
from holdfast_wire.message import Value
from tests.collector.fleet import T0, WARM, Agent, Desk

RULES = """
rules:
  - {alert: DiskFails, id: V-01, resource: device, when: kernel_data_loss_total > 0, severity: page, verdict: at_risk,
     summary: "{resource} fails"}
  - {alert: VolumeDead, id: V-02, resource: volume, when: dead, severity: page, verdict: lost, sticky: true,
     summary: "{resource} is dead"}
  - {alert: Slow, id: V-03, resource: volume, when: free_ratio < 0.5, severity: ticket, summary: "{resource} fills"}
  - {alert: NobodyKnows, id: V-04, resource: volume, when: verdict == "unknown", for: 1h, severity: ticket,
     summary: "{resource} is unknown"}
  - {alert: Watchdog, id: S-05, resource: collector, when: "True", severity: info, summary: the path works}
"""
VOLUME: dict[str, Value] = {
    "device": "sdb1",
    "durability_class": 2,
    "writable": True,
    "dead": False,
    "free_ratio": 0.9,
}


def volumes(mono: float = 0.0, name: str = "/srv", **facts: Value) -> Section:
    return Section(
        probe="volumes",
        status=SectionStatus.OK,
        observed_at=T0,
        mono=mono,
        period_seconds=10.0,
        duration_seconds=0.01,
        resources=[Resource(kind="volume", name=name, facts={**VOLUME, **facts})],
    )


def turned(effects: list[Effect]) -> list[tuple[str, str, Verdict | None, Verdict | None]]:
    return [(e.kind, e.resource, e.before, e.after) for e in effects if isinstance(e, Turned)]


def verdict(desk: Desk, name: str = "/srv", kind: str = "volume") -> Any:
    held = desk.collector.rulings.of("n1").get((kind, name))
    return held and (held.ruling.verdict, held.since)


def test_a_volume_is_judged_with_the_report_that_shows_it() -> None:
    desk, agent = Desk(rules=RULES), Agent()

    effects = desk.feed(agent.report(volumes()))

    assert turned(effects) == [("volume", "/srv", None, Verdict.DURABLE)]
    assert desk.collector.nodes["n1"].resources[("volume", "/srv")]["verdict"] == "durable"


def test_a_heartbeat_and_a_number_that_moves_turn_nothing() -> None:
    """Ten thousand nodes report every ten seconds; verdicts are made of other facts."""
    desk, agent = Desk(rules=RULES), Agent()
    desk.feed(agent.report(volumes()))

    effects = desk.feed(agent.report(volumes(mono=10.0, free_ratio=0.8)), at=WARM + 10)

    assert turned(effects) == []
    assert verdict(desk) == (Verdict.DURABLE, WARM)


def test_a_scrub_counts_with_the_report_that_shows_it_and_until_it_is_too_old() -> None:
    """Its age moves with each report, and verdicts are renewed only where that matters."""
    desk, agent = Desk(rules=RULES), Agent()
    said = []
    for place, days in enumerate((None, 0.0, 34.0, 36.0)):
        section = volumes(mono=10.0 * place)
        if days is not None:
            found: dict[str, Value] = {"scrub_age_seconds": days * 86_400, "scrub_uncorrectable_errors": 0}
            section.resources[0].facts.update(found)
        desk.feed(agent.report(section), at=WARM + 10 * place)
        said.append(desk.collector.rulings.of("n1")[("volume", "/srv")].ruling.integrity)

    assert said == ["unchecked", "checked", "checked", "unchecked"]


def test_an_alert_turns_the_verdict_in_the_same_event_and_its_end_turns_it_back() -> None:
    desk, agent = Desk(rules=RULES), Agent()
    desk.feed(agent.report(volumes()))

    effects = desk.feed(agent.report(volumes(mono=10.0, dead=True)), at=WARM + 10)
    desk.feed(agent.report(volumes(mono=20.0)), at=WARM + 20)
    sticky = verdict(desk)
    key = next(row.key for row in desk.collector.alerts.values() if row.alert.alertname == "VolumeDead")
    desk.collector.handle(Acknowledged(WARM + 30, key, "restored from the replica"))
    desk.tick(WARM + 31)

    assert turned(effects) == [("volume", "/srv", Verdict.DURABLE, Verdict.LOST)]
    assert sticky == (Verdict.LOST, WARM + 10)
    assert verdict(desk) == (Verdict.DURABLE, WARM + 31)


def test_an_alert_that_says_nothing_of_verdicts_turns_none() -> None:
    desk, agent = Desk(rules=RULES), Agent()
    desk.feed(agent.report(volumes()))

    effects = desk.feed(agent.report(volumes(mono=10.0, free_ratio=0.1)), at=WARM + 10)

    assert turned(effects) == []
    assert ("Slow", "/srv") in desk.firing()


def test_a_failing_disk_is_the_cause_of_what_rests_on_it() -> None:
    desk, agent = Desk(rules=RULES), Agent()
    desk.feed(agent.report(volumes()))

    desk.feed(agent.event("sdb1", "kernel_data_loss", "lost async page write"), at=WARM + 5)

    ruling = desk.collector.rulings.of("n1")[("volume", "/srv")].ruling
    assert (ruling.verdict, ruling.cause and (ruling.cause.kind, ruling.cause.resource)) == (
        Verdict.AT_RISK,
        ("device", "sdb1"),
    )


def test_a_volume_that_falls_silent_is_unknown_and_not_forgotten() -> None:
    """Its facts went stale; nobody has said that it is gone."""
    desk, agent = Desk(rules=RULES), Agent()
    desk.feed(agent.report(volumes()))

    effects = [effect for second in range(60) for effect in desk.tick(WARM + second)]

    assert ("volume", "/srv", Verdict.DURABLE, Verdict.UNKNOWN) in turned(effects)


def test_a_volume_that_is_known_to_be_gone_has_no_verdict() -> None:
    desk, agent = Desk(rules=RULES), Agent()
    desk.feed(agent.report(volumes()))

    effects = desk.feed(agent.report(volumes(mono=10.0, name="/other")), at=WARM + 10)

    assert ("volume", "/srv", Verdict.DURABLE, None) in turned(effects)


def test_rules_may_ask_for_the_verdict() -> None:
    """R-61 does: unknown for an hour is something to mend."""
    desk, agent = Desk(rules=RULES), Agent()
    blind = {name: value for name, value in VOLUME.items() if name != "durability_class"}
    section = Section(
        probe="volumes",
        status=SectionStatus.OK,
        observed_at=T0,
        mono=0.0,
        period_seconds=10.0,
        duration_seconds=0.01,
        resources=[Resource(kind="volume", name="/srv", facts=blind)],
    )

    desk.feed(agent.report(section))

    assert [row.alert.state for row in desk.collector.alerts.values() if row.alert.rule_id == "V-04"] == [
        "pending"
    ]


def test_a_node_out_of_service_takes_its_verdicts_along() -> None:
    desk, agent = Desk(rules=RULES), Agent()
    desk.feed(agent.report(volumes()))

    desk.collector.handle(NodeForgotten(WARM + 1, "n1"))

    assert desk.collector.rulings.of("n1") == {}


def test_verdicts_are_renewed_with_each_fact_that_they_are_made_of() -> None:
    """An age is the exception: it moves with each report, and matters when it passes a limit."""
    made_of = {name for facts in (JUDGED_FACTS, HEEDED_FACTS) for names in facts.values() for name in names}

    assert made_of - RELEVANT == set(CHECK_AGES)
