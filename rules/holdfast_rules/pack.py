"""Packs: YAML texts in, a rule set or every mistake out. The only file that knows YAML.

A pack is a mapping with `rules:`, a list of rules, and, in an operator's own pack, `disable:`, a list of alerts that
other packs bring and this one takes out of force. To change a shipped rule, disable it and write it anew under the
same name.
"""

from collections.abc import Iterator, Mapping

import yaml

from holdfast_rules.document import Items, Mistakes, Place, Table, Text, Value, kind_of
from holdfast_rules.entry import read_rule
from holdfast_rules.errors import PackError, nearest
from holdfast_rules.reader import Reader
from holdfast_rules.rule import Rule
from holdfast_rules.rule_set import RuleSet

LENGTH_MAX = 1024 * 1024
"""Characters per file: thousands of rules."""
DEPTH_MAX = 12
"""No file of ours nests deeper than six."""
VALUES_MAX = 100_000
"""Per file, aliases counted as often as they are used: a few hundred bytes of them can stand for billions."""


def load(texts: Mapping[str, str]) -> RuleSet:
    """The rules of all packs together; `texts` is file name → content. Raises PackError with every mistake."""
    files = {file: Mistakes(file) for file in texts}
    read = [_Pack(text, files[file]) for file, text in texts.items()]
    entries = [entry for pack in read for entry in pack.entries]
    kept = [entry for entry in entries if not any(pack.disables(entry) for pack in read)]
    for pack in read:
        pack.check_disabled({entry.name for entry in entries})
    _check_unique(kept, files)
    _check_inhibitions(kept, {entry.name for entry in entries}, files)
    found = [mistake for mistakes in files.values() for mistake in mistakes.found]
    if found:
        raise PackError(found)
    return RuleSet.of(entry.rule for entry in kept if entry.rule is not None)


class _Entry:
    """A rule as it stands in a file, good or not: other rules may name it either way."""

    def __init__(self, table: Table, mistakes: Mistakes) -> None:
        self.file = mistakes.file
        self.table = table
        name = table.entries.get("alert")
        self.name = name.value if isinstance(name, Text) else ""
        self.rule: Rule | None = read_rule(table, mistakes)

    def known_by(self, key: str) -> Text | None:
        """Its `alert` or its `id`; a rule without an id goes by its alert."""
        value = self.table.entries.get(key) or self.table.entries.get("alert")
        return value if isinstance(value, Text) else None

    @property
    def inhibitors(self) -> list[Text]:
        value = self.table.entries.get("inhibited_by")
        return [item for item in value.items if isinstance(item, Text)] if isinstance(value, Items) else []


class _Pack:
    """One file."""

    def __init__(self, text: str, mistakes: Mistakes) -> None:
        self.mistakes = mistakes
        self.entries: list[_Entry] = []
        self.disabled: tuple[Text, ...] = ()
        table = read_document(text, mistakes)
        if table is None:
            return
        reader = Reader(table, mistakes)
        reader.check_keys(("rules", "disable"), ())
        self.disabled = reader.names("disable")
        rules = table.entries.get("rules")
        if rules is None and not self.disabled:
            mistakes.add(table.place, "a pack has `rules:`, a list of rules")
        elif rules is not None and not isinstance(rules, Items):
            mistakes.add(rules.place, f"`rules` is a list, not {kind_of(rules)}")
        elif rules is not None:
            self._read(rules)

    def _read(self, rules: Items) -> None:
        for item in rules.items:
            if isinstance(item, Table):
                self.entries.append(_Entry(item, self.mistakes))
            else:
                self.mistakes.add(item.place, f"a rule is a mapping, not {kind_of(item)}")

    def disables(self, entry: _Entry) -> bool:
        """Whether this pack takes another pack's rule out of force."""
        return entry.file != self.mistakes.file and any(name.value == entry.name for name in self.disabled)

    def check_disabled(self, known: set[str]) -> None:
        for name in self.disabled:
            if name.value not in known:
                near = nearest(name.value, sorted(known))
                self.mistakes.add(name.place, f"there is no alert {name.value} to disable", near)


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


def read_document(text: str, mistakes: Mistakes) -> Table | None:
    """A YAML text that is one mapping, with places; None when it is not, and why in `mistakes`."""
    if len(text) > LENGTH_MAX:
        mistakes.add(
            Place(1, 1), f"the file has {len(text)} characters; {LENGTH_MAX} are the most there may be"
        )
        return None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
        mistakes.add(place, f"not YAML: {error.problem or error.context}")
        return None
    except yaml.YAMLError as error:
        mistakes.add(Place(1, 1), "not YAML: " + " ".join(str(error).split()))
        return None
    except RecursionError:
        mistakes.add(Place(1, 1), "nested too deeply")
        return None
    if root is None:
        mistakes.add(Place(1, 1), "the file is empty")
        return None
    value = _Converter(text, mistakes).convert(root, 0)
    if value is None or isinstance(value, Table):
        return value
    mistakes.add(value.place, f"the file is a mapping, not {kind_of(value)}")
    return None


class _Converter:
    """YAML's nodes → values with places."""

    def __init__(self, text: str, mistakes: Mistakes) -> None:
        self.text = text
        self.mistakes = mistakes
        self.values = 0

    def convert(self, node: yaml.Node, depth: int) -> Value | None:
        self.values += 1
        place = _place(node)
        if depth > DEPTH_MAX or self.values > VALUES_MAX:
            self.mistakes.add(place, "nested too deeply" if depth > DEPTH_MAX else "too many values")
            # One such mistake is enough; the rest of the file is not read.
            self.values = VALUES_MAX + 1
            return None
        match node:
            case yaml.ScalarNode():
                source = self.text[node.start_mark.index : node.end_mark.index]
                return Text(place=place, value=node.value, quoted=node.style is not None, source=source)
            case yaml.SequenceNode():
                return Items(place=place, items=tuple(self._all(node.value, depth)))
            case _:
                return self._table(node, place, depth)

    def _all(self, nodes: list[yaml.Node], depth: int) -> Iterator[Value]:
        for node in nodes:
            if self.values > VALUES_MAX:
                return
            value = self.convert(node, depth + 1)
            if value is not None:
                yield value

    def _table(self, node: yaml.Node, place: Place, depth: int) -> Table:
        entries: dict[str, Value] = {}
        keys: dict[str, Place] = {}
        for key, item in node.value:
            if self.values > VALUES_MAX:
                break
            if not isinstance(key, yaml.ScalarNode):
                self.mistakes.add(_place(key), "a key is a single word")
                continue
            if key.value in keys:
                message = f"`{key.value}` is given twice, first in line {keys[key.value].line}"
                self.mistakes.add(_place(key), message)
                continue
            value = self.convert(item, depth + 1)
            if value is not None:
                entries[key.value] = value
                keys[key.value] = _place(key)
        return Table(place=place, entries=entries, keys=keys)


def _place(node: yaml.Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)
