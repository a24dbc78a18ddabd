"""A rule: a condition on a kind of resource, and what it means when it holds."""

from collections.abc import Iterator, Mapping
from typing import Literal

from msgspec import Struct

from holdfast_rules.expression import Expression, Survey
from holdfast_rules.finding import Finding
from holdfast_rules.lower import Program
from holdfast_rules.subject import Subject
from holdfast_rules.template import Template, render, show

Severity = Literal["page", "ticket", "info"]
"""Wake somebody; tomorrow; good to know."""
Verdict = Literal["", "unknown", "at_risk", "not_durable", "lost"]
"""What a rule does to its resource's verdict while it holds; empty: nothing."""


DECIDING_MAX = 10
"""Names of resources listed as evidence."""

# Members as globals: reading them off the Enum costs more than judging a flat rule.
_HOLDS, _CLEAR, _UNKNOWN = Finding.HOLDS, Finding.CLEAR, Finding.UNKNOWN
_BETWEEN = Finding.BETWEEN


class Rule(Struct, frozen=True, kw_only=True):
    """One rule of a rule set, checked and compiled. `pack.load` makes them."""

    alert: str
    """CamelCase noun and state; the heading of its runbook entry, and unique."""
    id: str
    """Stable and unique; part of every alert's key. The catalogue's number, or the alert's name."""
    resource: str
    """The kind of resource it judges, each one by itself."""
    expression: Expression
    clear: Expression | None = None
    """What must hold before a firing alert may clear; None: it is enough that the condition does not."""
    for_seconds: float = 0.0
    keep_firing_for_seconds: float = 0.0
    severity: Severity
    verdict: Verdict = ""
    sticky: bool = False
    """A firing alert needs an operator's acknowledgement to leave."""
    inhibited_by: tuple[str, ...] = ()
    """Alerts, on the same resource or one it rests on, that explain this one and keep it quiet."""
    summary: str
    description: str = ""
    runbook: str = ""
    """The heading of the runbook entry, as an anchor or a whole URL."""
    file: str = ""
    """The pack it came from."""
    program: Program
    """The expression's, one look-up nearer: judging is the collector's hottest path."""
    summary_template: Template = ()
    description_template: Template = ()

    @property
    def when(self) -> str:
        """The condition as written."""
        return self.expression.source

    @property
    def clear_when(self) -> str:
        """What must hold before a firing alert may clear, as written; empty when nothing must."""
        return "" if self.clear is None else self.clear.source

    @property
    def names(self) -> tuple[str, ...]:
        """The facts the conditions read; those of a related resource as `kind.fact`."""
        if self.clear is None:
            return self.expression.names
        return tuple(dict.fromkeys(self.expression.names + self.clear.names))

    @property
    def constants(self) -> tuple[str, ...]:
        """The packs' constants that the conditions name."""
        return self.expression.constants + (() if self.clear is None else self.clear.constants)

    @property
    def windows(self) -> Mapping[str, float]:
        """The history the conditions need: fact → seconds."""
        if self.clear is None:
            return self.expression.windows
        longest = dict(self.expression.windows)
        for fact, seconds in self.clear.windows.items():
            longest[fact] = max(seconds, longest.get(fact, 0.0))
        return longest

    @property
    def surveys(self) -> tuple[Survey, ...]:
        """What the conditions ask of many resources."""
        return self.expression.surveys + (() if self.clear is None else self.clear.surveys)

    @property
    def windows_elsewhere(self) -> Iterator[tuple[str, str, float]]:
        """The history that needs: (kind, fact, seconds)."""
        for expression in (self.expression, self.clear):
            if expression is not None:
                for kind, facts in expression.windows_elsewhere.items():
                    for fact, seconds in facts.items():
                        yield kind, fact, seconds

    @property
    def timed(self) -> bool:
        """Time alone can change the answer, without any new fact."""
        return self.expression.timed or (self.clear is not None and self.clear.timed)

    @property
    def remembers(self) -> bool:
        """The condition looks back on what happened within a window: it ends by the clock, and not by a repair."""
        return self.expression.remembers

    def judge(self, subject: Subject, at: float) -> Finding:
        """What the condition says of a resource of the rule's kind now. `at` is by the collector's clock."""
        answer = self.program(subject.facts.get, subject, at)
        return _HOLDS if answer else _UNKNOWN if answer is None else _CLEAR

    def clearing(self, subject: Subject, at: float) -> Finding:
        """What becomes of a firing alert whose condition is known not to hold: hysteresis.

        CLEAR when `clear_when` holds or there is none, BETWEEN when it is known not to, UNKNOWN when nobody can say.
        """
        if self.clear is None:
            return _CLEAR
        answer = self.clear.program(subject.facts.get, subject, at)
        return _CLEAR if answer else _UNKNOWN if answer is None else _BETWEEN

    def annotations(self, subject: Subject, at: float, runbook_base: str = "") -> dict[str, str]:
        """The sentences of an alert: summary, description, evidence, runbook_url. Empty ones are left out."""
        runbook = (
            self.runbook if "://" in self.runbook or not runbook_base else f"{runbook_base}#{self.runbook}"
        )
        found = {
            "summary": render(self.summary_template, subject),
            "description": render(self.description_template, subject),
            "evidence": self.evidence(subject, at),
            "runbook_url": runbook if "://" in runbook else "",
        }
        return {name: text for name, text in found.items() if text}

    def evidence(self, subject: Subject, at: float) -> str:
        """The facts the condition read, as they are now, and which of many resources decided it."""
        found = [f"{name}={_evident(name, subject)}" for name in self.names]
        for survey in self.surveys:
            value = survey.value(subject.facts.get, subject, at)
            deciding = survey.deciding(subject, at)
            listed = ", ".join(deciding[:DECIDING_MAX]) + (", …" if len(deciding) > DECIDING_MAX else "")
            said = "unknown" if value is None else show(value)
            found.append(f"{survey.source}={said}" + (f" ({listed})" if listed else ""))
        return ", ".join(found)


def _evident(name: str, subject: Subject) -> str:
    kind, dot, fact = name.rpartition(".")
    facts = subject.related(kind) if dot else subject.facts
    value = None if facts is None else facts.get(fact)
    return "unknown" if value is None else show(value)
