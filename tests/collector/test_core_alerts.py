"""From findings to notices: liveness, staleness, warm-up, inhibition, and what a restart must not change."""

import msgspec
import pytest

from holdfast_collector.core.event import (
    Acknowledged,
    BrokerChanged,
    Delivered,
    NodeForgotten,
    ReceiversReplaced,
    RulesReplaced,
)
from holdfast_collector.core.record import Receiver, State
from holdfast_rules import load
from holdfast_wire import SectionStatus, SpoolState
from holdfast_wire.message import DeathReason
from tests.collector.fleet import RULES, T0, WARM, Agent, Desk, commit_of, section, transitions

UP = section({"a.service": {"up": True}})
DOWN = section({"a.service": {"up": False}})


def notices(commit_effects: list[object]) -> list[tuple[str, str]]:
    """(status, receiver) of what a commit puts into the outbox, the watchdog aside."""
    return [
        (notice.status, notice.receiver)
        for notice in commit_of(commit_effects).notices  # type: ignore[arg-type]  # a list is invariant; it is only read
        if notice.alert.alertname != "Watchdog"
    ]


def test_state_alert_and_outbox_are_one_commit() -> None:
    """With two, power may go between them, and an alert fires that nobody hears of."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(UP))

    commit = commit_of(desk.feed(agent.report(DOWN)))

    assert [tracked.notified for tracked in commit.alerts.values() if tracked] == [True]
    assert [notice.receiver for notice in commit.notices] == ["hook", "pager"]


def test_a_receiver_gets_only_the_severities_it_takes() -> None:
    """Nobody is woken by a ticket."""
    desk, agent = Desk(), Agent()

    assert notices(list(desk.feed(agent.event()))) == [("firing", "hook")]


def test_a_node_is_silent_after_three_intervals_and_the_rules_for() -> None:
    """30 s without a report, then 20 s of watching that."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(UP))

    found = [
        second for second in range(80) if transitions(desk.tick(WARM + second)) == [("NodeSilent", "fired")]
    ]

    assert found == [50]


def test_nobody_is_silent_while_the_collector_itself_is_deaf() -> None:
    """Without a broker, silence says nothing about the nodes, and for a grace period after it neither."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(UP))
    desk.collector.handle(BrokerChanged(WARM + 1, connected=False))
    deaf = [row for second in range(2, 300) for row in transitions(desk.tick(WARM + second))]
    desk.collector.handle(BrokerChanged(WARM + 300, connected=True))

    found = [s for s in range(300, 400) if ("NodeSilent", "fired") in transitions(desk.tick(WARM + s))]

    assert (deaf, found) == ([], [350])


def test_a_message_that_crashed_the_core_is_not_remembered_as_taken() -> None:
    """Its next copy would be acknowledged and its effect lost."""

    class Breaks(dict[tuple[str, str], object]):
        def get(self, *_: object) -> object:
            raise RuntimeError("a mistake of ours")

    desk, agent = Desk(), Agent()
    desk.feed(agent.report(UP))
    event = agent.event()
    node = desk.collector.nodes["n1"]
    whole, node.counts = node.counts, Breaks()  # type: ignore[assignment]  # made to fail in the middle of the fold
    with pytest.raises(RuntimeError):
        desk.feed(event)
    node.counts = whole

    assert [row.type for row in commit_of(desk.feed(event)).events] == ["unit_failed"]


def test_a_will_makes_it_known_at_once() -> None:
    """The broker noticed; nobody needs to wait for the silence."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(UP))

    assert transitions(desk.feed(agent.death())) == [("NodeSilent", "pending")]


def test_an_agent_that_said_goodbye_is_not_silent() -> None:
    """A planned stop is no page."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(UP))
    desk.feed(agent.death(DeathReason.STOPPED))

    for second in range(200):
        desk.tick(WARM + second)

    assert desk.firing() == set()


def test_stale_evidence_neither_resolves_nor_raises() -> None:
    """No data is never health, and never a fault either."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(DOWN))

    for second in range(600):
        desk.tick(WARM + second)

    assert ("ServiceDown", "a.service") in desk.firing()
    assert ("service", "a.service") not in desk.collector.nodes["n1"].resources


