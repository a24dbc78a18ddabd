"""What a pack changes of the rules of all packs: constants, whole rules, keys of rules; everywhere or on some nodes.

    constants: {srv_low: 0.2}                      what this pack's and everybody's conditions may name
    set: {volume_space_low: 0.02}                  another value for a constant of any pack
    disable: [NodeStopped]                         rules taken out of force
    override: {VolumeSpaceLow: {for: 1h}}          other words in a rule
    where:                                         the last three again, on some nodes only
      - nodes: ["db-*"]
        labels: {role: [database, ledger]}
        set: {volume_space_low: 0.01}

This module reads and checks the words; `pack` puts them to work.
"""

import keyword
import re
from collections.abc import Mapping

from msgspec import Struct

from holdfast_rules.call import FUNCTIONS
from holdfast_rules.document import Items, Mistakes, Place, Table, Text, Value, kind_of
from holdfast_rules.entry import KEYS
from holdfast_rules.errors import nearest
from holdfast_rules.parse import NUMBER_MAX, TEXT_MAX
from holdfast_rules.reader import Reader
from holdfast_wire.fact import FACTS_OF

Scalar = bool | int | float | str

FIXED = ("alert", "id", "resource", "inhibited_by")
"""Keys that make a rule what it is. Who inhibits whom must have no circle, on no node."""
OVERRIDABLE = tuple(key for key in KEYS if key not in FIXED)
CHANGES = ("set", "disable", "override")
WHERE = ("nodes", "labels", *CHANGES)

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_INT = re.compile(r"[+-]?[0-9]{1,17}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]{1,17}\.[0-9]*|\.[0-9]+|[0-9]{1,17})(?:[eE][+-]?[0-9]{1,3})?")
_TAKEN = {*FUNCTIONS, *FACTS_OF, *(name for facts in FACTS_OF.values() for name in facts)}


def fits(text: str, pattern: str) -> bool:
    """Whether a text is like a pattern, in which `*` stands for any characters. In linear time, whatever the pattern."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *middle, last = rest
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


class Constant(Struct, frozen=True):
    """A constant's value, and where somebody wrote it."""

    value: Scalar
    place: Place


class Selection(Struct, frozen=True):
    """Which nodes a `where` is about."""

    nodes: tuple[str, ...]
    """Patterns of names; empty: any name."""
    labels: Mapping[str, tuple[str, ...]]
    """Label → patterns of its value. All labels must fit; a node without the label does not."""
    file: str = ""
    """The pack that says so, and where."""
    line: int = 0

    def matches(self, node: str, labels: Mapping[str, str]) -> bool:
        """Whether a node of that name with those labels is meant."""
        named = not self.nodes or any(fits(node, pattern) for pattern in self.nodes)
        return named and all(
            any(fits(labels.get(label, ""), pattern) for pattern in patterns) and label in labels
            for label, patterns in self.labels.items()
        )


class Changes:
    """`set`, `disable` and `override` of a pack, or of one of its `where`."""

    def __init__(self, table: Table, mistakes: Mistakes) -> None:
        self.mistakes = mistakes
        reader = Reader(table, mistakes)
        self.values = read_constants(reader.table_of("set"), mistakes)
        self.disabled = reader.names("disable")
        self.overrides: dict[str, Table] = {}
        self.places: dict[str, Place] = {}
        overrides = reader.table_of("override")
        for name, value in overrides.entries.items() if overrides else ():
            assert overrides is not None, "it has entries"
            self.places[name] = overrides.keys[name]
            if isinstance(value, Table):
                self.overrides[name] = self._usable(name, value)
            else:
                mistakes.add(value.place, f"`{name}` is a mapping of keys to change, not {kind_of(value)}")

    @property
    def empty(self) -> bool:
        """It changes nothing."""
        return not (self.values or self.disabled or self.overrides)

    def disables(self, alert: str) -> bool:
        """Whether it takes the alert's rule out of force."""
        return any(name.value == alert for name in self.disabled)

    def place(self, alert: str, constants: tuple[str, ...]) -> Place | None:
        """Where it changes a rule that names these constants; None when it leaves the rule alone."""
        if alert in self.overrides:
            return self.places[alert]
        return next((self.values[name].place for name in constants if name in self.values), None)

    def _usable(self, alert: str, table: Table) -> Table:
        """What of the table can be overridden."""
        self.mistakes.rule = alert
        for key, place in table.keys.items():
            if key in FIXED:
                self.mistakes.add(place, f"`{key}` stays as it is: disable the rule and write it anew")
            elif key not in OVERRIDABLE:
                near = nearest(key, list(OVERRIDABLE))
                self.mistakes.add(place, f"a rule has no key `{key}`", f"`{near}`" if near else "")
        self.mistakes.rule = ""
        good = {key: value for key, value in table.entries.items() if key in OVERRIDABLE}
        return Table(place=table.place, entries=good, keys={key: table.keys[key] for key in good})


