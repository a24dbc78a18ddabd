"""Which facts the fleet sends, and which it cannot: what rules have to work with."""

import asyncio
from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field

from holdfast_collector.config import labels
from holdfast_collector.context import Context
from holdfast_collector.core.node import HeldSection, Node
from holdfast_rules.variants import labels_of
from holdfast_wire import SectionStatus

_PER_TURN = 10
"""Nodes between two turns for others: some milliseconds."""
REASONS_MAX = 500
"""Different reasons listed; machines that are set up alike have the same few."""


class FactShape(Struct, kw_only=True):
    """Who sends a fact."""

    nodes: int = 0
    resources: int = 0
    last_seen_at: float = 0.0


class KindShape(Struct, kw_only=True):
    """What is known of a kind of resource."""

    nodes: int = 0
    """Nodes that have such a resource."""
    resources: int = 0
    facts: dict[str, FactShape] = field(default_factory=dict)


class ReasonShape(Struct, kw_only=True):
    """Why something is not known."""

    probe: str
    status: str
    """The probe's: `ok` when it works but for this."""
    name: str
    """The fact or subject; empty: all that the probe says."""
    reason: str
    nodes: int = 0
    example: str = ""
    """One of them."""


class FactsShape(Struct, frozen=True, kw_only=True):
    """The facts of all nodes that report."""

    nodes: int
    kinds: dict[str, KindShape]
    unknown: list[ReasonShape]
    names: list[str]
    """Of all nodes, silent ones included."""
    labels: dict[str, dict[str, str]]
    """Node → the labels that the configuration gives it; nodes without any are left out."""


async def facts(context: Context) -> Any:
    """Add up what all nodes send that report now."""
    kinds: dict[str, KindShape] = {}
    reasons: dict[tuple[str, str, str, str], ReasonShape] = {}
    live = 0
    for number, node in enumerate(list(context.collector.nodes.values())):
        if number % _PER_TURN == 0:
            await asyncio.sleep(0)
        if node.reporting is not True:
            continue
        live += 1
        _count(node, kinds)
        _explain(node, reasons)
    names = sorted(context.collector.nodes)
    rows = labels(context.config)
    return FactsShape(
        nodes=live,
        kinds=dict(sorted(kinds.items())),
        unknown=sorted(reasons.values(), key=lambda row: (row.probe, row.name, -row.nodes))[:REASONS_MAX],
        names=names,
        labels={name: found for name in names if (found := labels_of(name, rows))},
    )


def _count(node: Node, kinds: dict[str, KindShape]) -> None:
    seen: dict[str, set[str]] = {}
    for (kind, name), stated in node.resources.items():
        shape = kinds.setdefault(kind, KindShape())
        shape.resources += 1
        observed_at = node.observed.get((kind, name), node.last_report_at)
        mine = seen.setdefault(kind, set())
        for fact in stated:
            row = shape.facts.setdefault(fact, FactShape())
            row.resources += 1
            row.last_seen_at = max(row.last_seen_at, observed_at)
            if fact not in mine:
                mine.add(fact)
                row.nodes += 1
    for kind in seen:
        kinds[kind].nodes += 1


def _explain(node: Node, reasons: dict[tuple[str, str, str, str], ReasonShape]) -> None:
    for held in node.sections.values():
        for name, reason in _reasons(held):
            status = held.section.status.value
            key = (held.section.probe, status, name, reason)
            row = reasons.setdefault(
                key, ReasonShape(probe=key[0], status=status, name=name, reason=reason, example=node.name)
            )
            row.nodes += 1


def _reasons(held: HeldSection) -> Iterable[tuple[str, str]]:
    if held.section.status not in {SectionStatus.OK, SectionStatus.NO_DATA}:
        yield "", held.section.detail
    yield from held.section.missing.items()
