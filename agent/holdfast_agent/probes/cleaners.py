"""What empties places: tmpfiles.d(5) by age and at boot, memory at boot, systemd when a unit stops.

A line of tmpfiles.d is `type path mode user group age argument`. With an age, `d D e v q Q` clean below the path by
age; `R` and `D` remove at boot; `x` and `X` except a place from cleaning.
"""

import re
from collections.abc import Iterable
from fnmatch import fnmatch

from msgspec import Struct

from holdfast_agent.probes.state_roles import below

_AGED = frozenset("dDevqQ")
_AT_BOOT = frozenset("RD")
_SPARED = frozenset("xX")
_BY_NATURE = (
    ("/run", "memory, and empty after every boot"),
    ("/var/run", "memory, and empty after every boot"),
    ("/dev/shm", "memory, and empty after every boot"),
    ("/var/lib/docker/tmp", "emptied by Docker when it starts"),
)
_PRIVATE_TMP = re.compile(r"/(?:var/)?tmp/systemd-private-[^/]+-(?P<unit>[^/]+\.service)-[^/]+(?:/.*)?")
_HABIT = ("/tmp",)


class Cleaner(Struct, frozen=True):
    """One line that empties, removes or spares a place."""

    type: str
    pattern: str
    age: str


def cleaners(lines: Iterable[str]) -> list[Cleaner]:
    """The lines that matter here."""
    found = []
    for line in lines:
        fields = line.split()
        if len(fields) < 2 or line.startswith("#"):
            continue
        kind, path = fields[0][:1], fields[1].strip('"')
        age = fields[5] if len(fields) > 5 else "-"
        cleans = (kind in _AGED and age not in ("-", "")) or (kind in _AT_BOOT and path != "/")
        if (cleans or kind in _SPARED) and path.startswith("/") and "%" not in path:
            found.append(Cleaner(kind, path.rstrip("/"), age))
    return found


def cleaned_by(path: str, lines: Iterable[Cleaner]) -> str:
    """What empties the place, in words; empty when nothing does. `path` as the machine sees it."""
    if private := _PRIVATE_TMP.fullmatch(path):
        return f"systemd removes the private /tmp of {private['unit']} when the unit stops"
    for place, how in _BY_NATURE:
        if below(path, place):
            return f"{place} is {how}"
    matching = [line for line in lines if _covers(line, path)]
    if any(line.type in _SPARED for line in matching):
        return ""
    nearest = max(matching, key=lambda line: len(line.pattern), default=None)
    if nearest is not None and nearest.age not in ("-", "") and nearest.type in _AGED:
        return f"systemd-tmpfiles removes from {nearest.pattern} what is older than {nearest.age.lstrip('~')}"
    if nearest is not None:
        return f"systemd-tmpfiles empties {nearest.pattern} at boot"
    for place in _HABIT:
        if below(path, place):
            return f"{place} is emptied at boot on many machines"
    return ""


def _covers(line: Cleaner, path: str) -> bool:
    """Whether the line's pattern is the path or one of its parents."""
    if line.type == "r" or not line.pattern:
        return False
    parts = path.split("/")
    return any(fnmatch("/".join(parts[:count]), line.pattern) for count in range(2, len(parts) + 1))
