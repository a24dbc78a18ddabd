"""Rules → a Prometheus rule file on the collector's `holdfast_*` metrics, as far as PromQL can say them.

A PromQL condition is the set of series for which it holds, so a condition is turned into the set for which it is known
to hold: `not` goes down to the leaves, and a fact that is absent is in neither set. That is the language's three-valued
logic, up to the alert. What Prometheus does after that it does its own way: a series that vanishes resolves its alert.
"""

import re
from collections.abc import Sequence

from msgspec import Struct

from holdfast_rules import duration
from holdfast_rules.rule import Rule
from holdfast_rules.template import Field
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
    Order,
    Remembered,
    Scalar,
    Type,
    Within,
    type_of,
)
from holdfast_wire.fact import FACTS_OF, Fact, FactType

LABELS = {
    kind: ("node",) if kind == "node" else ("node", kind) for kind in ("node", "volume", "device", "service")
}
"""Kinds that have series → the labels that say which one."""
REPORTING = ("node", "reporting")
"""(kind, fact) that the collector exports under the name everybody looks for."""
MOUNTPOINT = ("volume", "mountpoint")
"""(kind, fact): a label of every series of its kind, not only of the info series."""

_INVERTED: dict[Order, Order] = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}
_MIRRORED: dict[Order, Order] = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


class Inexpressible(Exception):
    """PromQL cannot say it, and why."""


class Exported(Struct, frozen=True, kw_only=True):
    """What became of rules."""

    groups: list[dict[str, object]]
    """As in a Prometheus rule file."""
    left_out: list[tuple[str, str]]
    """(alert, why)."""


def export(rules: Sequence[Rule]) -> Exported:
    """A group for each pack."""
    groups: dict[str, list[dict[str, object]]] = {}
    left_out = []
    for rule in rules:
        try:
            groups.setdefault(rule.file, []).append(_alert(rule))
        except Inexpressible as error:
            left_out.append((rule.alert, str(error)))
    listed: list[dict[str, object]] = [
        {"name": f"holdfast {file}", "rules": found} for file, found in groups.items() if found
    ]
    return Exported(groups=listed, left_out=left_out)


def _alert(rule: Rule) -> dict[str, object]:
    if rule.resource not in LABELS:
        raise Inexpressible(f"a {rule.resource} has no series")
    if rule.clear is not None:
        raise Inexpressible("Prometheus knows no `clear_when`")
    found: dict[str, object] = {"alert": rule.alert, "expr": promql(rule)}
    if rule.for_seconds:
        found["for"] = duration.spell(rule.for_seconds)
    if rule.keep_firing_for_seconds:
        found["keep_firing_for"] = duration.spell(rule.keep_firing_for_seconds)
    found["labels"] = {"severity": rule.severity, "rule_id": rule.id, "resource_kind": rule.resource}
    annotations = {
        "summary": _sentence(rule.summary_template, rule.resource),
        "description": _sentence(rule.description_template, rule.resource),
        "runbook": rule.runbook,
    }
    found["annotations"] = {name: text for name, text in annotations.items() if text}
    return found


def promql(rule: Rule) -> str:
    """The series of a rule's resources for which its condition is known to hold. Raises Inexpressible."""
    return _Query(rule.resource).holds(rule.expression.tree, True)