def test_a_probe_that_fails_leaves_its_alerts_standing() -> None:
    """It lists nothing because it sees nothing, not because nothing is there."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(DOWN))

    desk.feed(agent.report(section({}, status=SectionStatus.ERROR)), at=WARM + 1)

    assert desk.firing() == {("ServiceDown", "a.service")}


@pytest.mark.parametrize(("probe", "extra"), [("stranded_data", True), ("kernel_log", False)])
def test_a_right_that_the_unit_withholds_on_purpose_is_told_from_one_that_is_missing(
    probe: str, extra: bool
) -> None:
    """Otherwise every installation as shipped would complain of itself for ever."""
    desk, agent = Desk(), Agent()
    denied = msgspec.structs.replace(section({}, status=SectionStatus.DENIED), probe=probe)

    desk.feed(agent.report(denied))

    facts = desk.collector.nodes["n1"].resources["probe", probe]
    assert (facts["status"], facts["extra_right"]) == ("denied", extra)


def test_what_a_complete_section_no_longer_lists_is_gone() -> None:
    """A unit that was removed cannot be down."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(DOWN))

    effects = desk.feed(agent.report(section({})), at=WARM + 1)

    assert transitions(effects) == [("ServiceDown", "resolved")]
    assert notices(list(effects)) == [("resolved", "hook"), ("resolved", "pager")]


def test_what_is_gone_is_gone_although_things_happened_to_it() -> None:
    """A job that failed and was reset: systemd forgets it, and the count of its failures must not keep its alert."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(section({"a.service": {"up": False}, "b.service": {"up": True}})))
    desk.feed(agent.event(resource="a.service"))

    desk.feed(agent.report(section({"b.service": {"up": True}})), at=WARM + 1)

    assert ("ServiceDown", "a.service") not in desk.firing()


def test_nothing_resolves_and_nobody_is_silent_while_the_collector_warms_up() -> None:
    """It has not watched long enough to know."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(DOWN), at=T0)

    desk.feed(agent.report(UP), at=T0 + 1)
    early = desk.firing()
    desk.feed(agent.report(held=(UP,)), at=T0 + 40)

    assert (early, desk.firing()) == ({("ServiceDown", "a.service")}, set())


def restarted(desk: Desk, at: float) -> Desk:
    """A new process with what the old one had committed, which in these tests is everything."""
    collector = desk.collector
    return Desk(
        state=State(
            nodes=[node.record for node in collector.nodes.values()],
            alerts=list(collector.alerts.values()),
            notices=list(collector.outbox.values()),
            next_episode=100,
        ),
        started_at=at,
    )


def test_what_went_while_the_collector_was_down_is_gone() -> None:
    """A complete section says what there is, also to a collector that was not there when the resource went."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(section({"a.service": {"up": False}, "b.service": {"up": True}})))
    later = restarted(desk, WARM + 10)

    later.feed(agent.report(section({"b.service": {"up": True}})), at=WARM + 70)

    assert later.firing() == set()


def test_a_node_that_died_while_the_collector_was_down_is_called_silent() -> None:
    """Sensu loses these for ever: its keepalives begin with the first message after the restart."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(UP))
    after = restarted(desk, WARM + 100)

    found = [
        second
        for second in range(120)
        if ("NodeSilent", "fired") in transitions(after.tick(WARM + 100 + second))
    ]

    assert found == [50]


def test_a_restart_tells_nobody_anything_twice() -> None:
    """The alert comes back as it was: same key, already notified."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(DOWN))
    keys = set(desk.collector.alerts)
    after = restarted(desk, WARM + 5)

    effects = after.feed(agent.report(DOWN), at=WARM + 6)

    assert (transitions(effects), notices(list(effects)), set(after.collector.alerts)) == ([], [], keys)


def test_a_restart_loses_no_pending_time() -> None:
    """20 s seen before it and 12 s after it make the 30 s that the rule wants."""
    slow = section({"a.service": {"restart_looping": True}})
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(slow))
    for second in range(21):
        desk.tick(WARM + second)
    after = restarted(desk, WARM + 21)

    fired = [
        second
        for second in range(21, 40)
        if ("ServiceSlow", "fired")
        in transitions([*after.feed(agent.report(slow), at=WARM + second), *after.tick(WARM + second)])
    ]

    assert fired == [30]


def test_unobserved_time_does_not_count() -> None:
    """The condition held when last seen, and holds again; in between nobody looked."""
    slow = section({"a.service": {"restart_looping": True}})
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(slow))

    desk.feed(agent.report(slow), at=WARM + 3_600)

    assert desk.firing() == set()


def test_an_event_fires_by_the_very_first_count_and_resolves_when_its_window_has_passed() -> None:
    """`delta` needs the value from before the first event."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(UP))
    first = transitions(desk.feed(agent.event()))

    later = []
    for second in range(660):
        heartbeat = desk.feed(agent.report(held=(UP,)), at=WARM + second) if second % 10 == 0 else []
        later.append(transitions([*heartbeat, *desk.tick(WARM + second)]))

    assert first == [("ServiceCrashed", "fired")]
    resolved = [second for second, found in enumerate(later) if ("ServiceCrashed", "resolved") in found]
    assert resolved == [600] or resolved == [601]


