"""Configuration text → one frozen Struct, with every mistake at once. Pure: the caller reads files and environment.

A configuration type is a Struct whose fields all have defaults, so that one mistake hides no other: what cannot be
used is replaced by its default, reported, and the reading goes on. Sections are nested Structs, repeated sections
(`[[receiver]]`) are tuples of Structs, tables whose keys are the user's own are dicts of leaves, whose wrong entries
are left out. A duration is a `Seconds` and is written with its unit: "90s", "5m", "1h30m".

Environment variables override the file: `HOLDFAST__SECTION__KEY`. Their values are TOML where the key is no text.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

ENVIRONMENT_PREFIX = "HOLDFAST__"

Seconds = Annotated[float, Meta(extra={"duration": True})]
"""A duration in seconds, which people write with a unit."""

T = TypeVar("T")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_TOML_PLACE = re.compile(r" ?\(at line (\d+), column (\d+)\)")
_HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\s\"-]+?)\s*\]")

Path = tuple[str | int, ...]
"""Where a value stands: names of tables and keys, and indices from 0 within repeated tables."""


class _Variable(str):
    """A value that came from the environment, and by which variable."""

    name: str


def duration_seconds(text: str) -> float | None:
    """`"1h30m"` → 5400.0; None when it is no duration with units."""
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?` for what `name` was probably meant to be; empty when nothing is near."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


class Reading(Generic[T]):
    """One configuration as read: `value`, usable wherever no mistake is reported, and `mistakes`.

    The reader's own checks add to `mistakes` through `refuse`.
    """

    def __init__(self, type_: type[T], origin: str, text: str, environment: Mapping[str, str]) -> None:
        """`origin` is what people know the text by: its path. Only variables with the prefix are looked at."""
        self.mistakes: list[str] = []
        self._origin = origin
        self._lines = text.splitlines()
        self._variables: dict[Path, str] = {}
        self._stated: set[Path] = set()
        self._refused: set[Path] = set()
        self._illegible = False
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            self.mistakes.append(_misspelt(origin, str(error)))
            self._illegible = True
            table = {}
        self._overlay(table, environment)
        self.value: T = self._struct(type_, table, ())

    def refuse(self, path: Path, why: str) -> None:
        """Report that the value at `path` cannot be used. Of a text that is no TOML only the first mistake is known."""
        self._refused.add(path)
        # A table may come whole from one variable.
        variable = self._variables.get(path) or self._variables.get(path[:-1])
        if self._illegible and variable is None:
            return
        line = None if variable else self._line(path) or self._line_of_inline(path)
        if line is None:
            # A section nobody knows may have come with a variable of a key in it.
            below = (name for known, name in self._variables.items() if known[: len(path)] == path)
            variable = variable or next(below, None)
        origin = f"environment variable {variable}" if variable else self._origin
        place = f"{origin}:{line}" if line else origin
        self.mistakes.append(f"{place}: {_dotted(path)}: {why}")

    def refused(self, path: Path) -> bool:
        """Whether the value at `path` was refused already: its default, which stands there now, is no mistake."""
        return path in self._refused

    def origin_of(self, path: Path) -> str:
        """Where the value at `path` comes from: `FILE:LINE`, `environment variable NAME` or `default`."""
        if path not in self._stated:
            return "default"
        variable = self._variables.get(path)
        return f"environment variable {variable}" if variable else f"{self._origin}:{self._line(path)}"

    def _overlay(self, table: dict[str, Any], environment: Mapping[str, str]) -> None:
        for name in sorted(environment):
            if not name.startswith(ENVIRONMENT_PREFIX):
                continue
            path = tuple(part.lower() for part in name.removeprefix(ENVIRONMENT_PREFIX).split("__"))
            value = _Variable(environment[name])
            value.name = name
            within = table
            for part in path[:-1]:
                below = within.setdefault(part, {})
                if not isinstance(below, dict):
                    self.mistakes.append(f"environment variable {name}: {part!r} is no section")
                    break
                within = below
            else:
                within[path[-1]] = value
                self._variables[path] = name

    def _struct(self, type_: Any, table: dict[str, Any], path: Path) -> Any:
        fields = {field.encode_name: field for field in msgspec.structs.fields(type_)}
        values = {}
        for key, raw in table.items():
            field = fields.get(key)
            if field is None:
                self.refuse((*path, key), f"no such key{nearest(key, fields)}")
                continue
            read = self._value(field.type, raw, (*path, key))
            if read is not msgspec.UNSET:
                values[field.name] = read
                self._stated.add((*path, key))
        return type_(**values)

    def _value(self, type_: Any, raw: Any, path: Path) -> Any:
        if isinstance(type_, type) and issubclass(type_, Struct):
            if not isinstance(raw, dict):
                self.refuse(path, f"is a section: write [{_dotted(path)}]")
                return msgspec.UNSET
            return self._struct(type_, raw, path)
        repeated = _repeated(type_)
        if repeated is not None:
            if not (isinstance(raw, list) and all(isinstance(item, dict) for item in raw)):
                self.refuse(path, f"is a repeated section: write [[{_dotted(path)}]]")
                return msgspec.UNSET
            return tuple(self._struct(repeated, item, (*path, index)) for index, item in enumerate(raw))
        if get_origin(type_) is dict:
            raw = _of_variable(type_, raw) if isinstance(raw, _Variable) else raw
            key_type, value_type = get_args(type_)
            return self._entries(key_type, value_type, raw, path)
        return self._leaf(type_, raw, path)

    def _entries(self, key_type: Any, value_type: Any, raw: Any, path: Path) -> Any:
        """A table of the user's own keys. What a key must be, its type's description says."""
        if not isinstance(raw, dict):
            self.refuse(path, f"{raw!r} is no table: write {{ KEY = VALUE, … }}")
            return msgspec.UNSET
        entries = {}
        for key, given in raw.items():
            here = (*path, key)
            try:
                msgspec.convert(key, key_type)
            except msgspec.ValidationError:
                self.refuse(here, f"{key!r} is not {_described(key_type)}")
                continue
            read = self._value(value_type, given, here)
            if read is not msgspec.UNSET:
                entries[key] = read
        return entries

    def _leaf(self, type_: Any, raw: Any, path: Path) -> Any:
        if isinstance(raw, _Variable):
            raw = _of_variable(type_, raw)
        if type_ == Seconds:
            seconds = duration_seconds(raw) if isinstance(raw, str) else None
            if seconds is None:
                self.refuse(path, f'{raw!r} is no duration: write it with its unit, e.g. "30s", "5m", "7d"')
                return msgspec.UNSET
            return seconds
        wrong, known = _unknown_words(type_, raw)
        for word in wrong:
            self.refuse(path, f"{word!r} is none of {', '.join(known)}{nearest(str(word), known)}")
        if wrong:
            return msgspec.UNSET
        try:
            return msgspec.convert(raw, type_, strict=True)
        except msgspec.ValidationError as error:
            said = str(error).replace("`", "").partition(" - at ")[0]
            self.refuse(path, f"{raw!r}: {said[0].lower()}{said[1:]}")
            return msgspec.UNSET

    def _line_of_inline(self, path: Path) -> int | None:
        """The line of `classes = { "/data" = "D2" }`, for what stands within; None when it stands elsewhere."""
        key = re.compile(rf"\s*{re.escape(str(path[-2]))}\s*=\s*{{") if len(path) > 1 else None
        line = self._line(path[:-1]) if key else None
        return line if line and key and key.match(self._lines[line - 1]) else None

    def _line(self, path: Path) -> int | None:
        """The line the key or its nearest table stands on, by a plain look at the text; None when not found."""
        tables = [str(part) for part in path[:-1] if isinstance(part, str)]
        wanted = next((part for part in path if isinstance(part, int)), 0)
        key = re.compile(rf"\s*\"?{re.escape(str(path[-1]))}\"?\s*[=.]")
        current: list[str] = []
        count = 0
        found = None
        for number, line in enumerate(self._lines, 1):
            header = _HEADER.match(line)
            if header:
                current = [part.strip().strip('"') for part in header[2].split(".")]
                if header[1] == "[[" and current == tables:
                    count += 1
                if current in (tables, [*tables, path[-1]]) and (header[1] == "[" or count == wanted + 1):
                    found = number
            elif current == tables and key.match(line) and (not count or count == wanted + 1):
                return number
        return found


def _described(type_: Any) -> str:
    """`an absolute path`: the description in the type's annotation."""
    notes = [note for note in getattr(type_, "__metadata__", ()) if isinstance(note, Meta)]
    return next((note.description for note in notes if note.description), str(type_))


