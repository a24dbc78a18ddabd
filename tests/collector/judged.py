"""Alerts as they stand in the books, for tests of what is said of them."""

from typing import Any

from msgspec import structs

from holdfast_collector.core.node import Node
from holdfast_collector.core.record import NodeRecord, Tracked
from holdfast_rules import Alert, AlertState, Finding, Rule, load
from holdfast_wire.message import Position

BEGAN = 1000.0


def rule(when: str = "dead", **fields: Any) -> Rule:
    """A page on volumes, unless told otherwise; None leaves a line out."""
    said: dict[str, Any] = {
        "resource": "volume",
        "severity": "page",
        "verdict": "at_risk",
        "summary": "x",
        **fields,
    }
    lines = "".join(
        f"    {name}: {str(value).lower() if isinstance(value, bool) else value}\n"
        for name, value in said.items()
        if value is not None
    )
    text = f"rules:\n  - alert: VolumeBad\n    id: T-1\n    when: '{when}'\n{lines}"
    return load({"own.yaml": text}).by_name["VolumeBad"]


def alert(**fields: Any) -> Alert:
    """One that fires since `BEGAN` and holds."""
    fires = Alert(
        rule_id="T-1",
        alertname="VolumeBad",
        severity="page",
        node="n1",
        kind="volume",
        resource="/srv",
        state=AlertState.FIRING,
        episode=1,
        pending_since=BEGAN,
        judged_at=BEGAN,
        last_finding=Finding.HOLDS,
        fired_at=BEGAN,
    )
    return structs.replace(fires, **fields)


def tracked(
    *, notified: bool = False, inhibited_by: str = "", explained_by: str = "", **fields: Any
) -> Tracked:
    found = alert(**fields)
    return Tracked(
        key=f"{found.alertname}/{found.resource}",
        alert=found,
        notified=notified,
        inhibited_by=inhibited_by,
        explained_by=explained_by,
    )


def known_node() -> Node:
    """One that has said nothing yet."""
    return Node(NodeRecord(node="n1", install_id="i", boot_id="b", position=Position(1, 1)), BEGAN)