def test_a_window_without_events_clears_nothing_while_the_node_is_silent() -> None:
    """Nobody is there who could report one."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(UP))
    desk.feed(agent.event())

    for second in range(1_200):
        desk.tick(WARM + second)

    assert ("ServiceCrashed", "a.service") in desk.firing()


def test_a_rule_that_reads_its_nodes_facts_is_asked_when_those_change() -> None:
    """The resource itself said nothing new."""
    rules = (
        RULES
        + """
  - {alert: DownWhileUnsafe, id: S-06, resource: service, when: not up and node.spool_in_memory, severity: ticket,
     summary: "{node}: {resource}"}
"""
    )
    desk, agent = Desk(rules=rules), Agent()
    desk.feed(agent.report(DOWN))
    unsafe = msgspec.structs.replace(
        agent.report(held=(DOWN,)), spool=SpoolState(messages=1, bytes=9, dropped_total=0, in_memory=True)
    )

    assert transitions(desk.feed(unsafe, at=WARM + 1)) == [("DownWhileUnsafe", "fired")]


def test_an_alert_explained_by_another_is_kept_quiet_until_that_one_leaves() -> None:
    """One page for a dead machine; what is still wrong after its return is told then."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(UP))
    for second in range(60):
        desk.tick(WARM + second)
    assert desk.firing() == {("NodeSilent", "n1")}
    node = desk.collector.nodes["n1"]

    # Both at once: the report that ends the silence also shows the service down, and is judged node by node.
    node.reporting = False
    quiet = desk.feed(agent.event(resource="b.service"), at=WARM + 60)
    back = desk.feed(agent.report(DOWN), at=WARM + 61)
    told = [
        *notices(list(back)),
        *(row for second in range(3) for row in notices(list(desk.tick(WARM + 62 + second)))),
    ]

    assert ("firing", "hook") in notices(list(quiet))
    assert told.count(("firing", "pager")) == 1


def test_alerts_that_fire_together_are_one_page_whatever_the_order_of_their_rules() -> None:
    """A service that failed and was given up: one message shows both, and people hear of the one that says it all."""
    rules = """
    rules:
      - {alert: ServiceFailed, id: S-01, resource: service, when: failed, severity: page, inhibited_by: [ServiceGaveUp],
         summary: failed}
      - {alert: ServiceGaveUp, id: S-02, resource: service, when: start_limit_hit, severity: page, summary: gave up}
    """
    desk, agent = Desk(rules=rules), Agent()
    desk.feed(agent.report(section({"a.service": {"failed": False, "start_limit_hit": False}})))

    effects = desk.feed(agent.report(section({"a.service": {"failed": True, "start_limit_hit": True}})))

    assert [(notice.alert.alertname, notice.receiver) for notice in commit_of(effects).notices] == [
        ("ServiceGaveUp", "hook"),
        ("ServiceGaveUp", "pager"),
    ]
    assert {row.alert.alertname: row.inhibited_by for row in commit_of(effects).alerts.values() if row} == {
        "ServiceFailed": "ServiceGaveUp",
        "ServiceGaveUp": "",
    }
    assert sorted(transitions(effects)) == [("ServiceFailed", "fired"), ("ServiceGaveUp", "fired")]


def test_an_alert_on_its_way_out_is_not_told_when_what_explained_it_leaves_first() -> None:
    """A volume that was full and almost full: freed, "full" resolves sooner, and "almost full" must not page then."""
    rules = """
    rules:
      - {alert: ServiceDown, id: S-01, resource: service, when: not up, keep_firing_for: 1m, severity: page, summary: down}
      - {alert: ServiceLoops, id: S-02, resource: service, when: restart_looping, keep_firing_for: 10m, severity: page,
         inhibited_by: [ServiceDown], summary: loops}
    """
    desk, agent = Desk(rules=rules), Agent()
    desk.feed(agent.report(section({"a.service": {"up": False, "restart_looping": True}})))
    well = section({"a.service": {"up": True, "restart_looping": False}})

    told = [
        notices(list(desk.feed(agent.report(well), at=WARM + seconds)))
        for seconds in range(10, 100, 10)
        if seconds
    ]

    assert [entry for entry in told if entry] == [[("resolved", "hook"), ("resolved", "pager")]]
    assert desk.firing() == {("ServiceLoops", "a.service")}


