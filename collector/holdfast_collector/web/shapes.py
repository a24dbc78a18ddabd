"""The shapes of the JSON API, version 1. Described for users in this folder's README; a test holds the two together.

Instants are Unix seconds UTC by the collector's clock and end in `_at` or `_since`. What is unknown is absent or null,
never 0. Fields may be added; none is renamed, removed or given another meaning within `/api/v1`.
"""

from collections.abc import Iterable, Sequence

from msgspec import UNSET, Struct, UnsetType

from holdfast_collector.core.collector import Collector
from holdfast_collector.core.node import HeldSection, Node
from holdfast_collector.core.quiet import cause_over
from holdfast_collector.core.reboot_fate import Fate
from holdfast_collector.core.record import EventCount, Resolved, Tracked
from holdfast_collector.core.ruled import Ruled
from holdfast_collector.web.evidence import Evidence, Grounds
from holdfast_collector.web.fleet import NodeState, state_of
from holdfast_rules import Rule
from holdfast_rules.verdict import Reason, Verdict
from holdfast_wire.message import Capability, SpoolState, Value

EXPLAINED_MAX = 20
"""Alerts whose keys are listed of those that one explains."""


class AlertShape(Struct, frozen=True, kw_only=True):
    """An alert."""

    key: str
    state: str
    """`pending`, `firing` or `resolved`."""
    alertname: str
    rule_id: str
    severity: str
    node: str
    """Empty for the collector's own alerts."""
    resource_kind: str
    resource: str
    episode: int
    pending_since: float
    fired_at: float | None
    resolved_at: float | UnsetType = UNSET
    last_finding: str
    """`holds`, `clear` (it is about to end), `between` (no longer so, but `clear_when` is not met either, or
    what the memory of an event explains still holds) or `unknown` (nobody can see at present)."""
    acknowledged: str
    acknowledged_at: float | None
    inhibited_by: str
    """The alert that explains this one and keeps it quiet."""
    cause_over: bool
    """That alert ended; this one is told, or explained by another, as soon as it is seen later than that."""
    explained_by: str
    """The key of the alert that explains this one. Where `inhibited_by` is empty, people had been told of this one first."""
    explains_total: int
    """How many alerts this one explains; all are kept quiet, but for those that were told before it."""
    explains: list[str]
    """The keys of the first of them, the deepest first."""
    labels: dict[str, str]
    annotations: dict[str, str]


class NodeShape(Struct, frozen=True, kw_only=True):
    """A node in a list."""

    node: str
    state: NodeState
    session: str
    session_since: float
    install_id: str
    boot_id: str
    os: str | None
    os_name: str | None
    kernel: str | None
    agent_version: str | None
    interval_seconds: float
    first_seen_at: float
    last_report_at: float | None


class SectionShape(Struct, frozen=True, kw_only=True):
    """What one probe said last."""

    probe: str
    status: str
    detail: str
    missing: dict[str, str]
    stale: bool
    observed_at: float
    period_seconds: float
    duration_seconds: float


class ResourceShape(Struct, frozen=True, kw_only=True):
    """A resource and its facts."""

    kind: str
    name: str
    observed_at: float | None
    facts: dict[str, Value]


class VerdictShape(Struct, frozen=True, kw_only=True):
    """What is said of one resource, and why."""

    kind: str
    name: str
    verdict: Verdict
    since: float
    last: Verdict | None
    """What it was when its evidence was last complete, where it is unknown now and was worse."""
    reasons: tuple[Reason, ...]
    """Worst first, of equally bad ones the deepest; the first is what to mend first."""
    cause: str
    """The rule that says the first of them; empty: none does, the facts alone say so, or there is no reason."""
    durability_class: int | None
    required_class: int | None
    flush: str
    """honest, unknown or lying."""
    integrity: str
    """checked, unchecked or corrupt."""
    tested: dict[str, float]
    """Class of event → when all volumes below had last come whole through one; what is absent was never tested."""
    evidence: list[Evidence]
    """What it rests on: facts of its own, then those of its reasons."""


