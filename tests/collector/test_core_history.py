"""What verdicts were is committed with what turned them, and a restart invents no turn and no new `since`."""

from holdfast_collector.core.effect import Effect, Turned
from holdfast_collector.core.event import NodeForgotten
from holdfast_collector.core.record import HeldVerdict
from holdfast_rules.verdict import Verdict
from holdfast_wire import Report, Resource, Section, SectionStatus
from holdfast_wire.message import Value
from tests.collector.fleet import T0, WARM, Agent, Desk, commit_of
from tests.sim.scene import Disk

RULES = """
rules:
  - {alert: VolumeDead, id: V-02, resource: volume, when: dead, severity: page, verdict: at_risk,
     summary: "{resource} is dead"}
  - {alert: Unknown, id: V-04, resource: volume, when: verdict == "unknown", severity: ticket,
     summary: "{resource} is unknown"}
"""
AGAIN = WARM + 1_000.0
"""When the collector starts again."""
WARM_AGAIN = AGAIN + 31.0
"""The watch is over, and what was heard since is not stale yet."""
SERVICE: tuple[str, str, dict[str, Value]] = ("service", "db.service", {"stateful": True, "up": True})


def path(mountpoint: str) -> tuple[str, str, dict[str, Value]]:
    facts: dict[str, Value] = {
        "service": "db.service",
        "mountpoint": mountpoint,
        "role": "data",
        "required_class": 2,
    }
    return ("state_path", f"db.service{mountpoint}", facts)


def volume(name: str = "/srv", **facts: Value) -> tuple[str, str, dict[str, Value]]:
    return ("volume", name, {"durability_class": 2, "writable": True, "dead": False, **facts})


def section(probe: str, *resources: tuple[str, str, dict[str, Value]], mono: float = 0.0) -> Section:
    return Section(
        probe=probe,
        status=SectionStatus.OK,
        observed_at=T0,
        mono=mono,
        period_seconds=10.0,
        duration_seconds=0.01,
        resources=[Resource(kind=kind, name=name, facts=facts) for kind, name, facts in resources],
    )


