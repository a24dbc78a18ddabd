"""Times, sizes and hostile text as a tired person reads them."""

from datetime import UTC, datetime

from msgspec import Struct

TEXT_LENGTH_MAX = 1000
"""Longer texts are cut on pages; the API has them whole."""

_STEPS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))


class Moment(Struct, frozen=True):
    """An instant as a page shows it: how long ago, with the absolute time one touch away."""

    ago: str
    utc: str
    """E.g. `2026-02-03 04:05:06 UTC`; empty when there is no such instant."""
    iso: str


NEVER = Moment("never", "", "")


def moment(at: float | None, now: float) -> Moment:
    """`at` in Unix seconds; 0 and None are never, and so is what no calendar holds."""
    if not at:
        return NEVER
    try:
        when = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        return NEVER
    ago = f"{span(now - at)} ago" if now - at >= 1 else "now" if now - at > -60 else f"in {span(at - now)}"
    return Moment(ago, f"{when:%Y-%m-%d %H:%M:%S} UTC", f"{when:%Y-%m-%dT%H:%M:%SZ}")


def span(seconds: float) -> str:
    """A duration in its two largest units: `42 s`, `3 min`, `2 h 5 min`, `4 d 3 h`."""
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.0f} s"
    for index, (size, unit) in enumerate(_STEPS):
        if seconds >= size:
            whole = int(seconds // size)
            if unit == "min" or whole >= 10:
                return f"{whole} {unit}"
            smaller, smaller_unit = _STEPS[index + 1]
            rest = int(seconds % size // smaller)
            return f"{whole} {unit} {rest} {smaller_unit}" if rest else f"{whole} {unit}"
    raise AssertionError("60 seconds are a minute")


def size(count: float) -> str:
    """Bytes with a binary prefix: `20.0 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(count) < 1024 or unit == "PiB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("PiB ends the loop")


def percent(ratio: float) -> str:
    """A ratio as a percentage that never rounds something to nothing, nor an almost full disk to a full one."""
    if 0 < ratio < 0.01:
        return f"{ratio * 100:.1f} %" if ratio >= 0.001 else "< 0.1 %"
    if 0.99 < ratio < 1:
        return "> 99 %"
    return f"{ratio * 100:.0f} %"


def plain(text: str) -> str:
    """Text from an agent with everything unprintable made visible, line ends and direction marks included."""
    if len(text) > TEXT_LENGTH_MAX:
        text = text[:TEXT_LENGTH_MAX] + "…"
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "backslashreplace").decode()
        for character in text
    )


def counted(count: int, one: str, many: str = "") -> str:
    """`1 alert`, `2 alerts`, `12,345 nodes`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
