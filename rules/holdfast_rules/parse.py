"""Text → checked tree. The text is Python's expression syntax, and a small part of it is let through.

Python's own parser does the reading, so precedence is what everybody expects and every place is known. Whatever is
not on the list below is refused, so nothing that Python may learn tomorrow slips in:

    and or not    < <= > >= == !=    in (…)    + - * /    numbers, "text", True, False    names    kind.name    calls
    and within a call of any, all, count, min, max:    … for v in volumes if …

A text beside seconds or bytes is an amount of them: `"10m"`, `"5GiB"`.
Depth and size are bounded before they can cost anything; `screen` has seen to the text itself.
"""

import ast
from collections.abc import Mapping
from types import MappingProxyType

from holdfast_rules import quantity
from holdfast_rules.call import FUNCTIONS, Calls
from holdfast_rules.errors import ExpressionInvalid, Fault, nearest
from holdfast_rules.screen import SPELLINGS, python_tree
from holdfast_rules.tree import (
    Compared,
    Computed,
    Constant,
    Each,
    Joined,
    Named,
    Negated,
    Node,
    Operation,
    Order,
    Type,
    Within,
    type_of,
    unit_of,
)
from holdfast_wire.fact import FACTS_OF, Fact
from holdfast_wire.relation import RELATED

DEPTH_MAX = 40
"""Nesting of operations; `a and b and c` is one."""
NODES_MAX = 500
NUMBER_MAX = 2**53
"""Beyond it a float is not every whole number any more; no fact is larger."""
TEXT_MAX = 256


_ORDERS: dict[type[ast.cmpop], Order] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_OPERATIONS: dict[type[ast.operator], Operation] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


def parse(
    text: str, kind: str, constants: Mapping[str, bool | int | float | str] = MappingProxyType({})
) -> Node:
    """The checked tree of a rule's condition on a resource of `kind`. Raises ExpressionInvalid with all faults.

    `constants` may be named in it; none has the name of a fact.
    """
    reader = _Reader(kind, text, constants)
    tree = python_tree(text)
    node = reader.read(tree, 0)
    if node is not None and type_of(node) is not Type.BOOL:
        reader.fault(
            tree, f"a condition is yes or no, and this is {type_of(node)}; compare it with something"
        )
    if reader.faults:
        raise ExpressionInvalid(reader.faults)
    assert node is not None, "an expression without faults has a tree"
    return node


