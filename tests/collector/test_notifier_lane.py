"""A receiver's lane, in virtual time: order per alert, parallel between alerts, patience without end."""

import random

import pytest

from holdfast_collector.core.record import Notice
from holdfast_collector.notifiers.lane import BACKOFF_SECONDS_MAX, PARALLEL_MAX, RETRY_AFTER_SECONDS_MAX, Lane
from tests.collector.records import alert, notice


def firing(number: int) -> Notice:
    return notice(alert(f"/{number}"))


def resolving(number: int) -> Notice:
    return notice(alert(f"/{number}"), "resolved")


def fail(lane: Lane, tried: Notice, now: float, *, answered: bool = True, retry_after: float = 0.0) -> None:
    lane.failed(tried, now, chance=0.999999, retry_after=retry_after, answered=answered)


def take(lane: Lane, now: float = 0.0) -> Notice:
    tried = lane.next(now)
    assert tried is not None
    return tried


def test_notices_of_one_alert_go_one_after_the_other() -> None:
    lane = Lane()
    lane.add(firing(1))
    lane.add(resolving(1))

    first = take(lane)

    assert (first, lane.next(0.0)) == (firing(1), None)
    lane.done(first)
    assert take(lane) == resolving(1)


def test_resolve_never_overtakes_a_firing_that_is_being_tried_again() -> None:
    lane = Lane()
    lane.add(firing(1))
    fail(lane, take(lane), 0.0)
    lane.add(resolving(1))

    assert [lane.next(0.5), lane.next(1.0)] == [None, firing(1)]


def test_alerts_do_not_wait_for_each_other_up_to_the_limit() -> None:
    lane = Lane()
    for number in range(PARALLEL_MAX + 5):
        lane.add(firing(number))

    in_flight = [take(lane) for _ in range(PARALLEL_MAX)]

    assert lane.next(0.0) is None
    lane.done(in_flight[3])
    assert take(lane) == firing(PARALLEL_MAX)


def test_failed_notice_waits_twice_as_long_each_time_and_at_most_a_minute() -> None:
    lane = Lane()
    lane.add(firing(1))
    now, waits = 0.0, []
    for _ in range(9):
        fail(lane, take(lane, now), now)
        wait = lane.wait_seconds(now)
        assert wait is not None
        waits.append(round(wait, 3))
        now += wait

    assert waits == [
        1.0,
        2.0,
        4.0,
        8.0,
        16.0,
        32.0,
        BACKOFF_SECONDS_MAX,
        BACKOFF_SECONDS_MAX,
        BACKOFF_SECONDS_MAX,
    ]


def test_back_off_begins_anew_for_the_next_notice_of_the_alert() -> None:
    lane = Lane()
    lane.add(firing(1))
    lane.add(resolving(1))
    fail(lane, take(lane), 0.0)
    fail(lane, take(lane, 1.0), 1.0)
    lane.done(take(lane, 3.0))
    fail(lane, take(lane, 3.0), 3.0)

    assert lane.wait_seconds(3.0) == pytest.approx(1.0, abs=0.001)


def test_retry_after_holds_up_the_whole_lane_but_not_for_a_day() -> None:
    lane = Lane()
    lane.add(firing(1))
    lane.add(firing(2))
    fail(lane, take(lane), 0.0, retry_after=86_400.0)

    assert (lane.next(RETRY_AFTER_SECONDS_MAX - 1), lane.wait_seconds(0.0)) == (None, RETRY_AFTER_SECONDS_MAX)
    assert take(lane, RETRY_AFTER_SECONDS_MAX) is not None


def test_lane_that_gets_no_answer_probes_with_one_notice_at_a_time() -> None:
    """A dead receiver must not have sixteen time-outs burning at any moment."""
    lane = Lane()
    for number in range(10):
        lane.add(firing(number))
    tried = [take(lane) for _ in range(3)]
    for one in tried:
        fail(lane, one, 0.0, answered=False)

    assert lane.down
    assert (take(lane), lane.next(0.0)) == (firing(3), None)


def test_first_answer_brings_back_at_once_all_that_got_none() -> None:
    """A receiver that is back after an hour gets the backlog now, not within the next minute."""
    lane = Lane()
    for number in range(4):
        lane.add(firing(number))
    tried = [take(lane) for _ in range(4)]
    for one in tried[:3]:
        fail(lane, one, 0.0, answered=False)
    lane.done(tried[3])

    assert not lane.down
    assert [take(lane) for _ in range(3)] == [firing(0), firing(1), firing(2)]


def test_answer_does_not_bring_back_those_the_receiver_turned_away() -> None:
    """A 503 asks for patience with that request; another's success is no answer to it."""
    lane = Lane()
    lane.add(firing(0))
    lane.add(firing(1))
    first, second = take(lane), take(lane)
    fail(lane, first, 0.0, answered=True)
    lane.done(second)

    assert lane.next(0.5) is None
    assert take(lane, 1.0) == firing(0)


def test_empty_lane_has_nothing_to_wait_for() -> None:
    lane = Lane()
    lane.add(firing(1))
    lane.done(take(lane))

    assert (lane.next(0.0), lane.wait_seconds(0.0), len(lane)) == (None, None, 0)


@pytest.mark.parametrize("seed", range(30))
def test_every_notice_is_delivered_in_order_whatever_the_receiver_does(seed: int) -> None:
    """Random answers, time-outs and Retry-After: nothing lost, nothing twice, order kept, limits kept."""
    draw = random.Random(seed)
    lane = Lane()
    now = 0.0
    expected = {number: [firing(number), resolving(number)] for number in range(40)}
    coming = [step for number in range(40) for step in expected[number]]
    delivered: dict[int, list[Notice]] = {number: [] for number in range(40)}
    in_flight: list[Notice] = []
    for _ in range(20_000):
        if coming and draw.random() < 0.3:
            lane.add(coming.pop(0))
        while (tried := lane.next(now)) is not None:
            in_flight.append(tried)
        assert len(in_flight) <= PARALLEL_MAX
        assert len({one.key for one in in_flight}) == len(in_flight)
        if in_flight:
            one = in_flight.pop(draw.randrange(len(in_flight)))
            if draw.random() < 0.4:
                lane.done(one)
                delivered[int(one.alert.resource[1:])].append(one)
            else:
                retry_after = 30.0 if draw.random() < 0.05 else 0.0
                answered = draw.random() < 0.5
                lane.failed(one, now, chance=draw.random(), retry_after=retry_after, answered=answered)
        elif coming or len(lane):
            now += lane.wait_seconds(now) or 0.1
        else:
            break

    assert delivered == expected, f"seed {seed}"
