"""The verdicts as a state set: `holdfast_verdict{node,resource_kind,resource,verdict}`, 1 for the one that holds.

All five are on the page for every resource that is judged, so that `holdfast_verdict == 1` finds the one and a verdict
that changes is not a series that ends and another that begins.
"""

from collections.abc import Mapping

from holdfast_collector.core.node import ResourceKey
from holdfast_collector.core.ruled import Ruled
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
        self._groups: Mapping[str, Ruled] | None = None
        self._written: dict[str, Mapping[ResourceKey, Ruled]] = {}

    def write_groups(self, rulings: Mapping[str, Ruled]) -> None:
        """Rewrite the groups' lines, if their verdicts are not the ones they were made of. They have no node."""
        if self._groups is not rulings:
            self._groups = rulings
            rows = [
                (ruled, (("resource_kind", "group"), ("resource", name))) for name, ruled in rulings.items()
            ]
            self._verdict.put("", "".join(line for ruled, key in rows for line in self._lines(ruled, key)))

    def write(self, node: str, rulings: Mapping[ResourceKey, Ruled]) -> None:
        """Rewrite a node's lines, if its verdicts are not the ones they were made of."""
        if self._written.get(node) is rulings:
            return
        self._written[node] = rulings
        lines = []
        for (kind, name), ruled in rulings.items():
            if kind in _SHOWN:
                key = (("node", node), ("resource_kind", kind), ("resource", name))
                lines += self._lines(ruled, key)
        self._verdict.put(node, "".join(lines))

    def forget(self, node: str) -> None:
        """Remove all lines of a node."""
        self._verdict.lines.pop(node, None)
        self._written.pop(node, None)

    def _lines(self, ruled: Ruled, key: tuple[tuple[str, str], ...]) -> list[str]:
        opening = self._verdict.opening + labels(*key)
        return [
            f'{opening},verdict="{verdict.value}"}} {int(ruled.ruling.verdict is verdict)}\n'
            for verdict in Verdict
        ]
