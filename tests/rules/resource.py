"""A resource with the facts a test gives it: what rules are asked about here."""

from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from holdfast_rules import Others, Rule, load
from holdfast_rules.subject import Point
from holdfast_wire.message import Value


class Resource(Struct, kw_only=True):
    """Literal facts, series and observation times."""

    node: str = "vm-1"
    kind: str = "volume"
    name: str = "/srv"
    facts: dict[str, Value] = field(default_factory=dict)
    relatives: dict[str, dict[str, Value]] = field(default_factory=dict)
    neighbours: "list[Resource]" = field(default_factory=list)
    whole: frozenset[str] = frozenset()
    """Kinds of which all neighbours are known."""
    resting: bool = False
    """As a neighbour: it rests on the one that is judged."""
    histories: dict[str, list[Point]] = field(default_factory=dict)
    observed: dict[str, float] = field(default_factory=dict)

    def related(self, kind: str) -> Mapping[str, Value] | None:
        return self.relatives.get(kind)

    def others(self, kind: str, resting: bool) -> Others:
        found = [one for one in self.neighbours if one.kind == kind]
        return Others([one for one in found if one.resting or not resting], kind in self.whole)

    def series(self, fact: str) -> Sequence[Point]:
        return self.histories.get(fact, ())

    def observed_at(self, fact: str) -> float | None:
        return self.observed.get(fact)


def rule(when: str = "dead", **keys: str) -> Rule:
    """A rule on volumes, of a pack with nothing else in it. Keys are written as in a pack."""
    entry = {"alert": "VolumeTested", "resource": "volume", "severity": "page", "summary": "tested", **keys}
    lines = [f"    {key.rstrip('_')}: {value}" for key, value in entry.items()]
    text = "\n".join(["rules:", "  - when: >-", f"      {when}", *lines])
    return load({"test.yaml": text}).rules[0]
