"""Rule sets by node: what a pack's `where` changes is in force on the nodes it means, and nowhere else.

All that a `where` says is compiled and checked when the packs are loaded. Nodes that several of them mean get their own
combination, put together when such a node is first met; there are as many as there are kinds of nodes, not nodes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from holdfast_rules.changes import Selection, fits

if TYPE_CHECKING:
    from holdfast_rules.rule_set import RuleSet

Build = Callable[[tuple[int, ...]], "RuleSet"]
"""Indices of the selections that match, in order → the rules in force there."""


class NodeLabels(Struct, frozen=True):
    """Labels that the operator gives to nodes, for rules to tell them apart by."""

    nodes: tuple[str, ...]
    """Patterns of names, in which `*` stands for any characters."""
    labels: Mapping[str, str]


def labels_of(node: str, rows: Sequence[NodeLabels]) -> dict[str, str]:
    """All labels of a node; where two rows give it the same label, the later row's."""
    found: dict[str, str] = {}
    for row in rows:
        if any(fits(node, pattern) for pattern in row.nodes):
            found.update(row.labels)
    return found


class Variants:
    """The rule sets of nodes that are not like all others."""

    def __init__(self, selections: Sequence[Selection], build: Build, lookback_seconds: float) -> None:
        self.lookback_seconds = lookback_seconds
        """The longest window that any of them asks for."""
        self.selections = tuple(selections)
        """Which nodes each `where` means."""
        self._build = build
        self._built: dict[tuple[int, ...], RuleSet] = {}

    def of(self, node: str, labels: Mapping[str, str]) -> "RuleSet | None":
        """The rule set of a node; None when no selection means it."""
        chosen = tuple(
            index for index, selection in enumerate(self.selections) if selection.matches(node, labels)
        )
        if not chosen:
            return None
        if chosen not in self._built:
            self._built[chosen] = self._build(chosen)
        return self._built[chosen]