class _Query:
    """Conditions on one kind of resource."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.on = f"on ({', '.join(LABELS[kind])})"

    def holds(self, node: Node, wanted: bool) -> str:
        """The series for which a condition is known to be `wanted`."""
        match node:
            case Negated(item=item):
                return self.holds(item, not wanted)
            case Joined(word=word, items=items):
                both = (word == "and") is wanted
                found = [self.within(item, wanted) for item in items]
                return f" {'and' if both else 'or'} {self.on} ".join(found)
            case Named(fact=fact, kind=""):
                return f"{self.series(fact)} == {int(wanted)}"
            case Named():
                return self.of_node(f"{self.of_other(node)} == {int(wanted)}")
            case Each(fact=fact):
                return f"{self.series(fact)} == {int(wanted)}"
            case Compared(order=order, left=left, right=right):
                return self.compared(order if wanted else _INVERTED[order], left, right)
            case Within(item=item, values=values, negated=negated):
                texts = [value for value in values if isinstance(value, str)]
                if len(texts) < len(values):
                    raise Inexpressible("a number out of a list")
                return self.text(item, texts, negated is not wanted)
            case Remembered(function="changed", fact=fact, window_seconds=window) if wanted:
                return f"changes({self.series(fact)}[{duration.spell(window)}]) > 0"
            case Gathered(function="any") if wanted:
                return f"{self.counted(node)} > 0"
            case _:
                raise Inexpressible(f"`{'' if wanted else 'not '}{_name(node)}` has no like")

    def within(self, node: Node, wanted: bool) -> str:
        """A part of an `and` or `or`, in brackets where it needs them."""
        found = self.holds(node, wanted)
        return f"({found})" if re.search(r" (and|or) ", found) else found

    def of_other(self, node: Named) -> str:
        """The series of a fact of what this kind rests on. That is its node, whose name is a label; of the rest none is."""
        if node.kind != "node":
            raise Inexpressible(f"what a {self.kind} rests on is no label")
        return "" if node.fact.label else _Query(node.kind).series(node.fact)

    def of_node(self, found: str) -> str:
        """A condition on the node, as series of this kind: any series there is, of nodes for which it holds."""
        return f"holdfast_{self.kind}_info and on (node) ({found})"

    def compared(self, order: Order, left: Node, right: Node) -> str:
        for one, other, turned in ((left, right, order), (right, left, _MIRRORED[order])):
            if isinstance(other, Constant):
                return self.with_constant(turned, one, other)
        if type_of(left) is not Type.NUMBER:
            raise Inexpressible("two facts that are no numbers side by side")
        return f"{self.number(left)} {order} {self.number(right)}"

    def with_constant(self, order: Order, node: Node, constant: Constant) -> str:
        value = constant.value
        if isinstance(value, str):
            return self.text(node, [value], order == "==")
        if isinstance(value, bool):
            return self.holds(node, value is (order == "=="))
        if isinstance(node, Remembered) and node.function == "time_to_zero":
            if order not in ("<", "<="):
                raise Inexpressible("`time_to_zero` greater than something")
            window = duration.spell(node.window_seconds)
            return f"predict_linear({self.series(node.fact)}[{window}], {_number(value)}) {order} 0"
        if isinstance(node, Named) and node.kind:
            return self.of_node(f"{self.of_other(node)} {order} {_number(value)}")
        if isinstance(node, Gathered) and node.function == "count" and order not in (">", ">=", "=="):
            raise Inexpressible("a count of less than something: of none there is no series")
        if isinstance(node, Gathered) and node.function == "count" and value == 0:
            raise Inexpressible("a count of none: there is no series")
        return f"{self.number(node)} {order} {_number(value)}"

    def text(self, node: Node, values: Sequence[str], same: bool) -> str:
        """Series by the text of a fact, which is a label of the info series."""
        if not isinstance(node, Named | Each):
            raise Inexpressible("text that is no fact")
        fact = node.fact
        if not fact.label and (fact.resource.value, fact.name) != MOUNTPOINT:
            raise Inexpressible(f"{fact.name} is no label")
        if "" in values:
            raise Inexpressible(f"an empty {fact.name} looks like none")
        pattern = "|".join(re.escape(value) for value in values)
        chosen = (
            f"{fact.name}=~{_quoted(pattern)}"
            if same
            else f'{fact.name}!="", {fact.name}!~{_quoted(pattern)}'
        )
        if len(values) == 1:
            value = _quoted(values[0])
            chosen = f"{fact.name}={value}" if same else f'{fact.name}!="", {fact.name}!={value}'
        found = f"holdfast_{fact.resource.value}_info{{{chosen}}}"
        if isinstance(node, Named) and node.kind:
            self.of_other(node)
            return self.of_node(found)
        return found

    def number(self, node: Node) -> str:
        match node:
            case Constant(value=bool() | int() | float() as value):
                return _number(value)
            case Named(fact=fact, kind="") | Each(fact=fact):
                return self.series(fact)
            case Named(kind=kind):
                raise Inexpressible(f"a number of the {kind} beside one of the {self.kind}")
            case Computed(operation="/", left=left, right=right) if not isinstance(right, Constant):
                return f"({self.number(left)} / ({self.number(right)} != 0))"
            case Computed(operation=operation, left=left, right=right):
                return f"({self.number(left)} {operation} {self.number(right)})"
            case Scalar(function="abs", items=items):
                return f"abs({self.number(items[0])})"
            case Remembered(function="delta" | "rate" as function, fact=fact, window_seconds=window):
                over = f"({self.series(fact)}[{duration.spell(window)}])"
                if fact.counter:
                    return f"{'increase' if function == 'delta' else 'rate'}{over}"
                return f"delta{over}" if function == "delta" else f"(delta{over} / {_number(window)})"
            case Gathered(function="count"):
                return self.counted(node)
            case Gathered(function="min" | "max" as function, item=item, chosen=chosen):
                there = self.there(node)
                found = there.number(item)
                if chosen is not None:
                    found = f"{found} and {there.on} {there.within(chosen, True)}"
                return f"{function} by (node) ({found})"
            case _:
                raise Inexpressible(f"`{_name(node)}` has no like")

    def counted(self, node: Gathered) -> str:
        there = self.there(node)
        conditions = [each for each in (node.chosen, node.item) if each is not None]
        found = [there.within(each, True) for each in conditions if not isinstance(each, Constant)]
        return f"count by (node) ({f' and {there.on} '.join(found) or f'holdfast_{node.kind}_info'})"

    def there(self, node: Gathered) -> "_Query":
        if self.kind != "node" or node.kind not in LABELS:
            raise Inexpressible(f"`{_name(node)}` on a {self.kind}")
        return _Query(node.kind)

    def series(self, fact: Fact) -> str:
        if (fact.resource.value, fact.name) == REPORTING:
            return "holdfast_node_up"
        if not fact.metric or fact.resource.value not in LABELS:
            raise Inexpressible(f"{fact.name} is no metric")
        return fact.metric


def _name(node: Node) -> str:
    match node:
        case Remembered(function=function) | Scalar(function=function) | Gathered(function=function):
            return f"{function}(…)"
        case _:
            return type(node).__name__.lower()


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) else repr(float(value))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


# ---- sentences


def _sentence(template: Sequence[str | Field], kind: str) -> str:
    """A template of ours as one of Prometheus'."""
    return "".join(
        part.replace("{{", '{{ "{{" }}') if isinstance(part, str) else _field(part, kind) for part in template
    ).strip()


