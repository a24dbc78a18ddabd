"""The notation of a fact over time in a pack's tests.

    0.50x2 0.05x8      two samples of 0.50, then eight of 0.05       (promtool's `0.50x1` counts one less)
    true x10 false     a blank before the count is fine
    0.40-0.01x5        0.40 0.39 0.38 0.37 0.36
    _x3                three steps without a sample: the fact is absent

A single value without a count holds throughout. Text over time is a list, because text may hold anything:
`[connected x3, lost]`; a single text holds throughout.
"""

import re

from holdfast_rules.document import Items, Mistakes, Text, Value, kind_of
from holdfast_wire.fact import Fact, FactType
from holdfast_wire.message import Value as FactValue

SAMPLES_MAX = 20_000
"""Per fact; two weeks of minutes."""

_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:e[0-9]+)?"
_TOKEN = re.compile(
    rf"(_|true|false|{_NUMBER})(?:([+-][0-9]+(?:\.[0-9]+)?))?(?:\s*x([0-9]{{1,5}}))?(?=\s|$)\s*"
)
_ABSENT_ITEM = re.compile(r"_(?:\s*x([0-9]{1,5}))?")
_TEXT_ITEM = re.compile(r"(.*?)(?:\s+x([0-9]{1,5}))?", re.DOTALL)

Samples = tuple[FactValue | None, ...]
"""One per step; None where there is none. A single one holds throughout."""


def read_samples(fact: Fact, value: Value, mistakes: Mistakes) -> Samples:
    """What a fact is at each step; empty when it cannot be read, and why is in `mistakes`."""
    match value:
        case Text() if fact.type is FactType.STR:
            return (value.value,)
        case Text():
            return _numbers(fact, value, mistakes)
        case Items() if fact.type is FactType.STR:
            return _texts(value, mistakes)
        case _:
            mistakes.add(
                value.place, f"`{fact.name}` is {fact.type.value}; its samples are not {kind_of(value)}"
            )
            return ()


def _texts(value: Items, mistakes: Mistakes) -> Samples:
    samples: list[FactValue | None] = []
    for item in value.items:
        if not isinstance(item, Text):
            mistakes.add(item.place, f"a sample is a single value, not {kind_of(item)}")
            continue
        absent = _ABSENT_ITEM.fullmatch(item.value)
        text = _TEXT_ITEM.fullmatch(item.value)
        assert text is not None, "every text matches"
        count = int((absent[1] if absent else text[2]) or 1)
        if not _fits(len(samples) + count, item, mistakes):
            return ()
        samples.extend([None if absent else text[1]] * count)
    return tuple(samples)


def _numbers(fact: Fact, value: Text, mistakes: Mistakes) -> Samples:
    samples: list[FactValue | None] = []
    position = 0
    text = value.value.strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            mistakes.add(
                value.place, f"{text[position:].split()[0]!r} is not a sample; write like 0.5x2 _x3 true x4"
            )
            return ()
        word, step, count = match[1], float(match[2] or 0), int(match[3] or 1)
        if not _fits(len(samples) + count, value, mistakes):
            return ()
        first = _value(fact, word, value, mistakes)
        if first is None and word != "_":
            return ()
        samples.extend(_stepped(fact, first, step, index) for index in range(count))
        position = match.end()
    return tuple(samples)


def _value(fact: Fact, word: str, value: Text, mistakes: Mistakes) -> FactValue | None:
    if word == "_":
        return None
    if (word in ("true", "false")) != (fact.type is FactType.BOOL):
        mistakes.add(value.place, f"`{fact.name}` is {fact.type.value}; {word} is not")
        return None
    if fact.type is FactType.BOOL:
        return word == "true"
    if fact.type is FactType.FLOAT:
        return float(word)
    if "." in word or "e" in word:
        mistakes.add(value.place, f"`{fact.name}` is a whole number; {word} is not")
        return None
    return int(word)


def _stepped(fact: Fact, first: FactValue | None, step: float, index: int) -> FactValue | None:
    if first is None or isinstance(first, bool | str):
        return first
    # Rounded, so that 0.40 less four hundredths is what the author of a test reads there: 0.36.
    stepped = round(first + step * index, 9)
    return int(stepped) if fact.type is FactType.INT else stepped


def _fits(count: int, value: Text, mistakes: Mistakes) -> bool:
    if count <= SAMPLES_MAX:
        return True
    mistakes.add(value.place, f"more than {SAMPLES_MAX} samples")
    return False
