"""The verdicts as a state set: `holdfast_verdict{node,resource_kind,resource,verdict}`, 1 for the one that holds.

All five are on the page for every resource that is judged, so that `holdfast_verdict == 1` finds the one and a verdict
that changes is not a series that ends and another that begins.
"""

from collections.abc import Mapping

from holdfast_collector.core.node import ResourceKey
from holdfast_collector.core.rulings import Ruled
from holdfast_collector.text_format import Family, FamilyType, labels
from holdfast_rules.verdict import Verdict

_SHOWN = ("node", "service", "state_path", "volume")
"""Devices are judged for what rests on them; a series each would say nothing more."""


class VerdictSeries:
    """The series of all verdicts."""

    def __init__(self) -> None:
        self._verdict = Family(
            "holdfast_verdict",
            FamilyType.GAUGE,
            "1 for the verdict that holds for the resource: durable, unknown, at_risk, not_durable or lost.",
        )
        self.families = [self._verdict]
        self._written: dict[str, Mapping[ResourceKey, Ruled]] = {}

    def write(self, node: str, rulings: Mapping[ResourceKey, Ruled]) -> None:
        """Rewrite a node's lines, if its verdicts are not the ones they were made of."""
        if self._written.get(node) is rulings:
            return
        self._written[node] = rulings
        opening = self._verdict.opening
        lines = []
        for (kind, name), ruled in rulings.items():
            if kind in _SHOWN:
                key = labels(("node", node), ("resource_kind", kind), ("resource", name))
                lines += [
                    f'{opening}{key},verdict="{verdict.value}"}} {int(ruled.ruling.verdict is verdict)}\n'
                    for verdict in Verdict
                ]
        self._verdict.put(node, "".join(lines))

    def forget(self, node: str) -> None:
        """Remove all lines of a node."""
        self._verdict.lines.pop(node, None)
        self._written.pop(node, None)
