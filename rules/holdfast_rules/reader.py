"""Reads a mapping key by key, and says what is wrong with each value and what would be right."""

from collections.abc import Callable, Sequence
from re import Pattern
from typing import TypeVar

from holdfast_rules import duration
from holdfast_rules.document import Items, Mistakes, Place, Table, Text, Value, kind_of
from holdfast_rules.errors import ExpressionInvalid, nearest

T = TypeVar("T")
Choice = TypeVar("Choice", bound=str)


class Reader:
    """A mapping of a pack or test file. What is absent or wrong reads as empty; what is wrong is in `mistakes`."""

    def __init__(self, table: Table, mistakes: Mistakes) -> None:
        self.table = table
        self.mistakes = mistakes

    def check_keys(self, known: Sequence[str], required: Sequence[str]) -> None:
        """Refuse keys nobody reads, and miss those that must be there."""
        for key, place in self.table.keys.items():
            if key not in known:
                near = nearest(key, list(known))
                self.mistakes.add(place, f"there is no key `{key}` here", f"`{near}`" if near else "")
        for key in required:
            if key not in self.table.entries:
                self.mistakes.add(self.table.place, f"`{key}` is missing")

    def value(self, key: str) -> Value | None:
        return self.table.entries.get(key)

    def scalar(self, key: str) -> Text | None:
        """A single value that is not empty."""
        value = self.value(key)
        if value is None:
            return None
        if not isinstance(value, Text):
            self.mistakes.add(value.place, f"`{key}` is a single value, not {kind_of(value)}")
            return None
        if not value.value.strip():
            self.mistakes.add(value.place, f"`{key}` is empty")
            return None
        return value

    def text(self, key: str) -> str:
        value = self.scalar(key)
        return "" if value is None else value.value.strip()

    def matching(self, key: str, pattern: Pattern[str], what: str) -> str:
        value = self.scalar(key)
        if value is None:
            return ""
        if not pattern.fullmatch(value.value):
            self.mistakes.add(value.place, f"`{key}` {what}; {value.value!r} is not")
        return value.value

    def choice(self, key: str, known: Sequence[Choice], default: Choice) -> Choice:
        value = self.scalar(key)
        if value is None:
            return default
        for word in known:
            if value.value == word:
                return word
        near = nearest(value.value, list(known))
        message = f"`{key}` is one of {', '.join(known)}; {value.value!r} is not"
        self.mistakes.add(value.place, message, f"`{near}`" if near else "")
        return default

    def seconds(self, key: str) -> float:
        value = self.scalar(key)
        return 0.0 if value is None else self.seconds_of(value.value, value.place)

    def seconds_of(self, text: str, place: Place) -> float:
        try:
            return duration.parse(text)
        except ValueError as error:
            self.mistakes.add(place, str(error))
            return 0.0

    def boolean(self, key: str) -> bool:
        value = self.scalar(key)
        if value is None:
            return False
        if value.quoted or value.value not in ("true", "false"):
            self.mistakes.add(value.place, f"`{key}` is true or false; {value.value!r} is not")
        return value.value == "true"

    def names(self, key: str) -> tuple[Text, ...]:
        """A list of single values."""
        value = self.value(key)
        if value is None:
            return ()
        if not isinstance(value, Items):
            self.mistakes.add(value.place, f"`{key}` is a list, not {kind_of(value)}: write [{key}]")
            return ()
        for item in value.items:
            if not isinstance(item, Text):
                self.mistakes.add(item.place, f"`{key}` is a list of names; this is {kind_of(item)}")
        return tuple(item for item in value.items if isinstance(item, Text))

    def table_of(self, key: str) -> Table | None:
        value = self.value(key)
        if value is None or isinstance(value, Table):
            return value
        self.mistakes.add(value.place, f"`{key}` is a mapping, not {kind_of(value)}")
        return None

    def compiled(self, key: str, kind: str, compile_text: Callable[[str, str], T]) -> T | None:
        """What `compile_text` makes of the text for resources of `kind`; its faults land where they stand."""
        value = self.scalar(key)
        if value is None or not kind:
            return None
        try:
            return compile_text(value.value, kind)
        except ExpressionInvalid as error:
            for fault in error.faults:
                self.mistakes.add(value.place_of(fault.offset), fault.message, fault.nearest)
            return None
