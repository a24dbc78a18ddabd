"""Durations as people write them: `90s`, `5m`, `1h30m`, `2d`."""

import re

SECONDS_OF = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
SECONDS_MAX = 366 * 86400
"""Nobody waits longer, and no history reaches further."""

_SHAPE = re.compile(r"(?:[0-9]{1,9}[smhdw])+")
_PART = re.compile(r"([0-9]+)([smhdw])")


def parse(text: str) -> float:
    """Seconds. Raises ValueError that says what would be right. Units go from large to small, each at most once."""
    if not _SHAPE.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; write it like 90s, 5m, 1h30m or 2d")
    parts = _PART.findall(text)
    sizes = [SECONDS_OF[unit] for _, unit in parts]
    if sizes != sorted(set(sizes), reverse=True):
        raise ValueError(f"{text!r} is not a duration; write each unit once, the larger first, like 1h30m")
    seconds = float(sum(int(count) * SECONDS_OF[unit] for count, unit in parts))
    if seconds > SECONDS_MAX:
        raise ValueError(f"{text!r} is longer than a year")
    return seconds


def spell(seconds: float) -> str:
    """The two largest units of a duration, as `parse` reads them: 93784 is `1d2h`."""
    rest = round(abs(seconds))
    words = []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, SECONDS_OF[unit])
        if count:
            words.append(f"{count}{unit}")
        elif words:
            break
    return ("-" if seconds < 0 and words else "") + ("".join(words[:2]) or "0s")
