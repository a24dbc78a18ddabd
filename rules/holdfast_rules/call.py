"""Calls in a condition: `abs(x)`, `delta(x, "10m")`, `any(v.dead for v in volumes)`. A part of `parse`'s reader."""

import ast
from collections.abc import Mapping, Sequence
from typing import get_args

from holdfast_rules import duration
from holdfast_rules.errors import nearest
from holdfast_rules.tree import (
    Constant,
    Each,
    Gathered,
    GatherFunction,
    HistoryFunction,
    Joined,
    Named,
    Node,
    Remembered,
    Scalar,
    ScalarFunction,
    Type,
    type_of,
)
from holdfast_wire.declaration import ON_NO_NODE
from holdfast_wire.fact import FACTS_OF, Fact, FactType

SCALARS: tuple[ScalarFunction, ...] = get_args(ScalarFunction)
HISTORIES: tuple[HistoryFunction, ...] = get_args(HistoryFunction)
GATHERERS: tuple[GatherFunction, ...] = get_args(GatherFunction)
FUNCTIONS = tuple(dict.fromkeys((*SCALARS, *HISTORIES, *GATHERERS)))

_ALONE = ("node", "collector")
"""Kinds of which there is one."""
PLURALS = {f"{kind}s": kind for kind in FACTS_OF if kind not in {*_ALONE, *ON_NO_NODE}}
"""What `for … in` goes over → kind."""


