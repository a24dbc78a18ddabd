"""The tests of a pack, read and checked: what each machine goes through, and what is expected of the alert.

`packtest` says how they are written and plays them.
"""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from holdfast_rules import duration
from holdfast_rules.alert import AlertState
from holdfast_rules.call import PLURALS
from holdfast_rules.document import Items, Mistakes, Table, Text, Value, kind_of
from holdfast_rules.errors import PackError, nearest
from holdfast_rules.reader import Reader
from holdfast_rules.rule import Rule
from holdfast_rules.rule_set import RuleSet
from holdfast_rules.samples import SAMPLES_MAX, Samples, read_samples
from holdfast_rules.variants import NodeLabels
from holdfast_rules.yaml_document import read_document
from holdfast_wire.fact import FACTS_OF
from holdfast_wire.relation import RELATED

KEYS = (
    "name",
    "rule",
    "node",
    "labels",
    "resource",
    "every",
    "facts",
    "related",
    "others",
    "expect",
    "acknowledge",
    "summary",
)
NODE = "vm-1"
"""Where a test plays unless it says otherwise."""
_STATES = tuple(state.value for state in AlertState)


class Shows(StrEnum):
    """What a test shows of its rule. Every shipped rule has one test of each."""

    FIRES = "fires"
    QUIET = "stays quiet"
    MISSING = "has missing data"
    CLEARS = "clears"


class Expectation(Struct, frozen=True):
    """What the alert is at one step."""

    step: int
    state: AlertState


class Case(Struct, frozen=True, kw_only=True):
    """One test."""

    file: str
    line: int
    name: str
    rule: Rule
    node: str
    resource: str
    every_seconds: float
    facts: Mapping[str, Samples]
    related: Mapping[str, Mapping[str, Samples]]
    others: Mapping[str, Mapping[str, Mapping[str, Samples]]]
    """Kind → name → facts: what `any(… for v in volumes)` goes over."""
    expect: tuple[Expectation, ...]
    """In order of time."""
    acknowledge: Mapping[int, str]
    """Step → reason."""
    summary: str

    @property
    def shows(self) -> Shows:
        """What the test is good for."""
        read = [*(self.facts.get(name) for name in self.rule.names if "." not in name)]
        for name in self.rule.names:
            kind, dot, fact = name.rpartition(".")
            if dot:
                read.append(self.related.get(kind, {}).get(fact))
        for survey in self.rule.surveys:
            there = self.others.get(survey.node.kind)
            read += (
                [facts.get(name) for facts in there.values() for name in survey.facts]
                if there is not None
                else [None]
            )
        if any(samples is None or None in samples for samples in read):
            return Shows.MISSING
        states = [expectation.state for expectation in self.expect]
        if AlertState.FIRING not in states:
            return Shows.QUIET
        after = states[states.index(AlertState.FIRING) :]
        return Shows.CLEARS if AlertState.INACTIVE in after else Shows.FIRES


def read_cases(texts: Mapping[str, str], rules: RuleSet) -> list[Case]:
    """The tests of all files; `texts` is file name → content. Raises PackError with every mistake."""
    cases: list[Case] = []
    found = []
    for file, text in texts.items():
        mistakes = Mistakes(file)
        document = read_document(text, mistakes)
        if document is not None:
            cases.extend(_cases(document, rules, mistakes))
        found.extend(mistakes.found)
    if found:
        raise PackError(found)
    return cases


def _cases(document: Table, rules: RuleSet, mistakes: Mistakes) -> list[Case]:
    reader = Reader(document, mistakes)
    reader.check_keys(("tests",), ("tests",))
    tests = reader.value("tests")
    if tests is None:
        return []
    if not isinstance(tests, Items):
        mistakes.add(tests.place, f"`tests` is a list, not {kind_of(tests)}")
        return []
    cases = [_case(item, rules, mistakes) for item in tests.items]
    return [case for case in cases if case is not None]


def _case(item: Value, rules: RuleSet, mistakes: Mistakes) -> Case | None:
    if not isinstance(item, Table):
        mistakes.add(item.place, f"a test is a mapping, not {kind_of(item)}")
        return None
    before = len(mistakes.found)
    reader = Reader(item, mistakes)
    mistakes.rule = reader.text("name")
    reader.check_keys(KEYS, ("name", "rule", "resource", "every", "expect"))
    rule = _rule(reader, rules)
    every = reader.seconds("every")
    if "every" in item.entries and not every and len(mistakes.found) == before:
        mistakes.add(item.entries["every"].place, "`every` is longer than nothing")
    kind = rule.resource if rule else ""
    facts = _facts(reader.table_of("facts"), kind, mistakes) if rule else {}
    related = _related(reader.table_of("related"), kind, mistakes) if rule else {}
    others = _others(reader.table_of("others"), mistakes)
    expect = _expected(reader, every)
    acknowledged = {step: text.value for step, text in _timed(reader, "acknowledge", every)}
    mistakes.rule = ""
    if len(mistakes.found) > before or rule is None:
        return None
    return Case(
        file=mistakes.file,
        line=item.place.line,
        name=reader.text("name"),
        rule=rule,
        node=reader.text("node") or NODE,
        resource=reader.text("resource"),
        every_seconds=every,
        facts=facts,
        related=related,
        others=others,
        expect=expect,
        acknowledge=acknowledged,
        summary=reader.text("summary"),
    )