def test_a_delivered_notice_leaves_the_outbox_in_a_commit() -> None:
    """Otherwise a restart would send it again."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(DOWN))
    notice_id = next(iter(desk.collector.outbox))

    effects = desk.collector.handle(Delivered(WARM, notice_id))

    assert (commit_of(effects).taken, notice_id in desk.collector.outbox) == ([notice_id], False)


def test_alerts_of_a_rule_that_is_no_more_end_once() -> None:
    """Nobody could ever clear them."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(DOWN))
    fewer = load({"fewer.yaml": RULES.replace("ServiceDown", "Other").replace("S-01", "S-99")})

    effects = desk.collector.handle(RulesReplaced(WARM + 1, fewer))

    assert transitions(effects) == [("ServiceDown", "resolved"), ("Other", "fired")]


def test_a_new_receiver_is_told_of_what_fires_already() -> None:
    """Whoever goes on call during an outage must hear of it, and those who have heard must not hear again."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(DOWN))
    receivers = (*desk.receivers, Receiver(name="second", severities=("page",)))

    effects = desk.collector.handle(ReceiversReplaced(WARM + 1, receivers))

    assert notices(list(effects)) == [("firing", "second")]


def test_a_forgotten_nodes_alerts_end_and_their_receivers_hear_of_it() -> None:
    """A machine taken out of service pages nobody."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(DOWN))

    effects = desk.collector.handle(NodeForgotten(WARM + 1, "n1"))

    assert (commit_of(effects).nodes, notices(list(effects))) == (
        {"n1": None},
        [("resolved", "hook"), ("resolved", "pager")],
    )
    assert desk.collector.nodes == {}


def test_an_operators_word_ends_what_nobody_can_observe_any_more() -> None:
    """A node that will never report again must not keep its alerts for ever."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(DOWN))
    for second in range(100):
        desk.tick(WARM + second)
    key = next(key for key, row in desk.collector.alerts.items() if row.alert.alertname == "ServiceDown")

    effects = desk.collector.handle(Acknowledged(WARM + 100, key, "machine was scrapped"))

    assert transitions(effects) == [("ServiceDown", "resolved")]


def test_the_watchdog_always_fires() -> None:
    """The path from rules to receiver proves itself."""
    desk = Desk()

    commit = commit_of(desk.tick(T0 + 1))

    assert [(row.alert.alertname, row.alert.node) for row in commit.alerts.values() if row] == [
        ("Watchdog", "")
    ]


def test_age_of_evidence_is_the_collectors_receive_time_less_the_agents_own_delay() -> None:
    """A section observed 8 s before it was sent is 8 s old on arrival, whatever the VM's wall clock says."""
    desk, agent = Desk(), Agent()
    old = msgspec.structs.replace(UP, mono=100.0, observed_at=0.0)

    desk.feed(agent.report(old, mono=108.0))

    assert desk.collector.nodes["n1"].sections["services"].observed_at == WARM - 8


def test_a_firing_alert_ends_where_its_rule_says_it_is_well() -> None:
    """Between the threshold and `clear_when` it goes on; a resource that is gone has nothing left to wait for."""
    pack = """
rules:
  - alert: ManyRestarts
    resource: service
    when: restarts_total > 5
    clear_when: restarts_total < 3
    severity: page
    summary: "{resource}"
"""
    desk, agent = Desk(rules=pack), Agent()
    said = []
    for a, b in [(6, 6), (4, 4), (2, 4), (4, 4)]:
        row = section({"a.service": {"restarts_total": a}, "b.service": {"restarts_total": b}})
        said.append(transitions(desk.feed(agent.report(row))))
    said.append(transitions(desk.feed(agent.report(section({"a.service": {"restarts_total": 4}})))))

    assert said == [
        [("ManyRestarts", "fired"), ("ManyRestarts", "fired")],
        [],
        [("ManyRestarts", "resolved")],
        [],
        [("ManyRestarts", "resolved")],
    ]


NODES = """
constants: {limit: 5}
rules:
  - {alert: ManyRestarts, resource: service, when: restarts_total > limit, severity: page, summary: "{resource}"}
  - {alert: Restarting, resource: service, when: 'delta(restarts_total, "10m") > 0', severity: info, summary: x}
where:
  - {nodes: [n2], set: {limit: 1}, disable: [Restarting]}
"""


