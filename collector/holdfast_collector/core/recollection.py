"""Verdicts of before a restart, until their evidence is back.

A collector that starts knows what it said and not whether that is still so. Until a node has told all it has, or the
warm-up is over, what it said last stands behind an `unknown`: it turns nothing. What comes back as it was has been so
since then; what is worse, or still missing when the watch is over, is a turn out of what was said last.
"""

from collections.abc import Iterable, Mapping

from msgspec import structs

from holdfast_collector.core.node import Node, ResourceKey
from holdfast_collector.core.record import HeldVerdict
from holdfast_rules.verdict import Reason, Ruling, Verdict, worst

UNSEEN = "nothing was heard of it since the collector started"


class Recollection:
    """What was said of nodes that have not told all yet."""

    def __init__(self) -> None:
        self._nodes: dict[str, dict[ResourceKey, HeldVerdict]] = {}

    def restore(self, verdicts: Iterable[HeldVerdict]) -> None:
        """Take in what stood when the collector was last on."""
        for held in verdicts:
            self._nodes.setdefault(held.node, {})[(held.kind, held.resource)] = held

    def of(self, node: str) -> Mapping[ResourceKey, HeldVerdict]:
        """What awaits its evidence on a node."""
        return self._nodes.get(node, {})

    @property
    def nodes(self) -> list[str]:
        """The nodes of which something is awaited."""
        return list(self._nodes)

    def settle(self, node: str, keys: Iterable[ResourceKey]) -> None:
        """These await nothing any more."""
        left = {key: held for key, held in self._nodes[node].items() if key not in set(keys)}
        self._nodes[node] = left
        if not left:
            del self._nodes[node]

    def forget(self, node: str) -> None:
        """The node was taken out of service."""
        self._nodes.pop(node, None)


def unseen(held: HeldVerdict) -> Ruling:
    """What is to be said meanwhile."""
    worse = worst((held.verdict, Verdict.UNKNOWN)) is not Verdict.UNKNOWN
    return Ruling(
        kind=held.kind,
        resource=held.resource,
        verdict=Verdict.UNKNOWN,
        reasons=(Reason(verdict=Verdict.UNKNOWN, kind=held.kind, resource=held.resource, text=UNSEEN),),
        last=held.verdict if worse else held.last,
    )


def known_again(node: Node, held: HeldVerdict, ruling: Ruling | None, *, watched: bool) -> bool:
    """Whether `ruling` may replace what was held.

    Sections come one after another: a service of which one path was heard looks better than it is. Until all is in,
    only what is no better counts; an alert that goes on firing needs no section.
    """
    if watched or (node.sections and not node.unheld):
        return True
    if ruling is None or ruling.verdict is Verdict.UNKNOWN:
        return False
    if worst((held.verdict, ruling.verdict)) is not ruling.verdict:
        return False
    return ruling.verdict is not Verdict.DURABLE or bool(node.sections)


def recalled(held: HeldVerdict) -> Ruling:
    """What was said, as far as it was kept."""
    return Ruling(kind=held.kind, resource=held.resource, verdict=held.verdict, last=held.last)


def meanwhile(held: HeldVerdict, ruling: Ruling | None) -> Ruling:
    """What to show while it is not known again: trouble that is seen is never hidden."""
    if ruling is not None and worst((ruling.verdict, Verdict.UNKNOWN)) is not Verdict.UNKNOWN:
        return structs.replace(ruling, last=None)
    return unseen(held)
