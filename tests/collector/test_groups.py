"""Groups: copies of one state on several nodes are judged as one, over restarts and reloads too."""

from holdfast.explaining import explanation_lines
from holdfast.history_lines import history_lines
from holdfast_collector.core.effect import Effect, Turned
from holdfast_collector.core.event import GroupsReplaced, NodeForgotten
from holdfast_collector.core.groups import DeclaredGroup
from holdfast_collector.core.record import Tracked
from holdfast_rules.group import Group
from holdfast_rules.verdict import Verdict
from holdfast_wire import Resource, Section, SectionStatus
from holdfast_wire.message import Value
from tests.collector.asgi import Visitor
from tests.collector.fleet import T0, WARM, Agent, Desk, commit_of
from tests.collector.visited import Visited
from tests.sim.scene import Disk

RULES = """
rules:
  - {alert: ServiceDown, id: G-01, resource: service, when: not up, severity: page, verdict: at_risk,
     summary: "{node}: {resource} is down"}
"""
NODES = ("db-1", "db-2", "db-3")
ORDERS = DeclaredGroup(
    group=Group(
        name="orders", members=tuple((node, "pg.service") for node in NODES), copies_required=3, quorum=2
    ),
    fault_domain_label="zone",
    fault_domains={"db-1": "a", "db-2": "b", "db-3": "c"},
)
AGAIN = WARM + 1_000.0


def database(*, up: bool = True, writable: bool = True, mono: float = 0.0) -> Section:
    facts: dict[str, Value] = {
        "service": "pg.service",
        "mountpoint": "/srv",
        "role": "data",
        "required_class": 2,
    }
    return Section(
        probe="database",
        status=SectionStatus.OK,
        observed_at=T0,
        mono=mono,
        period_seconds=10.0,
        duration_seconds=0.01,
        resources=[
            Resource(kind="volume", name="/srv", facts={"durability_class": 2, "writable": writable}),
            Resource(kind="state_path", name="pg.service/srv", facts=facts),
            Resource(kind="service", name="pg.service", facts={"stateful": True, "up": up}),
        ],
    )


class Copies:
    """Three nodes with a database each, and a collector whose commits are kept."""

    def __init__(self, group: DeclaredGroup = ORDERS, rules: str = RULES) -> None:
        self.disk = Disk()
        self.rules = rules
        self.agents = {node: Agent(node, install=node) for node in NODES}
        self.group = group
        self.start(T0)

    def start(self, at: float) -> None:
        self.desk = Desk(rules=self.rules, state=self.disk.load(), started_at=at)
        self.declare(at, self.group)

    def declare(self, at: float, *groups: DeclaredGroup) -> list[tuple[Verdict | None, Verdict | None]]:
        return self.do(self.desk.collector.handle(GroupsReplaced(at, groups)))

    def report(
        self, node: str, at: float, *, up: bool = True, writable: bool = True
    ) -> list[tuple[Verdict | None, Verdict | None]]:
        message = self.agents[node].report(database(up=up, writable=writable, mono=at))
        return self.do(self.desk.feed(message, at=at, node=node))

    def do(self, effects: list[Effect]) -> list[tuple[Verdict | None, Verdict | None]]:
        """Commit; how the group turned."""
        self.disk.commit(commit_of(effects))
        return [(e.before, e.after) for e in effects if isinstance(e, Turned) and e.kind == "group"]

    def alerts(self, alertname: str) -> list[Tracked]:
        return [row for row in self.desk.collector.alerts.values() if row.alert.alertname == alertname]

    def standing(self) -> tuple[Verdict, float] | None:
        ruled = self.desk.collector.rulings.groups.rulings.get("orders")
        return (ruled.ruling.verdict, ruled.since) if ruled else None


def test_a_group_is_judged_when_its_last_member_is_heard() -> None:
    """Of three copies the first one heard is no lost quorum: the others were not asked yet."""
    copies = Copies()

    turns = [copies.report(node, T0 + 1) for node in NODES]

    assert turns == [[], [], [(None, Verdict.DURABLE)]]
    assert copies.standing() == (Verdict.DURABLE, T0 + 1)


def test_a_member_that_is_never_heard_of_is_a_copy_nobody_knows_when_the_watch_is_over() -> None:
    copies = Copies()
    copies.report("db-1", T0 + 5)
    copies.report("db-2", T0 + 5)

    turned = copies.do(copies.desk.tick(T0 + 31))

    assert turned == [(None, Verdict.UNKNOWN)]