def test_each_node_is_judged_by_its_own_rules() -> None:
    desk = Desk(rules=NODES)
    for node in ("n1", "n2"):
        agent = Agent(node)
        for restarts in (1, 3):
            desk.feed(agent.report(section({"a.service": {"restarts_total": restarts}})), node=node)
            desk.tick(WARM + 31)

    firing = {(row.alert.alertname, row.alert.node) for row in desk.collector.alerts.values()}
    assert firing == {("Restarting", "n1"), ("ManyRestarts", "n2")}
    assert [key[2] for key in desk.collector.nodes["n1"].histories] == ["restarts_total"]
    assert desk.collector.nodes["n2"].histories == {}


def test_alerts_of_rules_that_a_reload_takes_from_their_node_end_once() -> None:
    desk, agent = Desk(rules=NODES), Agent("n2")
    desk.feed(agent.report(section({"a.service": {"restarts_total": 3}})), node="n2")
    other = load({"test.yaml": NODES.replace("disable: [Restarting]", "disable: [ManyRestarts]")})
    louder = load({"test.yaml": NODES.replace("severity: page", "severity: ticket")})

    assert transitions(desk.collector.handle(RulesReplaced(WARM + 1, desk.rules))) == []
    said = [
        transitions(desk.collector.handle(RulesReplaced(WARM + 2, found))) for found in (louder, other, other)
    ]
    assert said == [
        [("ManyRestarts", "resolved"), ("ManyRestarts", "fired")],
        [("ManyRestarts", "resolved")],
        [],
    ]


def test_new_rules_judge_at_once_what_has_not_changed_for_long() -> None:
    """Facts that stand still call for no judgement, and a new rule about them would wait for ever."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(section({"a.service": {"up": True, "restarts_total": 7}})))
    more = load(
        {
            "test.yaml": RULES,
            "mine.yaml": "rules: [{alert: Mine, resource: service, when: restarts_total > 5, severity: page, summary: x}]",
        }
    )

    effects = desk.collector.handle(RulesReplaced(WARM + 1, more))

    assert transitions(effects) == [("Mine", "fired")]
    assert notices(list(effects)) == [("firing", "hook"), ("firing", "pager")]


def test_a_large_fleet_is_judged_by_new_rules_a_slice_at_a_time() -> None:
    desk = Desk()
    for number in range(120):
        agent = Agent(f"n{number}")
        desk.feed(agent.report(section({"a.service": {"restarts_total": 7}})), node=agent.node)
    mine = "rules: [{alert: Mine, resource: service, when: restarts_total > 5, severity: page, summary: x}]"

    steps = [desk.collector.handle(RulesReplaced(WARM + 1, load({"mine.yaml": mine})))]
    steps += [desk.tick(WARM + 1 + second) for second in (1, 2, 3)]

    assert [len(transitions(step)) for step in steps] == [50, 50, 20, 0]


def test_history_of_rules_that_are_no_more_is_let_go_and_longer_windows_are_kept() -> None:
    desk, agent = Desk(), Agent()

    def reload(window: str) -> None:
        when = f"'delta(restarts_total, \"{window}\") > 0'"
        mine = f"rules: [{{alert: Mine, resource: service, when: {when}, severity: page, summary: x}}]"
        desk.collector.handle(RulesReplaced(WARM, load({"mine.yaml": mine})))

    reload("1m")
    desk.feed(agent.report(section({"a.service": {"restarts_total": 7}})))
    desk.feed(agent.event())
    reload("1h")
    desk.feed(agent.report(section({"a.service": {"restarts_total": 8}})))

    histories = desk.collector.nodes["n1"].histories
    assert {place[2]: series.window_seconds for place, series in histories.items()} == {
        "restarts_total": 3600.0
    }


def test_a_new_rule_about_events_knows_of_the_one_that_came_before_it() -> None:
    """Nobody kept the history then, but an event of a minute ago is not none."""
    quiet = "rules: [{alert: Quiet, resource: node, when: reporting and not reporting, severity: info, summary: x}]"
    quiet = quiet.replace("reporting and not reporting", 'session == "stopped"')
    desk, agent = Desk(rules=quiet), Agent()
    desk.feed(agent.report(section({"a.service": {"up": True}})))
    desk.feed(agent.event())

    effects = desk.collector.handle(RulesReplaced(WARM + 60, load({"test.yaml": RULES})))

    assert ("ServiceCrashed", "fired") in transitions(effects)
