"""Which rules a change of facts can change the answer of: the others need not be asked.

Most reports move a number or two, and most rules read others. Rules that look back in time are asked now and then
besides (`Court.judge_by_time`), and those with an alert at every report.
"""

from collections.abc import Collection

from holdfast_rules import Finding, ProgramOfAll, Rule, RuleSet, Subject, judge_all
from holdfast_wire import fact
from holdfast_wire.relation import REFERENCES

_SETS_MAX = 10_000
"""Sets of changed facts remembered; a handful is usual."""
_SAMPLES = 256
"""Of a level per window; a series keeps about half as many."""
_EVENT_TOTALS = frozenset(f"{name}_total" for name in fact.EVENT_TYPES)


Wanted = tuple[tuple[str, float, float], ...]
"""(fact, window in seconds, spacing in seconds)"""

_COMPILED_AFTER = 64
"""Askings after which rules that are asked together are compiled together: some milliseconds, for a third of the time."""


class Asked:
    """Rules on one kind of resource that are asked together, again and again."""

    __slots__ = ("_askings", "_program", "elsewhere", "ids", "rules")

    def __init__(self, rules: tuple[Rule, ...], elsewhere: tuple[Rule, ...] = ()) -> None:
        self.rules = rules
        """In the rule set's order."""
        self.ids = frozenset(rule.id for rule in rules)
        self.elsewhere = elsewhere
        """The rules on other kinds of resource that the same change concerns: of what rests on this one."""
        self._askings = 0
        self._program: ProgramOfAll | None = None

    def judge(self, subject: Subject, at: float) -> tuple[Finding, ...]:
        """What each rule says of a resource, in the order of `rules`."""
        if self._program is None:
            self._askings += 1
            if self._askings < _COMPILED_AFTER:
                return tuple([rule.judge(subject, at) for rule in self.rules])
            self._program = judge_all(self.rules)
        return self._program(subject.facts.get, subject, at)


class Affected:
    """Answers for one rule set."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self._own: dict[tuple[str, frozenset[str]], Asked] = {}
        self._timed: dict[str, Asked] = {}
        self._elsewhere: dict[tuple[str, str], list[Rule]] = {}
        """(kind, fact) → rules on other kinds of resource that read it."""
        self._sampled: dict[str, tuple[Wanted, Wanted]] = {}
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

    def by(self, kind: str, changed: frozenset[str]) -> Asked:
        """The rules that read one of the changed facts of a resource of `kind`."""
        found = self._own.get((kind, changed))
        if found is None:
            if len(self._own) >= _SETS_MAX:
                self._own.clear()
            own = tuple(
                rule
                for rule in self._rules.of_kind(kind)
                if any(self._reads(kind, name, changed) for name in rule.names)
                or (rule.surveys and "" in changed)
            )
            resting = [rule for name in sorted(changed) for rule in self._elsewhere.get((kind, name), ())]
            found = self._own[(kind, changed)] = Asked(
                own, tuple({rule.id: rule for rule in resting}.values())
            )
        return found

    def timed(self, kind: str) -> Asked:
        """The rules on resources of `kind` whose answer may change by time alone."""
        found = self._timed.get(kind)
        if found is None:
            found = self._timed[kind] = Asked(tuple(rule for rule in self._rules.of_kind(kind) if rule.timed))
        return found

    @staticmethod
    def _reads(kind: str, name: str, changed: frozenset[str]) -> bool:
        """Whether a rule that reads `name` reads one of the changed facts: itself, or to know whom to ask."""
        if name in changed or name.removeprefix(f"{kind}.") in changed:
            return True
        return REFERENCES.get(kind, {}).get(name.partition(".")[0]) in changed

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

    def sampled(self, kind: str) -> tuple[Wanted, Wanted]:
        """What rules look back on: facts to sample whenever they are observed, and those that have time.

        A level need not be sampled more finely than its window is cut into; a counter is sampled whenever it is
        observed, so that its growth is seen at once. Counts of events are remembered when events come, not here.
        """
        found = self._sampled.get(kind)
        if found is None:
            declared = fact.FACTS_OF.get(kind, {})
            wanted = [
                (name, seconds, 0.0 if declared[name].counter else seconds / _SAMPLES)
                for name, seconds in self._rules.windows(kind).items()
                if name not in _EVENT_TOTALS
            ]
            found = self._sampled[kind] = (
                tuple(row for row in wanted if not row[2]),
                tuple(row for row in wanted if row[2]),
            )
        return found
