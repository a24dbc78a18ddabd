"""The life cycle of an alert: every cell of its table, and what counts as time."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from holdfast_rules import Alert, AlertState, Finding, Rule, Step, Transition, acknowledge, advance, key
from holdfast_rules.alert import TABLE, Signal
from tests.rules.resource import rule

HOLDS, CLEAR, UNKNOWN, BETWEEN = Finding.HOLDS, Finding.CLEAR, Finding.UNKNOWN, Finding.BETWEEN
INACTIVE, PENDING, FIRING = AlertState.INACTIVE, AlertState.PENDING, AlertState.FIRING

PLACE = ("vm-1", "volume", "/srv")
GAP = 30.0
RULE = rule(for_="1m", keep_firing_for="1m")
AT_ONCE = rule()
STICKY = rule(sticky="true")


def play(findings: list[tuple[float, Finding]], by: Rule = RULE, alert: Alert | None = None) -> list[Step]:
    """Each judgement's outcome."""
    steps = []
    for at, finding in findings:
        step = advance(
            by,
            alert,
            PLACE,
            finding,
            at,
            gap_seconds_max=GAP,
            episode_next=7,
            annotations={"summary": f"at {at:g}"},
        )
        alert = step.alert
        steps.append(step)
    return steps


def every(seconds: float, findings: str, start: float = 0.0) -> list[tuple[float, Finding]]:
    """`h` holds, `c` clear, `b` between, `u` unknown, evenly spaced."""
    words = {"h": HOLDS, "c": CLEAR, "b": BETWEEN, "u": UNKNOWN}
    return [(start + index * seconds, words[letter]) for index, letter in enumerate(findings)]


def states(steps: list[Step]) -> list[AlertState]:
    return [INACTIVE if step.alert is None else step.alert.state for step in steps]


def transitions(steps: list[Step]) -> list[Transition]:
    return [step.transition for step in steps]


PENDING_ALERT = play(every(20, "hh"))[-1].alert
FIRING_ALERT = play(every(20, "hhhh"))[-1].alert
CLEARING_ALERT = play(every(20, "hhhhccc"))[-1].alert
assert PENDING_ALERT is not None
assert FIRING_ALERT is not None
assert CLEARING_ALERT is not None


@pytest.mark.parametrize(
    ("state", "signal", "by", "before", "at", "finding"),
    [
        (INACTIVE, Signal.BLIND, RULE, None, 0, UNKNOWN),
        (INACTIVE, Signal.HOLDING, RULE, None, 0, HOLDS),
        (INACTIVE, Signal.RIPE, AT_ONCE, None, 0, HOLDS),
        (INACTIVE, Signal.CLEARING, RULE, None, 0, CLEAR),
        (INACTIVE, Signal.GONE, AT_ONCE, None, 0, CLEAR),
        (INACTIVE, Signal.BETWEEN, RULE, None, 0, BETWEEN),
        (PENDING, Signal.BLIND, RULE, PENDING_ALERT, 40, UNKNOWN),
        (PENDING, Signal.HOLDING, RULE, PENDING_ALERT, 40, HOLDS),
        (PENDING, Signal.RIPE, rule(for_="40s"), PENDING_ALERT, 40, HOLDS),
        (PENDING, Signal.CLEARING, RULE, PENDING_ALERT, 40, CLEAR),
        (PENDING, Signal.GONE, rule(for_="1m"), PENDING_ALERT, 40, CLEAR),
        (PENDING, Signal.BETWEEN, RULE, PENDING_ALERT, 40, BETWEEN),
        (FIRING, Signal.BLIND, RULE, FIRING_ALERT, 80, UNKNOWN),
        (FIRING, Signal.HOLDING, rule(for_="5m"), FIRING_ALERT, 80, HOLDS),
        (FIRING, Signal.RIPE, RULE, FIRING_ALERT, 80, HOLDS),
        (FIRING, Signal.CLEARING, RULE, FIRING_ALERT, 80, CLEAR),
        (FIRING, Signal.GONE, RULE, CLEARING_ALERT, 140, CLEAR),
        (FIRING, Signal.BETWEEN, AT_ONCE, CLEARING_ALERT, 140, BETWEEN),
    ],
)
def test_each_cell_of_the_table_is_what_it_says(
    state: AlertState, signal: Signal, by: Rule, before: Alert | None, at: float, finding: Finding
) -> None:
    [step] = play([(at, finding)], by, before)

    assert (states([step])[0], step.transition) == TABLE[state, signal]


def test_the_table_has_every_cell() -> None:
    assert set(TABLE) == {(state, signal) for state in AlertState for signal in Signal}


def test_a_condition_fires_when_it_has_held_for_as_long_as_the_rule_wants() -> None:
    steps = play(every(20, "chhhhh"))

    assert states(steps) == [INACTIVE, PENDING, PENDING, PENDING, FIRING, FIRING]
    assert transitions(steps)[1:] == [
        Transition.PENDING,
        Transition.NONE,
        Transition.NONE,
        Transition.FIRED,
        Transition.NONE,
    ]