def test_a_copy_that_fails_turns_the_group_in_the_same_event_and_commit() -> None:
    copies = Copies()
    for node in NODES:
        copies.report(node, WARM)

    turned = copies.report("db-2", WARM + 10, up=False)
    back = copies.report("db-2", WARM + 20)

    assert (turned, back) == (
        [(Verdict.DURABLE, Verdict.AT_RISK)],
        [(Verdict.AT_RISK, Verdict.DURABLE)],
    )
    assert copies.disk.verdicts[("", "group", "orders")].since == WARM + 20


def test_copies_in_one_fault_domain_are_one_copy() -> None:
    shared = DeclaredGroup(
        group=ORDERS.group,
        fault_domain_label="zone",
        fault_domains={"db-1": "a", "db-2": "a", "db-3": "c"},
    )
    copies = Copies(shared)

    for node in NODES:
        copies.report(node, WARM)

    assert copies.standing() == (Verdict.AT_RISK, WARM)


def test_a_group_stands_through_a_restart() -> None:
    """Until its members are back it is unknown; as it was when they are, it turned nothing."""
    copies = Copies()
    for node in NODES:
        copies.report(node, WARM)
    copies.start(AGAIN)
    at_once = copies.standing()

    turns = [copies.report(node, AGAIN + 5) for node in NODES]

    assert at_once == (Verdict.UNKNOWN, WARM)
    assert (turns, copies.standing()) == ([[], [], []], (Verdict.DURABLE, WARM))


def test_a_reload_judges_what_is_new_and_drops_what_is_no_more() -> None:
    copies = Copies()
    for node in NODES:
        copies.report(node, WARM)
    fewer = DeclaredGroup(
        group=Group(name="orders", members=ORDERS.group.members[:1], copies_required=1, quorum=1)
    )
    down = copies.report("db-1", WARM + 1, up=False)

    changed = copies.declare(WARM + 2, fewer)
    dropped = copies.declare(WARM + 3)

    assert (down, changed) == ([(Verdict.DURABLE, Verdict.AT_RISK)], [])
    assert (dropped, copies.standing(), copies.disk.verdicts.get(("", "group", "orders"))) == (
        [(Verdict.AT_RISK, None)],
        None,
        None,
    )


OTHER = DeclaredGroup(
    group=Group(name="carts", members=(("db-3", "pg.service"),), copies_required=1, quorum=1)
)


def test_a_group_whose_copies_said_nothing_new_stands_as_it_is() -> None:
    """The one judged with a node is not the only one there is, and who is heard later is not forgotten."""
    copies = Copies()
    copies.declare(T0, ORDERS, OTHER)
    early = copies.report("db-1", T0 + 1)
    for node in NODES[1:]:
        copies.report(node, T0 + 1)

    copies.report("db-1", T0 + 2, up=False)

    groups = copies.desk.collector.rulings.groups.rulings
    assert early == []
    assert {name: ruled.ruling.verdict for name, ruled in groups.items()} == {
        "orders": Verdict.AT_RISK,
        "carts": Verdict.DURABLE,
    }


def test_where_nothing_is_judged_the_verdicts_are_the_same_object() -> None:
    """Whoever shows them goes by that, ten thousand heartbeats a second; during the watch and after it."""
    copies = Copies()
    copies.report("db-1", T0 + 1)
    before = copies.desk.collector.rulings.groups.rulings
    copies.do(copies.desk.tick(T0 + 2))
    in_watch = copies.desk.collector.rulings.groups.rulings
    copies.do(copies.desk.tick(WARM))
    judged = copies.desk.collector.rulings.groups.rulings
    copies.do(copies.desk.tick(WARM + 1))

    assert in_watch is before
    assert judged is not before
    assert copies.desk.collector.rulings.groups.rulings is judged


def test_a_reload_during_the_watch_lets_nobody_be_forgotten_when_it_is_over() -> None:
    """What stood before the restart is unknown meanwhile; its copies do not come back."""
    copies = Copies()
    for node in NODES:
        copies.report(node, WARM)
    copies.start(AGAIN)
    copies.do(copies.desk.tick(AGAIN + 1))

    copies.declare(AGAIN + 2, ORDERS)
    in_watch = copies.do(copies.desk.tick(AGAIN + 3))
    after = copies.do(copies.desk.tick(AGAIN + 40))

    assert (in_watch, after) == ([], [(Verdict.DURABLE, Verdict.UNKNOWN)])


def test_a_copy_that_a_reload_adds_during_the_watch_is_missed_when_it_is_over() -> None:
    """Nobody ever hears of it, so no report of its node asks for a verdict."""
    alone = DeclaredGroup(
        group=Group(name="orders", members=ORDERS.group.members[:1], copies_required=1, quorum=1)
    )
    copies = Copies(alone)
    copies.report("db-1", T0 + 1)
    stood = copies.standing()

    copies.declare(T0 + 2, ORDERS)
    copies.report("db-1", T0 + 25)
    after = copies.do(copies.desk.tick(T0 + 31))

    assert stood == (Verdict.DURABLE, T0 + 1)
    assert after == [(Verdict.DURABLE, Verdict.AT_RISK)]