class Kept:
    """A desk whose commits are kept, and that can be switched off and on again."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.desk = Desk(rules=RULES)
        self.agent = Agent()

    def do(self, effects: list[Effect]) -> list[tuple[str, Verdict | None, Verdict | None]]:
        """Commit; the turns as (resource, before, after)."""
        self.disk.commit(commit_of(effects))
        return [(e.resource, e.before, e.after) for e in effects if isinstance(e, Turned)]

    def feed(self, report: Report, at: float) -> list[tuple[str, Verdict | None, Verdict | None]]:
        return self.do(self.desk.feed(report, at=at))

    def tick(self, at: float) -> list[tuple[str, Verdict | None, Verdict | None]]:
        return self.do(self.desk.tick(at))

    def restart(self, at: float = AGAIN) -> None:
        """Nothing but what was committed is left."""
        self.desk = Desk(rules=RULES, state=self.disk.load(), started_at=at)

    def verdict(self, name: str = "/srv", kind: str = "volume") -> tuple[Verdict, float, Verdict | None]:
        held = self.desk.collector.rulings.of("n1")[(kind, name)]
        return held.ruling.verdict, held.since, held.ruling.last


def test_a_turn_and_the_verdict_that_stands_are_in_the_commit_of_what_turned_it() -> None:
    """Two commits would leave, at the wrong moment, an alert that fires and a history that does not know."""
    desk, agent = Desk(rules=RULES), Agent()
    desk.feed(agent.report(section("volumes", volume())))

    effects = desk.feed(agent.report(section("volumes", volume(dead=True), mono=10.0)), at=WARM + 10)

    commit = commit_of(effects)
    held = HeldVerdict(node="n1", kind="volume", resource="/srv", verdict=Verdict.AT_RISK, since=WARM + 10)
    assert [row.alert.alertname for row in commit.alerts.values() if row] == ["VolumeDead"]
    assert commit.verdicts == {("n1", "volume", "/srv"): held}
    assert commit.turns == [
        Turned(
            node="n1",
            kind="volume",
            resource="/srv",
            at=WARM + 10,
            before=Verdict.DURABLE,
            after=Verdict.AT_RISK,
            reason="/srv is dead",
        )
    ]


def test_a_verdict_whose_evidence_comes_back_the_same_has_stood_through_the_restart() -> None:
    kept = Kept()
    kept.feed(kept.agent.report(section("volumes", volume())), WARM)
    kept.restart()
    at_once = kept.verdict()

    turned = kept.feed(kept.agent.report(section("volumes", volume())), AGAIN + 5)

    assert at_once == (Verdict.UNKNOWN, WARM, None)
    assert (turned, kept.verdict()) == ([], (Verdict.DURABLE, WARM, None))
    assert kept.desk.collector.nodes["n1"].resources[("volume", "/srv")]["verdict"] == "durable"
    assert kept.tick(WARM_AGAIN) == []


def test_what_is_not_heard_of_when_the_watch_is_over_turned_unknown_then() -> None:
    """Until then it is unknown and no turn; what it was, where that was worse, is said beside it."""
    kept = Kept()
    kept.feed(kept.agent.report(section("volumes", volume(durability_class=0), path("/srv"))), WARM)
    before = kept.verdict("db.service/srv", "state_path")
    kept.restart()
    at_once = kept.verdict("db.service/srv", "state_path")

    early, late = kept.tick(AGAIN + 20), kept.tick(WARM_AGAIN)

    assert (before[0], at_once) == (Verdict.NOT_DURABLE, (Verdict.UNKNOWN, WARM, Verdict.NOT_DURABLE))
    assert (early, kept.verdict("db.service/srv", "state_path")) == (
        [],
        (Verdict.UNKNOWN, WARM_AGAIN, Verdict.NOT_DURABLE),
    )
    assert ("db.service/srv", Verdict.NOT_DURABLE, Verdict.UNKNOWN) in late


def test_what_turned_while_the_collector_was_away_turned_out_of_what_was_said_last() -> None:
    kept = Kept()
    kept.feed(kept.agent.report(section("volumes", volume())), WARM)
    kept.restart()

    turned = kept.feed(kept.agent.report(section("volumes", volume(dead=True))), AGAIN + 5)

    assert (turned, kept.verdict()) == (
        [("/srv", Verdict.DURABLE, Verdict.AT_RISK)],
        (Verdict.AT_RISK, AGAIN + 5, None),
    )


def test_a_node_that_tells_one_section_after_the_other_turns_nothing_in_between() -> None:
    """Of two paths the good one is heard first: the service looks better than it is, and is not called so."""
    good = section("paths", SERVICE, path("/srv"), volume())
    bad = section("engines", path("/tmp"), volume("/tmp", durability_class=0))
    kept = Kept()
    kept.feed(kept.agent.report(good, bad), WARM)
    kept.restart()

    first = kept.feed(kept.agent.report(good, held=(bad,)), AGAIN + 5)
    between = kept.verdict("db.service", "service")
    second = kept.feed(kept.agent.report(bad, held=(good,)), AGAIN + 6)

    assert (first, between) == ([], (Verdict.UNKNOWN, WARM, Verdict.NOT_DURABLE))
    assert (second, kept.verdict("db.service", "service")) == ([], (Verdict.NOT_DURABLE, WARM, None))


def test_an_alert_that_goes_on_firing_needs_no_section_to_keep_its_verdict() -> None:
    """Trouble is not hidden behind a restart."""
    kept = Kept()
    kept.feed(kept.agent.report(section("volumes", volume())), WARM)
    kept.feed(kept.agent.report(section("volumes", volume(dead=True), mono=10.0)), WARM + 10)
    kept.restart()

    turned = kept.tick(AGAIN + 1)

    assert (turned, kept.verdict()[:2]) == ([], (Verdict.AT_RISK, WARM + 10))


def test_what_went_while_the_collector_was_away_has_no_verdict_any_more() -> None:
    kept = Kept()
    kept.feed(kept.agent.report(section("volumes", volume(), volume("/old"))), WARM)
    kept.restart()

    turned = kept.feed(kept.agent.report(section("volumes", volume())), AGAIN + 5)

    assert turned == [("/old", Verdict.DURABLE, None)]
    assert kept.disk.verdicts.keys() == {("n1", "volume", "/srv")}


def test_a_rule_about_verdicts_sees_the_unknown_of_a_restart_and_its_end() -> None:
    kept = Kept()
    kept.feed(kept.agent.report(section("volumes", volume())), WARM)
    kept.restart()
    kept.feed(kept.agent.report(section("volumes", volume())), AGAIN + 5)

    kept.tick(WARM_AGAIN)

    assert kept.desk.firing() == set()


def test_a_node_forgotten_while_its_verdicts_are_awaited_leaves_nothing() -> None:
    kept = Kept()
    kept.feed(kept.agent.report(section("volumes", volume())), WARM)
    kept.restart()
    kept.desk.collector.handle(NodeForgotten(AGAIN + 1, "n1"))

    turned = kept.tick(WARM_AGAIN)

    assert (turned, kept.desk.collector.rulings.of("n1")) == ([], {})


def test_memory_is_judged_while_somebody_keeps_state_in_it() -> None:
    """A tmpfs never reads durable; one that holds nothing has no verdict, as a machine without stateful services."""
    kept = Kept()
    empty = section("volumes", volume("/tmp", durability_class=0))

    nothing = kept.feed(kept.agent.report(empty), WARM)
    held = kept.feed(kept.agent.report(section("paths", path("/tmp"), mono=10.0), held=(empty,)), WARM + 10)

    assert nothing == []
    assert ("/tmp", None, Verdict.NOT_DURABLE) in held
    assert ("db.service/tmp", None, Verdict.NOT_DURABLE) in held
