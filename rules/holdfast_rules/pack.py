"""Packs: YAML texts in, a rule set or every mistake out.

A pack is a mapping with `rules:`, a list of rules, and, in an operator's own pack, what it changes of other packs'
rules (`changes`). It is put together in three rounds, so that each mistake is reported once and where its author can
mend it:

1. every rule of every pack as its author wrote it, with the constants as they were first given
2. what packs change everywhere, pack by pack: the rules that this touches, anew
3. what each `where` changes on top: the rules that this touches, anew; kept as a recipe, by node
"""

from collections.abc import Mapping, Sequence

from holdfast_rules.changes import CHANGES, Changes, Constant, Scalar, Where, read_constants, read_wheres
from holdfast_rules.document import Items, Mistakes, Place, Table, Text, Value, kind_of, moved
from holdfast_rules.entry import read_rule
from holdfast_rules.errors import PackError, nearest
from holdfast_rules.reader import Reader
from holdfast_rules.rule import Rule
from holdfast_rules.rule_set import RuleSet
from holdfast_rules.variants import Variants
from holdfast_rules.yaml_document import read_document


def load(texts: Mapping[str, str]) -> RuleSet:
    """The rules of all packs together; `texts` is file name → content. Raises PackError with every mistake."""
    files = {file: Mistakes(file) for file in texts}
    packs = [_Pack(text, files[file]) for file, text in texts.items()]
    constants = _constants(packs)
    for pack in packs:
        for entry in pack.entries:
            entry.rule = read_rule(entry.table, pack.mistakes, _values(constants))
    entries = [entry for pack in packs for entry in pack.entries]
    kept = [entry for entry in entries if not any(pack.disables(entry) for pack in packs)]
    for pack in packs:
        _check_names(pack, {entry.name for entry in entries}, {entry.name for entry in kept}, constants)
    _check_once(packs)
    _check_unique(kept, files)
    _check_inhibitions(kept, {entry.name for entry in entries}, files)
    everywhere = [pack.changes for pack in packs]
    for number, changes in enumerate(everywhere):
        for entry, rule in _changed(kept, changes, everywhere[:number], constants):
            entry.rule = rule
    wheres = [where for pack in packs for where in pack.wheres]
    varied = [_changed(kept, where.changes, everywhere, constants) for where in wheres]
    _check_together(varied, wheres, everywhere, constants)
    found = [mistake for mistakes in files.values() for mistake in mistakes.found]
    if found:
        raise PackError(found)
    rules = [entry.rule for entry in kept if entry.rule is not None]
    if not wheres:
        return RuleSet.of(rules)
    variants = Variants(
        [where.selection for where in wheres],
        _Builder(kept, everywhere, wheres, constants),
        max([0.0, *(RuleSet.of([rule]).lookback_seconds for rules in varied for _, rule in rules)]),
    )
    return RuleSet.of(rules, variants)


class _Entry:
    """A rule as it stands in a file, good or not: other rules may name it either way."""

    def __init__(self, table: Table, mistakes: Mistakes) -> None:
        self.file = mistakes.file
        self.table = table
        name = table.entries.get("alert")
        self.name = name.value if isinstance(name, Text) else ""
        self.rule: Rule | None = None

    def known_by(self, key: str) -> Text | None:
        """Its `alert` or its `id`; a rule without an id goes by its alert."""
        value = self.table.entries.get(key) or self.table.entries.get("alert")
        return value if isinstance(value, Text) else None

    @property
    def inhibitors(self) -> list[Text]:
        value = self.table.entries.get("inhibited_by")
        return [item for item in value.items if isinstance(item, Text)] if isinstance(value, Items) else []

    def changed(self, changes: Sequence[Changes], place: Place) -> Table:
        """Its table with what the changes override; all the rest as if it stood at `place`."""
        entries: dict[str, Value] = {key: moved(value, place) for key, value in self.table.entries.items()}
        keys = dict.fromkeys(self.table.keys, place)
        for change in changes:
            table = change.overrides.get(self.name)
            if table is not None:
                entries.update(table.entries)
                keys.update(table.keys)
        return Table(place=place, entries=entries, keys=keys)


