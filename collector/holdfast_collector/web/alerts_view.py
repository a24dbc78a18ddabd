"""The page of all alerts: what it says, before it is HTML."""

from collections.abc import Mapping

from msgspec import Struct

from holdfast_collector.context import Context
from holdfast_collector.core.record import Tracked
from holdfast_collector.web import alert_view
from holdfast_collector.web.alert_view import AlertView
from holdfast_collector.web.words import Moment, moment
from holdfast_rules import AlertState

SHOWN = 200
"""Of each group. A person reads no further; machines have the API."""


class Group(Struct, frozen=True):
    """Alerts in one state."""

    rows: list[AlertView]
    total: int


class AlertsView(Struct, frozen=True):
    """The whole page."""

    now: Moment
    reasons: list[str]
    firing: Group
    pending: Group
    resolved: Group


def alerts_view(context: Context) -> AlertsView:
    """Everything the page of all alerts says."""
    now = context.now()
    alerts = context.collector.alerts
    ended = sorted(context.collector.resolved.values(), key=lambda row: -row.at)
    return AlertsView(
        moment(now, now),
        context.readiness(),
        _group(alerts, AlertState.FIRING, now),
        _group(alerts, AlertState.PENDING, now),
        Group(alert_view.resolved(ended[:SHOWN], now), len(ended)),
    )


def _group(alerts: Mapping[str, Tracked], state: AlertState, now: float) -> Group:
    rows = [row for row in alerts.values() if row.alert.state is state]
    return Group(alert_view.active(alert_view.gravest(rows, SHOWN), alerts, now), len(rows))
