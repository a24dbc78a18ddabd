"""What a rule is told about the resource it judges."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from holdfast_wire.message import Value

Point = tuple[float, float]
"""(at, value): when it was observed by the collector's clock, and the value; True is 1, False is 0."""


class Others(NamedTuple):
    """Resources of one kind."""

    subjects: Sequence["Subject"]
    complete: bool
    """There are no others. False where the evidence is missing or stale: what is not listed may be there."""


class Subject(Protocol):
    """One resource as the collector knows it now.

    Values are of the type their fact declares, and finite: the codec refuses others. Whoever implements this decides
    what is fresh; a rule takes what it finds for evidence.
    """

    @property
    def node(self) -> str:
        """The node's name; empty for the collector's own resource."""
        ...

    @property
    def kind(self) -> str:
        """A `holdfast_wire.fact.ResourceKind` value."""
        ...

    @property
    def name(self) -> str:
        """The resource's name, unique within node and kind."""
        ...

    @property
    def facts(self) -> Mapping[str, Value]:
        """Fresh facts only. What is stale, refused or was never stated is absent."""
        ...

    def related(self, kind: str) -> Mapping[str, Value] | None:
        """The fresh facts of the one resource of another kind that this one rests on; None when there is none."""
        ...

    def others(self, kind: str, resting: bool) -> Others:
        """The resources of a kind on the same node, this one included; `resting`: those that rest on this one.

        Everything rests on its node.
        """
        ...

    def series(self, fact: str) -> Sequence[Point]:
        """What the fact was, oldest first, the current value included; empty when nothing is kept.

        It reaches back at least as far as the rule set's `windows` ask. Before the first point nothing is known, so
        whoever counts events states the count from before the first of them too: a series that begins with 1 says
        that the 1 may be old.
        """
        ...

    def observed_at(self, fact: str) -> float | None:
        """When the fact was last observed, by the collector's clock, stale or not; None when it never was."""
        ...
