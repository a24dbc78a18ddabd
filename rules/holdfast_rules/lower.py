"""Checked tree → Python code object, with three-valued logic spelled out.

An absent fact is `None`, and `None` is unknown. Each operation becomes the Python expression that carries unknown on:

    x < 5       None if (t := f("x")) is None else t < 5
    a and b     False if (t := a) is False or (u := b) is False else None if t is None or u is None else True

so that one call of one function answers a rule, without an interpreter of ours in between. The function's globals hold
the few helpers below and no builtins: a mistake here could not reach further than them.
"""

import ast
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

from holdfast_rules import gather, history
from holdfast_rules.finding import Finding
from holdfast_rules.subject import Subject
from holdfast_rules.tree import (
    Compared,
    Computed,
    Constant,
    Each,
    Gathered,
    GatherFunction,
    Joined,
    Named,
    Negated,
    Node,
    Order,
    Remembered,
    Scalar,
    Type,
    Within,
    type_of,
)
from holdfast_wire.message import Value

Program = Callable[[history.Lookup, Subject, float], bool | None]
"""(`facts.get`, subject, at) → the answer; None is unknown."""
ProgramOfEach = Callable[[history.Lookup, Subject, float, history.Lookup, Subject], Value | None]
"""(`facts.get`, subject, at, another's `facts.get`, the other) → what is asked of each other resource."""
ProgramOfAll = Callable[[history.Lookup, Subject, float], tuple[Finding, ...]]
"""The same for many conditions at once."""

RESULT_MAX = 1e300
"""A product or quotient beyond it is unknown, which leaves room to add every number an expression can hold."""


def _multiply(left: float | None, right: float | None) -> float | None:
    if left is None or right is None:
        return None
    return _bounded(float(left) * right)


def _divide(left: float | None, right: float | None) -> float | None:
    if left is None or right is None or right == 0:
        return None
    return _bounded(left / right)


def _bounded(number: float) -> float | None:
    return number if isfinite(number) and abs(number) <= RESULT_MAX else None


def _abs(number: float | None) -> float | None:
    return None if number is None else abs(number)


def _min(*numbers: float | None) -> float | None:
    known = [number for number in numbers if number is not None]
    return min(known) if len(known) == len(numbers) else None


def _max(*numbers: float | None) -> float | None:
    known = [number for number in numbers if number is not None]
    return max(known) if len(known) == len(numbers) else None


_GLOBALS: dict[str, object] = {
    "__builtins__": {},
    "multiply": _multiply,
    "divide": _divide,
    "abs": _abs,
    "min": _min,
    "max": _max,
    "related": history.related,
    "increase": history.increase,
    "increase_per_second": history.increase_per_second,
    "settled": history.settled,
    "exceeds": history.exceeds,
    "reaches": history.reaches,
    "short_of": history.short_of,
    "at_most": history.at_most,
    "difference": history.difference,
    "difference_per_second": history.difference_per_second,
    "changed": history.changed,
    "age": history.age,
    "time_to_zero": history.time_to_zero,
    "any_of": gather.any_of,
    "all_of": gather.all_of,
    "count_of": gather.count_of,
    "least_of": gather.least_of,
    "greatest_of": gather.greatest_of,
    "exact": gather.exact,
    "above": gather.above,
    "from_": gather.from_,
    "below": gather.below,
    "up_to": gather.up_to,
    "HOLDS": Finding.HOLDS,
    "CLEAR": Finding.CLEAR,
    "UNKNOWN": Finding.UNKNOWN,
}
FUNCTIONS = frozenset(_GLOBALS) - {"__builtins__"}
"""All that compiled code can name."""

_ORDERS: dict[Order, type[ast.cmpop]] = {
    "<": ast.Lt,
    "<=": ast.LtE,
    ">": ast.Gt,
    ">=": ast.GtE,
    "==": ast.Eq,
    "!=": ast.NotEq,
}
_GATHERED: dict[GatherFunction, str] = {
    "any": "any_of",
    "all": "all_of",
    "count": "count_of",
    "min": "least_of",
    "max": "greatest_of",
}
_BOUNDED: dict[Order, str] = {">": "above", ">=": "from_", "<": "below", "<=": "up_to"}
_MIRRORED: dict[Order, Order] = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def lower(node: Node) -> Program:
    """The function that answers a checked tree. It never raises for facts of their declared types."""
    program: Program = _compiled(_Lowering().lower(node))
    return program


