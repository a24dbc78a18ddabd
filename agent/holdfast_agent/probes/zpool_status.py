"""What `zpool status -p` says, as text → structs (zpool-status(8)), run with LC_ALL=C and TZ=UTC.

      pool: tank
     state: DEGRADED
    status: …
      scan: scrub repaired 0B in 00:14:33 with 0 errors on Sun Jan 11 04:01:31 2026
    config:

            NAME        STATE     READ WRITE CKSUM
            tank        DEGRADED     0     0     0
              sdb       FAULTED      4   372     0  too many errors

    errors: No known data errors

A pool may call itself ONLINE while a device of a mirror is FAULTED, so every row counts.
"""

import re
from calendar import timegm
from time import strptime

from msgspec import Struct, field

_KEY = re.compile(
    r"^ {0,8}(pool|state|status|action|see|scan|scrub|config|errors|remove|checkpoint|dedup): ?(.*)$"
)
_ROW = re.compile(r"^\s+(\S+)\s+([A-Z]{4,})\b(?:\s+(\d+)\s+(\d+)\s+(\d+))?\s*(.*)$")
_SCRUBBED = re.compile(r"^scrub repaired .* with (\d+) errors on (.+)$")
_COUNT = re.compile(r"^(\d+) data errors?\b")
_WELL = frozenset({"ONLINE", "AVAIL", "INUSE", "STATE"})
"""INUSE: a spare that does its work."""


class Pool(Struct, frozen=True, kw_only=True):
    """One pool."""

    name: str
    state: str
    troubled: list[str] = field(default_factory=list)
    """Its rows that are not well, or count errors, in words."""
    data_errors: int | None = None
    """Blocks of which no good copy is left; None when it may not say."""
    scrubbed_at: float | None = None
    """When the newest complete scrub ended, Unix seconds; None when another scan came later, or none was."""
    resilvering: bool = False


def parse_status(text: str) -> list[Pool]:
    """Every pool; what is not understood is left out rather than guessed."""
    pools, values = [], dict[str, list[str]]()
    key = ""
    for line in [*text.splitlines(), "pool: "]:
        found = _KEY.match(line.lstrip("\t").replace("\t", "        ")) if not line.startswith("\t") else None
        if found is None:
            values.setdefault(key, []).append(line)
            continue
        if found[1] == "pool":
            if "pool" in values and "state" in values:
                pools.append(_pool(values))
            values = {}
        key = found[1]
        values[key] = [found[2]]
    return pools


def _pool(values: dict[str, list[str]]) -> Pool:
    scan = values.get("scan", [""])[0].strip()
    scrubbed = _SCRUBBED.match(scan)
    name = values["pool"][0].strip()
    return Pool(
        name=name,
        state=values["state"][0].strip(),
        troubled=[words for line in values.get("config", []) if (words := _trouble(line, name))],
        data_errors=_data_errors(values.get("errors", [""])[0].strip()),
        scrubbed_at=_time(scrubbed[2]) if scrubbed else None,
        resilvering=scan.startswith("resilver in progress"),
    )


def _trouble(line: str, pool: str) -> str:
    row = _ROW.match(line)
    if row is None or row[1] in ("NAME", pool):
        return ""
    counted = [
        f"{count} {kind}"
        for count, kind in zip(row.groups()[2:5], ("read", "write", "checksum"), strict=True)
        if count and int(count)
    ]
    if row[2] in _WELL and not counted:
        return ""
    said = [row[1], row[2], *([f"({', '.join(counted)} errors)"] if counted else []), row[6].strip()]
    return " ".join(part for part in said if part)


def _data_errors(said: str) -> int | None:
    if said == "No known data errors":
        return 0
    count = _COUNT.match(said)
    if count:
        return int(count[1])
    return 1 if said.startswith("Permanent errors") else None


def _time(text: str) -> float | None:
    try:
        return float(timegm(strptime(" ".join(text.split()), "%a %b %d %H:%M:%S %Y")))
    except ValueError:
        return None
