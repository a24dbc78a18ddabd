"""Records as the core makes them, for tests that only move them about."""

from typing import Any

from msgspec import structs

from holdfast_collector.core.chain import (
    Breach,
    BreachKind,
    ChainRecord,
    Read,
    Survived,
    Suspicion,
    Writer,
)
from holdfast_collector.core.effect import Turned
from holdfast_collector.core.record import (
    EventCount,
    EventRow,
    HeldVerdict,
    NodeRecord,
    Notice,
    Resolved,
    RestoreWindow,
    Seen,
    Tracked,
)
from holdfast_rules import Alert, AlertState, Finding
from holdfast_rules.verdict import Verdict
from holdfast_wire import ChainHead, Position

AT = 1_700_000_000.0


def node_record(node: str = "db-1", **fields: Any) -> NodeRecord:
    defaults: dict[str, Any] = {
        "node": node,
        "install_id": f"install-{node}",
        "boot_id": "boot-1",
        "position": Position(1, 7),
        "boots": ("boot-0", "boot-1"),
        "first_seen_at": AT,
    }
    return NodeRecord(**(defaults | fields))


def alert(resource: str = "/", episode: int = 1, **fields: Any) -> Alert:
    defaults: dict[str, Any] = {
        "rule_id": "R-30",
        "alertname": "VolumeAlmostFull",
        "severity": "page",
        "node": "db-1",
        "kind": "volume",
        "resource": resource,
        "state": AlertState.FIRING,
        "episode": episode,
        "pending_since": AT,
        "judged_at": AT,
        "fired_at": AT,
        "last_finding": Finding.HOLDS,
    }
    made = defaults | fields
    labels = {
        "alertname": made["alertname"],
        "severity": made["severity"],
        "node": made["node"],
        "resource_kind": made["kind"],
        "resource": made["resource"],
        "rule_id": made["rule_id"],
    }
    return Alert(
        **{
            "labels": labels,
            "annotations": {"summary": f"{made['node']}: {made['resource']} is full"},
            **made,
        }
    )


def key(of: Alert) -> str:
    return f"install-{of.node}/{of.rule_id}/{of.kind}:{of.resource}/{of.episode}"


def tracked(of: Alert, **fields: Any) -> Tracked:
    return structs.replace(Tracked(key=key(of), alert=of, notified=True), **fields)


def resolved(of: Alert, at: float = AT + 60, **fields: Any) -> Resolved:
    return structs.replace(Resolved(key=key(of), alert=of, at=at, notified=True), **fields)


def notice(of: Alert, status: str = "firing", receiver: str = "hook", at: float = AT) -> Notice:
    return Notice(
        id=f"{key(of)}:{status}:{receiver}",
        key=key(of),
        receiver=receiver,
        status=status,
        created_at=at,
        alert=of,
        resolved_at=at if status == "resolved" else 0.0,
    )


def seen(seq: int, node: str = "db-1", at: float = AT) -> Seen:
    return Seen(node, f"install-{node}", 1, seq, f"digest-{seq}", at)


def event_row(seq: int, node: str = "db-1", at: float = AT) -> EventRow:
    return EventRow(
        node=node,
        install_id=f"install-{node}",
        epoch=1,
        seq=seq,
        received_at=at,
        at=at - 0.5,
        type="kernel_io_error",
        resource_kind="device",
        resource="sda",
        summary="I/O error, dev sda, sector 1",
        fields={"sector": 1},
    )


def event_count(total: int, node: str = "db-1") -> EventCount:
    return EventCount(
        node=node,
        resource_kind="device",
        resource="sda",
        type="kernel_io_error",
        total=total,
        last_at=AT,
        last="I/O error, dev sda, sector 1",
    )


COUNT_PLACE = ("db-1", "device", "sda", "kernel_io_error")


def chain_record(volume: str = "/srv", node: str = "db-1", **fields: Any) -> ChainRecord:
    """A chain with something in every place."""
    head = ChainHead(7, "ab" * 32)
    defaults: dict[str, Any] = {
        "node": node,
        "chain_id": "c1" * 16,
        "volume": volume,
        "owner": f"install-{node}",
        "began_at": AT,
        "head": head,
        "marks": (ChainHead(6, "cd" * 8), ChainHead(7, "ab" * 8)),
        "writer": Writer(install_id=f"install-{node}", boot_id="boot-1", instance_id="i-1"),
        "suspicion": Suspicion(
            kind=BreachKind.LOST_TAIL,
            at=AT,
            position=Position(1, 7),
            target=head,
            target_written_at=AT,
            survived_seq=5,
            survived_written_at=AT - 120,
            writer=(f"install-{node}", "boot-0"),
            evidence="read direct at boot",
        ),
        "breaches": (Breach(kind=BreachKind.TORN, at=AT, records=2, seconds=60.5, evidence="torn"),),
        "survived": {"guest_crash": Survived(AT, 3)},
        "reads": (
            Read(
                position=Position(1, 7),
                install_id=f"install-{node}",
                boot_id="boot-1",
                at=AT,
                seq=5,
                written_at=AT - 120,
                kind=BreachKind.LOST_TAIL,
            ),
        ),
    }
    return ChainRecord(**(defaults | fields))


def window(node: str = "db-1", reason: str = "drill") -> RestoreWindow:
    return RestoreWindow(node=node, since=AT, until=AT + 7200, reason=reason)


def turn(resource: str = "/srv", node: str = "db-1", at: float = AT, **fields: Any) -> Turned:
    defaults: dict[str, Any] = {
        "node": node,
        "kind": "volume",
        "resource": resource,
        "at": at,
        "before": Verdict.DURABLE,
        "after": Verdict.AT_RISK,
        "reason": "sda fails",
    }
    return Turned(**(defaults | fields))


def held_verdict(resource: str = "/srv", node: str = "db-1", **fields: Any) -> HeldVerdict:
    defaults: dict[str, Any] = {"verdict": Verdict.AT_RISK, "since": AT}
    return HeldVerdict(node=node, kind="volume", resource=resource, **(defaults | fields))


VERDICT_PLACE = ("db-1", "volume", "/srv")