def _field(field: Field, kind: str) -> str:
    if not field.kind and field.name in ("node", "kind", "resource"):
        label = {"node": "$labels.node", "resource": f"$labels.{kind}", "kind": _quoted(kind)}[field.name]
        return f"{{{{ {label} }}}}"
    there = field.kind or kind
    fact = FACTS_OF[there].get(field.name)
    if (there, field.name) == MOUNTPOINT and kind == "volume":
        return "{{ $labels.mountpoint }}"
    if fact is None or there not in LABELS or there not in ("node", kind):
        return "unknown"
    if fact.label:
        return _asked(f"holdfast_{there}_info", there, f'label "{fact.name}"')
    if not fact.metric:
        return "unknown"
    return _asked(fact.metric, there, f"value{_shown(field, fact)}")


def _asked(metric: str, kind: str, then: str) -> str:
    """What a series says at that moment."""
    labels = LABELS[kind]
    matchers = ",".join(f"{label}=%q" for label in labels)
    given = " ".join(f"$labels.{label}" for label in labels)
    query = f'query (printf "{metric}{{{matchers}}}" {given})'
    return f"{{{{ with {query} }}}}{{{{ . | first | {then} }}}}{{{{ else }}}}unknown{{{{ end }}}}"


def _shown(field: Field, fact: Fact) -> str:
    spec = field.spec
    match spec[-1:]:
        case "%":
            return " | humanizePercentage"
        case "s":
            return " | humanize1024"
        case "n":
            return " | humanizeDuration"
        case "f":
            return f' | printf "%{spec.removeprefix(",")}"'
        case _:
            return ' | printf "%.0f"' if fact.type is not FactType.FLOAT else ""