class _Reader(Calls):
    """One pass over Python's tree; collects every fault instead of stopping at the first."""

    def __init__(self, kind: str, text: str, constants: Mapping[str, bool | int | float | str]) -> None:
        self.kind = kind
        self.text = text
        self.indent = len(text) - len(text.lstrip(" \n\t\r"))
        self.facts = FACTS_OF[kind]
        self.constants = constants
        self.related = RELATED
        self.taken = (kind, "node", *RELATED[kind], *self.facts, *constants, *FUNCTIONS)
        self.faults: list[Fault] = []
        self.nodes = 0

    def fault(self, place: ast.expr, message: str, near: str = "") -> None:
        self.faults.append(Fault(self.span(place)[0], message, near))

    def span(self, place: ast.expr) -> tuple[int, int]:
        return self._offset(place.col_offset), self._offset(place.end_col_offset or place.col_offset)

    def _offset(self, column_bytes: int) -> int:
        """Python counts columns in UTF-8 bytes."""
        stripped = self.text[self.indent :]
        if stripped.isascii():
            return self.indent + column_bytes
        return self.indent + len(stripped.encode()[:column_bytes].decode(errors="ignore"))

    def quote(self, place: ast.expr) -> str:
        start, end = self.span(place)
        words = " ".join(self.text[start:end].split())
        return f"`{words}`" if len(words) <= 40 else f"`{words[:39]}…`"

    def read(self, place: ast.expr, depth: int) -> Node | None:
        """The node, or None when it has a fault; what contains it is then not checked further."""
        self.nodes += 1
        if depth > DEPTH_MAX or self.nodes > NODES_MAX:
            what = "nested too deeply" if depth > DEPTH_MAX else "too long"
            if not any(fault.message == what for fault in self.faults):
                self.fault(place, what)
            return None
        start, end = self.span(place)
        match place:
            case ast.Constant():
                return self._constant(place)
            case ast.Name(id=name):
                return self._own_fact(place, name)
            case ast.Attribute(value=ast.Name(id=variable), attr=name) if (
                self.loop and variable == self.loop[0]
            ):
                return self._each(place, self.loop[1], name)
            case ast.Attribute(value=ast.Name(id=kind), attr=name):
                return self._related_fact(place, kind, name)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                item = self.typed(operand, depth, Type.BOOL, "`not`")
                return None if item is None else Negated(start=start, end=end, item=item)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._negative(place, operand, depth)
            case ast.BoolOp(op=op, values=values):
                word = "and" if isinstance(op, ast.And) else "or"
                items = [self.typed(value, depth, Type.BOOL, f"`{word}`") for value in values]
                if any(item is None for item in items):
                    return None
                joined = tuple(item for item in items if item is not None)
                return Joined(start=start, end=end, word="and" if word == "and" else "or", items=joined)
            case ast.BinOp():
                return self._computed(place, depth)
            case ast.Compare():
                return self._compared(place, depth)
            case ast.Call():
                return self.call(place, depth)
            case _:
                self.fault(place, f"{self.quote(place)} is not part of the rule language")
                return None

    def typed(self, place: ast.expr, depth: int, wanted: Type, who: str) -> Node | None:
        node = self.read(place, depth + 1)
        if node is None or type_of(node) is wanted:
            return node
        self.fault(place, f"{self.quote(place)} is {type_of(node)}; {who} wants {wanted}")
        return None

    # ---- leaves

    def _constant(self, place: ast.Constant) -> Constant | None:
        value = place.value
        start, end = self.span(place)
        match value:
            case bool():
                pass
            case int() | float():
                if abs(value) > NUMBER_MAX:
                    self.fault(place, f"a number this large means nothing; {NUMBER_MAX} is the largest")
                    return None
            case str():
                if len(value) > TEXT_MAX:
                    self.fault(
                        place, f"a text of {len(value)} characters; {TEXT_MAX} are the most there may be"
                    )
                    return None
            case _:
                self.fault(place, f"{self.quote(place)} is not part of the rule language")
                return None
        return Constant(start=start, end=end, value=value)

    def _own_fact(self, place: ast.expr, name: str) -> Node | None:
        start, end = self.span(place)
        if self.loop and name == self.loop[0]:
            self.fault(place, f"`{name}` is a {self.loop[1]}; name one of its facts: `{name}.…`")
            return None
        fact = self.facts.get(name)
        if fact is not None:
            return Named(start=start, end=end, fact=fact)
        if name in self.constants:
            return Constant(start=start, end=end, value=self.constants[name], name=name)
        if name in SPELLINGS:
            self.fault(place, f"`{name}` is written `{SPELLINGS[name]}`")
            return None
        if name in FUNCTIONS:
            self.fault(place, f"`{name}` is a function; write `{name}(…)`")
            return None
        self._unknown_fact(place, self.kind, name)
        return None

    def _unknown_fact(self, place: ast.expr, kind: str, name: str) -> None:
        known = [*FACTS_OF[kind], "True", "False", *FUNCTIONS, *self.constants]
        near = nearest(name, known)
        elsewhere = [other for other, facts in FACTS_OF.items() if name in facts and other != kind]
        reachable = [other for other in elsewhere if other in RELATED[self.kind]]
        if reachable:
            self.fault(place, f"`{name}` is not a fact of a {kind}", f"`{reachable[0]}.{name}`")
        elif elsewhere:
            self.fault(
                place, f"`{name}` is a fact of a {elsewhere[0]}, not of a {kind}", f"`{near}`" if near else ""
            )
        else:
            self.fault(place, f"`{name}` is not a fact of a {kind}", f"`{near}`" if near else "")

    def _related_fact(self, place: ast.expr, kind: str, name: str) -> Node | None:
        if kind == self.kind:
            if name in self.facts:
                start, end = self.span(place)
                return Named(start=start, end=end, fact=self.facts[name])
            self._unknown_fact(place, kind, name)
            return None
        if kind not in RELATED[self.kind]:
            reachable = ", ".join(f"`{other}.`" for other in RELATED[self.kind]) or "none"
            near = "" if kind in RELATED else nearest(kind, list(RELATED[self.kind]))
            message = f"a {self.kind} has no one {kind}; resources it can ask about: {reachable}"
            self.fault(place, message, f"`{near}.`" if near else "")
            return None
        if name not in FACTS_OF[kind]:
            near = nearest(name, list(FACTS_OF[kind]))
            self.fault(place, f"`{name}` is not a fact of a {kind}", f"`{kind}.{near}`" if near else "")
            return None
        start, end = self.span(place)
        return Named(start=start, end=end, fact=FACTS_OF[kind][name], kind=kind)

    def _each(self, place: ast.expr, kind: str, name: str) -> Node | None:
        fact = FACTS_OF[kind].get(name)
        if fact is None:
            assert self.loop is not None, "only read within a loop"
            near = nearest(name, list(FACTS_OF[kind]))
            said = f"`{name}` is not a fact of a {kind}"
            self.fault(place, said, f"`{self.loop[0]}.{near}`" if near else "")
            return None
        start, end = self.span(place)
        return Each(start=start, end=end, fact=fact)

    # ---- operations

    def _negative(self, place: ast.expr, operand: ast.expr, depth: int) -> Node | None:
        item = self.typed(operand, depth, Type.NUMBER, "`-`")
        if item is None:
            return None
        start, end = self.span(place)
        if isinstance(item, Constant):
            assert not isinstance(item.value, str), "typed as a number"
            return Constant(start=start, end=end, value=-item.value)
        zero = Constant(start=start, end=start, value=0)
        return Computed(start=start, end=end, operation="-", left=zero, right=item)

    def _computed(self, place: ast.BinOp, depth: int) -> Node | None:
        operation = _OPERATIONS.get(type(place.op))
        if operation is None:
            self.fault(place, f"{self.quote(place)}: arithmetic has + - * / and nothing else")
            return None
        left = self.typed(place.left, depth, Type.NUMBER, f"`{operation}`")
        right = self.typed(place.right, depth, Type.NUMBER, f"`{operation}`")
        if left is None or right is None:
            return None
        if operation == "/" and isinstance(right, Constant) and right.value == 0:
            self.fault(place.right, "a division by 0 has no answer")
            return None
        start, end = self.span(place)
        return Computed(start=start, end=end, operation=operation, left=left, right=right)

    def _compared(self, place: ast.Compare, depth: int) -> Node | None:
        """`a < b < c` is `a < b and b < c`."""
        places = [place.left, *place.comparators]
        read: list[Node | None] = [self.read(place.left, depth + 1)]
        pairs: list[Node | None] = []
        for index, op in enumerate(place.ops):
            right = places[index + 1]
            if isinstance(op, ast.In | ast.NotIn):
                pairs.append(self._within(place, read[index], right, isinstance(op, ast.NotIn)))
                read.append(None)
                continue
            read.append(self.read(right, depth + 1))
            pairs.append(self._pair(place, op, (places[index], right), (read[index], read[index + 1])))
        if any(pair is None for pair in pairs):
            return None
        good = tuple(pair for pair in pairs if pair is not None)
        start, end = self.span(place)
        return good[0] if len(good) == 1 else Joined(start=start, end=end, word="and", items=good)

    def _pair(
        self,
        place: ast.Compare,
        op: ast.cmpop,
        places: tuple[ast.expr, ast.expr],
        nodes: tuple[Node | None, Node | None],
    ) -> Node | None:
        order = _ORDERS.get(type(op))
        if order is None:
            self.fault(
                place, f"{self.quote(place)}: `is` is not part of the rule language; write `==` or `!=`"
            )
            return None
        if nodes[0] is None or nodes[1] is None:
            return None
        left, right = self._amount(nodes[1], nodes[0], places[0]), self._amount(nodes[0], nodes[1], places[1])
        if left is None or right is None:
            return None
        types = type_of(left), type_of(right)
        if types[0] is not types[1]:
            quoted = self.quote(places[0]), self.quote(places[1])
            message = f"{quoted[0]} is {types[0]} and {quoted[1]} is {types[1]}: they cannot be compared"
            self.fault(places[0], message)
            return None
        if order not in ("==", "!=") and types[0] is not Type.NUMBER:
            message = (
                f"{self.quote(places[0])} is {types[0]}, which has no order: only numbers can be {order}"
            )
            self.fault(places[0], message)
            return None
        for fact_node, other, other_place in ((left, right, places[1]), (right, left, places[0])):
            if isinstance(fact_node, Named | Each) and isinstance(other, Constant):
                self._check_value(fact_node.fact, other.value, other_place)
        units = unit_of(left), unit_of(right)
        if units[0] != units[1] and set(units) == set(quantity.UNITS):
            quoted = self.quote(places[0]), self.quote(places[1])
            self.fault(places[1], f"{quoted[0]} is in {units[0]} and {quoted[1]} in {units[1]}")
            return None
        start, _ = self.span(places[0])
        _, end = self.span(places[1])
        return Compared(start=start, end=end, order=order, left=left, right=right)

    def _amount(self, number: Node, text: Node, place: ast.expr) -> Node | None:
        """`text` as what it says in the unit of the number beside it; as it is when it is no amount. None: a fault."""
        if type_of(number) is not Type.NUMBER or not isinstance(text, Constant):
            return text
        if not isinstance(text.value, str):
            return text
        unit = unit_of(number)
        wrong = quantity.unit_of(text.value)
        if wrong != unit and (wrong or unit not in quantity.UNITS):
            if not wrong:
                return text
            what = f"in {unit}" if unit else "a number without a unit"
            self.fault(place, f"{text.value!r} is an amount of {wrong}; what it is compared with is {what}")
            return None
        try:
            amount = quantity.parse(text.value, unit)
            return Constant(start=text.start, end=text.end, value=amount, name=text.name)
        except ValueError as error:
            self.fault(place, str(error))
            return None

    def _check_value(self, fact: Fact, value: object, place: ast.expr) -> None:
        """A text that is compared with one of a closed set must be in the set."""
        if fact.values and isinstance(value, str) and value not in fact.values:
            known = ", ".join(fact.values)
            near = nearest(value, list(fact.values))
            self.fault(
                place, f"`{fact.name}` is never {value!r}; it is one of {known}", repr(near) if near else ""
            )

    def _within(self, place: ast.Compare, item: Node | None, choices: ast.expr, negated: bool) -> Node | None:
        if not isinstance(choices, ast.Tuple | ast.List | ast.Set) or not choices.elts:
            self.fault(choices, '`in` wants values in brackets: ("a", "b")')
            return None
        read = [
            self._constant(choice) if isinstance(choice, ast.Constant) else None for choice in choices.elts
        ]
        self.nodes += len(read)
        for choice in choices.elts:
            if not isinstance(choice, ast.Constant):
                self.fault(choice, f"{self.quote(choice)}: only written-out values may stand here")
        if item is None or any(choice is None for choice in read):
            return None
        values = [choice for choice in read if choice is not None]
        for value, choice in zip(values, choices.elts, strict=True):
            if type_of(value) is not type_of(item):
                self.fault(choice, f"{self.quote(choice)} is {type_of(value)}, not {type_of(item)}")
            elif isinstance(item, Named | Each):
                self._check_value(item.fact, value.value, choice)
        start, _ = self.span(place)
        _, end = self.span(choices)
        return Within(
            start=start, end=end, item=item, values=tuple(value.value for value in values), negated=negated
        )
