"""What happened to a node or a group, in one list: verdicts that turned, alerts that ended, promises, boots."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from holdfast_collector.context import Context
from holdfast_collector.core.chain import Breach, ChainRecord
from holdfast_collector.core.effect import Turned
from holdfast_collector.core.groups import NO_NODE
from holdfast_collector.core.record import EventRow, Resolved
from holdfast_collector.errors import StoreError
from holdfast_collector.store import Happened
from holdfast_collector.web.problem import Problem
from holdfast_rules.verdict import Verdict

LIMIT = 100
LIMIT_MAX = 1000
STORE_SECONDS_MAX = 10.0
"""How long an answer waits for a disk."""
PAGE_SECONDS_MAX = 1.0
"""How long a page does: it has more to say, and somebody waits."""


class HistoryShape(Struct, frozen=True, kw_only=True):
    """One thing that happened."""

    at: float
    what: Literal["verdict", "alert", "survived", "broken", "boot"]
    resource_kind: str
    resource: str
    summary: str
    before: Verdict | UnsetType | None = UNSET
    """Of a verdict. Null: there was none."""
    after: Verdict | UnsetType | None = UNSET
    alertname: str | UnsetType = UNSET
    severity: str | UnsetType = UNSET
    fired_at: float | UnsetType | None = UNSET
    """Of an alert that ended at `at`."""
    event: str | UnsetType = UNSET
    """What a volume came through, how it broke its promise, or what a boot was."""
    count: int | UnsetType = UNSET
    """How often it came through that in all."""


async def history(context: Context, name: str, asked: Mapping[str, str]) -> Any:
    """A node's past, newest first: `kind`, `resource`, `limit`. Raises Problem."""
    limit = _limit(asked)
    rows = await what_happened(
        context, name, asked.get("kind", ""), asked.get("resource", ""), limit=limit + 1
    )
    return {"node": name, "history": rows[:limit], "more": len(rows) > limit}


async def group_history(context: Context, name: str, asked: Mapping[str, str]) -> Any:
    """A group's past, newest first: `limit`. Also of one that is declared no more, as far as it is kept. Raises Problem."""
    limit = _limit(asked)
    happened = await _remembered(context, NO_NODE, "group", name, limit + 1, STORE_SECONDS_MAX)
    if not happened.turns and name not in context.collector.rulings.groups.declared:
        raise Problem(404, f"no group {name[:100]!r} is known")
    rows = sorted(_merged(happened, ()), key=lambda row: -row.at)
    return {"group": name, "history": rows[:limit], "more": len(rows) > limit}


async def what_happened(
    context: Context,
    name: str,
    kind: str = "",
    resource: str = "",
    *,
    limit: int,
    patience_seconds: float = STORE_SECONDS_MAX,
) -> list[HistoryShape]:
    """The newest `limit` things that happened. Raises Problem."""
    node = context.collector.nodes.get(name)
    if node is None:
        raise Problem(404, f"no node {name[:100]!r} is known")
    happened = await _remembered(context, name, kind, resource, limit, patience_seconds)
    rows = _merged(happened, node.chains.values())
    wanted = [
        row for row in rows if kind in {"", row.resource_kind} and resource in {"", row.resource}
    ]  # the store has looked already; chains are remembered here
    wanted.sort(key=lambda row: -row.at)
    return wanted[:limit]


async def _remembered(
    context: Context, node: str, kind: str, resource: str, limit: int, patience_seconds: float
) -> Happened:
    try:
        return await asyncio.wait_for(context.happened(node, kind, resource, limit), patience_seconds)
    except TimeoutError:
        raise Problem(503, "the store does not answer; see /readyz") from None
    except StoreError as error:
        raise Problem(503, f"the store cannot be read: {error.reason}") from error


def _merged(happened: Happened, chains: Iterable[ChainRecord]) -> list[HistoryShape]:
    return [
        *map(_turn, happened.turns),
        *map(_alert, happened.resolved),
        *map(_boot, happened.fates),
        *(row for chain in chains for row in _chain(chain)),
    ]


def _turn(turn: Turned) -> HistoryShape:
    before, after = (verdict.replace("_", " ") if verdict else "" for verdict in (turn.before, turn.after))
    said = f"{before} → {after}" if before and after else after or f"{before}, and judged no more"
    return HistoryShape(
        at=turn.at,
        what="verdict",
        resource_kind=turn.kind,
        resource=turn.resource,
        summary=f"{said}: {turn.reason}" if turn.reason else said,
        before=turn.before,
        after=turn.after,
    )


def _alert(row: Resolved) -> HistoryShape:
    alert = row.alert
    return HistoryShape(
        at=row.at,
        what="alert",
        resource_kind=alert.kind,
        resource=alert.resource,
        summary=f"{alert.alertname} ended: {alert.annotations.get('summary', '')}",
        alertname=alert.alertname,
        severity=alert.severity,
        fired_at=alert.fired_at,
    )


def _boot(row: EventRow) -> HistoryShape:
    return HistoryShape(
        at=row.received_at,
        what="boot",
        resource_kind=row.resource_kind,
        resource=row.resource,
        summary=row.summary,
        event=str(row.fields.get("fate", "unknown")),
    )


def _chain(chain: ChainRecord) -> Iterator[HistoryShape]:
    for event, credit in chain.survived.items():
        words = event.replace("_", " ")
        yield HistoryShape(
            at=credit.at,
            what="survived",
            resource_kind="volume",
            resource=chain.volume,
            summary=f"came through: {words} ({credit.count} in all)",
            event=event,
            count=credit.count,
        )
    for breach in chain.breaches:
        yield _breach(chain, breach)


def _breach(chain: ChainRecord, breach: Breach) -> HistoryShape:
    words = breach.kind.value.replace("_", " ")
    return HistoryShape(
        at=breach.at,
        what="broken",
        resource_kind="volume",
        resource=chain.volume,
        summary=f"{words}: {breach.evidence}" if breach.evidence else words,
        event=breach.kind.value,
    )


def _limit(asked: Mapping[str, str]) -> int:
    text = asked.get("limit", str(LIMIT))
    if not (text.isascii() and text.isdecimal() and len(text) < 7 and 0 < int(text) <= LIMIT_MAX):
        raise Problem(400, f"limit is a whole number from 1 to {LIMIT_MAX}")
    return int(text)
