"""The lint for conditions that cannot do their work: always true, or never.

A threshold in percent against a ratio (`free_ratio < 5`) parses, is of the right type, and fires for ever. It is found
by trying: the values a condition compares with cut each fact's range into a few stretches, and one value of each
stretch stands for all of it. When every combination gives the same answer, that is the answer always. What cannot be
tried (a comparison of two facts) counts as both, so a condition is never called dead that is not.

Every part of a condition is studied, not only the whole: `writable and free_ratio < 5` is not dead, its right half is.
"""

from collections.abc import Mapping
from itertools import pairwise, product
from math import ceil, floor, inf

from holdfast_rules.errors import Fault
from holdfast_rules.lower import RESULT_MAX
from holdfast_rules.tree import (
    Compared,
    Computed,
    Constant,
    Each,
    Gathered,
    Joined,
    Named,
    Negated,
    Node,
    Operation,
    Remembered,
    Scalar,
    ScalarFunction,
    Type,
    Within,
    children,
    spell,
    type_of,
    walk,
)
from holdfast_wire.fact import Fact, FactType

EFFORT_MAX = 100_000
"""Node visits per expression: about 50 ms. Beyond it a part is taken to be alive."""

_Value = bool | int | float | str
_OTHER = "\0another text"


def dead_parts(root: Node, source: str) -> list[Fault]:
    """The smallest parts that always or never hold. The bare `True` is meant: a rule that always holds."""
    if isinstance(root, Constant):
        return [] if root.value is True else [Fault(root.start, "the condition never holds")]
    faults = []
    dead: set[int] = set()
    effort = EFFORT_MAX
    for node in walk(root):
        if type_of(node) is not Type.BOOL or isinstance(
            node, Constant | Named | Each | Remembered | Gathered
        ):
            continue
        if any(id(child) in dead for child in children(node)):
            dead.add(id(node))
            continue
        answers, spent = _answers(node, effort)
        effort -= spent
        if len(answers) == 1:
            dead.add(id(node))
            word = "always holds" if answers == {True} else "never holds"
            words = " ".join(source[node.start : node.end].split())
            faults.append(Fault(node.start, f"`{words}` {word}{_why(node)}"))
    return faults


def useless_clear(when: Node, clear: Node) -> str:
    """Why a `clear_when` cannot do its work beside its `when`; empty when it can."""
    place = {"start": clear.start, "end": clear.end}
    ends = Joined(word="and", items=(clear, Negated(item=when, **place)), **place)
    if _answers(ends, EFFORT_MAX)[0] == {False}:
        return "`clear_when` holds only where `when` does: the alert could never end"
    either = Joined(word="or", items=(clear, when), **place)
    if _answers(either, EFFORT_MAX)[0] == {True}:
        return "`clear_when` holds wherever `when` does not: it changes nothing; leave it out or give it some distance"
    return ""


def _why(node: Node) -> str:
    if not isinstance(node, Compared):
        return ""
    for part in walk(node):
        if isinstance(part, Named | Each | Remembered):
            low, high = _range(part)
            if high < inf:
                return f": {spell(part)} lies between {low:g} and {high:g}"
    return ""


def _answers(node: Node, effort: int) -> tuple[set[bool], int]:
    """Every answer the node can give, and how many visits that took; both answers when there is too much to try."""
    domains: dict[str, list[_Value]] = {}
    _collect(node, domains)
    combinations = 1
    for domain in domains.values():
        combinations *= len(domain)
    cost = combinations * len(walk(node))
    if cost > effort:
        return {True, False}, 0
    answers = set()
    for values in product(*domains.values()):
        answers.add(_answer(node, dict(zip(domains, values, strict=True))))
        if len(answers) == 2:
            break
    return answers, cost


def _collect(node: Node, domains: dict[str, list[_Value]]) -> None:
    """What each independent part of a condition can be, by its spelling."""
    match node:
        case Constant():
            pass
        case Negated(item=item):
            _collect(item, domains)
        case Joined(items=items):
            for item in items:
                _collect(item, domains)
        case Named() | Each() | Remembered() | Gathered():
            domains[spell(node)] = [True, False]
        case Compared() | Within():
            term, values = _term(node)
            if term is None:
                domains[spell(node)] = [True, False]
            else:
                known = domains.setdefault(spell(term), [])
                merged = _samples(term, [*known, *values])
                domains[spell(term)] = merged
        case _:
            raise AssertionError(f"not a condition: {node}")


