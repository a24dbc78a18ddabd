"""A YAML file as its author sees it: values with their places, so that a mistake can be pointed at.

`pack` reads YAML into these; everything after works on them and never meets the YAML library.
"""

from msgspec import Struct

from holdfast_rules.errors import Mistake


class Place(Struct, frozen=True):
    """A place in a file, both from 1."""

    line: int
    column: int


class Text(Struct, frozen=True, kw_only=True):
    """A scalar. Numbers and booleans are text too until somebody knows what they shall be."""

    place: Place
    value: str
    quoted: bool
    """In quotes or a block: never a number, a boolean or null."""
    source: str
    """The file's text from where the scalar begins; quotes and block marks are part of it."""

    def place_of(self, offset: int) -> Place:
        """Where the character at `offset` of the value stands in the file.

        Quotes, line folding and indentation shift characters, but only blanks come and go. So the characters that
        are not blank are counted off on both sides; where escapes make them differ, the scalar's own place must do.
        """
        index = _content_start(self.source)
        found = index
        for character in self.value[: offset + 1]:
            if character.isspace():
                continue
            while index < len(self.source) and self.source[index].isspace():
                index += 1
            if index >= len(self.source) or self.source[index] != character:
                return self.place
            found = index
            index += 1
        before = self.source[:found]
        line_start = before.rfind("\n") + 1
        if line_start == 0:
            return Place(self.place.line, self.place.column + found)
        return Place(self.place.line + before.count("\n"), found - line_start + 1)


class Items(Struct, frozen=True, kw_only=True):
    """A sequence."""

    place: Place
    items: "tuple[Value, ...]"


class Table(Struct, frozen=True, kw_only=True):
    """A mapping, in the file's order."""

    place: Place
    entries: "dict[str, Value]"
    keys: dict[str, Place]
    """Where each key stands."""


Value = Text | Items | Table


def moved(value: Value, place: Place) -> Value:
    """The value as if it stood at `place`: what is wrong with it is somebody else's doing."""
    match value:
        case Text():
            return Text(place=place, value=value.value, quoted=value.quoted, source="")
        case Items(items=items):
            return Items(place=place, items=tuple(moved(item, place) for item in items))
        case Table(entries=entries, keys=keys):
            inner = {key: moved(item, place) for key, item in entries.items()}
            return Table(place=place, entries=inner, keys=dict.fromkeys(keys, place))


class Mistakes:
    """Everything wrong with one file, gathered while it is read."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.rule = ""
        """The rule or test that is being read."""
        self.found: list[Mistake] = []

    def add(self, place: Place, message: str, near: str = "") -> None:
        self.found.append(
            Mistake(
                file=self.file,
                line=place.line,
                column=place.column,
                rule=self.rule,
                message=message,
                nearest=near,
            )
        )


def kind_of(value: Value) -> str:
    """What a value is, in the words of an error message."""
    match value:
        case Text():
            return "a single value"
        case Items():
            return "a list"
        case Table():
            return "a mapping"


def _content_start(source: str) -> int:
    """Where a scalar's first character stands: after its quote, or on the line after `|` or `>`."""
    if source[:1] in ("'", '"'):
        return 1
    if source[:1] in ("|", ">"):
        return source.find("\n") + 1
    return 0
