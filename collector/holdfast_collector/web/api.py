"""The JSON API: questions to answers, without HTTP around them.

Nothing here takes the event loop for long: what grows with the fleet is bounded by a limit, or built a few hundred at a
time with turns for others between.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, TypeVar

import msgspec

from holdfast_collector.context import Context
from holdfast_collector.core.event import Acknowledged, NodeForgotten, RestoreAnnounced
from holdfast_collector.core.record import Resolved, Tracked
from holdfast_collector.web.evidence import Grounds
from holdfast_collector.web.explanation import Explanation, Unexplained, explanation
from holdfast_collector.web.fleet import query, survey
from holdfast_collector.web.problem import Problem
from holdfast_collector.web.shapes import (
    Acknowledge,
    AlertShape,
    Announce,
    Announced,
    Status,
    node_detail,
    node_shape,
    resolved_shape,
    rule_shape,
    standing_shape,
)
from holdfast_collector.web.witness_shape import witness_shapes
from holdfast_rules import AlertState

LIMIT = 1000
LIMIT_MAX = 10_000
_PER_TURN = 200
COMMIT_SECONDS_MAX = 10.0
"""How long a write waits for the store before it says that it is not committed yet."""
REASON_LENGTH_MAX = 1000
RESTORE_SECONDS_MAX = 7 * 86_400.0
"""A restore that is announced for longer is forgotten by people before it ends, and excuses what it should not."""

T = TypeVar("T")
Parameters = Mapping[str, str]


async def nodes(context: Context, asked: Parameters) -> Any:
    """Nodes by name: `q`, `state`, `limit`, `after`."""
    found = await survey(
        context.collector.nodes, (), query(asked.get("q", ""), asked.get("state", "")), by_trouble=False
    )
    after = asked.get("after", "")
    names = [name for name in found.names if name > after] if after else found.names
    limit = _limit(asked)
    known = [node for name in names[:limit] if (node := context.collector.nodes.get(name))]
    return {
        "nodes": await _each(known, node_shape),
        "total": found.total,
        "by_state": found.by_state,
        "next": names[limit - 1] if len(names) > limit else None,
    }


def node(context: Context, name: str) -> Any:
    """All that is known of one node. Raises Problem."""
    found = context.collector.nodes.get(name)
    if found is None:
        raise Problem(404, f"no node {name!r} is known")
    active, resolved = alerts_of(context, name)
    return node_detail(
        found,
        [standing_shape(row, context.collector) for row in active],
        [resolved_shape(row) for row in resolved],
        context.collector.rulings.of(name).values(),
        Grounds(context.collector, found, context.now()),
    )


def alerts_of(context: Context, name: str) -> tuple[list[Tracked], list[Resolved]]:
    """A node's alerts, and those that ended, newest first."""
    active = [row for row in context.collector.alerts.values() if row.alert.node == name]
    resolved = [row for row in context.collector.resolved.values() if row.alert.node == name]
    resolved.sort(key=lambda row: -row.at)
    return active, resolved


async def alerts(context: Context, asked: Parameters) -> Any:
    """Alerts: `state` (pending, firing, resolved), `severity`, `node`, `limit`. The newest resolved first."""
    state, limit = asked.get("state", ""), _limit(asked)
    if state not in {"", "pending", "firing", "resolved"}:
        raise Problem(400, f"no state {state!r}; pending, firing or resolved")
    active = [
        row
        for row in context.collector.alerts.values()
        if state in {"", row.alert.state} and _asked(row, asked)
    ]
    ended = [
        row for row in context.collector.resolved.values() if state in {"", "resolved"} and _asked(row, asked)
    ]
    ended.sort(key=lambda row: -row.at)
    shown: list[AlertShape] = await _each(active[:limit], lambda row: standing_shape(row, context.collector))
    shown += await _each(ended[: limit - len(shown)], resolved_shape)
    return {"alerts": shown, "total": len(active) + len(ended)}


def _asked(row: Tracked | Resolved, asked: Parameters) -> bool:
    return asked.get("severity", row.alert.severity) == row.alert.severity and (
        asked.get("node", row.alert.node) == row.alert.node
    )


def witness(context: Context, asked: Parameters) -> Any:
    """A node's witnessed volumes: `node`. Raises Problem."""
    found = context.collector.nodes.get(asked.get("node", ""))
    if found is None:
        raise Problem(404, f"no node {asked.get('node', '')[:100]!r} is known; ask with ?node=NAME")
    window = found.window
    return {
        "node": found.name,
        "restore_announced_until": window.until
        if window is not None and window.until >= context.now()
        else None,
        "volumes": witness_shapes(found, context.now()),
    }


def rules(context: Context, asked: Parameters) -> Any:
    """The rules in force; with `node`, those of that node, which packs may have changed for it."""
    found = context.collector.rules.of_node(asked.get("node", ""))
    return {"rules": [rule_shape(rule) for rule in found.rules]}