def test_a_group_that_is_configured_no_more_at_the_next_start_leaves_the_books() -> None:
    copies = Copies()
    for node in NODES:
        copies.report(node, WARM)
    copies.desk = Desk(rules=RULES, state=copies.disk.load(), started_at=AGAIN)

    assert copies.declare(AGAIN) == [(Verdict.DURABLE, None)]
    assert ("", "group", "orders") not in copies.disk.verdicts


def test_a_node_out_of_service_leaves_its_copy_unknown() -> None:
    copies = Copies()
    for node in NODES:
        copies.report(node, WARM)

    effects = copies.desk.collector.handle(NodeForgotten(WARM + 1, "db-3"))

    assert [(e.before, e.after) for e in effects if isinstance(e, Turned)] == [
        (Verdict.DURABLE, Verdict.UNKNOWN)
    ]


GROUP_RULES = """
rules:
  - {alert: ServiceDown, id: G-01, resource: service, when: not up, severity: SEVERITY, verdict: at_risk,
     summary: "{node}: {resource} is down"}
  - {alert: QuorumLost, id: G-02, resource: group, when: copies_standing + copies_unknown < quorum, severity: page,
     verdict: at_risk, summary: "{resource}: {copies_standing} of {copies}, without {copies_troubled}"}
"""


def with_two_copies_down(rules: str) -> Copies:
    copies = Copies(rules=rules)
    copies.desk.tick(WARM)
    for node in NODES:
        copies.report(node, WARM)
    copies.desk.tick(WARM + 1)
    for node in NODES[:2]:
        copies.report(node, WARM + 2, up=False)
    copies.desk.tick(WARM + 3)
    return copies


def test_a_rule_on_groups_fires_names_the_copies_and_clears() -> None:
    copies = with_two_copies_down(GROUP_RULES.replace("SEVERITY", "ticket"))
    (fired,) = copies.alerts("QuorumLost")
    copies.report("db-1", WARM + 10)
    copies.desk.tick(WARM + 11)

    assert (fired.alert.kind, fired.alert.resource, fired.notified) == ("group", "orders", True)
    assert fired.alert.annotations["summary"] == "orders: 1 of 3, without db-1/pg.service, db-2/pg.service"
    assert copies.alerts("QuorumLost") == []


def test_a_page_on_a_copy_explains_the_one_on_its_group() -> None:
    """Whoever goes to the copies that are down is where the group is mended."""
    copies = with_two_copies_down(GROUP_RULES.replace("SEVERITY", "page"))

    assert [row.inhibited_by for row in copies.alerts("QuorumLost")] == ["ServiceDown"]
    assert [row.inhibited_by for row in copies.alerts("ServiceDown")] == ["", ""]


COPY_RULES = (
    GROUP_RULES.replace("SEVERITY", "ticket")
    + """  - {alert: CopyDies, id: G-03, resource: volume, when: not writable, severity: page, verdict: at_risk, summary: x}
"""
)


def test_a_page_on_a_group_that_was_told_first_becomes_part_of_a_copys_page() -> None:
    """Nothing is taken back; whoever comes to the copy reads what else is mended there."""
    copies = with_two_copies_down(COPY_RULES)
    (before,) = copies.alerts("QuorumLost")

    copies.report("db-1", WARM + 4, up=False, writable=False)

    (group,), (cause,) = copies.alerts("QuorumLost"), copies.alerts("CopyDies")
    assert (before.notified, before.explained_by) == (True, "")
    assert (group.notified, group.inhibited_by, group.explained_by) == (True, "", cause.key)
    assert copies.disk.alerts[group.key] == group
    assert cause.alert.annotations["explains"].endswith("QuorumLost on orders")


def test_a_page_on_a_group_is_the_next_copys_part_when_the_first_is_mended_and_nobodys_after_both() -> None:
    copies = with_two_copies_down(COPY_RULES)
    for second, node in enumerate(NODES[:2], 4):
        copies.report(node, WARM + second, up=False, writable=False)
    first, second_ = sorted(copies.alerts("CopyDies"), key=lambda row: row.alert.node)

    parts = [copies.alerts("QuorumLost")[0].explained_by]
    for second, node in enumerate(NODES[:2], 20):
        copies.report(node, WARM + second, up=False)
        parts.append(copies.alerts("QuorumLost")[0].explained_by)

    assert parts == [first.key, second_.key, ""]