class Where(Struct, frozen=True):
    """Changes on some nodes only."""

    selection: Selection
    changes: Changes


def read_wheres(value: Value | None, mistakes: Mistakes) -> list[Where]:
    """A pack's `where:`."""
    if value is None:
        return []
    if not isinstance(value, Items):
        mistakes.add(value.place, f"`where` is a list, not {kind_of(value)}")
        return []
    found = []
    for item in value.items:
        if not isinstance(item, Table):
            mistakes.add(item.place, f"a `where` is a mapping, not {kind_of(item)}")
            continue
        reader = Reader(item, mistakes)
        reader.check_keys(WHERE, ())
        nodes = tuple(name.value for name in reader.names("nodes"))
        labels = _labels(reader.table_of("labels"), mistakes)
        if not nodes and not labels:
            mistakes.add(
                item.place, "a `where` says which nodes it means: by `nodes`, by `labels` or by both"
            )
        changes = Changes(item, mistakes)
        if changes.empty:
            mistakes.add(item.place, "a `where` changes something: by `set`, `disable` or `override`")
        found.append(Where(Selection(nodes, labels, mistakes.file, item.place.line), changes))
    return found


def _labels(table: Table | None, mistakes: Mistakes) -> dict[str, tuple[str, ...]]:
    """One pattern or a list of them for each label."""
    labels: dict[str, tuple[str, ...]] = {}
    for name, value in table.entries.items() if table else ():
        if isinstance(value, Text):
            labels[name] = (value.value,)
        elif isinstance(value, Items) and value.items:
            labels[name] = tuple(text.value for text in Reader(_only(name, value), mistakes).names(name))
        else:
            mistakes.add(value.place, f"`{name}` is a value or a list of values, not {kind_of(value)}")
    return labels


def _only(name: str, value: Value) -> Table:
    return Table(place=value.place, entries={name: value}, keys={name: value.place})


def read_constants(table: Table | None, mistakes: Mistakes) -> dict[str, Constant]:
    """A mapping of names to values."""
    found: dict[str, Constant] = {}
    for name, value in table.entries.items() if table else ():
        assert table is not None, "it has entries"
        if not isinstance(value, Text) or not value.value:
            mistakes.add(value.place, f"the constant `{name}` is a single value, not {kind_of(value)}")
            continue
        why = _unusable(name)
        if why:
            mistakes.add(table.keys[name], f"`{name}` {why}")
            continue
        read = _scalar(value)
        if isinstance(read, str) and len(read) > TEXT_MAX:
            mistakes.add(
                value.place, f"a text of {len(read)} characters; {TEXT_MAX} are the most there may be"
            )
        elif not isinstance(read, str) and abs(read) > NUMBER_MAX:
            mistakes.add(value.place, f"a number this large means nothing; {NUMBER_MAX} is the largest")
        else:
            found[name] = Constant(read, value.place)
    return found


def _unusable(name: str) -> str:
    if not _NAME.fullmatch(name):
        return "is no name for a constant; write it like volume_space_low"
    if name in _TAKEN or keyword.iskeyword(name) or name.removesuffix("s") in FACTS_OF:
        return "means something in conditions already: call the constant otherwise"
    return ""


def _scalar(text: Text) -> Scalar:
    """A constant as YAML's authors read it: what is in quotes is text, and so is `5GiB`."""
    if not text.quoted:
        if text.value in ("true", "false"):
            return text.value == "true"
        if _INT.fullmatch(text.value):
            return int(text.value)
        if _FLOAT.fullmatch(text.value):
            return float(text.value)
    return text.value
