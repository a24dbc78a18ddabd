"""Sentences with facts in them: `{node}: {mountpoint} has {free_ratio:.1%} free`.

A field is `node` (the node's name), `kind`, `resource`, a fact of the resource, or a related resource's fact as
`node.kernel`. There is no attribute access and no conversion: a name is looked up, nothing else. What is absent says
`unknown`. After a colon stands how to show a number:

    .1f  .0%  ,d      as in Python; digits after the point, percent, thousands apart
    bytes             1.5 GiB
    duration          1h30m
"""

import re
from string import Formatter

from msgspec import Struct

from holdfast_rules import duration
from holdfast_rules.errors import ExpressionInvalid, Fault, nearest
from holdfast_rules.subject import Subject
from holdfast_wire.fact import FACTS_OF, FactType
from holdfast_wire.message import Value
from holdfast_wire.relation import RELATED

LENGTH_MAX = 4096
SHOWN_MAX = 500
"""Characters of one text fact: a kernel line fits, a page stays readable."""

_SPEC = re.compile(r",?(?:\.[0-9])?[fd%]|bytes|duration")
_IDENTITY = ("node", "kind", "resource")


class Field(Struct, frozen=True):
    """A place in a sentence that a value goes to."""

    name: str
    kind: str
    """The related resource's kind; empty for the resource's own facts and identity."""
    spec: str


Template = tuple[str | Field, ...]
"""Text and fields in turn."""


def parse_template(text: str, kind: str) -> Template:
    """The sentence in parts. Raises ExpressionInvalid with every fault."""
    if len(text) > LENGTH_MAX:
        raise ExpressionInvalid([Fault(LENGTH_MAX, f"longer than {LENGTH_MAX} characters")])
    parts: list[str | Field] = []
    faults: list[Fault] = []
    try:
        pieces = list(Formatter().parse(text))
    except ValueError as error:
        raise ExpressionInvalid(
            [Fault(0, f"not a sentence with fields: {error}; write {{{{ for a brace")]
        ) from None
    offset = 0
    for literal, name, spec, conversion in pieces:
        parts.append(literal)
        if name is None:
            continue
        offset = max(text.find("{" + name, offset), offset)
        field, message, near = _field(name, spec or "", conversion, kind)
        if field is None:
            faults.append(Fault(offset, message, near))
        else:
            parts.append(field)
        offset += 1
    if faults:
        raise ExpressionInvalid(faults)
    return tuple(part for part in parts if part != "")


def _field(name: str, spec: str, conversion: str | None, kind: str) -> tuple[Field | None, str, str]:
    if conversion:
        return None, f"{{{name}!{conversion}}}: a field has no conversion", ""
    if spec and not _SPEC.fullmatch(spec):
        return None, f"{{{name}:{spec}}}: a field is shown as .1f, .0%, ,d, bytes or duration", ""
    if name in _IDENTITY:
        return (
            (None, f"{{{name}}} is text and takes no format", "") if spec else (Field(name, "", ""), "", "")
        )
    other, dot, fact_name = name.rpartition(".")
    related = other if dot and other != kind else ""
    if related and related not in RELATED[kind]:
        return None, f"{{{name}}}: a {kind} has no one {related}", ""
    facts = FACTS_OF[related or kind]
    fact = facts.get(fact_name)
    if fact is None:
        near = nearest(fact_name, [*facts, *(() if related else _IDENTITY)])
        shown = f"{{{related}.{near}}}" if related else f"{{{near}}}"
        return None, f"{{{name}}} is not a fact of a {related or kind}", shown if near else ""
    if spec and fact.type not in (FactType.INT, FactType.FLOAT):
        return None, f"{{{name}}} is {fact.type.value} and takes no format", ""
    if spec.endswith("d") and fact.type is FactType.FLOAT:
        return None, f"{{{name}:{spec}}}: the fact is not a whole number; write .0f", ""
    return Field(fact_name, related, spec), "", ""


def render(template: Template, subject: Subject) -> str:
    """The sentence for one resource."""
    return "".join(part if isinstance(part, str) else _shown(part, subject) for part in template)


def _shown(field: Field, subject: Subject) -> str:
    if not field.kind and field.name in _IDENTITY:
        return {"node": subject.node, "kind": subject.kind, "resource": subject.name}[field.name]
    facts = subject.related(field.kind) if field.kind else subject.facts
    value = None if facts is None else facts.get(field.name)
    return "unknown" if value is None else show(value, field.spec)


def show(value: Value, spec: str = "") -> str:
    """A fact's value for a person."""
    match value:
        case bool():
            return "yes" if value else "no"
        case str():
            line = " ".join(value.split())
            return line if len(line) <= SHOWN_MAX else line[: SHOWN_MAX - 1] + "…"
        case int() | float():
            if spec == "bytes":
                return _bytes(value)
            if spec == "duration":
                return duration.spell(value)
            return format(value, spec) if spec else f"{value:.6g}" if isinstance(value, float) else str(value)


def _bytes(count: float) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} PiB"