def lower_all(nodes: Sequence[Node]) -> ProgramOfAll:
    """One function that answers many trees about one subject: their findings, in order.

    It saves the call per rule, which costs more than a flat rule's own work, and the mapping of each answer.
    """
    lowering = _Lowering()
    findings = [lowering.finding(lowering.lower(node)) for node in nodes]
    program: ProgramOfAll = _compiled(ast.Tuple(findings, ast.Load()))
    return program


def lower_each(node: Node) -> ProgramOfEach:
    """The function that answers what a `Gathered` asks of each resource."""
    program: ProgramOfEach = _compiled(_Lowering().lower(node), ("f", "s", "at", "g", "e"))
    return program


def _compiled(body: ast.expr, names: Sequence[str] = ("f", "s", "at")) -> Any:
    parameters = [ast.arg(name) for name in names]
    arguments = ast.arguments(posonlyargs=[], args=parameters, kwonlyargs=[], kw_defaults=[], defaults=[])
    tree = ast.fix_missing_locations(ast.Expression(ast.Lambda(arguments, body)))
    return eval(compile(tree, "<rule>", "eval"), dict(_GLOBALS))


class _Lowering:
    """Makes the names of intermediate values unique within one function."""

    def __init__(self) -> None:
        self._count = 0

    def lower(self, node: Node) -> ast.expr:
        match node:
            case Constant(value=value):
                return ast.Constant(value)
            case Named(fact=fact, kind=""):
                return _call("f", ast.Constant(fact.name))
            case Named(fact=fact, kind=kind):
                return _call(
                    "related", ast.Name("s", ast.Load()), ast.Constant(kind), ast.Constant(fact.name)
                )
            case Each(fact=fact):
                return _call("g", ast.Constant(fact.name))
            case Gathered(function="any" | "all"):
                return self._gathered(node)
            case Gathered():
                return _call("exact", self._gathered(node))
            case Negated(item=item):
                return self._known([item], lambda values: ast.UnaryOp(ast.Not(), values[0]))
            case Joined(word=word, items=items):
                return self._joined([self.lower(item) for item in items], decided=word == "or")
            case Compared():
                return self._compared(node)
            case Within(item=item, values=choices, negated=negated):
                op = ast.NotIn() if negated else ast.In()
                listed = ast.Tuple([ast.Constant(choice) for choice in choices], ast.Load())
                return self._known([item], lambda values: ast.Compare(values[0], [op], [listed]))
            case Computed(operation="*", left=left, right=right):
                return _call("multiply", self.lower(left), self.lower(right))
            case Computed(operation="/", left=left, right=right):
                return _call("divide", self.lower(left), self.lower(right))
            case Computed(operation=operation, left=left, right=right):
                sign = ast.Add() if operation == "+" else ast.Sub()
                return self._known([left, right], lambda values: ast.BinOp(values[0], sign, values[1]))
            case Scalar(function=function, items=items):
                return _call(function, *(self.lower(item) for item in items))
            case Remembered():
                return _call("settled", _grown(node)) if _counts(node) else _remembered(node)

    def finding(self, answer: ast.expr) -> ast.expr:
        """`HOLDS if (t := answer) else UNKNOWN if t is None else CLEAR`"""
        name = self._name()
        otherwise = ast.IfExp(_is(ast.Name(name, ast.Load()), None), _constant("UNKNOWN"), _constant("CLEAR"))
        return ast.IfExp(ast.NamedExpr(ast.Name(name, ast.Store()), answer), _constant("HOLDS"), otherwise)

    def _compared(self, node: Compared) -> ast.expr:
        left, right, order = node.left, node.right, node.order
        if (isinstance(right, Remembered) and _counts(right)) or (
            _bounded_number(right) and not _bounded_number(left)
        ):
            left, right, order = right, left, _MIRRORED[order]
        if isinstance(left, Remembered) and _counts(left) and order not in ("==", "!="):
            # At least so much was seen: enough to say yes, and to say no only when all of the window was seen.
            limit = self.lower(right)
            if order in (">", ">="):
                return _call("exceeds" if order == ">" else "reaches", _grown(left), limit)
            return _call("short_of" if order == "<" else "at_most", _grown(left), limit)
        if isinstance(left, Gathered) and _bounded_number(left) and order in _BOUNDED:
            return _call(_BOUNDED[order], self._gathered(left), self.lower(right))
        op = _ORDERS[order]()
        return self._known([left, right], lambda values: ast.Compare(values[0], [op], [values[1]]))

    def _gathered(self, node: Gathered) -> ast.expr:
        """`any_of(s, "volume", True, lambda g, e: …, lambda g, e: …)`"""
        bodies = [node.item] if node.chosen is None else [node.item, node.chosen]
        return _call(
            _GATHERED[node.function],
            ast.Name("s", ast.Load()),
            ast.Constant(node.kind),
            ast.Constant(node.resting),
            *(self._body(body) for body in bodies),
        )

    def _body(self, node: Node) -> ast.expr:
        parameters = [ast.arg(name) for name in ("g", "e")]
        arguments = ast.arguments(posonlyargs=[], args=parameters, kwonlyargs=[], kw_defaults=[], defaults=[])
        return ast.Lambda(arguments, self.lower(node))

    def _known(self, items: list[Node], build: Callable[[list[ast.expr]], ast.expr]) -> ast.expr:
        """`build` of the items' values, or None as soon as one of them is unknown."""
        tests: list[ast.expr] = []
        values: list[ast.expr] = []
        for item in items:
            if isinstance(item, Constant):
                values.append(ast.Constant(item.value))
                continue
            name = self._name()
            tests.append(_is(ast.NamedExpr(ast.Name(name, ast.Store()), self.lower(item)), None))
            values.append(ast.Name(name, ast.Load()))
        if not tests:
            return build(values)
        return ast.IfExp(_any(tests), ast.Constant(None), build(values))

    def _joined(self, items: list[ast.expr], *, decided: bool) -> ast.expr:
        """`or` is decided by one True, `and` by one False; only then may an unknown be ignored."""
        names = [self._name() for _ in items]
        decides = [
            _is(ast.NamedExpr(ast.Name(name, ast.Store()), item), decided)
            for name, item in zip(names, items, strict=True)
        ]
        unknown = [_is(ast.Name(name, ast.Load()), None) for name in names]
        otherwise = ast.IfExp(_any(unknown), ast.Constant(None), ast.Constant(not decided))
        return ast.IfExp(_any(decides), ast.Constant(decided), otherwise)

    def _name(self) -> str:
        self._count += 1
        return f"t{self._count}"


