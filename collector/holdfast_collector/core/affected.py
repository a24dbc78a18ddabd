"""Which rules a change of facts can change the answer of: the others need not be asked.

Most reports move a number or two, and most rules read others. Rules that look back in time are asked now and then
besides (`Court.judge_by_time`), and those with an alert at every report.
"""

from collections.abc import Collection, Iterable

from holdfast_rules import Rule, RuleSet
from holdfast_wire import fact
from holdfast_wire.relation import REFERENCES

_SETS_MAX = 10_000
"""Sets of changed facts remembered; a handful is usual."""
_SAMPLES = 256
"""Of a level per window; a series keeps about half as many."""
_EVENT_TOTALS = frozenset(f"{name}_total" for name in fact.EVENT_TYPES)


class Affected:
    """Answers for one rule set."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self._own: dict[tuple[str, frozenset[str]], tuple[Rule, ...]] = {}
        self._elsewhere: dict[tuple[str, str], list[Rule]] = {}
        """(kind, fact) → rules on other kinds of resource that read it."""
        self._sampled: dict[str, tuple[tuple[str, float, float], ...]] = {}
        self.surveyed: tuple[str, ...] = tuple(
            dict.fromkeys(survey.node.kind for rule in rules.rules for survey in rule.surveys)
        )
        """Kinds of which some rule asks about every resource."""
        self._surveys = {
            kind: [rule for rule in rules.rules if any(survey.node.kind == kind for survey in rule.surveys)]
            for kind in self.surveyed
        }
        for rule in rules.rules:
            for name in rule.names:
                kind, dot, fact_name = name.rpartition(".")
                if dot and kind != rule.resource:
                    self._elsewhere.setdefault((kind, fact_name), []).append(rule)

    def by(self, kind: str, changed: frozenset[str]) -> tuple[Rule, ...]:
        """The rules on resources of `kind` that read one of the changed facts, in the rule set's order."""
        found = self._own.get((kind, changed))
        if found is None:
            if len(self._own) >= _SETS_MAX:
                self._own.clear()
            found = tuple(
                rule
                for rule in self._rules.of_kind(kind)
                if any(self._reads(kind, name, changed) for name in rule.names)
                or (rule.surveys and "" in changed)
            )
            self._own[(kind, changed)] = found
        return found

    @staticmethod
    def _reads(kind: str, name: str, changed: frozenset[str]) -> bool:
        """Whether a rule that reads `name` reads one of the changed facts: itself, or to know whom to ask."""
        if name in changed or name.removeprefix(f"{kind}.") in changed:
            return True
        return REFERENCES.get(kind, {}).get(name.partition(".")[0]) in changed

    def elsewhere(self, kind: str, changed: Iterable[str]) -> list[Rule]:
        """The rules on other kinds of resource that read one of the changed facts: of what rests on this one."""
        if not self._elsewhere:
            return []
        return [rule for name in changed for rule in self._elsewhere.get((kind, name), ())]

    def surveying(self, kind: str, changed: frozenset[str] | None) -> list[Rule]:
        """The rules that ask about every resource of a kind and read one of the changed facts; None: all of them.

        What rests on what is a fact, too, so rules about what rests on a resource are asked whatever changed.
        """
        return [
            rule
            for rule in self._surveys.get(kind, ())
            if changed is None
            or any(
                survey.node.resting or "" in changed or not survey.facts.isdisjoint(changed)
                for survey in rule.surveys
                if survey.node.kind == kind
            )
        ]

    def looked_back_on(self, kind: str) -> Collection[str]:
        """The facts of which rules want the history."""
        return self._rules.windows(kind).keys()

    def sampled(self, kind: str) -> tuple[tuple[str, float, float], ...]:
        """(fact, window in seconds, spacing in seconds) of what rules look back on.

        A level need not be sampled more finely than its window is cut into; a counter is sampled whenever it is
        observed, so that its growth is seen at once. Counts of events are remembered when events come, not here.
        """
        found = self._sampled.get(kind)
        if found is None:
            declared = fact.FACTS_OF.get(kind, {})
            found = self._sampled[kind] = tuple(
                (name, seconds, 0.0 if declared[name].counter else seconds / _SAMPLES)
                for name, seconds in self._rules.windows(kind).items()
                if name not in _EVENT_TOTALS
            )
        return found
