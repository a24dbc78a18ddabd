"""The status page: what it says, before it is HTML.

In this order, because that is the order of trust: whether the collector itself can be believed, what needs somebody
now, and then every node.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from msgspec import Struct

from holdfast_collector.context import Context
from holdfast_collector.core.node import Node
from holdfast_collector.core.record import Tracked
from holdfast_collector.web import alert_view
from holdfast_collector.web.alert_view import AlertView
from holdfast_collector.web.durability_view import tally
from holdfast_collector.web.fleet import NodeState, Survey, state_of
from holdfast_collector.web.group_shape import group_shapes
from holdfast_collector.web.group_view import GroupView, group_views
from holdfast_collector.web.words import Moment, counted, moment, percent, plain, span
from holdfast_rules import AlertState
from holdfast_wire.message import Value

NODES_PER_PAGE = 100
ALERTS_SHOWN = 30
"""On the front page; a storm has a page of its own."""
WATCHDOG = "Watchdog"
"""The alert that always fires to prove the path to people. Its absence is the news."""


class Check(Struct, frozen=True):
    """One thing the collector needs, and how it stands."""

    name: str
    good: bool | None
    """None: neither good nor bad, or not known yet."""
    text: str
    more: str = ""
    """Where to read on."""


class VolumeGlance(Struct, frozen=True):
    """The volume of a node that deserves the first look."""

    text: str
    tone: str
    """`bad`, `plain` or `unknown`."""


class NodeRow(Struct, frozen=True, kw_only=True):
    """A node in the table."""

    name: str
    state: NodeState
    last_report: Moment
    volume: VolumeGlance
    classes: str
    """How many volumes have which durability class."""
    failed: int | None
    """Services that failed; None when nobody knows."""
    firing: dict[str, int]
    """Severity → alerts that no other one explains."""
    claimed_twice: bool


class StatusView(Struct, frozen=True, kw_only=True):
    """The whole page."""

    now: Moment
    tone: str
    headline: str
    reasons: list[str]
    """Why the collector cannot be fully believed."""
    checks: list[Check]
    firing: list[AlertView]
    firing_more: int
    pending: int
    groups: list[GroupView]
    rows: list[NodeRow]
    by_state: dict[str, int]
    total: int
    found: int
    query: str
    state: str
    page: int
    pages: int
    previous_url: str
    next_url: str


def status_view(context: Context, survey: Survey, query: str, state: str, page: int) -> StatusView:
    """Everything the front page says."""
    now = context.now()
    collector = context.collector
    by_node: dict[str, list[Tracked]] = {}
    for row in collector.alerts.values():
        by_node.setdefault(row.alert.node, []).append(row)
    firing = [
        row
        for row in collector.alerts.values()
        if row.alert.state is AlertState.FIRING and row.alert.alertname != WATCHDOG
    ]
    pages = max(1, -(-len(survey.names) // NODES_PER_PAGE))
    page = min(max(page, 1), pages)
    shown = survey.names[(page - 1) * NODES_PER_PAGE : page * NODES_PER_PAGE]
    reasons = [plain(reason) for reason in context.readiness()]
    tone, headline = _headline(firing, survey, reasons)
    return StatusView(
        now=moment(now, now),
        tone=tone,
        headline=headline,
        reasons=reasons,
        checks=_checks(context, now),
        firing=alert_view.active(alert_view.gravest(firing, ALERTS_SHOWN), collector.alerts, now),
        firing_more=max(0, len(firing) - ALERTS_SHOWN),
        pending=sum(row.alert.state is AlertState.PENDING for row in collector.alerts.values()),
        groups=group_views(group_shapes(collector), now),
        rows=[
            node_row(node, by_node.get(name, ()), now)
            for name in shown
            if (node := collector.nodes.get(name))
        ],
        by_state={state.value: survey.by_state[state] for state in NodeState if survey.by_state.get(state)},
        total=survey.total,
        found=len(survey.names),
        query=query,
        state=state,
        page=page,
        pages=pages,
        previous_url=_url(query, state, page - 1) if page > 1 else "",
        next_url=_url(query, state, page + 1) if page < pages else "",
    )


def _url(query: str, state: str, page: int) -> str:
    asked = {"q": query, "state": state, "page": str(page) if page > 1 else ""}
    return "/?" + urlencode({key: value for key, value in asked.items() if value})


def _headline(firing: Sequence[Tracked], survey: Survey, reasons: Sequence[str]) -> tuple[str, str]:
    """The one sentence for somebody who reads nothing else."""
    pages = sum(row.alert.severity == "page" and not row.inhibited_by for row in firing)
    tickets = sum(row.alert.severity == "ticket" and not row.inhibited_by for row in firing)
    quiet = survey.total - survey.by_state.get(NodeState.REPORTING, 0)
    if pages:
        return "bad", f"{counted(pages, 'alert')} {'needs' if pages == 1 else 'need'} somebody now"
    if reasons:
        return "bad", "The collector does not do its whole work"
    if not survey.total:
        return "unknown", "No node has been heard of yet"
    if tickets:
        return "warn", f"Nothing urgent. {counted(tickets, 'alert')} for office hours"
    if quiet:
        return (
            "unknown",
            f"Nothing fires. {counted(quiet, 'node')} of {survey.total:,} {'is' if quiet == 1 else 'are'} not reporting",
        )
    return (
        "good",
        f"Nothing fires. {'The only node reports' if survey.total == 1 else f'All {survey.total:,} nodes report'}",
    )


def _checks(context: Context, now: float) -> list[Check]:
    health = context.health()
    collector = context.collector
    connected, warm = bool(health.get("broker_connected")), bool(health.get("warm"))
    left = max(0.0, collector.warm_at - now)
    rejected = context.metrics.rejected_by_reason()
    watchdog = any(
        row.alert.alertname == WATCHDOG and row.alert.state is AlertState.FIRING
        for row in collector.alerts.values()
    )
    return [
        Check("Broker", connected, "connected" if connected else "not connected: nothing arrives"),
        _store(health),
        Check(
            "Warm-up",
            None if not warm else True,
            "over"
            if warm
            else f"{span(left)} to go: until then nobody is called silent and nothing resolves",
        ),
        _outbox(health),
        Check(
            "Watchdog",
            True if watchdog else None,
            "fires, as it should" if watchdog else "does not fire: the path to people is unproven",
        ),
        _refused(rejected),
    ]


def _store(health: Mapping[str, Value]) -> Check:
    writable = health.get("store_writable", True) is True
    quarantined = health.get("store_quarantined", False)
    if not writable:
        return Check("Store", False, "does not commit: nothing is acknowledged to agents, nobody is told")
    if quarantined:
        return Check("Store", None, "commits; a damaged database was set aside, memory before that is lost")
    return Check("Store", True, "commits")


def _outbox(health: Mapping[str, Value]) -> Check:
    notices = int(health.get("outbox_notices", 0))
    if not notices:
        return Check("Notifications", True, "none waits")
    age = float(health.get("outbox_age_seconds", 0.0))
    text = f"{counted(notices, 'waits', 'wait')} for a receiver, the oldest for {span(age)}"
    return Check("Notifications", False if age > 60 else None, text)


def _refused(rejected: Mapping[str, int]) -> Check:
    # Duplicates and late reports are what redelivery looks like; they hurt nobody.
    telling = {
        reason: count for reason, count in rejected.items() if reason not in {"duplicate", "late"} and count
    }
    if not telling:
        return Check("Refused messages", True, "none")
    listed = ", ".join(
        f"{count:,} {reason.replace('_', ' ')}"
        for reason, count in sorted(telling.items(), key=lambda item: -item[1])
    )
    return Check("Refused messages", None, f"since the start: {listed}.", "/api/v1/rejections")


def node_row(node: Node, rows: Sequence[Tracked], now: float) -> NodeRow:
    """A node in the table."""
    firing: dict[str, int] = {}
    for row in rows:
        if row.alert.state is AlertState.FIRING and not row.inhibited_by:
            firing[row.alert.severity] = firing.get(row.alert.severity, 0) + 1
    services = [facts for (kind, _), facts in node.resources.items() if kind == "service"]
    return NodeRow(
        name=node.name,
        state=state_of(node),
        last_report=moment(node.last_report_at, now),
        volume=_glance(node),
        classes=tally(facts for (kind, _), facts in node.resources.items() if kind == "volume"),
        failed=sum(facts.get("failed") is True for facts in services) if services else None,
        firing={severity: firing[severity] for severity in alert_view.SEVERITY_RANK if severity in firing},
        claimed_twice=bool(node.claimants),
    )


def _glance(node: Node) -> VolumeGlance:
    """The worst volume: one that takes no writes though it should, else the fullest that takes any."""
    fullest: tuple[float, str] | None = None
    for (kind, name), facts in node.resources.items():
        if kind != "volume":
            continue
        place = plain(str(facts.get("mountpoint", name)))
        if facts.get("expected_mounted") is True and facts.get("mounted") is False:
            return VolumeGlance(f"{place} is not mounted", "bad")
        if facts.get("reachable") is False:
            return VolumeGlance(f"{place} does not answer", "bad")
        if facts.get("dead") is True:
            return VolumeGlance(f"{place} is dead", "bad")
        if facts.get("writable") is False and facts.get("expected_writable") is True:
            return VolumeGlance(f"{place} takes no writes", "bad")
        free = facts.get("free_ratio")
        # Images of software and CDs are full by nature.
        usable = facts.get("writable") is not False and facts.get("volatile") is not True
        if isinstance(free, int | float) and usable and (fullest is None or free < fullest[0]):
            fullest = (float(free), place)
    if fullest is None:
        return VolumeGlance("unknown", "unknown")
    return VolumeGlance(f"{fullest[1]} {percent(fullest[0])} free", "plain")