def test_a_page_on_a_group_is_no_part_of_what_befalls_a_machine_outside() -> None:
    copies = with_two_copies_down(COPY_RULES)
    elsewhere = Agent("web-1", install="web-1").report(database(writable=False))

    copies.do(copies.desk.feed(elsewhere, at=WARM + 4, node="web-1"))

    assert [row.notified for row in copies.alerts("CopyDies")] == [True]
    assert [row.explained_by for row in copies.alerts("QuorumLost")] == [""]


def test_copies_that_nobody_has_heard_of_are_not_missing() -> None:
    copies = Copies(rules=GROUP_RULES.replace("SEVERITY", "page"))

    copies.report("db-1", WARM)
    copies.desk.tick(WARM + 60)

    assert copies.alerts("QuorumLost") == []


def test_a_group_that_is_not_declared_any_more_takes_its_alerts_along() -> None:
    copies = with_two_copies_down(GROUP_RULES.replace("SEVERITY", "ticket"))

    copies.declare(WARM + 4)
    copies.desk.tick(WARM + 5)

    assert copies.alerts("QuorumLost") == []


async def test_groups_are_shown_in_the_api_on_the_page_and_to_prometheus() -> None:
    visited = Visited(rules=RULES)
    visited.context.collector.handle(GroupsReplaced(T0, (ORDERS,)))
    visited.tick(WARM)
    for node in NODES:
        visited.feed(Agent(node, install=node).report(database(up=node != "db-2")))
    visitor = Visitor(visited)

    (group,) = (await visitor.get("/api/v1/groups")).json["groups"]
    page = (await visitor.get("/")).text
    metrics = (await visitor.get("/metrics")).text

    assert (group["name"], group["verdict"], group["since"]) == ("orders", "at_risk", WARM)
    assert group["reasons"][0]["text"] == (
        "2 of 3 copies stand in fault domains of their own, fewer than the 3 required"
    )
    assert group["members"][1] == {
        "node": "db-2", "service": "pg.service", "fault_domain": "b", "verdict": "at_risk",
    }  # fmt: skip
    section = page.partition('id="groups"')[2].partition("</section>")[0]
    assert "fewer than the 3 required" in section
    assert section.count("pg.service") == 3
    assert 'holdfast_verdict{resource_kind="group",resource="orders",verdict="at_risk"} 1\n' in metrics


async def test_an_alert_on_a_group_is_explained_by_the_collector_which_counts_its_copies() -> None:
    """As the runbook says: `holdfast explain QuorumLost collector orders`. With one group it need not be named."""
    visited = Visited(rules=GROUP_RULES.replace("SEVERITY", "ticket"))
    visited.context.collector.handle(GroupsReplaced(T0, (ORDERS,)))
    visited.tick(WARM)
    for node in NODES:
        visited.feed(Agent(node, install=node).report(database(up=node == "db-3")))
    visited.tick(WARM + 1)
    visitor = Visitor(visited)
    asked = "/api/v1/explain?alert=QuorumLost&node=collector"

    named = (await visitor.get(f"{asked}&resource=orders")).json
    alone = (await visitor.get(asked)).json
    unknown = await visitor.get(f"{asked}&resource=order")

    assert (named["resource_kind"], named["resource"], named["state"]) == ("group", "orders", "firing")
    first = named["condition"]["parts"][0]["parts"][0]
    assert (first["text"], first["value"], first["whence"]["probe"]) == ("copies_standing", 1, "collector")
    assert alone["resource"] == "orders"
    assert (unknown.status, unknown.json["error"].endswith("did you mean orders?")) == (404, True)
    assert explanation_lines(named)[0] == (
        "QuorumLost (G-02, page) on the collector, group orders: firing; the rule says holds"
    )


async def test_how_a_group_turned_can_be_asked() -> None:
    """It lies on no node, so no node's history has it."""
    visited = Visited(rules=RULES)
    visited.context.collector.handle(GroupsReplaced(T0, (ORDERS,)))
    visited.tick(WARM)
    agents = {node: Agent(node, install=node) for node in NODES}
    for node in NODES:
        visited.feed(agents[node].report(database()))
    visited.tick(WARM + 10)
    visited.feed(agents["db-2"].report(database(up=False, mono=10.0)))
    visitor = Visitor(visited)

    answer = (await visitor.get("/api/v1/groups/orders/history")).json
    newest = (await visitor.get("/api/v1/groups/orders/history?limit=1")).json
    nobody = await visitor.get("/api/v1/groups/order/history")

    assert answer["group"] == "orders"
    first = answer["history"][0]
    assert (first["at"], first["before"], first["after"]) == (WARM + 10, "durable", "at_risk")
    assert {row["resource_kind"] for row in answer["history"]} == {"group"}
    assert (newest["history"], newest["more"]) == (answer["history"][:1], True)
    assert (nobody.status, nobody.json) == (404, {"error": "no group 'order' is known"})
    assert "group orders: durable → at risk" in history_lines(answer)[0]