def _repeated(type_: Any) -> Any:
    """The Struct of which `type_` is a tuple, or None."""
    arguments = getattr(type_, "__args__", ())
    if getattr(type_, "__origin__", None) is tuple and arguments:
        item = arguments[0]
        if isinstance(item, type) and issubclass(item, Struct):
            return item
    return None


def _unknown_words(type_: Any, raw: Any) -> tuple[list[Any], list[str]]:
    """What is given and not in the closed set that `type_` is, or is a list of; and the set."""
    many = get_origin(type_) is tuple
    choice = get_args(type_)[0] if many else type_
    if get_origin(choice) is not Literal:
        return [], []
    given = raw if many and isinstance(raw, list) else [] if many else [raw]
    allowed = get_args(choice)
    return [word for word in given if word not in allowed], [str(word) for word in allowed if word != ""]


def _of_variable(type_: Any, raw: str) -> Any:
    """Text stays text; anything else is written as in the file. Durations are text."""
    text = str(raw)
    if type_ is str or type_ == Seconds:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _misspelt(origin: str, said: str) -> str:
    """The parser's complaint with its place in front, like all others: `FILE:LINE:COLUMN: …`."""
    found = _TOML_PLACE.search(said)
    place = f"{origin}:{found[1]}:{found[2]}" if found else origin
    words = said[: found.start()] if found else said
    return f"{place}: no TOML: {words[:1].lower()}{words[1:].strip()}"


def _dotted(path: Path) -> str:
    """`("receiver", 0, "url")` → `receiver[1].url`: people count from one."""
    said = ""
    for part in path:
        said += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if said else part
    return said
