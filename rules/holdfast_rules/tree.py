"""The checked form of an expression: what `parse` makes, `dead` studies and `lower` turns into code.

Every node is of a known type and names only what is declared; nothing after `parse` can fail.
"""

from enum import StrEnum
from typing import Literal

from msgspec import Struct

from holdfast_wire.fact import Fact, FactType


class Type(StrEnum):
    """What an expression's value is, in the words of its error messages."""

    BOOL = "yes or no"
    NUMBER = "a number"
    TEXT = "text"


TYPE_OF = {
    FactType.BOOL: Type.BOOL,
    FactType.INT: Type.NUMBER,
    FactType.FLOAT: Type.NUMBER,
    FactType.STR: Type.TEXT,
}

Order = Literal["<", "<=", ">", ">=", "==", "!="]
Operation = Literal["+", "-", "*", "/"]
ScalarFunction = Literal["abs", "min", "max"]
GatherFunction = Literal["any", "all", "count", "min", "max"]
HistoryFunction = Literal["delta", "rate", "time_to_zero", "age", "changed"]


class Span(Struct, frozen=True, kw_only=True):
    """Where in the source a node stands, in characters."""

    start: int
    end: int


class Constant(Span, frozen=True, kw_only=True):
    """A value the rule's author wrote."""

    value: bool | int | float | str
    name: str = ""
    """The pack's constant that it came from; empty when it is written out."""


class Named(Span, frozen=True, kw_only=True):
    """A fact's current value."""

    fact: Fact
    kind: str = ""
    """The related resource's kind; empty for the rule's own resource."""


class Each(Span, frozen=True, kw_only=True):
    """A fact of the resource that the surrounding `Gathered` looks at."""

    fact: Fact


class Negated(Span, frozen=True, kw_only=True):
    """`not x`"""

    item: "Node"


class Joined(Span, frozen=True, kw_only=True):
    """`a and b and …` or `a or b or …`"""

    word: Literal["and", "or"]
    items: "tuple[Node, ...]"


class Compared(Span, frozen=True, kw_only=True):
    """Two values of one type side by side."""

    order: Order
    left: "Node"
    right: "Node"


class Within(Span, frozen=True, kw_only=True):
    """`x in ("a", "b")`"""

    item: "Node"
    values: tuple[bool | int | float | str, ...]
    negated: bool


class Computed(Span, frozen=True, kw_only=True):
    """Arithmetic of two numbers."""

    operation: Operation
    left: "Node"
    right: "Node"


class Scalar(Span, frozen=True, kw_only=True):
    """A function of numbers; `-x` is `Computed` from 0."""

    function: ScalarFunction
    items: "tuple[Node, ...]"


class Remembered(Span, frozen=True, kw_only=True):
    """A function of one of a resource's facts over time."""

    function: HistoryFunction
    fact: Fact
    window_seconds: float
    """0 for `age`, which needs no history."""
    each: bool = False
    """Of the resource that the surrounding `Gathered` looks at."""


class Gathered(Span, frozen=True, kw_only=True):
    """A function of all resources of a kind on the node: `any(v.dead for v in volumes if v.expected_writable)`."""

    function: GatherFunction
    kind: str
    resting: bool
    """Only those that rest on the rule's own resource."""
    item: "Node"
    chosen: "Node | None"
    """Which of them; None: every one."""


Node = (
    Constant | Named | Each | Negated | Joined | Compared | Within | Computed | Scalar | Remembered | Gathered
)


def type_of(node: Node) -> Type:
    """The type of a node's value."""
    match node:
        case Constant(value=bool()) | Negated() | Joined() | Compared() | Within():
            return Type.BOOL
        case Constant(value=str()):
            return Type.TEXT
        case Named(fact=fact) | Each(fact=fact):
            return TYPE_OF[fact.type]
        case Gathered(function="any" | "all"):
            return Type.BOOL
        case Remembered(function="changed"):
            return Type.BOOL
        case Constant() | Computed() | Scalar() | Remembered() | Gathered():
            return Type.NUMBER


def unit_of(node: Node) -> str:
    """The unit of a number: a fact's, or what arithmetic made of it; empty when it has none or nobody can say."""
    match node:
        case Named(fact=fact) | Each(fact=fact) | Remembered(function="delta", fact=fact):
            return fact.unit
        case Gathered(function="min" | "max", item=item):
            return unit_of(item)
        case Remembered(function="age" | "time_to_zero"):
            return "seconds"
        case Remembered(function="rate", fact=fact):
            return f"{fact.unit} per second" if fact.unit else ""
        case Computed(operation="+" | "-", left=left, right=right):
            return unit_of(left) or unit_of(right)
        case Computed(left=left, right=right):
            units = unit_of(left), unit_of(right)
            return "" if units[1] and (units[0] or node.operation == "/") else units[0] or units[1]
        case Scalar(items=items):
            return next((unit for unit in map(unit_of, items) if unit), "")
        case _:
            return ""


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below."""
    match node:
        case Negated(item=item) | Within(item=item):
            return (item,)
        case Joined(items=items) | Scalar(items=items):
            return items
        case Compared(left=left, right=right) | Computed(left=left, right=right):
            return (left, right)
        case Gathered(item=item, chosen=chosen):
            return (item,) if chosen is None else (item, chosen)
        case Constant() | Named() | Each() | Remembered():
            return ()


def walk(node: Node) -> list[Node]:
    """The node and all below it, children before parents."""
    found: list[Node] = []
    for child in children(node):
        found.extend(walk(child))
    found.append(node)
    return found


def spell(node: Node) -> str:
    """The node in canonical form: equal text means equal value."""
    match node:
        case Constant(value=value):
            return repr(value)
        case Named(fact=fact, kind=kind):
            return f"{kind}.{fact.name}" if kind else fact.name
        case Negated(item=item):
            return f"(not {spell(item)})"
        case Joined(word=word, items=items):
            return "(" + f" {word} ".join(spell(item) for item in items) + ")"
        case Compared(order=order, left=left, right=right):
            return f"({spell(left)} {order} {spell(right)})"
        case Within(item=item, values=values, negated=negated):
            return f"({spell(item)} {'not in' if negated else 'in'} {values!r})"
        case Computed(operation=operation, left=left, right=right):
            return f"({spell(left)} {operation} {spell(right)})"
        case Scalar(function=function, items=items):
            return f"{function}({', '.join(spell(item) for item in items)})"
        case Each(fact=fact):
            return f"each.{fact.name}"
        case Remembered(function=function, fact=fact, window_seconds=window, each=each):
            return f"{function}({'each.' if each else ''}{fact.name}, {window:g})"
        case Gathered(function=function, kind=kind, item=item, chosen=chosen):
            where = "" if chosen is None else f" if {spell(chosen)}"
            return f"{function}({spell(item)} for {'' if node.resting else 'node.'}{kind}s{where})"
