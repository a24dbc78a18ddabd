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
from holdfast_rules.lower import Program, lower
from holdfast_rules.parse import parse
from holdfast_rules.tree import Constant, Named, Node, Remembered, walk


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
    constants: tuple[str, ...]
    """The packs' constants that it names."""
    timed: bool
    """It asks about history or age, so time alone can change the answer."""

    @property
    def constant(self) -> bool:
        """It reads nothing: the deliberate `True`."""
        return not self.names


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
    for node in sorted(walk(tree), key=_place):
        match node:
            case Named(fact=fact, kind=kind_):
                names[f"{kind_}.{fact.name}" if kind_ else fact.name] = None
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
        constants=tuple(
            dict.fromkeys(node.name for node in walk(tree) if isinstance(node, Constant) and node.name)
        ),
        timed=any(isinstance(node, Remembered) for node in walk(tree)),
    )


def _place(node: Node) -> int:
    return node.start