def _counts(node: Remembered) -> bool:
    return node.fact.counter and node.function in ("delta", "rate")


def _bounded_number(node: Node) -> bool:
    return isinstance(node, Gathered) and type_of(node) is Type.NUMBER


def _grown(node: Remembered) -> ast.expr:
    return _windowed("increase" if node.function == "delta" else "increase_per_second", node)


def _remembered(node: Remembered) -> ast.expr:
    match node.function:
        case "age":
            subject = ast.Name("e" if node.each else "s", ast.Load())
            return _call("age", subject, ast.Constant(node.fact.name), ast.Name("at", ast.Load()))
        case "delta":
            return _windowed("difference", node)
        case "rate":
            return _windowed("difference_per_second", node)
        case "changed" | "time_to_zero":
            return _windowed(node.function, node)


def _windowed(function: str, node: Remembered) -> ast.expr:
    lookup, subject = ("g", "e") if node.each else ("f", "s")
    return _call(
        function,
        ast.Name(lookup, ast.Load()),
        ast.Name(subject, ast.Load()),
        ast.Constant(node.fact.name),
        ast.Constant(node.window_seconds),
        ast.Name("at", ast.Load()),
    )


def _call(function: str, *arguments: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(function, ast.Load()), list(arguments), [])


def _constant(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def _is(value: ast.expr, constant: bool | None) -> ast.expr:
    return ast.Compare(value, [ast.Is()], [ast.Constant(constant)])


def _any(tests: list[ast.expr]) -> ast.expr:
    return tests[0] if len(tests) == 1 else ast.BoolOp(ast.Or(), tests)
