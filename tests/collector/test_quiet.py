"""How long an alert is kept quiet: each line of the table in `core/quiet.py`, and what differs from it by one field."""

from typing import Any

import pytest

from holdfast_collector.core.node import Node
from holdfast_collector.core.quiet import before_its_end, left_to_its_cause, on_its_own, stands_on, to_tell
from holdfast_collector.core.record import Resolved
from holdfast_rules import AlertState, Finding
from tests.collector.judged import BEGAN, alert, known_node, rule, tracked

PLAIN, STICKY = rule(), rule(sticky=True)
ENDED = BEGAN + 100.0


@pytest.mark.parametrize("finding", [Finding.HOLDS, Finding.BETWEEN])
def test_what_fires_and_nobody_was_told_of_is_to_be_told(finding: Finding) -> None:
    """Between, a rule fires by its own word: it asked for more than that its condition is over."""
    assert to_tell(PLAIN, tracked(last_finding=finding))


@pytest.mark.parametrize("finding", [Finding.CLEAR, Finding.UNKNOWN])
def test_what_nobody_sees_any_more_is_told_of_a_sticky_alert_only(finding: Finding) -> None:
    """It does not leave by itself: somebody must hear of it."""
    assert not to_tell(PLAIN, tracked(last_finding=finding))
    assert to_tell(STICKY, tracked(last_finding=finding))


@pytest.mark.parametrize("other", [PLAIN, STICKY])
def test_what_was_told_or_does_not_fire_is_not_to_be_told(other: Any) -> None:
    assert not to_tell(other, tracked(notified=True))
    assert not to_tell(other, tracked(state=AlertState.PENDING))


def test_a_sticky_alert_that_clears_under_its_cause_waits_for_nobody() -> None:
    left = left_to_its_cause(tracked(inhibited_by="DiskBad"), STICKY, Finding.CLEAR, ENDED)

    assert (left.acknowledged, left.acknowledged_at) == ("it was part of DiskBad", ENDED)


@pytest.mark.parametrize(
    ("held", "judged", "finding"),
    [
        (tracked(inhibited_by="DiskBad"), PLAIN, Finding.CLEAR),
        (tracked(), STICKY, Finding.CLEAR),
        (tracked(inhibited_by="DiskBad", notified=True), STICKY, Finding.CLEAR),
        (tracked(inhibited_by="DiskBad"), STICKY, Finding.HOLDS),
        (tracked(inhibited_by="DiskBad"), STICKY, Finding.UNKNOWN),
        (tracked(inhibited_by="DiskBad", acknowledged="mine"), STICKY, Finding.CLEAR),
    ],
    ids=["not sticky", "not explained", "told", "holds", "unseen", "somebody's already"],
)
def test_an_alert_is_left_to_its_cause_for_all_of_these_reasons_together(
    held: Any, judged: Any, finding: Finding
) -> None:
    assert left_to_its_cause(held, judged, finding, ENDED) == held.alert


@pytest.mark.parametrize(
    ("fields", "stands"),
    [
        ({}, True),
        ({"last_finding": Finding.BETWEEN}, True),
        ({"last_finding": Finding.UNKNOWN}, True),
        ({"last_finding": Finding.CLEAR}, False),
        ({"state": AlertState.PENDING}, False),
        ({"severity": "ticket"}, False),
        ({"notified": True}, False),
    ],
)
def test_the_memory_of_an_event_stands_for_what_would_page_again(
    fields: dict[str, Any], stands: bool
) -> None:
    """What nobody can see is no less there; what was told, or asks less of people, can stand for itself."""
    cause = tracked(alertname="DiskLostData", kind="device", resource="sdb")

    assert stands_on(cause, [tracked(last_finding=Finding.CLEAR), tracked(**fields)]) is stands


def test_what_was_told_before_its_cause_goes_on_by_itself_and_the_rest_does_not() -> None:
    told, quiet = tracked(notified=True, explained_by="c"), tracked(resource="/two", explained_by="c")

    (freed,) = on_its_own([told, quiet])

    assert (freed.key, freed.explained_by) == (told.key, "")


def seen(at: float | None) -> Node:
    node = known_node()
    if at is not None:
        node.observed[("volume", "/srv")] = at
    return node


def ended(**fields: Any) -> dict[str, Resolved]:
    cause = {"alertname": "DiskBad", "kind": "device", "resource": "sdb", **fields}
    return {"c": Resolved(key="c", alert=alert(**cause), at=ENDED, notified=True)}


@pytest.mark.parametrize(
    ("node", "resolved", "finding", "before"),
    [
        (seen(ENDED - 1), ended(), Finding.HOLDS, True),
        (seen(ENDED), ended(), Finding.HOLDS, False),
        (seen(ENDED - 1), ended(cleared_since=ENDED - 10), Finding.HOLDS, False),
        (seen(ENDED - 11), ended(cleared_since=ENDED - 10), Finding.HOLDS, True),
        (seen(None), ended(), Finding.HOLDS, False),
        (seen(ENDED - 1), {}, Finding.HOLDS, False),
        (seen(ENDED - 1), ended(kind="node", resource="n1"), Finding.HOLDS, False),
        (seen(ENDED - 1), ended(), Finding.UNKNOWN, False),
    ],
    ids=["older", "as new", "newer than its clearing", "older than that", "never seen", "stands", "a node's", "unseen now"],
)  # fmt: skip
def test_nothing_is_said_of_an_effect_until_it_was_seen_after_its_cause_ended(
    node: Node, resolved: dict[str, Resolved], finding: Finding, before: bool
) -> None:
    """The disk works again, and the probe that looks at what is on it comes round in a minute."""
    effect = tracked(explained_by="c", last_finding=finding)

    assert before_its_end(effect, node, resolved) is before
