"""Alerts as pages show them."""

import heapq
from collections.abc import Container, Iterable
from urllib.parse import urlsplit

from msgspec import Struct, structs

from holdfast_collector.core.quiet import cause_over
from holdfast_collector.core.record import Resolved, Tracked
from holdfast_collector.web.words import NEVER, Moment, moment, plain
from holdfast_rules import Alert, AlertState, Finding

SEVERITY_RANK = {"page": 0, "ticket": 1, "info": 2}
COLLECTOR = "the collector"
"""How pages name the node of the collector's own alerts."""


class AlertView(Struct, frozen=True, kw_only=True):
    """An alert on a page."""

    key: str
    anchor: str
    name: str
    rule_id: str
    severity: str
    node: str
    """Empty for the collector's own."""
    place: str
    """What it is about, if not the node itself."""
    summary: str
    description: str
    evidence: str
    runbook_url: str
    since: Moment
    over: Moment
    """When it resolved; never, while it stands."""
    notes: tuple[str, ...]
    """What else somebody about to act must know."""
    acknowledged: str
    explained: bool = False
    """Another alert is the cause of this one: that is where to begin."""


def gravest(rows: Iterable[Tracked], limit: int) -> list[Tracked]:
    """The gravest alerts: by severity, those that explain others before those explained, then the newest."""

    def gravity(row: Tracked) -> tuple[int, bool, float]:
        severity = SEVERITY_RANK.get(row.alert.severity, len(SEVERITY_RANK))
        return severity, bool(row.inhibited_by), -(row.alert.fired_at or row.alert.pending_since)

    return heapq.nsmallest(limit, rows, key=gravity)


def active(rows: Iterable[Tracked], standing: Container[str], now: float) -> list[AlertView]:
    """Pending or firing alerts as pages show them, in the given order. `standing`: the keys of all there are."""
    return [
        structs.replace(
            _view(row.key, row.alert, _notes(row, standing, now), now), explained=bool(row.inhibited_by)
        )
        for row in rows
    ]


def resolved(rows: Iterable[Resolved], now: float) -> list[AlertView]:
    """Alerts that ended, the newest end first."""
    ordered = sorted(rows, key=lambda row: -row.at)
    return [
        _view(row.key, row.alert, () if row.notified else ("nobody was told of it",), now, over=row.at)
        for row in ordered
    ]


def _view(key: str, alert: Alert, notes: tuple[str, ...], now: float, over: float | None = None) -> AlertView:
    texts = alert.annotations
    runbook = texts.get("runbook_url", "")
    return AlertView(
        key=plain(key),
        anchor=f"alert-{alert.episode}",
        name=alert.alertname,
        rule_id=alert.rule_id,
        severity=alert.severity,
        node=alert.node,
        place="" if alert.kind in {"node", "collector"} else plain(alert.resource),
        summary=plain(texts.get("summary", "")) or alert.alertname,
        description=plain(texts.get("description", "")),
        evidence=plain(texts.get("evidence", "")),
        runbook_url=runbook if urlsplit(runbook).scheme in {"http", "https"} else "",
        since=moment(alert.fired_at or alert.pending_since, now),
        over=moment(over, now) if over else NEVER,
        notes=notes,
        acknowledged=plain(alert.acknowledged),
    )


def _notes(row: Tracked, standing: Container[str], now: float) -> tuple[str, ...]:
    alert, notes = row.alert, []
    if cause_over(row, standing):
        notes.append(
            f"explained by {row.inhibited_by} until that ended; nobody is told before it is seen again"
        )
    elif row.inhibited_by:
        notes.append(f"explained by {row.inhibited_by}, so nobody was told")
    elif alert.state is AlertState.FIRING and not row.notified:
        notes.append("nobody was told: no receiver takes this severity")
    if "explains" in alert.annotations:
        notes.append(f"explains {plain(alert.annotations['explains'])}")
    if alert.last_finding is Finding.UNKNOWN:
        notes.append("cannot be seen at present; it stays until somebody can see that it is over")
    elif alert.last_finding is Finding.BETWEEN:
        notes.append(
            "no longer so, and not over: its rule wants more before it ends, or what it explains still is"
        )
    elif alert.state is AlertState.FIRING and alert.cleared_since is not None:
        notes.append(f"no longer so since {moment(alert.cleared_since, now).ago}; not over yet")
    return tuple(notes)
