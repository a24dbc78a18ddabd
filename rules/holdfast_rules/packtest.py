"""Packs under test: facts over time in, the alert's state at given moments expected.

A pack's tests stand beside it in `<pack>.test.yaml`:

    tests:
      - name: a volume that stays full for half an hour fires, and not before
        rule: VolumeAlmostFull
        resource: /srv
        every: 10m
        facts: {free_ratio: 0.50x2 0.04x8, writable: true}
        related: {node: {reporting: true}}
        expect: {20m: pending, 40m: pending, 50m: firing}
        summary: "vm-1: /srv has 4.0% free"

Each step judges the rule and advances its alert exactly as the collector does, in virtual time. `acknowledge:
{1h: reason}` acknowledges before that step's judgement. `summary` is what the alert says at the last moment it is
expected to fire. `others: {volume: {/a: {dead: false}, /b: {dead: true}}}` are the resources that `any(… for v in volumes)`
goes over.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from holdfast_rules import duration
from holdfast_rules.alert import Alert, AlertState, acknowledge, advance
from holdfast_rules.case import Case, Shows, read_cases
from holdfast_rules.finding import Finding
from holdfast_rules.rule_set import RuleSet
from holdfast_rules.samples import Samples
from holdfast_rules.series import Series
from holdfast_rules.subject import Others, Point
from holdfast_wire.message import Value as FactValue

__all__ = ["Case", "Outcome", "Shows", "read_cases", "run"]

START = 1_700_000_000.0
"""Where virtual time begins; any instant would do."""
GAP_STEPS = 3
"""Steps without a finding that still count as observed: the collector allows three report intervals."""


class Outcome(Struct, frozen=True, kw_only=True):
    """How a test went."""

    case: Case
    failures: tuple[str, ...]
    """Each a line or more for a person; empty when the test passed."""

    def __str__(self) -> str:
        head = f"{self.case.file}:{self.case.line}: {self.case.rule.alert}: {self.case.name}"
        return "\n".join([head, *(f"    {failure}" for failure in self.failures)])


def run(case: Case) -> Outcome:
    """Play a test through."""
    failures: list[str] = []
    machine = _Machine(case)
    alert: Alert | None = None
    told = ""
    expected = {expectation.step: expectation.state for expectation in case.expect}
    for step in range(case.expect[-1].step + 1):
        machine.advance(step)
        if alert is not None and step in case.acknowledge:
            alert = acknowledge(alert, case.acknowledge[step], machine.at)
        finding = case.rule.judge(machine.judged, machine.at)
        if finding is Finding.CLEAR and alert is not None and alert.state is AlertState.FIRING:
            finding = case.rule.clearing(machine.judged, machine.at)
        alert = advance(
            case.rule,
            alert,
            (case.node, case.rule.resource, case.resource),
            finding,
            machine.at,
            gap_seconds_max=GAP_STEPS * case.every_seconds,
            episode_next=1,
            annotations=case.rule.annotations(machine.judged, machine.at),
        ).alert
        state = AlertState.INACTIVE if alert is None else alert.state
        if state is AlertState.FIRING and expected.get(step) is AlertState.FIRING and alert is not None:
            told = alert.annotations["summary"]
        if step in expected and state is not expected[step]:
            failures.append(_failure(case, machine, step, expected[step], state, finding, alert))
    if case.summary and not failures and told != case.summary:
        failures.append(f"expected to say {case.summary!r}\n       but said {told!r}")
    return Outcome(case=case, failures=tuple(failures))


def _failure(
    case: Case,
    machine: "_Machine",
    step: int,
    expected: AlertState,
    state: AlertState,
    finding: Finding,
    alert: Alert | None,
) -> str:
    held = ""
    if alert is not None and case.rule.for_seconds:
        held = f", held for {duration.spell(alert.held_seconds)} of {duration.spell(case.rule.for_seconds)}"
    return (
        f"at {duration.spell(step * case.every_seconds)}: expected {expected}, is {state}"
        f" ({finding}{held})\n        {case.rule.when.strip()}\n        {case.rule.evidence(machine.judged, machine.at)}"
    )


class _Resource:
    """One resource of a test as a rule sees it, step by step."""

    def __init__(
        self,
        machine: "_Machine",
        kind: str,
        name: str,
        samples: Mapping[str, Samples],
        windows: Mapping[str, float],
    ) -> None:
        self.node = machine.case.node
        self.kind = kind
        self.name = name
        self.facts: dict[str, FactValue] = {}
        self._machine = machine
        self._samples = samples
        self._series = {fact: Series(window) for fact, window in windows.items()}
        self._observed: dict[str, float] = {}

    def advance(self, step: int, at: float) -> None:
        self.facts = _present(self._samples, step)
        for name, value in self.facts.items():
            self._observed[name] = at
            series = self._series.get(name)
            if series is not None:
                assert not isinstance(value, str), "the language keeps no history of text"
                series.append(at, float(value))

    def related(self, kind: str) -> Mapping[str, FactValue] | None:
        samples = self._machine.case.related.get(kind)
        return None if samples is None else _present(samples, self._machine.step)

    def others(self, kind: str, resting: bool) -> Others:
        """All that the test lists rest on its resource. A kind it does not list is one that nobody has seen."""
        found = self._machine.resources.get(kind)
        return Others((), complete=False) if found is None else Others(found, complete=True)

    def series(self, fact: str) -> Sequence[Point]:
        return self._series.get(fact, ())

    def observed_at(self, fact: str) -> float | None:
        return self._observed.get(fact)


class _Machine:
    """The node of a test: the resource that is judged, and the others."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.step = 0
        self.at = START
        windows = RuleSet.of([case.rule]).windows_of
        kind = case.rule.resource
        self.judged = _Resource(self, kind, case.resource, case.facts, windows.get(kind, {}))
        self.resources = {
            other: [
                _Resource(self, other, name, samples, windows.get(other, {}))
                for name, samples in found.items()
            ]
            for other, found in case.others.items()
        }

    def advance(self, step: int) -> None:
        self.step = step
        self.at = START + step * self.case.every_seconds
        self.judged.advance(step, self.at)
        for found in self.resources.values():
            for resource in found:
                resource.advance(step, self.at)


def _present(samples: Mapping[str, Samples], step: int) -> dict[str, FactValue]:
    """The facts that are there at a step. After its last sample a fact is absent, unless it has only one."""
    present = {}
    for name, values in samples.items():
        value = values[0] if len(values) == 1 else values[step] if step < len(values) else None
        if value is not None:
            present[name] = value
    return present
