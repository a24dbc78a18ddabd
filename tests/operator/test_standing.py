"""How alerts are told on a terminal."""

from typing import Any

from holdfast.standing import alert_lines, firing, status_lines, troubled


def row(
    name: str, severity: str, fired_at: float, inhibited_by: str = "", state: str = "firing"
) -> dict[str, Any]:
    return {
        "key": name, "alertname": name, "severity": severity, "fired_at": fired_at, "state": state,
        "inhibited_by": inhibited_by, "explained_by": inhibited_by, "explains_total": 0, "acknowledged": "",
        "annotations": {}, "resource": "/srv",
    }  # fmt: skip


def standing(alerts: dict[str, dict[str, int]], explained: dict[str, int]) -> dict[str, Any]:
    return {
        "version": "0.1.0", "now": 60.0, "started_at": 0.0, "ready": True, "reasons": [], "rejected": {},
        "health": {"warm": True, "outbox_notices": 0}, "alerts": alerts, "explained": explained,
    }  # fmt: skip


def test_pages_stand_before_tickets_and_what_is_explained_beneath_its_cause() -> None:
    """Thirteen followers of one dead disk must not look like thirteen things to do."""
    rows = [
        row("Follower", "page", 9, "Cause"),
        row("Grandchild", "ticket", 8, "Follower"),
        row("Orphan", "page", 8, "Unseen"),
        row("Older", "ticket", 1),
        row("Cause", "page", 2),
        row("Newer", "ticket", 3),
        row("Later", "page", 4),
        row("Told", "info", 5),
        row("Waits", "page", 6, state="pending"),
    ]

    assert [each["alertname"] for each in firing(rows)] == [
        "Later", "Cause", "Follower", "Grandchild", "Newer", "Older", "Orphan",
    ]  # fmt: skip


def test_alerts_that_explain_each_other_are_all_listed() -> None:
    """No row may be lost to a ring, however it came about."""
    rows = [row("One", "page", 1, "Other"), row("Other", "page", 2, "One")]

    assert {each["alertname"] for each in firing(rows)} == {"One", "Other"}


def test_what_is_explained_is_indented() -> None:
    lines = alert_lines(firing([row("Follower", "page", 9, "Cause"), row("Cause", "page", 2)]), 10.0)

    assert [line.index(line.strip()) for line in lines] == [0, 7, 2, 9]


def test_the_status_counts_what_pages_and_names_the_rest() -> None:
    """`14 page firing` of one dead disk reads like fourteen disks."""
    answer = standing({"firing": {"page": 14, "ticket": 1}}, {"page": 13, "ticket": 1})

    lines = status_lines("http://x", answer, {"by_state": {}})

    assert "alerts     1 page firing and 13 page, 1 ticket explained by them, 0 pending" in lines


def test_only_explained_alerts_trouble_nobody_and_unexplained_ones_do() -> None:
    nodes: dict[str, Any] = {"by_state": {}}

    assert not troubled(standing({"firing": {"ticket": 1}}, {"ticket": 1}), nodes)
    assert troubled(standing({"firing": {"ticket": 2}}, {"ticket": 1}), nodes)
