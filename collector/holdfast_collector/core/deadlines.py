"""When a node falls silent and when a section goes stale: entries in a heap that renew themselves."""

import heapq
from collections.abc import Callable, Mapping

from holdfast_collector.core.node import Node, ResourceKey


class Deadlines:
    """Of all nodes. An entry is looked at when it is due, and put back when what it waits for was renewed."""

    def __init__(
        self, nodes: Mapping[str, Node], listening_since: Callable[[], float | None], started_at: float
    ):
        self._nodes = nodes
        self._listening_since = listening_since
        self._started_at = started_at
        self._due: list[tuple[float, str, str]] = []
        """(when, node, probe): a section goes stale, or with an empty probe the node falls silent."""
        self._armed: dict[str, set[str]] = {}
        """Node → probes that have an entry; the empty one stands for the node itself."""

    def arm(self, node: Node) -> None:
        """Have time look after the node's liveness and each section's freshness."""
        armed = self._armed.setdefault(node.name, set())
        if "" not in armed or not node.sections.keys() <= armed:
            for probe in {"", *node.sections} - armed:
                armed.add(probe)
                heapq.heappush(self._due, (self._deadline(node, probe), node.name, probe))

    def forget(self, name: str) -> None:
        """The node is gone; its entries find nobody."""
        self._armed.pop(name, None)

    def overdue(self, at: float) -> dict[str, set[ResourceKey]]:
        """Nodes that fell silent and sections that went stale since the last call, as resources to add up anew."""
        touched: dict[str, set[ResourceKey]] = {}
        while self._due and self._due[0][0] <= at:
            _, name, probe = heapq.heappop(self._due)
            node = self._nodes.get(name)
            if node is None or (probe and probe not in node.sections):
                self._armed.get(name, set()).discard(probe)
                continue
            due = self._deadline(node, probe)
            if not probe and self._listening_since() is None:
                due = at + node.grace_seconds
            if due > at:
                heapq.heappush(self._due, (due, name, probe))
                continue
            self._armed[name].discard(probe)
            if probe:
                held = node.sections[probe]
                held.stale = True
                touched.setdefault(name, set()).update(held.stated.keys() | {("probe", probe)})
            else:
                node.reporting = False
                touched.setdefault(name, set()).add(("node", name))
        return touched

    def _deadline(self, node: Node, probe: str) -> float:
        if probe:
            return node.sections[probe].stale_at
        since = self._listening_since() or 0.0
        return max(node.last_report_at, self._started_at, since) + node.grace_seconds
