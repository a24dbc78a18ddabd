"""Why a rule says what it says: its condition as a tree, each part with its value, and what would make it clear."""

from collections.abc import Callable

from msgspec import Struct

from holdfast_rules import history
from holdfast_rules.lower import lower_each
from holdfast_rules.subject import Subject
from holdfast_rules.tree import (
    Compared,
    Constant,
    Each,
    Gathered,
    Joined,
    Named,
    Negated,
    Node,
    Order,
    Remembered,
    Within,
    children,
    unit_of,
)
from holdfast_wire.message import Value

LISTED_MAX = 50
"""Resources shown below one `any(…)`, those that decide first."""

_INVERTED: dict[Order, Order] = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


class Whence(Struct, frozen=True, kw_only=True):
    """Where a fact comes from."""

    resource: str = ""
    """Empty when nobody knows of such a resource."""
    probe: str = ""
    """Who states it; `collector` for what the collector knows by itself, empty when nobody does."""
    age_seconds: float | None = None
    """Since it was last seen to be so; None when it never was."""
    problem: str = ""
    """Why it is unknown, as far as anybody can tell."""


Source = Callable[[Subject, str, str], Whence]
"""(whose rule, kind, fact) → where that fact of the subject, or of the one it rests on, comes from."""


class Part(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of a condition."""

    text: str
    """As written; below a function over many resources, a resource's name."""
    value: Value | None
    """None: unknown."""
    unit: str = ""
    kind: str = ""
    """Of the resource whose fact it is."""
    fact: str = ""
    """Its name; empty: the part is no fact."""
    whence: Whence | None = None
    note: str = ""
    parts: "tuple[Part, ...]" = ()


def explain(node: Node, text: str, subject: Subject, at: float, source: Source) -> Part:
    """The condition in parts. `text` is what `node` was read from."""
    return _Explaining(text, subject, at, source).part(node, None)


class _Explaining:
    def __init__(self, text: str, subject: Subject, at: float, source: Source) -> None:
        self.text = text
        self.subject = subject
        self.at = at
        self.source = source

    def part(self, node: Node, each: Subject | None) -> Part:
        text, value = quote(node, self.text), self.value(node, each)
        match node:
            case Constant():
                return Part(text=text, value=value)
            case Named(fact=fact, kind=kind):
                return self.leaf(text, value, self.subject, kind or self.subject.kind, fact.name, fact.unit)
            case Each(fact=fact):
                assert each is not None, "only below a function over many resources"
                return self.leaf(text, value, each, each.kind, fact.name, fact.unit)
            case Remembered(fact=fact):
                whose = each if node.each and each is not None else self.subject
                now = whose.facts.get(fact.name)
                name = f"{fact.name} now"
                below = self.leaf(name, now, whose, whose.kind, fact.name, fact.unit)
                least = None if value is not None else self.at_least(node, whose)
                note = "" if least is None else "at least: not all of the window was watched"
                value = least if least is not None else value
                return Part(text=text, value=value, unit=unit_of(node), note=note, parts=(below,))
            case Gathered():
                return self.many(node, text, value)
            case _:
                parts = tuple(self.part(child, each) for child in children(node))
                return Part(text=text, value=value, unit=unit_of(node), parts=parts)

    def value(self, node: Node, each: Subject | None) -> Value | None:
        other = each or self.subject
        program = lower_each(node)
        return program(self.subject.facts.get, self.subject, self.at, other.facts.get, other)

    def at_least(self, node: Remembered, whose: Subject) -> float | None:
        """What a counter is known to have grown, where that is not all."""
        if not node.fact.counter or node.function not in ("delta", "rate"):
            return None
        grown = history.increase(whose.facts.get, whose, node.fact.name, node.window_seconds, self.at)
        if grown is None:
            return None
        return grown[0] if node.function == "delta" else grown[0] / node.window_seconds

    def leaf(self, text: str, value: Value | None, subject: Subject, kind: str, fact: str, unit: str) -> Part:
        whence = self.source(subject, kind, fact)
        return Part(text=text, value=value, unit=unit, kind=kind, fact=fact, whence=whence)

    def many(self, node: Gathered, text: str, value: Value | None) -> Part:
        subjects, complete = self.subject.others(node.kind, node.resting)
        rows = []
        for other in subjects:
            asked = True if node.chosen is None else self.value(node.chosen, other)
            if asked is not False:
                below = tuple(self.part(child, other) for child in children(node))
                rows.append(
                    Part(text=other.name, value=self.value(node.item, other), kind=node.kind, parts=below)
                )
        decisive = node.function != "all"
        rows.sort(key=lambda row: (row.value is not decisive, row.value is not None))
        notes = [] if complete else [f"there may be {node.kind}s that nobody sees at present"]
        if len(rows) > LISTED_MAX:
            notes.append(f"{len(rows) - LISTED_MAX} more are not shown")
        return Part(
            text=text, value=value, unit=unit_of(node), note="; ".join(notes), parts=tuple(rows[:LISTED_MAX])
        )


def clears_when(node: Node, part: Part, text: str) -> str:
    """A condition that would make this one clear, from what it is now: of an `or`, only what is not clear already."""
    match node:
        case Constant():
            return "never"
        case Negated(item=item):
            return quote(item, text)
        case Compared(order=order, left=left, right=right):
            return f"{quote(left, text)} {_INVERTED[order]} {quote(right, text)}"
        case Within(item=item, negated=negated):
            choices = text[item.end : node.end].partition("in")[2].strip()
            return f"{quote(item, text)} {'in' if negated else 'not in'} {choices}"
        case Joined(word=word, items=items):
            open_ = [
                clears_when(item, below, text)
                for item, below in zip(items, part.parts, strict=True)
                if below.value is not False
            ]
            if word == "and":
                return " or ".join(open_)
            return " and ".join(f"({each})" if " or " in each else each for each in open_)
        case _:
            return f"not {quote(node, text)}"


def unknown_leaves(part: Part) -> list[Part]:
    """The facts that keep a condition from an answer."""
    if part.value is not None:
        return []
    if part.whence is not None:
        return [part]
    return [leaf for below in part.parts for leaf in unknown_leaves(below)]


def quote(node: Node, text: str) -> str:
    """What the author wrote for a part."""
    return " ".join(text[node.start : node.end].split())
