"""The rule language: a condition on a resource's facts that answers yes, no or unknown.

    text ─ parse ─▶ checked tree ─ dead ─▶ (faults) ─ lower ─▶ code object ─▶ answer(subject, at)

`parse` lets a small part of Python's expression syntax through and checks every name and type against the declared
facts, `dead` finds conditions that always or never hold, `lower` compiles with three-valued logic: what is absent is
unknown, `unknown and False` is False, `unknown or True` is True, everything else that touches unknown is unknown. All
of it happens once, when a pack is loaded; judging is one call of compiled code.
"""

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from holdfast_rules.dead import dead_parts
from holdfast_rules.errors import ExpressionInvalid
from holdfast_rules.lower import Program, ProgramOfEach, lower, lower_each
from holdfast_rules.parse import parse
from holdfast_rules.subject import Subject
from holdfast_rules.tree import Constant, Each, Gathered, Named, Node, Remembered, walk

_LOOKING_BACK = ("delta", "rate", "changed")


class Survey(Struct, frozen=True, kw_only=True):
    """One `any(…)`, `all(…)`, `count(…)`, `min(…)` or `max(…)` of a condition."""

    source: str
    node: Gathered
    facts: frozenset[str]
    """What it reads of each resource."""
    value: Program
    item: ProgramOfEach
    chosen: ProgramOfEach | None

    def deciding(self, subject: Subject, at: float) -> list[str]:
        """The resources that make it what it is: for which it is so, or for `all`, for which it is not."""
        wanted = self.node.function != "all"
        found = []
        for other in subject.others(self.node.kind, self.node.resting).subjects:
            place = subject.facts.get, subject, at, other.facts.get, other
            asked = self.chosen is None or self.chosen(*place) is True
            if asked and self.item(*place) is wanted:
                found.append(other.name)
        return found


class Expression(Struct, frozen=True, kw_only=True):
    """A compiled condition."""

    source: str
    kind: str
    """Of the resources it can be asked about."""
    tree: Node
    program: Program
    names: tuple[str, ...]
    """The facts it reads, in order of appearance; those of a related resource as `kind.fact`."""
    windows: Mapping[str, float]
    """The history it needs: own fact → seconds."""
    surveys: tuple[Survey, ...] = ()
    """What it asks of many resources."""
    windows_elsewhere: Mapping[str, Mapping[str, float]] = MappingProxyType({})
    """The history that needs: kind → fact → seconds."""
    constants: tuple[str, ...]
    """The packs' constants that it names."""
    timed: bool
    """It asks about history or age, so time alone can change the answer."""
    remembers: bool
    """It asks whether something happened within a window: `delta`, `rate` or `changed`."""

    @property
    def constant(self) -> bool:
        """It reads nothing: the deliberate `True`."""
        return not self.names and not self.surveys


def compile_expression(
    text: str,
    kind: str,
    constants: Mapping[str, bool | int | float | str] = MappingProxyType({}),
    *,
    lint: bool = True,
) -> Expression:
    """The condition of a rule on resources of `kind`. Raises ExpressionInvalid with every fault.

    `lint=False` lets conditions through that always or never hold.
    """
    tree = parse(text, kind, constants)
    faults = dead_parts(tree, text) if lint else []
    if faults:
        raise ExpressionInvalid(faults)
    names: dict[str, None] = {}
    windows: dict[str, float] = {}
    elsewhere: dict[str, dict[str, float]] = {}
    for node in sorted(walk(tree), key=_place):
        match node:
            case Named(fact=fact, kind=kind_):
                names[f"{kind_}.{fact.name}" if kind_ else fact.name] = None
            case Remembered(fact=fact, window_seconds=window, each=True):
                there = elsewhere.setdefault(fact.resource.value, {})
                if window:
                    there[fact.name] = max(window, there.get(fact.name, 0.0))
            case Remembered(fact=fact, window_seconds=window):
                names[fact.name] = None
                if window:
                    windows[fact.name] = max(window, windows.get(fact.name, 0.0))
            case _:
                pass
    return Expression(
        source=text,
        kind=kind,
        tree=tree,
        program=lower(tree),
        names=tuple(names),
        windows=windows,
        surveys=tuple(_survey(node, text) for node in walk(tree) if isinstance(node, Gathered)),
        windows_elsewhere=elsewhere,
        constants=tuple(
            dict.fromkeys(node.name for node in walk(tree) if isinstance(node, Constant) and node.name)
        ),
        timed=any(isinstance(node, Remembered) for node in walk(tree)),
        remembers=any(isinstance(node, Remembered) and node.function in _LOOKING_BACK for node in walk(tree)),
    )


def _survey(node: Gathered, text: str) -> Survey:
    facts = {part.fact.name for part in walk(node) if isinstance(part, Each)}
    facts |= {part.fact.name for part in walk(node) if isinstance(part, Remembered) and part.each}
    return Survey(
        source=" ".join(text[node.start : node.end].split()),
        node=node,
        facts=frozenset(facts),
        value=lower(node),
        item=lower_each(node.item),
        chosen=None if node.chosen is None else lower_each(node.chosen),
    )


def _place(node: Node) -> int:
    return node.start