class Calls:
    """Reads calls. What it needs of the rest of the reader is declared here, and `parse` has it."""

    kind: str
    related: Mapping[str, Sequence[str]]
    """Kind → the kinds of which one of its kind has exactly one."""
    taken: Sequence[str]
    """Names that mean something already."""
    loop: tuple[str, str] | None = None
    """Within `any(… for v in volumes)`: the name and the kind of what it stands for."""

    def fault(self, place: ast.expr, message: str, near: str = "") -> None:
        raise NotImplementedError

    def quote(self, place: ast.expr) -> str:
        raise NotImplementedError

    def read(self, place: ast.expr, depth: int) -> Node | None:
        raise NotImplementedError

    def span(self, place: ast.expr) -> tuple[int, int]:
        raise NotImplementedError

    def typed(self, place: ast.expr, depth: int, wanted: Type, who: str) -> Node | None:
        raise NotImplementedError

    def call(self, place: ast.Call, depth: int) -> Node | None:
        if not isinstance(place.func, ast.Name):
            self.fault(place, f"{self.quote(place)} is not part of the rule language")
            return None
        name = place.func.id
        if place.keywords or any(isinstance(argument, ast.Starred) for argument in place.args):
            self.fault(place, f"`{name}` takes plain arguments only")
            return None
        gathers = len(place.args) == 1 and isinstance(place.args[0], ast.GeneratorExp)
        for gatherer in GATHERERS:
            if name == gatherer and (gathers or name not in SCALARS):
                return self._gathered(place, gatherer, depth)
        for scalar in SCALARS:
            if name == scalar:
                return self._scalar(place, scalar, depth)
        for history in HISTORIES:
            if name == history:
                return self._remembered(place, history, place.args)
        near = nearest(name, list(FUNCTIONS))
        self.fault(place, f"there is no function `{name}`", f"`{near}`" if near else "")
        return None

    def _scalar(self, place: ast.Call, function: ScalarFunction, depth: int) -> Node | None:
        if (function == "abs") != (len(place.args) == 1):
            wants = "one number" if function == "abs" else "two numbers or more"
            self.fault(place, f"`{function}` wants {wants}")
            return None
        items = [self.typed(argument, depth, Type.NUMBER, f"`{function}`") for argument in place.args]
        if any(item is None for item in items):
            return None
        start, end = self.span(place)
        numbers = tuple(item for item in items if item is not None)
        return Scalar(start=start, end=end, function=function, items=numbers)

    def _remembered(
        self, place: ast.Call, function: HistoryFunction, arguments: Sequence[ast.expr]
    ) -> Node | None:
        usage = f"`{function}(fact)`" if function == "age" else f'`{function}(fact, "10m")`'
        if len(arguments) != (1 if function == "age" else 2):
            self.fault(place, f"write {usage}")
            return None
        fact = self._remembered_fact(arguments[0], function)
        each = isinstance(arguments[0], ast.Attribute) and self._loops(arguments[0].value)
        window = 0.0 if function == "age" else self._window(arguments[1], usage)
        if fact is None or window is None:
            return None
        start, end = self.span(place)
        return Remembered(
            start=start, end=end, function=function, fact=fact, window_seconds=window, each=each
        )

    def _remembered_fact(self, place: ast.expr, function: HistoryFunction) -> Fact | None:
        node = self.read(place, 0)
        if node is None:
            return None
        if not isinstance(node, Each) and (not isinstance(node, Named) or node.kind):
            whose = f"the {self.kind}'s own facts" + (f" or `{self.loop[0]}.…`" if self.loop else "")
            self.fault(place, f"{self.quote(place)}: `{function}` wants the name of one of {whose}")
            return None
        if function == "age":
            return node.fact
        wrong = node.fact.type is FactType.STR or (function != "changed" and node.fact.type is FactType.BOOL)
        if wrong:
            self.fault(place, f"`{node.fact.name}` is {type_of(node)}; `{function}` wants a number")
            return None
        return node.fact

    def _window(self, place: ast.expr, usage: str) -> float | None:
        if not isinstance(place, ast.Constant) or not isinstance(place.value, str):
            self.fault(place, f"the window is a duration in quotes: {usage}")
            return None
        try:
            seconds = duration.parse(place.value)
        except ValueError as error:
            self.fault(place, str(error))
            return None
        if seconds == 0:
            self.fault(place, "a window of no length holds nothing")
            return None
        return seconds

    # ---- many resources

    def _loops(self, place: ast.expr) -> bool:
        return self.loop is not None and isinstance(place, ast.Name) and place.id == self.loop[0]

    def _gathered(self, place: ast.Call, function: GatherFunction, depth: int) -> Node | None:
        value = "v.size_bytes" if function in ("min", "max") else "v.dead"
        usage = f"`{function}({value} for v in volumes)`"
        if len(place.args) != 1 or not isinstance(place.args[0], ast.GeneratorExp):
            self.fault(place, f"write {usage}")
            return None
        generator = place.args[0]
        loop = generator.generators[0]
        if len(generator.generators) > 1 or loop.is_async or not isinstance(loop.target, ast.Name):
            self.fault(place, f"one `for` with one name: {usage}")
            return None
        if self.loop is not None:
            self.fault(place, f"`{function}` may not stand within another `for`")
            return None
        over = self._over(loop.iter, usage)
        name = loop.target.id
        if name in self.taken:
            self.fault(loop.target, f"`{name}` means something already: call it otherwise, like `v`")
            return None
        if over is None:
            return None
        self.loop = (name, over[0])
        item = self._asked(generator.elt, function, depth)
        chosen = [self.typed(each, depth, Type.BOOL, "`if`") for each in loop.ifs]
        self.loop = None
        if item is None or any(each is None for each in chosen):
            return None
        start, end = self.span(place)
        return Gathered(
            start=start,
            end=end,
            function=function,
            kind=over[0],
            resting=over[1],
            item=item,
            chosen=_all([each for each in chosen if each is not None]),
        )

    def _asked(self, place: ast.expr, function: GatherFunction, depth: int) -> Node | None:
        """What is asked of each resource; `count(v for v in volumes if …)` only counts them."""
        if function == "count" and self._loops(place):
            start, end = self.span(place)
            return Constant(start=start, end=end, value=True)
        wanted = Type.NUMBER if function in ("min", "max") else Type.BOOL
        return self.typed(place, depth, wanted, f"`{function}`")

    def _over(self, place: ast.expr, usage: str) -> tuple[str, bool] | None:
        """(kind, whether only those that rest on the rule's own resource)."""
        match place:
            case ast.Name(id=plural):
                resting = self.kind != "node"
            case ast.Attribute(value=ast.Name(id="node"), attr=plural):
                resting = False
            case _:
                self.fault(place, f"{self.quote(place)}: `for` goes over resources: {usage}")
                return None
        kind = PLURALS.get(plural)
        if kind is None:
            near = nearest(plural, list(PLURALS))
            self.fault(
                place, f"there are no {plural}; there are {', '.join(PLURALS)}", f"`{near}`" if near else ""
            )
            return None
        if self.kind in ON_NO_NODE:
            self.fault(place, f"the {self.kind} is on no node that has others")
            return None
        if resting and self.kind not in self.related[kind]:
            self.fault(place, f"no {kind} rests on a {self.kind}; those of its node are", f"`node.{plural}`")
            return None
        return kind, resting


def _all(nodes: Sequence[Node]) -> Node | None:
    if len(nodes) < 2:
        return nodes[0] if nodes else None
    return Joined(start=nodes[0].start, end=nodes[-1].end, word="and", items=tuple(nodes))