def explain(context: Context, asked: Parameters) -> Explanation:
    """Why an alert fires on a resource, or does not: `alert`, `node`, `resource`. Raises Problem."""
    try:
        return explanation(
            context.collector,
            asked.get("alert", ""),
            asked.get("node", ""),
            asked.get("resource", ""),
            context.now(),
        )
    except Unexplained as error:
        raise Problem(error.status, str(error)) from error


def rejections(context: Context) -> Any:
    """Samples of messages that were not taken, the newest first, and how many there were of each reason."""
    return {
        "rejected": context.metrics.rejected_by_reason(),
        "samples": list(reversed(context.rejections)),
    }


def status(context: Context) -> Status:
    """The collector itself."""
    now = context.now()
    tally: dict[str, dict[str, int]] = {"firing": {}, "pending": {}}
    explained: dict[str, int] = {}
    for row in context.collector.alerts.values():
        by_severity = tally.setdefault(row.alert.state.value, {})
        by_severity[row.alert.severity] = by_severity.get(row.alert.severity, 0) + 1
        if row.inhibited_by and row.alert.state is AlertState.FIRING:
            explained[row.alert.severity] = explained.get(row.alert.severity, 0) + 1
    reasons = context.readiness()
    return Status(
        version=version("holdfast"),
        now=now,
        started_at=context.started_at,
        ready=not reasons,
        reasons=reasons,
        health=context.health(),
        rejected=context.metrics.rejected_by_reason(),
        alerts=tally,
        explained=explained,
    )


async def acknowledge(context: Context, body: bytes) -> Any:
    """Take note of an alert for an operator; what it became. Raises Problem."""
    try:
        wanted = msgspec.json.decode(body, type=Acknowledge)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, f'send {{"key": …, "reason": …}}: {error}') from error
    reason = _reason(wanted.reason, "who took over, and why")
    if wanted.key not in context.collector.alerts:
        raise Problem(404, f"no alert {wanted.key[:200]!r} is pending or firing")
    await _committed(context, Acknowledged(context.now(), wanted.key, reason))
    row = context.collector.alerts.get(wanted.key)
    if row is not None:
        return standing_shape(row, context.collector)
    ended = context.collector.resolved.get(wanted.key)
    return resolved_shape(ended) if ended is not None else {"key": wanted.key, "state": "resolved"}


async def forget(context: Context, name: str) -> Any:
    """Take a node out of service. Should its agent still run, the node comes back. Raises Problem."""
    if name not in context.collector.nodes:
        raise Problem(404, f"no node {name!r} is known")
    await _committed(context, NodeForgotten(context.now(), name))
    return {"forgotten": name}


async def announce(context: Context, body: bytes) -> Any:
    """Take note that a node is about to be restored; until when that excuses its losses. Raises Problem."""
    try:
        wanted = msgspec.json.decode(body, type=Announce)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, f'send {{"node": …, "seconds": …, "reason": …}}: {error}') from error
    reason = _reason(wanted.reason, "what is restored, and why")
    if not 0 < wanted.seconds <= RESTORE_SECONDS_MAX:
        raise Problem(400, f"a restore is announced for at most {RESTORE_SECONDS_MAX:.0f} seconds")
    if wanted.node not in context.collector.nodes:
        raise Problem(404, f"no node {wanted.node[:100]!r} is known")
    now = context.now()
    await _committed(context, RestoreAnnounced(now, wanted.node, now + wanted.seconds, reason))
    node = context.collector.nodes.get(wanted.node)
    window = node.window if node is not None else None
    if window is None:
        raise Problem(404, f"node {wanted.node[:100]!r} was taken out of service meanwhile")
    return Announced(node=window.node, since=window.since, until=window.until, reason=window.reason)


def _reason(text: str, what: str) -> str:
    reason = text.strip()
    if not 0 < len(reason) <= REASON_LENGTH_MAX:
        raise Problem(400, f"a reason has 1 to {REASON_LENGTH_MAX} characters: {what}")
    return reason


async def _committed(context: Context, event: Acknowledged | NodeForgotten | RestoreAnnounced) -> None:
    try:
        # Shielded: the event is in the core's hands, and whoever tires of waiting does not take it back.
        await asyncio.wait_for(
            asyncio.shield(asyncio.ensure_future(context.submit(event))), COMMIT_SECONDS_MAX
        )
    except TimeoutError:
        raise Problem(503, "taken, and not on the disk yet: the store does not commit; see /readyz") from None


def _limit(asked: Parameters) -> int:
    try:
        limit = int(asked.get("limit", LIMIT))
    except ValueError:
        limit = 0
    if not 0 < limit <= LIMIT_MAX:
        raise Problem(400, f"limit is a whole number from 1 to {LIMIT_MAX}")
    return limit


async def _each(rows: Sequence[T], shape: Callable[[T], Any]) -> list[Any]:
    shaped: list[Any] = []
    for start in range(0, len(rows), _PER_TURN):
        shaped += map(shape, rows[start : start + _PER_TURN])
        await asyncio.sleep(0)
    return shaped


def encode(answer: Any) -> bytes:
    """The answer as JSON."""
    return msgspec.json.encode(answer)
