"""A difference between two rule sets, in lines for a person."""

import time
from collections.abc import Sequence

from holdfast.difference import Changed, Difference
from holdfast_collector.replay import Episode

LISTED_MAX = 50
"""Of each sort. `--json` has all."""
_PLURALS = {"page": "pages", "ticket": "tickets", "info": "info"}


def difference_lines(found: Difference) -> list[str]:
    """The sums first: how often people would have been called."""
    sums = [
        f"{word} {found.told_before.get(severity, 0)} → {found.told_after.get(severity, 0)}"
        for severity, word in _PLURALS.items()
    ]
    lines = [", ".join(sums)]
    if found.empty:
        return [*lines, f"no difference: {found.same} alerts fired alike"]
    lines += _listed("only before", [_episode(row) for row in found.only_before])
    lines += _listed("only after", [_episode(row) for row in found.only_after])
    lines += _listed("changed", [_changed(row) for row in found.changed])
    rules = [
        f"{row.severity:7}{row.alert:32} {row.before} → {row.after}"
        for row in found.rules
        if row.before != row.after
    ]
    lines += _listed("people told, by rule", rules)
    return [*lines, "", f"{found.same} more fired alike"]


def stamp(at: float) -> str:
    """An instant to the second, UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))


def span(seconds: float) -> str:
    """A length of time in its two largest units."""
    whole = round(seconds)
    for size, unit, below, lower in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size}{unit}" + (f"{rest}{lower}" if rest else "")
    return f"{whole}s"


def _listed(title: str, rows: Sequence[str]) -> list[str]:
    if not rows:
        return []
    more = [f"  … and {len(rows) - LISTED_MAX} more; --json lists all"] if len(rows) > LISTED_MAX else []
    return ["", f"{title} ({len(rows)}):", *(f"  {row}" for row in rows[:LISTED_MAX]), *more]


def _episode(row: Episode) -> str:
    lasted = "fires still" if row.resolved_at is None else f"for {span(row.resolved_at - row.fired_at)}"
    quiet = "" if row.told_at is not None else f", kept quiet by {row.explained_by or 'another alert'}"
    return (
        f"{stamp(row.fired_at)}  {row.severity:7}{row.alert}  {_where(row)}  {lasted}{quiet}: {row.summary}"
    )


def _where(row: Episode) -> str:
    node = row.node or "the collector"
    return node if row.kind in {"node", "collector"} else f"{node} {row.kind} {row.resource}"


def _changed(row: Changed) -> str:
    before, after = row.before, row.after
    said = {
        "fired": f"fires {_later(before.fired_at, after.fired_at)}",
        "resolved": f"ends {_later(before.resolved_at, after.resolved_at)}",
        "severity": f"{before.severity} → {after.severity}",
        "told": "people are told now" if after.told_at is not None else _quiet(after),
    }
    return (
        f"{stamp(before.fired_at)}  {after.severity:7}{after.alert}  {_where(after)}: "
        f"{', '.join(said[how] for how in row.how)}"
    )


def _quiet(row: Episode) -> str:
    return f"kept quiet by {row.explained_by or 'another alert'} now"


def _later(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        ends = [stamp(at) if at is not None else "not within this time" for at in (before, after)]
        return f"{ends[1]} instead of {ends[0]}"
    return f"{span(abs(after - before))} {'later' if after > before else 'earlier'}, at {stamp(after)}"
