"""Amounts with their unit, as they stand in a comparison: `"10m"` beside seconds, `"5GiB"` beside bytes.

The fact decides how the text is read, so `"5m"` beside bytes is a mistake and not five of something.
"""

import re

from holdfast_rules import duration

BYTES_OF = {
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "PiB": 2**50,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "PB": 10**15,
}
"""IEC 80000-13 and SI. A bare `G` means one to `df` and the other to `dd`, so it is nothing here."""

UNITS = ("seconds", "bytes")
"""What there are amounts of."""

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]{1,3})")
_MILLISECONDS = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)ms")
_HOW = {"seconds": "write like 500ms, 90s, 5m, 1h30m or 2d", "bytes": "write like 512MiB, 5GiB or 1.5TB"}


def parse(text: str, unit: str) -> float:
    """How many of `unit` the text says; below 0 with a minus in front. Raises ValueError that says what would be right."""
    sign, amount = (-1, text[1:]) if text.startswith("-") else (1, text)
    match unit:
        case "seconds":
            return sign * _seconds(text, amount)
        case "bytes":
            return sign * _bytes(text, amount)
        case _:
            raise ValueError(f"{text!r} has a unit, and what it is compared with has none")


def unit_of(text: str) -> str:
    """What a text is an amount of: `seconds` or `bytes`; empty when it is neither."""
    for unit in UNITS:
        try:
            parse(text, unit)
        except ValueError:
            continue
        return unit
    return ""


def _seconds(text: str, amount: str) -> float:
    milliseconds = _MILLISECONDS.fullmatch(amount)
    if milliseconds:
        return float(milliseconds[1]) / 1000
    try:
        return duration.parse(amount)
    except ValueError as error:
        # The wish as written, its sign included, and the milliseconds that only an amount may have.
        said = str(error) if "year" in str(error) else f"{text!r} is not a duration; {_HOW['seconds']}"
        raise ValueError(said) from None


def _bytes(text: str, amount: str) -> float:
    match = _SIZE.fullmatch(amount)
    if match is None or match[2] not in BYTES_OF:
        raise ValueError(f"{text!r} is not a size; {_HOW['bytes']}{_meant(match)}")
    number = match[1]
    size = BYTES_OF[match[2]]
    total = float(number) * size if "." in number else int(number) * size
    if total > 2**53:
        raise ValueError(f"{text!r} is more than any fact; 8PiB is the largest")
    return total


def _meant(match: re.Match[str] | None) -> str:
    """`5G` and `5gb` are common; which of two sizes is meant only its author knows."""
    letter = match[2][:1].upper() if match else ""
    found = [unit for unit in BYTES_OF if unit[:1].upper() == letter and unit != "B"]
    return f"; did you mean {' or '.join(found)}?" if match and found else ""