def _rule(reader: Reader, rules: RuleSet) -> Rule | None:
    text = reader.scalar("rule")
    if text is None:
        return None
    node = reader.text("node") or NODE
    labels = reader.table_of("labels")
    given = {name: Reader(labels, reader.mistakes).text(name) for name in labels.entries} if labels else {}
    in_force = rules.labelled([NodeLabels((node,), given)]).of_node(node)
    rule = in_force.by_name.get(text.value)
    if rule is None:
        near = nearest(text.value, list(in_force.by_name))
        where = f" on {node}" if text.value in rules.by_name else ""
        reader.mistakes.add(text.place, f"there is no alert {text.value}{where}", near)
    return rule


def _facts(table: Table | None, kind: str, mistakes: Mistakes) -> dict[str, Samples]:
    facts: dict[str, Samples] = {}
    for name, value in table.entries.items() if table else ():
        fact = FACTS_OF[kind].get(name)
        if fact is None:
            near = nearest(name, list(FACTS_OF[kind]))
            mistakes.add(
                table.keys[name] if table else value.place, f"`{name}` is not a fact of a {kind}", near
            )
            continue
        samples = read_samples(fact, value, mistakes)
        if samples:
            facts[name] = samples
    return facts


def _related(table: Table | None, kind: str, mistakes: Mistakes) -> dict[str, dict[str, Samples]]:
    related: dict[str, dict[str, Samples]] = {}
    for other, value in table.entries.items() if table else ():
        if other not in RELATED[kind]:
            mistakes.add(value.place, f"a {kind} has no one {other}")
        elif not isinstance(value, Table):
            mistakes.add(value.place, f"`{other}` is a mapping of facts, not {kind_of(value)}")
        else:
            related[other] = _facts(value, other, mistakes)
    return related


def _others(table: Table | None, mistakes: Mistakes) -> dict[str, dict[str, dict[str, Samples]]]:
    others: dict[str, dict[str, dict[str, Samples]]] = {}
    for kind, found in table.entries.items() if table else ():
        assert table is not None, "it has entries"
        if kind not in PLURALS.values():
            near = nearest(kind, list(PLURALS.values()))
            mistakes.add(table.keys[kind], f"there is no {kind} that a node has several of", near)
        elif not isinstance(found, Table):
            mistakes.add(found.place, f"`{kind}` is a mapping of names to facts, not {kind_of(found)}")
        else:
            reader = Reader(found, mistakes)
            named = {name: reader.table_of(name) for name in found.entries}
            others[kind] = {name: _facts(facts, kind, mistakes) for name, facts in named.items() if facts}
    return others


def _expected(reader: Reader, every: float) -> tuple[Expectation, ...]:
    expected = []
    for step, text in _timed(reader, "expect", every):
        if text.value not in _STATES:
            near = nearest(text.value, list(_STATES))
            message = f"an alert is {', '.join(_STATES)}; {text.value!r} it never is"
            reader.mistakes.add(text.place, message, near)
        else:
            expected.append(Expectation(step, AlertState(text.value)))
    table = reader.value("expect")
    if isinstance(table, Table) and not table.entries:
        reader.mistakes.add(reader.table.keys["expect"], "`expect` is empty: a test without it shows nothing")
    return tuple(sorted(expected, key=lambda expectation: expectation.step))


def _timed(reader: Reader, key: str, every: float) -> list[tuple[int, Text]]:
    """A mapping of moments: step → text."""
    table = reader.table_of(key)
    found = []
    for moment, value in table.entries.items() if table and every else ():
        assert table is not None, "it has entries"
        place = table.keys[moment]
        seconds = 0.0 if moment == "0" else reader.seconds_of(moment, place)
        if not isinstance(value, Text):
            reader.mistakes.add(value.place, f"`{moment}` is a single value, not {kind_of(value)}")
        elif seconds % every:
            reader.mistakes.add(
                place, f"{moment} is not one of the steps, which are {duration.spell(every)} apart"
            )
        elif seconds / every > SAMPLES_MAX:
            reader.mistakes.add(place, f"{moment} is more than {SAMPLES_MAX} steps away")
        else:
            found.append((int(seconds / every), value))
    return found
