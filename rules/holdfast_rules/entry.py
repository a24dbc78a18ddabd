"""One entry of a pack → a rule, with every mistake in it."""

import re
from collections.abc import Mapping, Sequence
from typing import get_args

from holdfast_rules.dead import useless_clear
from holdfast_rules.document import Mistakes, Table, Text
from holdfast_rules.expression import Expression, compile_expression
from holdfast_rules.reader import Reader
from holdfast_rules.rule import Rule, Severity, Verdict
from holdfast_rules.template import parse_template
from holdfast_wire.fact import ResourceKind

KEYS = (
    "alert",
    "id",
    "resource",
    "when",
    "clear_when",
    "for",
    "keep_firing_for",
    "severity",
    "verdict",
    "sticky",
    "inhibited_by",
    "summary",
    "description",
    "runbook",
)
REQUIRED = ("alert", "resource", "when", "severity", "summary")

_ALERT = re.compile(r"[A-Z][A-Za-z0-9]{2,63}")
_ID = re.compile(r"[A-Za-z][A-Za-z0-9.-]{0,63}")
_SEVERITIES: tuple[Severity, ...] = get_args(Severity)
_VERDICTS: tuple[Verdict, ...] = tuple(word for word in get_args(Verdict) if word)
_KINDS = tuple(kind.value for kind in ResourceKind)


def read_rule(
    table: Table, mistakes: Mistakes, constants: Mapping[str, bool | int | float | str], *, lint: bool = True
) -> Rule | None:
    """The rule, or None when anything about it is wrong; what is wrong is in `mistakes`.

    `constants` may be named in its conditions. `lint=False` lets conditions through that cannot do their work.
    """

    def compiled(text: str, kind: str) -> Expression:
        return compile_expression(text, kind, constants, lint=lint)

    before = len(mistakes.found)
    entry = Reader(table, mistakes)
    name = table.entries.get("alert")
    mistakes.rule = name.value if isinstance(name, Text) else ""
    entry.check_keys(KEYS, REQUIRED)
    alert = entry.matching("alert", _ALERT, "is CamelCase, like VolumeAlmostFull")
    kind = entry.choice("resource", _KINDS, "")
    expression = entry.compiled("when", kind, compiled)
    clear = entry.compiled("clear_when", kind, compiled)
    if lint and expression is not None and clear is not None:
        why = useless_clear(expression.tree, clear.tree)
        if why:
            mistakes.add(table.entries["clear_when"].place, why)
    _check_loop(table, [expression, clear], mistakes)
    summary = entry.compiled("summary", kind, parse_template)
    description = entry.compiled("description", kind, parse_template)
    id_ = entry.matching("id", _ID, "is letters, digits, dots and dashes, like R-31")
    for_seconds, keep_seconds = entry.seconds("for"), entry.seconds("keep_firing_for")
    severity = entry.choice("severity", _SEVERITIES, "info")
    verdict = entry.choice("verdict", _VERDICTS, "")
    sticky = entry.boolean("sticky")
    inhibited_by = tuple(other.value for other in entry.names("inhibited_by"))
    runbook = entry.text("runbook")
    mistakes.rule = ""
    if len(mistakes.found) > before or expression is None or summary is None:
        return None
    return Rule(
        alert=alert,
        id=id_ or alert,
        resource=kind,
        expression=expression,
        clear=clear,
        program=expression.program,
        for_seconds=for_seconds,
        keep_firing_for_seconds=keep_seconds,
        severity=severity,
        verdict=verdict,
        sticky=sticky,
        inhibited_by=inhibited_by,
        summary=entry.text("summary"),
        description=entry.text("description"),
        runbook=runbook or alert.lower(),
        file=mistakes.file,
        summary_template=summary,
        description_template=description or (),
    )


def _check_loop(table: Table, conditions: Sequence[Expression | None], mistakes: Mistakes) -> None:
    """A rule that changes verdicts must not ask for one: it could keep itself firing, or never come to rest."""
    if "verdict" not in table.entries:
        return
    for condition in conditions:
        if condition is None:
            continue
        read = {name.rpartition(".")[2] for name in condition.names}
        if "verdict" in read.union(*(survey.facts for survey in condition.surveys)):
            said = "a rule that asks for a verdict cannot change one: take `verdict:` out, or ask for the facts behind it"
            mistakes.add(table.entries["verdict"].place, said)
            return