class _Pack:
    """One file."""

    def __init__(self, text: str, mistakes: Mistakes) -> None:
        self.mistakes = mistakes
        self.entries: list[_Entry] = []
        self.constants: dict[str, Constant] = {}
        self.wheres: list[Where] = []
        table = read_document(text, mistakes)
        self.changes = Changes(table or Table(place=Place(1, 1), entries={}, keys={}), mistakes)
        if table is None:
            return
        reader = Reader(table, mistakes)
        reader.check_keys(("rules", "constants", "where", *CHANGES), ())
        self.constants = read_constants(reader.table_of("constants"), mistakes)
        self.wheres = read_wheres(reader.value("where"), mistakes)
        rules = table.entries.get("rules")
        if rules is None:
            if not any(key in table.entries for key in ("constants", "where", *CHANGES)):
                mistakes.add(table.place, "a pack has `rules:`, a list of rules")
        elif not isinstance(rules, Items):
            mistakes.add(rules.place, f"`rules` is a list, not {kind_of(rules)}")
        else:
            self._read(rules)

    def _read(self, rules: Items) -> None:
        for item in rules.items:
            if isinstance(item, Table):
                self.entries.append(_Entry(item, self.mistakes))
            else:
                self.mistakes.add(item.place, f"a rule is a mapping, not {kind_of(item)}")

    def disables(self, entry: _Entry) -> bool:
        """Whether this pack takes another pack's rule out of force."""
        return entry.file != self.mistakes.file and self.changes.disables(entry.name)

    @property
    def all_changes(self) -> list[Changes]:
        return [self.changes, *(where.changes for where in self.wheres)]


class _Builder:
    """Puts the rules of a kind of node together. Every part of it was checked when the packs were loaded."""

    def __init__(
        self,
        kept: Sequence[_Entry],
        everywhere: Sequence[Changes],
        wheres: Sequence[Where],
        constants: Mapping[str, Constant],
    ) -> None:
        self._kept = kept
        self._everywhere = everywhere
        self._wheres = wheres
        self._constants = constants

    def __call__(self, chosen: tuple[int, ...]) -> RuleSet:
        changes = [self._wheres[index].changes for index in chosen]
        rules = []
        for entry in self._kept:
            if entry.rule is None or any(change.disables(entry.name) for change in changes):
                continue
            touching = any(change.place(entry.name, entry.rule.constants) for change in changes)
            rules.append(self._changed(entry, entry.rule, changes) if touching else entry.rule)
        return RuleSet.of(rules)

    def _changed(self, entry: _Entry, rule: Rule, changes: Sequence[Changes]) -> Rule:
        """Names were checked change by change, and values with every condition that names them: this reads."""
        whole = [*self._everywhere, *changes]
        mistakes = Mistakes(rule.file)
        table = entry.changed(whole, Place(1, 1))
        read = read_rule(table, mistakes, _values_after(self._constants, whole), lint=False)
        assert read is not None, mistakes.found
        return read


def _values(constants: Mapping[str, Constant]) -> dict[str, Scalar]:
    return {name: constant.value for name, constant in constants.items()}


def _constants(packs: Sequence[_Pack]) -> dict[str, Constant]:
    """The constants of all packs by name; each is given once."""
    found: dict[str, Constant] = {}
    origins: dict[str, str] = {}
    for pack in packs:
        for name, constant in pack.constants.items():
            if name in found:
                said = f"the constant {name} is taken, at {origins[name]}; `set` gives it another value"
                pack.mistakes.add(constant.place, said)
            else:
                found[name] = constant
                origins[name] = f"{pack.mistakes.file}:{constant.place.line}"
    return found


def _check_names(pack: _Pack, known: set[str], in_force: set[str], constants: Mapping[str, Constant]) -> None:
    """Changes are to what there is."""
    mistakes = pack.mistakes
    for changes in pack.all_changes:
        for alert in changes.disabled:
            if alert.value not in known:
                near = nearest(alert.value, sorted(known))
                mistakes.add(alert.place, f"there is no alert {alert.value} to disable", near)
        for name, place in changes.places.items():
            if name not in known:
                mistakes.add(place, f"there is no alert {name} to change", nearest(name, sorted(known)))
            elif name not in in_force:
                mistakes.add(place, f"{name} is disabled; there is nothing to change")
        changes.values = {
            name: constant
            for name, constant in changes.values.items()
            if _check_value(name, constant, constants, mistakes)
        }