class NodeDetail(Struct, frozen=True, kw_only=True):
    """All that is known of a node."""

    node: NodeShape
    epoch: int
    seq: int
    boots: tuple[str, ...]
    """Boot ids in the order they were met."""
    claimants: dict[str, float]
    """Other installations that speak under this name → when last."""
    last_boot: Fate | None
    """What its newest boot was: how the run before ended, and what each volume came back as. Null: none was met yet."""
    capabilities: list[Capability]
    spool: SpoolState | None
    sections: list[SectionShape]
    resources: list[ResourceShape]
    """Fresh facts only: this is what the rules judge."""
    last_known: list[ResourceShape]
    """What stale sections said; no evidence of anything any more."""
    events: list[EventCount]
    alerts: list[AlertShape]
    resolved: list[AlertShape]
    verdicts: list[VerdictShape]


class RuleShape(Struct, frozen=True, kw_only=True):
    """A rule in force."""

    alert: str
    id: str
    resource: str
    when: str
    clear_when: str
    """What must hold before a firing alert may clear; empty: that `when` does not."""
    for_seconds: float
    keep_firing_for_seconds: float
    severity: str
    verdict: str
    sticky: bool
    inhibited_by: tuple[str, ...]
    summary: str
    description: str
    runbook: str
    file: str


class Status(Struct, frozen=True, kw_only=True):
    """The collector itself."""

    version: str
    now: float
    started_at: float
    ready: bool
    reasons: list[str]
    health: dict[str, Value]
    rejected: dict[str, int]
    """Reason → messages not taken since the start."""
    alerts: dict[str, dict[str, int]]
    """State → severity → alerts."""
    explained: dict[str, int]
    """Severity → firing alerts that another one explains and keeps quiet; they count in `alerts` as well."""