def _term(node: Compared | Within) -> tuple[Node | None, list[_Value]]:
    """The one part that varies, and the constants it is compared with; None when two parts vary."""
    if isinstance(node, Within):
        return node.item, list(node.values)
    left, right = constant(node.left), constant(node.right)
    if left is None and right is not None:
        return node.left, [right]
    if right is None and left is not None:
        return node.right, [left]
    return (node.left, [left]) if left is not None and right is not None else (None, [])


def _samples(term: Node, values: list[_Value]) -> list[_Value]:
    """One value of every stretch that `values` cut the term's range into, and the values themselves."""
    fixed = constant(term)
    if fixed is not None:
        return [fixed]
    match type_of(term):
        case Type.BOOL:
            return [True, False]
        case Type.TEXT:
            closed = term.fact.values if isinstance(term, Named | Each) else ()
            return list(closed) or [*{value: None for value in values if value != _OTHER}, _OTHER]
        case Type.NUMBER:
            return list(
                _stretches(term, sorted({float(value) for value in values if not isinstance(value, str)}))
            )


def _stretches(term: Node, cuts: list[float]) -> list[float]:
    low, high = _range(term)
    whole = isinstance(term, Named | Each) and term.fact.type is FactType.INT
    whole = whole or (isinstance(term, Gathered) and term.function == "count")
    points = set(cuts) | {cuts[0] - 1, cuts[-1] + 1}
    points |= {(left + right) / 2 for left, right in pairwise(cuts)}
    if whole:
        points = {float(near) for point in points for near in (floor(point), ceil(point))}
    points |= {limit for limit in (low, high) if abs(limit) < inf}
    return sorted(point for point in points if low <= point <= high)


def _range(term: Node) -> tuple[float, float]:
    """Between which numbers a term lies, as far as its declaration says."""
    match term:
        case Named(fact=fact) | Each(fact=fact):
            return _range_of_fact(fact)
        case Gathered(function="count"):
            return 0.0, inf
        case Gathered(item=item):
            return _range(item)
        case Remembered(function="age" | "time_to_zero"):
            return 0.0, inf
        case Remembered(fact=fact) if fact.counter:
            return 0.0, inf
        case Scalar(function="abs"):
            return 0.0, inf
        case _:
            return -inf, inf


def _range_of_fact(fact: Fact) -> tuple[float, float]:
    if fact.unit == "ratio":
        return 0.0, 1.0
    if fact.unit == "bytes" or fact.counter or fact.type is FactType.INT:
        return 0.0, inf
    return -inf, inf


def constant(node: Node) -> _Value | None:
    """The value of a part in which nothing varies; None when something does, or when it has no value."""
    match node:
        case Constant(value=value):
            return value
        case Computed(operation=operation, left=left, right=right):
            one, other = constant(left), constant(right)
            if one is None or other is None or isinstance(one, str) or isinstance(other, str):
                return None
            return _constant_result(operation, one, other)
        case Scalar(function=function, items=items):
            return _constant_scalar(function, [constant(item) for item in items])
        case _:
            return None


def _constant_result(operation: Operation, one: float, other: float) -> float | None:
    """As compiled code answers it: what outgrows its bound is unknown."""
    match operation:
        case "+":
            return one + other
        case "-":
            return one - other
        case "*":
            result = float(one) * other
        case "/":
            result = one / other if other else inf
    return result if abs(result) <= RESULT_MAX else None


def _constant_scalar(function: ScalarFunction, values: list[_Value | None]) -> _Value | None:
    numbers = [value for value in values if value is not None and not isinstance(value, str)]
    if len(numbers) < len(values):
        return None
    match function:
        case "abs":
            return abs(numbers[0])
        case "min":
            return min(numbers)
        case "max":
            return max(numbers)


def _answer(node: Node, values: Mapping[str, _Value]) -> bool:
    """The answer when every part that varies has one of its values."""
    match node:
        case Constant(value=value):
            return bool(value)
        case Negated(item=item):
            return not _answer(item, values)
        case Joined(word="and", items=items):
            return all(_answer(item, values) for item in items)
        case Joined(items=items):
            return any(_answer(item, values) for item in items)
        case Within(item=item, values=choices, negated=negated):
            return (_value(item, values) in choices) is not negated
        case Compared(order=order, left=left, right=right):
            if spell(node) in values:
                return bool(values[spell(node)])
            return _compare(order, _value(left, values), _value(right, values))
        case _:
            return bool(values[spell(node)])


def _value(node: Node, values: Mapping[str, _Value]) -> _Value:
    fixed = constant(node)
    return values[spell(node)] if fixed is None else fixed


def _compare(order: str, left: _Value, right: _Value) -> bool:
    if order == "==":
        return left == right
    if order == "!=":
        return left != right
    assert not isinstance(left, str), "text has no order"
    assert not isinstance(right, str), "text has no order"
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[order]