def test_an_alert_carries_who_what_since_when_and_its_words() -> None:
    alert = play(every(20, "hhhh"))[-1].alert

    assert alert == Alert(
        rule_id="VolumeTested",
        alertname="VolumeTested",
        severity="page",
        node="vm-1",
        kind="volume",
        resource="/srv",
        state=FIRING,
        episode=7,
        pending_since=0.0,
        held_seconds=60.0,
        judged_at=60.0,
        last_finding=HOLDS,
        fired_at=60.0,
        labels={
            "alertname": "VolumeTested",
            "severity": "page",
            "node": "vm-1",
            "resource_kind": "volume",
            "resource": "/srv",
            "rule_id": "VolumeTested",
        },
        annotations={"summary": "at 60"},
    )
    assert key("f00d", alert) == "f00d/VolumeTested/volume:/srv/7"


def test_a_service_is_named_by_the_label_of_its_kind() -> None:
    step = advance(
        AT_ONCE,
        None,
        ("vm-1", "service", "nginx.service"),
        HOLDS,
        0.0,
        gap_seconds_max=GAP,
        episode_next=1,
        annotations={},
    )

    assert step.alert is not None
    assert step.alert.labels["service"] == "nginx.service"


def test_time_in_which_nobody_looked_does_not_count() -> None:
    """Two findings a minute apart, where half a minute is allowed: the node may have been well in between."""
    steps = play([(0, HOLDS), (60, HOLDS), (120, HOLDS), (140, HOLDS), (160, HOLDS), (180, HOLDS)])

    assert states(steps) == [PENDING, PENDING, PENDING, PENDING, PENDING, FIRING]


def test_unknown_neither_advances_nor_resets_what_is_pending() -> None:
    steps = play(every(20, "hhhuuuuhuh") + every(20, "hh", 200))

    assert [step.alert.held_seconds for step in steps if step.alert] == [
        0,
        20,
        40,
        40,
        40,
        40,
        40,
        40,
        40,
        40,
        60,
        80,
    ]
    assert transitions(steps).index(Transition.FIRED) == 10


def test_unknown_never_resolves_what_fires() -> None:
    assert set(states(play(every(20, "u" * 1000, 80), alert=FIRING_ALERT))) == {FIRING}


def test_clear_cancels_what_is_pending_and_its_time_is_forgotten() -> None:
    steps = play(every(20, "hhhchhh"))

    assert transitions(steps)[3] is Transition.CANCELLED
    assert states(steps) == [PENDING, PENDING, PENDING, INACTIVE, PENDING, PENDING, PENDING]


def test_an_alert_resolves_when_it_was_seen_clear_for_as_long_as_it_is_kept() -> None:
    steps = play(every(20, "cccc", 80), alert=FIRING_ALERT)

    assert transitions(steps) == [Transition.NONE, Transition.NONE, Transition.NONE, Transition.RESOLVED]
    assert steps[2].alert is not None
    assert (steps[2].alert.cleared_since, steps[2].alert.cleared_seconds) == (80.0, 40.0)


def test_a_condition_that_comes_back_keeps_the_same_episode_firing() -> None:
    steps = play(every(20, "ccchcccc", 80), alert=FIRING_ALERT)

    assert transitions(steps).index(Transition.RESOLVED) == 7
    assert {step.alert.episode for step in steps if step.alert} == {7}


def test_what_is_between_keeps_firing_and_starts_the_clearing_anew() -> None:
    """A level that has left the threshold and not yet come as far as `clear_when` has not been well for any time."""
    steps = play(every(20, "cccbbccbcccc", 80), alert=FIRING_ALERT)

    assert transitions(steps).index(Transition.RESOLVED) == 11
    assert [step.alert.cleared_seconds for step in steps if step.alert] == [
        0,
        20,
        40,
        0,
        0,
        0,
        20,
        0,
        0,
        20,
        40,
    ]


def test_what_returns_from_between_needs_a_new_acknowledgement_too() -> None:
    firing = play([(0, HOLDS)], STICKY)[-1].alert
    assert firing is not None

    steps = play(every(20, "bhc", 20), STICKY, acknowledge(firing, "on it", 10.0))

    assert [step.alert.acknowledged for step in steps if step.alert] == ["on it", "", ""]


def test_blindness_stops_the_clock_of_what_is_clearing() -> None:
    steps = play(every(20, "ccuuuucccc", 80), alert=FIRING_ALERT)

    assert transitions(steps).index(Transition.RESOLVED) == 8


def test_what_clears_between_gaps_is_not_seen_clear() -> None:
    steps = play([(100, CLEAR), (1000, CLEAR), (2000, CLEAR)], alert=FIRING_ALERT)

    assert set(states(steps)) == {FIRING}


