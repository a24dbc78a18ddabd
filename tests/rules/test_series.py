"""The history of one fact: bounded, and right about what rules ask of it."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_rules import Series
from holdfast_rules.history import increase
from holdfast_rules.subject import Point
from tests.rules.resource import Resource

WINDOW = 310.0
"""A bucket is ten seconds."""

steps = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0, 5.0, 60.0]), st.integers(0, 50)), min_size=1, max_size=400
)


def points_of(walk: list[tuple[float, int]]) -> list[Point]:
    at = 1000.0
    points = []
    for gap, value in walk:
        at += gap
        points.append((at, float(value)))
    return points


def kept(points: Sequence[Point]) -> Series:
    series = Series(WINDOW)
    for at, value in points:
        series.append(at, value)
    return series


def grown(points: Sequence[Point], at: float) -> tuple[float, bool] | None:
    fact = "filesystem_errors_total"
    resource = Resource(facts={fact: 1}, histories={fact: list(points)})
    return increase(resource.facts.get, resource, fact, WINDOW, at)


def value_at(points: Sequence[Point], moment: float) -> float:
    """The newest value at or before a moment, or the first one ever."""
    return ([value for at, value in points if at <= moment] or [points[0][1]])[-1]


@settings(max_examples=300)
@given(steps)
def test_a_window_holds_a_bounded_number_of_points_however_many_come(walk: list[tuple[float, int]]) -> None:
    assert len(kept(points_of(walk))) <= 133


@settings(max_examples=300)
@given(steps)
def test_the_newest_value_and_the_one_the_window_began_with_are_kept(walk: list[tuple[float, int]]) -> None:
    points = points_of(walk)
    start = points[-1][0] - WINDOW
    before = [point for point in points if point[0] <= start]

    series = kept(points)

    assert series[-1] == points[-1]
    assert (series[0][0] <= start) == bool(before)


@settings(max_examples=300)
@given(steps)
def test_every_level_of_the_window_that_was_an_extreme_is_kept(walk: list[tuple[float, int]]) -> None:
    points = points_of(walk)
    inside = [value for at, value in points if at > points[-1][0] - WINDOW]

    values = [value for at, value in kept(points) if at > points[-1][0] - WINDOW]

    assert (min(values), max(values)) == (min(inside), max(inside))


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.sampled_from([0.5, 1.0, 5.0, 60.0]), st.integers(0, 3)), min_size=1, max_size=400)
)
def test_a_counter_that_only_grows_loses_nothing_but_a_bucket_at_the_edge(
    walk: list[tuple[float, int]],
) -> None:
    """Thinning may move the value at the window's start by one bucket, a 31st of the window; never more."""
    points = []
    total = 0.0
    for at, value in points_of(walk):
        total += value
        points.append((at, total))
    at = points[-1][0]

    found = grown(kept(points), at)

    assert found is not None
    bucket = WINDOW / 31
    least = total - value_at(points, at - WINDOW + bucket)
    most = total - value_at(points, at - WINDOW - bucket)
    assert least <= found[0] <= most
    assert found[1] == (points[0][0] <= at - WINDOW)


@settings(max_examples=300)
@given(steps)
def test_a_counter_that_restarts_is_never_said_to_have_grown_more_than_it_did(
    walk: list[tuple[float, int]],
) -> None:
    points = points_of(walk)
    at = points[-1][0]
    real = sum(b - a if b >= a else b for (_, a), (_, b) in pairwise(points))

    found = grown(kept(points), at)

    assert found is not None
    assert 0 <= found[0] <= real


def test_thousands_of_points_in_a_window_leave_a_hundred_odd() -> None:
    series = kept([(1000.0 + index / 10, float(index * 7919 % 1000)) for index in range(6000)])

    assert 100 < len(series) <= 133
    assert 1600.0 - WINDOW - 20.0 <= series[0][0] <= 1600.0 - WINDOW


def test_a_value_that_stays_costs_two_points() -> None:
    series = kept([(float(at), 7.0) for at in range(0, 5000, 10)])

    assert list(series) == [(0.0, 7.0), (4990.0, 7.0)]


def test_an_observation_older_than_the_newest_is_ignored() -> None:
    series = kept([(100.0, 1.0), (200.0, 2.0), (150.0, 9.0)])

    assert list(series) == [(100.0, 1.0), (200.0, 2.0)]


def test_two_observations_of_one_instant_are_kept_in_their_order() -> None:
    series = kept([(100.0, 0.0), (100.0, 1.0)])

    assert list(series) == [(100.0, 0.0), (100.0, 1.0)]


def test_a_series_reads_like_a_list() -> None:
    series = kept([(100.0, 1.0), (200.0, 2.0), (300.0, 3.0)])

    assert (len(series), series[-1], series[1:], series.since(200.0)) == (
        3,
        (300.0, 3.0),
        [(200.0, 2.0), (300.0, 3.0)],
        [(200.0, 2.0), (300.0, 3.0)],
    )
    assert repr(series) == "Series(310.0, [(100.0, 1.0), (200.0, 2.0), (300.0, 3.0)])"
