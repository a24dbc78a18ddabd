"""How collector, fleet and alerts stand, in lines for people. Answers of the JSON API in, text out."""

from collections.abc import Sequence
from typing import Any

from holdfast.simulate import Tally

SEVERITIES = ("page", "ticket", "info")
FOR_PEOPLE = frozenset({"page", "ticket"})
"""Severities that ask a person to act; `info` is there to be looked up."""
_ABSENT = frozenset({"lost", "silent"})
_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def firing(alerts: Sequence[Any]) -> list[Any]:
    """The alerts that ask a person to act now, pages before tickets, then the newest; each with those it explains
    beneath it. What is explained by something that is not in the list stands at its end."""
    acting = [row for row in alerts if row["state"] == "firing" and row["severity"] in FOR_PEOPLE]
    acting.sort(key=lambda row: (SEVERITIES.index(row["severity"]), -(row["fired_at"] or 0.0)))
    beneath: dict[str, list[Any]] = {}
    for row in acting:
        beneath.setdefault(row["explained_by"], []).append(row)
    told: dict[str, Any] = {}
    keys = {row["key"] for row in acting}
    waiting = [row for row in reversed(acting) if not row["inhibited_by"] and row["explained_by"] not in keys]
    while waiting:
        row = waiting.pop()
        if row["key"] not in told:
            told[row["key"]] = row
            waiting.extend(reversed(beneath.get(row["key"], ())))
    return [*told.values(), *(row for row in acting if row["key"] not in told)]


def troubled(status: Any, nodes: Any) -> bool:
    """Whether somebody should look: the collector is not ready, an alert asks for a person, a node is not heard of."""
    acting = any(_unexplained(status).get(severity) for severity in FOR_PEOPLE)
    return not status["ready"] or acting or any(nodes["by_state"].get(state) for state in _ABSENT)


def status_lines(url: str, status: Any, nodes: Any) -> list[str]:
    """`/api/v1/status` and the counts of `/api/v1/nodes`."""
    age = duration(status["now"] - status["started_at"])
    health = status["health"]
    pending = sum(status["alerts"].get("pending", {}).values())
    quiet = _by_severity(status["explained"])
    explained = f" and {quiet} explained by them" if quiet else ""
    lines = [
        f"collector  {status['version']} at {url}, up {age}: {'ready' if status['ready'] else 'not ready'}",
        *(f"           {reason}" for reason in status["reasons"]),
        f"nodes      {_counts(nodes['by_state']) or 'none yet'}",
        f"alerts     {_by_severity(_unexplained(status)) or 'none'} firing{explained}, {pending} pending",
        f"outbox     {_outbox(health)}",
    ]
    if not health["warm"]:
        lines.append("           it started a moment ago: nothing resolves, no node is called silent yet")
    if status["rejected"]:
        lines.append(f"rejected   {_counts(status['rejected'])}; samples: {url}/api/v1/rejections")
    return lines


def alert_lines(alerts: Sequence[Any], now: float) -> list[str]:
    """One alert on two lines: what it says, and its key for `holdfast ack`."""
    lines = []
    shown = {row["key"] for row in alerts}
    for row in alerts:
        indent = "  " if row["explained_by"] in shown else ""
        since = row["fired_at"] or row["pending_since"]
        state = "" if row["state"] == "firing" else f"{row['state']}, "
        notes = [f"{state}since {duration(now - since)}"]
        if row["acknowledged"]:
            notes.append(f"acknowledged: {row['acknowledged']}")
        if row["inhibited_by"]:
            until = " until that ended" if row.get("cause_over") else ""
            notes.append(f"explained by {row['inhibited_by']}{until}")
        if row["explains_total"]:
            notes.append(f"explains {row['explains_total']} others")
        summary = row["annotations"].get("summary", row["resource"])
        lines += [
            f"{indent}{row['severity']:7}{row['alertname']}  {summary}",
            f"{indent}       {'; '.join(notes)}; key {row['key']}",
        ]
    return lines or ["no alert fires"]


def tally_line(tally: Tally) -> str:
    """How a simulation stands."""
    line = (
        f"{tally.connected} connected; reports {tally.reports} sent, {tally.reports_taken} taken by the broker "
        f"({tally.reports_taken_per_second:.0f} a second), {tally.reports_held_back} held back; "
        f"births and events {tally.durable}, {tally.durable_acknowledged} acknowledged by the collector"
    )
    lost = f"; {tally.connections_lost} connections lost" if tally.connections_lost else ""
    trouble = f" ({tally.trouble})" if tally.trouble else ""
    return line + lost + trouble


def duration(seconds: float) -> str:
    """In its two largest units: `3h 5m`, `12s`."""
    left = max(int(seconds), 0)
    parts: list[str] = []
    for size, unit in _UNITS:
        if left >= size or (unit == "s" and not parts):
            parts.append(f"{left // size}{unit}")
        left %= size
    return " ".join(parts[:2])


def _outbox(health: Any) -> str:
    waiting = health["outbox_notices"]
    return f"{waiting} wait, the oldest for {duration(health['outbox_age_seconds'])}" if waiting else "empty"


def _unexplained(status: Any) -> dict[str, int]:
    """Severity → alerts that fire and that people were told of, or would have been."""
    quiet = status["explained"]
    firing = status["alerts"].get("firing", {}).items()
    return {severity: count - quiet.get(severity, 0) for severity, count in firing}


def _by_severity(counts: dict[str, int]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in SEVERITIES if counts.get(name))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number)
