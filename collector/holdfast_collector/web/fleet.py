"""The fleet at a glance: how each node stands, and which nodes to show first."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum

from msgspec import Struct

from holdfast_collector.core.node import Node
from holdfast_collector.core.record import Tracked
from holdfast_rules import AlertState

_NODES_PER_TURN = 500
"""Others get their turn every millisecond or so, however large the fleet is."""


class NodeState(StrEnum):
    """How a node stands, in one word."""

    REPORTING = "reporting"
    SILENT = "silent"
    """Its session stands, and no report came for a grace period."""
    LOST = "lost"
    """The broker lost it: crash, power or network."""
    STOPPED = "stopped"
    """Its agent said goodbye."""
    WAITING = "waiting"
    """Known from before; the collector has not yet watched for long enough to say."""


_TROUBLE = {
    NodeState.LOST: 2,
    NodeState.SILENT: 2,
    NodeState.STOPPED: 4,
    NodeState.WAITING: 5,
    NodeState.REPORTING: 6,
}
_ALERT_TROUBLE = {"page": 0, "ticket": 1}
"""By severity, what to show first; `info` does not move a node up."""


class Query(Struct, frozen=True):
    """Which nodes are wanted."""

    words: tuple[str, ...] = ()
    """All of them occur in the node's name."""
    state: NodeState | None = None


class Survey(Struct, frozen=True):
    """The nodes that were wanted, and how all of them stand."""

    names: list[str]
    by_state: dict[NodeState, int]
    total: int


def state_of(node: Node) -> NodeState:
    """How a node stands."""
    if node.reporting is None:
        return NodeState.WAITING
    if node.reporting:
        return NodeState.REPORTING
    match node.record.session:
        case "lost":
            return NodeState.LOST
        case "stopped":
            return NodeState.STOPPED
        case _:
            return NodeState.SILENT


_CALM = (9, 0)


def _trouble(alerts: Iterable[Tracked]) -> dict[str, tuple[int, int]]:
    """Node → rank of its gravest firing alert, and how many of those it has, negative: more comes first."""
    worst: dict[str, tuple[int, int]] = {}
    for tracked in alerts:
        rank = _ALERT_TROUBLE.get(tracked.alert.severity)
        if rank is None or tracked.alert.state is not AlertState.FIRING:
            continue
        held, count = worst.get(tracked.alert.node, _CALM)
        if rank <= held:
            worst[tracked.alert.node] = (rank, count - 1 if rank == held else -1)
    return worst


def query(text: str, state: str) -> Query:
    """What a page's address asks for. A state that does not exist is none."""
    wanted = NodeState(state) if state in list(NodeState) else None
    return Query(tuple(text.lower().split()[:8]), wanted)


async def survey(
    nodes: Mapping[str, Node], alerts: Iterable[Tracked], wanted: Query, *, by_trouble: bool
) -> Survey:
    """Find the wanted nodes: those in trouble first, or by name. Others get their turn meanwhile."""
    trouble = _trouble(alerts) if by_trouble else {}
    found: list[tuple[int, int, str]] = []
    by_state: Counter[NodeState] = Counter()
    for index, (name, node) in enumerate(list(nodes.items())):
        state = state_of(node)
        by_state[state] += 1
        if (wanted.state is None or state is wanted.state) and all(word in name for word in wanted.words):
            rank = min(trouble.get(name, _CALM), (_TROUBLE[state], 0)) if by_trouble else _CALM
            found.append((*rank, name))
        if index % _NODES_PER_TURN == _NODES_PER_TURN - 1:
            await asyncio.sleep(0)
    if len(found) > _NODES_PER_TURN:
        found = await asyncio.to_thread(sorted, found)
    else:
        found.sort()
    return Survey([name for _, _, name in found], dict(by_state), len(nodes))
