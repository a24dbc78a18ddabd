"""What came of each fault of `virtual_faults`, as a table for people."""

import sys

from msgspec import Struct, field


class Row(Struct):
    """One fault. Seconds are None until it was named, and until all was clear again."""

    name: str
    expected: str
    named_seconds: float | None = None
    verdict: str = ""
    """Of the resource, when it was named."""
    cleared_seconds: float | None = None
    false_alarms: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.named_seconds is not None and self.cleared_seconds is not None and not self.false_alarms


def table(rows: list[Row]) -> str:
    """A line for each fault, the totals, and every false alarm in full."""
    lines = [f"{'fault':40}{'expected':46}{'verdict':14}{'named':>8}{'cleared':>9}{'false':>7}"]
    for row in rows:
        named, cleared = _seconds(row.named_seconds, "MISSED"), _seconds(row.cleared_seconds, "NEVER")
        lines.append(
            f"{row.name:40}{row.expected:46}{row.verdict or '–':14}{named:>8}{cleared:>9}{len(row.false_alarms):>7}"
        )
    missed = sum(row.named_seconds is None for row in rows)
    stuck = sum(row.cleared_seconds is None for row in rows)
    false = [alarm for row in rows for alarm in row.false_alarms]
    lines.append(f"missed: {missed}, not cleared: {stuck}, false alarms: {len(false)}")
    return "\n".join([*lines, *false])


def _seconds(seconds: float | None, otherwise: str) -> str:
    return otherwise if seconds is None else f"{seconds:.0f} s"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