class Acknowledge(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /api/v1/acks`."""

    key: str
    reason: str


class Announce(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /api/v1/restores`."""

    node: str
    seconds: float
    reason: str


class Announced(Struct, frozen=True, kw_only=True):
    """An announced restore."""

    node: str
    since: float
    until: float
    reason: str


def standing_shape(row: Tracked, collector: Collector) -> AlertShape:
    """A pending or firing alert, as it stands among the others."""
    return alert_shape(row, collector.explained(row.key), over=cause_over(row, collector.alerts))


def alert_shape(row: Tracked, explained: Sequence[Tracked], *, over: bool = False) -> AlertShape:
    """A pending or firing alert, and what it explains. `over`: what explained it is."""
    alert = row.alert
    return AlertShape(
        key=row.key,
        state=alert.state.value,
        alertname=alert.alertname,
        rule_id=alert.rule_id,
        severity=alert.severity,
        node=alert.node,
        resource_kind=alert.kind,
        resource=alert.resource,
        episode=alert.episode,
        pending_since=alert.pending_since,
        fired_at=alert.fired_at,
        last_finding=alert.last_finding.value,
        acknowledged=alert.acknowledged,
        acknowledged_at=alert.acknowledged_at,
        inhibited_by=row.inhibited_by,
        cause_over=over,
        explained_by=row.explained_by,
        explains_total=len(explained),
        explains=[effect.key for effect in explained[:EXPLAINED_MAX]],
        labels=alert.labels,
        annotations=alert.annotations,
    )


def resolved_shape(row: Resolved) -> AlertShape:
    """An alert whose episode ended."""
    alert = row.alert
    return AlertShape(
        key=row.key,
        state="resolved",
        alertname=alert.alertname,
        rule_id=alert.rule_id,
        severity=alert.severity,
        node=alert.node,
        resource_kind=alert.kind,
        resource=alert.resource,
        episode=alert.episode,
        pending_since=alert.pending_since,
        fired_at=alert.fired_at,
        resolved_at=row.at,
        last_finding=alert.last_finding.value,
        acknowledged=alert.acknowledged,
        acknowledged_at=alert.acknowledged_at,
        inhibited_by="",
        cause_over=False,
        explained_by="",
        explains_total=0,
        explains=[],
        labels=alert.labels,
        annotations=alert.annotations,
    )


def node_shape(node: Node) -> NodeShape:
    """A node in a list."""
    record = node.record
    birth = record.birth
    return NodeShape(
        node=node.name,
        state=state_of(node),
        session=record.session,
        session_since=record.session_since,
        install_id=record.install_id,
        boot_id=record.boot_id,
        os=birth.os if birth else None,
        os_name=birth.os_name if birth else None,
        kernel=birth.kernel if birth else None,
        agent_version=birth.agent_version if birth else None,
        interval_seconds=record.interval_seconds,
        first_seen_at=record.first_seen_at,
        last_report_at=node.last_report_at or None,
    )


def section_shape(held: HeldSection) -> SectionShape:
    """What one probe said last."""
    section = held.section
    return SectionShape(
        probe=section.probe,
        status=section.status.value,
        detail=section.detail,
        missing=section.missing,
        stale=held.stale,
        observed_at=held.observed_at,
        period_seconds=section.period_seconds,
        duration_seconds=held.duration_seconds,
    )


def verdict_shape(ruled: Ruled, grounds: Grounds) -> VerdictShape:
    """What is said of one resource."""
    ruling = ruled.ruling
    cause = ruling.cause
    return VerdictShape(
        kind=ruling.kind,
        name=ruling.resource,
        verdict=ruling.verdict,
        since=ruled.since,
        last=ruling.last,
        reasons=ruling.reasons,
        cause=cause.rule_id if cause else "",
        durability_class=ruling.durability_class,
        required_class=ruling.required_class,
        flush=ruling.flush,
        integrity=ruling.integrity,
        tested=grounds.tested(ruling),
        evidence=grounds.evidence(ruling),
    )


def node_detail(
    node: Node,
    alerts: list[AlertShape],
    resolved: list[AlertShape],
    verdicts: Iterable[Ruled],
    grounds: Grounds,
) -> NodeDetail:
    """All that is known of a node."""
    birth = node.record.birth
    return NodeDetail(
        node=node_shape(node),
        epoch=node.position.epoch,
        seq=node.position.seq,
        boots=node.record.boots,
        claimants=dict(node.claimants),
        last_boot=node.record.fate,
        capabilities=birth.capabilities if birth else [],
        spool=node.spool,
        sections=[section_shape(held) for held in node.sections.values()],
        resources=[
            ResourceShape(kind=kind, name=name, observed_at=node.observed.get((kind, name)), facts=facts)
            for (kind, name), facts in node.resources.items()
        ],
        last_known=[
            ResourceShape(kind=kind, name=name, observed_at=held.observed_at, facts=facts)
            for held in node.sections.values()
            if held.stale
            for (kind, name), facts in held.stated.items()
        ],
        events=[count for counts in node.counts.values() for count in counts.values()],
        alerts=alerts,
        resolved=resolved,
        verdicts=[verdict_shape(ruled, grounds) for ruled in verdicts],
    )


def rule_shape(rule: Rule) -> RuleShape:
    """A rule in force."""
    return RuleShape(
        alert=rule.alert,
        id=rule.id,
        resource=rule.resource,
        when=rule.when,
        clear_when=rule.clear_when,
        for_seconds=rule.for_seconds,
        keep_firing_for_seconds=rule.keep_firing_for_seconds,
        severity=rule.severity,
        verdict=rule.verdict,
        sticky=rule.sticky,
        inhibited_by=rule.inhibited_by,
        summary=rule.summary,
        description=rule.description,
        runbook=rule.runbook,
        file=rule.file,
    )