def _check_value(
    name: str, constant: Constant, constants: Mapping[str, Constant], mistakes: Mistakes
) -> bool:
    """Whether the constant can have that value."""
    known = constants.get(name)
    if known is None:
        near = nearest(name, sorted(constants))
        mistakes.add(constant.place, f"no pack has a constant {name}; `constants` brings a new one", near)
    elif _type(known.value) != _type(constant.value):
        said = f"{name} is {_type(known.value)}, {known.value!r}; {constant.value!r} is not"
        mistakes.add(constant.place, said)
    return known is not None and _type(known.value) == _type(constant.value)


def _type(value: Scalar) -> str:
    match value:
        case bool():
            return "true or false"
        case str():
            return "text"
        case _:
            return "a number"


def _check_once(packs: Sequence[_Pack]) -> None:
    """Two packs that change the same thing everywhere: whose word holds would depend on their files' names."""
    first: dict[str, str] = {}
    for pack in packs:
        changed = {name: one.place for name, one in pack.changes.values.items()}
        for alert, table in pack.changes.overrides.items():
            changed.update({f"{alert}.{key}": place for key, place in table.keys.items()})
        for name, place in changed.items():
            if name in first:
                pack.mistakes.add(place, f"{name} is changed already, at {first[name]}")
            first.setdefault(name, f"{pack.mistakes.file}:{place.line}")


def _changed(
    kept: Sequence[_Entry], changes: Changes, before: Sequence[Changes], constants: Mapping[str, Constant]
) -> list[tuple[_Entry, Rule]]:
    """The rules that changes touch, as they become on top of those before."""
    whole = [*before, changes]
    found = []
    for entry in kept:
        # What is wrong without the change has been said.
        place = changes.place(entry.name, entry.rule.constants) if entry.rule else None
        if place is None:
            continue
        rule = read_rule(entry.changed(whole, place), changes.mistakes, _values_after(constants, whole))
        if rule is not None:
            found.append((entry, rule))
    return found


def _check_together(
    varied: Sequence[Sequence[tuple[_Entry, Rule]]],
    wheres: Sequence[Where],
    everywhere: Sequence[Changes],
    constants: Mapping[str, Constant],
) -> None:
    """A node that two `where` mean has the conditions of one with the values of the other."""
    for rules, where in zip(varied, wheres, strict=True):
        for other in wheres:
            for entry, rule in rules if other is not where else ():
                place = other.changes.place("", rule.constants)
                if place is None or entry.name not in where.changes.overrides:
                    continue
                whole = [*everywhere, where.changes, other.changes]
                table = moved(entry.changed(whole, place), place)
                assert isinstance(table, Table), "a table stays one"
                read_rule(table, other.changes.mistakes, _values_after(constants, whole), lint=False)


def _values_after(constants: Mapping[str, Constant], changes: Sequence[Changes]) -> dict[str, Scalar]:
    """What the constants are when all changes are in force, the later over the earlier."""
    return _values(constants) | {name: one.value for change in changes for name, one in change.values.items()}


def _check_unique(entries: list[_Entry], files: Mapping[str, Mistakes]) -> None:
    for key in ("alert", "id"):
        first: dict[str, _Entry] = {}
        for entry in entries:
            text = entry.known_by(key)
            if text is None:
                continue
            other = first.setdefault(text.value, entry)
            taken = other.known_by(key)
            # Where the ids are the alerts, the alerts' own clash has said it all.
            if other is not entry and taken is not None and (key == "alert" or other.name != entry.name):
                mistakes = files[entry.file]
                mistakes.rule = entry.name
                mistakes.add(text.place, f"`{key}` {text.value} is taken, at {other.file}:{taken.place.line}")
                mistakes.rule = ""


def _check_inhibitions(entries: list[_Entry], known: set[str], files: Mapping[str, Mistakes]) -> None:
    by_name = {entry.name: entry for entry in entries}
    for entry in entries:
        mistakes = files[entry.file]
        mistakes.rule = entry.name
        for text in entry.inhibitors:
            if text.value not in known:
                near = nearest(text.value, sorted(known))
                mistakes.add(text.place, f"`inhibited_by` names {text.value}, which no pack has", near)
            elif entry.name in _inhibitors(text.value, by_name):
                mistakes.add(
                    text.place, f"{text.value} is itself inhibited by {entry.name}: both would be silent"
                )
        mistakes.rule = ""


def _inhibitors(name: str, by_name: Mapping[str, _Entry]) -> set[str]:
    """The alert and all that may keep it quiet, however indirectly."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            entry = by_name.get(name)
            waiting.extend(text.value for text in entry.inhibitors) if entry else None
    return found
