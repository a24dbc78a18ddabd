"""What the collector knows of itself and of the fleet as a whole: the facts of its one resource."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from holdfast_collector.core.node import Node
from holdfast_collector.core.record import Notice
from holdfast_wire.message import Value

TOGETHER_SECONDS = 60.0
"""Nodes last heard of within this long of each other fell silent together: six reports at the usual pace."""
NAMED_MAX = 10


class Silence(NamedTuple):
    """The largest set of nodes that fell silent together, and are silent still."""

    nodes: tuple[str, ...]

    @property
    def named(self) -> str:
        """The first of them."""
        more = f" and {len(self.nodes) - NAMED_MAX} more" if len(self.nodes) > NAMED_MAX else ""
        return ", ".join(self.nodes[:NAMED_MAX]) + more


def silent_together(nodes: Collection[Node]) -> Silence:
    """Who fell silent within one minute. Who said goodbye is not silent, nor who was not watched long enough yet."""
    silent = sorted(
        (node.last_report_at, node.name)
        for node in nodes
        if node.reporting is False and node.record.session != "stopped"
    )
    first = best = size = 0
    for last, (heard_at, _) in enumerate(silent):
        while heard_at - silent[first][0] > TOGETHER_SECONDS:
            first += 1
        if last - first + 1 >= size:  # of two as large the newer one
            best, size = first, last - first + 1
    return Silence(tuple(sorted(name for _, name in silent[best : best + size])))


def health(
    nodes: Mapping[str, Node],
    outbox: Mapping[str, Notice],
    at: float,
    *,
    broker_connected: bool,
    warm: bool,
    behind_agents: bool,
) -> dict[str, Value]:
    """The facts of the collector, by the names of `holdfast_wire.fact`."""
    oldest = min((notice.created_at for notice in outbox.values()), default=at)
    silence = silent_together(nodes.values())
    return {
        "broker_connected": broker_connected,
        "warm": warm,
        "nodes": len(nodes),
        "nodes_reporting": sum(node.reporting is True for node in nodes.values()),
        "nodes_silent_together": len(silence.nodes),
        "nodes_silent_together_ratio": len(silence.nodes) / len(nodes) if nodes else 0.0,
        "silent_together": silence.named,
        "outbox_notices": len(outbox),
        "outbox_age_seconds": max(0.0, at - oldest),
        "behind_agents": behind_agents,
    }
