"""How alerts are told on a terminal."""

from typing import Any

from holdfast.standing import firing


def row(
    name: str, severity: str, fired_at: float, inhibited_by: str = "", state: str = "firing"
) -> dict[str, Any]:
    return {
        "alertname": name, "severity": severity, "fired_at": fired_at, "inhibited_by": inhibited_by, "state": state,
    }  # fmt: skip


def test_what_nobody_explains_stands_first_then_pages_then_the_newest() -> None:
    """Thirteen followers of one dead disk must not stand between the person who was woken and the disk."""
    rows = [
        row("Follower", "page", 9, "Cause"),
        row("Older", "ticket", 1),
        row("Cause", "page", 2),
        row("Newer", "ticket", 3),
        row("Later", "page", 4),
        row("Told", "info", 5),
        row("Waits", "page", 6, state="pending"),
    ]

    assert [each["alertname"] for each in firing(rows)] == ["Later", "Cause", "Newer", "Older", "Follower"]