def test_a_clock_that_seems_to_run_backwards_takes_no_time_away() -> None:
    steps = play([(100, HOLDS), (120, HOLDS), (110, HOLDS), (130, HOLDS)])

    assert [step.alert.held_seconds for step in steps if step.alert] == [0, 20, 20, 40]


def test_a_rule_without_for_fires_and_resolves_at_once() -> None:
    steps = play(every(20, "hhc"), AT_ONCE)

    assert transitions(steps) == [Transition.FIRED, Transition.NONE, Transition.RESOLVED]


def test_words_follow_the_evidence_while_the_condition_holds_and_then_stay() -> None:
    steps = play(every(20, "hcu", 80), alert=FIRING_ALERT)

    assert [step.alert.annotations["summary"] for step in steps if step.alert] == ["at 80"] * 3


def test_a_sticky_alert_stays_until_somebody_has_acknowledged_it() -> None:
    firing = play(every(20, "hccc"), STICKY)[-1].alert
    assert firing is not None

    assert states(play(every(20, "cc", 80), STICKY, firing)) == [FIRING, FIRING]
    noted = acknowledge(firing, "restored from the replica", 90.0)
    assert (noted.acknowledged, noted.acknowledged_at) == ("restored from the replica", 90.0)
    assert transitions(play([(100, CLEAR)], STICKY, noted)) == [Transition.RESOLVED]


def test_an_acknowledgement_does_not_end_what_still_holds() -> None:
    firing = play([(0, HOLDS)], STICKY)[-1].alert
    assert firing is not None

    steps = play(every(20, "huc", 20), STICKY, acknowledge(firing, "on it", 10.0))

    assert transitions(steps) == [Transition.NONE, Transition.NONE, Transition.RESOLVED]


def test_what_comes_back_after_it_was_clear_needs_a_new_acknowledgement() -> None:
    """The old one was given for what was known then; this is something new."""
    kept = rule(sticky="true", keep_firing_for="5m")
    firing = play(every(20, "hcc"), kept)[-1].alert
    assert firing is not None

    steps = play(every(20, "h", 60) + every(20, "c" * 20, 80), kept, acknowledge(firing, "restored", 50.0))

    assert set(states(steps)) == {FIRING}
    assert steps[0].alert is not None
    assert steps[0].alert.acknowledged == ""


def test_an_acknowledgement_wants_a_reason() -> None:
    assert FIRING_ALERT is not None
    with pytest.raises(AssertionError, match="reason"):
        acknowledge(FIRING_ALERT, "", 90.0)


def test_an_alert_survives_being_stored() -> None:
    assert FIRING_ALERT is not None
    noted = acknowledge(FIRING_ALERT, "on it", 90.0)

    assert msgspec.json.decode(msgspec.json.encode(noted), type=Alert) == noted


judgements = st.lists(
    st.tuples(st.sampled_from([1.0, 10.0, 30.0, 31.0, 500.0]), st.sampled_from(list(Finding))), max_size=60
)


@given(judgements, st.sampled_from([0, 20, 60]), st.sampled_from([0, 20, 60]))
def test_any_history_follows_the_table_and_time_is_only_what_was_observed(
    history: list[tuple[float, Finding]], for_seconds: int, keep_seconds: int
) -> None:
    by = structs.replace(RULE, for_seconds=float(for_seconds), keep_firing_for_seconds=float(keep_seconds))
    at = 0.0
    told = []
    for gap, finding in history:
        at += gap
        told.append((at, finding))

    steps = play(told, by)

    assert states(steps) == _naive(told, for_seconds, keep_seconds)


def _naive(told: list[tuple[float, Finding]], for_seconds: float, keep_seconds: float) -> list[AlertState]:
    """The same, by adding up the whole history again at every judgement."""
    state = INACTIVE
    found = []
    begin = 0
    for now in range(len(told)):
        finding = told[now][1]
        if finding is HOLDS and state is INACTIVE:
            begin, state = now, PENDING
        if finding is HOLDS and state is PENDING and _observed(told[begin : now + 1], HOLDS) >= for_seconds:
            state = FIRING
        if finding in (CLEAR, BETWEEN) and state is PENDING:
            state = INACTIVE
        if finding is CLEAR and state is FIRING:
            broken = max(index for index in range(begin, now) if told[index][1] in (HOLDS, BETWEEN))
            if _observed(told[broken : now + 1], CLEAR) >= keep_seconds:
                state = INACTIVE
        found.append(state)
    return found


def _observed(told: list[tuple[float, Finding]], wanted: Finding) -> float:
    """The time between neighbours that both say so and are close enough."""
    return sum(
        later - earlier
        for (earlier, before), (later, after) in pairwise(told)
        if before is after is wanted and later - earlier <= GAP
    )
