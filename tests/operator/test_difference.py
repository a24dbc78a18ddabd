"""Two rule sets side by side: what fired only with one of them, and what fired otherwise."""

from typing import Any

import pytest

from holdfast.difference import difference
from holdfast.difference_lines import difference_lines, span
from holdfast.replay_command import instant
from holdfast_collector.replay import Episode

T0 = 1_764_072_000.0
"""2025-11-25 12:00:00 UTC."""


def episode(alert: str, fired: float, resolved: float | None, *, told: bool = True, **more: Any) -> Episode:
    defaults: dict[str, Any] = {"severity": "page", "node": "db-1", "kind": "volume", "resource": "/srv"}
    return Episode(
        rule_id="",
        alert=alert,
        fired_at=T0 + fired,
        resolved_at=None if resolved is None else T0 + resolved,
        told_at=T0 + fired if told else None,
        summary="s",
        **(defaults | more),
    )


def test_episodes_that_overlap_belong_together() -> None:
    """The one that fires later is the same trouble; the short one is gone; another resource is another matter."""
    before = [episode("Full", 0, 60), episode("Full", 600, 1200), episode("Silent", 0, None)]
    after = [
        episode("Full", 900, 1200),
        episode("Full", 0, 60, resource="/var"),
        episode("Silent", 1, None),
    ]

    found = difference(before, after)

    assert (found.only_before, found.only_after) == ([before[0]], [after[1]])
    assert [(row.before, row.after, row.how) for row in found.changed] == [(before[1], after[0], ("fired",))]
    assert (found.same, found.told_before, found.told_after) == (1, {"page": 3}, {"page": 3})


def test_every_way_to_differ_is_named() -> None:
    before = [episode("Full", 0, 60)]
    after = [episode("Full", 10, None, told=False, severity="ticket", explained_by="DiskGone")]

    (changed,) = difference(before, after).changed

    assert changed.how == ("fired", "resolved", "severity", "told")


def test_lines_say_how_often_people_would_have_been_called_first() -> None:
    before = [episode("Full", 0, 60), episode("Full", 600, 1200)]
    after = [
        episode("Full", 900, 1200),
        episode("Gone", 30, None, kind="node", resource="db-1", severity="ticket"),
    ]

    assert difference_lines(difference(before, after)) == [
        "pages 2 → 1, tickets 0 → 1, info 0 → 0",
        "",
        "only before (1):",
        "  2025-11-25 12:00:00Z  page   Full  db-1 volume /srv  for 1m: s",
        "",
        "only after (1):",
        "  2025-11-25 12:00:30Z  ticket Gone  db-1  fires still: s",
        "",
        "changed (1):",
        "  2025-11-25 12:10:00Z  page   Full  db-1 volume /srv: fires 5m later, at 2025-11-25 12:15:00Z",
        "",
        "people told, by rule (2):",
        "  page   Full                             2 → 1",
        "  ticket Gone                             0 → 1",
        "",
        "0 more fired alike",
    ]


def test_no_difference_is_one_sentence() -> None:
    rows = [episode("Full", 0, 60)]

    assert difference_lines(difference(rows, rows)) == [
        "pages 1 → 1, tickets 0 → 0, info 0 → 0",
        "no difference: 1 alerts fired alike",
    ]


def test_alert_that_another_explains_calls_nobody() -> None:
    found = difference(
        [episode("Full", 0, 60)], [episode("Full", 0, 60, told=False, explained_by="DiskGone")]
    )

    assert difference_lines(found)[0] == "pages 1 → 0, tickets 0 → 0, info 0 → 0"
    assert difference_lines(found)[3].endswith("Full  db-1 volume /srv: kept quiet by DiskGone now")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("now", T0),
        ("-2h", T0 - 7200.0),
        ("-1d12h", T0 - 129_600.0),
        ("2025-11-25T12:00:00Z", T0),
        ("2025-11-25T13:00:00.5+01:00", T0 + 0.5),
    ],
)
def test_instants_are_read(text: str, at: float) -> None:
    assert instant(text, T0) == at


@pytest.mark.parametrize(
    ("text", "why"),
    [("-2", "write -90s"), ("yesterday", "write 2026-"), ("2025-11-25T12:00:00", "does not say its zone")],
)
def test_instant_that_is_none_is_refused_with_what_to_write(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        instant(text, T0)


def test_spans_have_their_two_largest_units() -> None:
    assert [span(seconds) for seconds in (5, 60, 90, 3600, 5430, 90_000)] == [
        "5s", "1m", "1m30s", "1h", "1h30m", "1d1h",
    ]  # fmt: skip
