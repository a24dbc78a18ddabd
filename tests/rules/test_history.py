"""What the functions over history answer, and when they admit that they do not know."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_rules.expression import compile_expression
from holdfast_rules.history import NEVER_SECONDS, time_to_zero
from holdfast_rules.subject import Point
from tests.rules.resource import Resource

NOW = 10_000.0
HOUR = 3600.0


def ask(text: str, fact: str, points: list[Point], value: float | None = 1) -> bool | None:
    resource = Resource(facts={} if value is None else {fact: value}, histories={fact: points})
    return compile_expression(text, "volume").program(resource.facts.get, resource, NOW)


ERRORS = "filesystem_errors_total"


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(NOW - 601, 4), (NOW, 7)], True),
        ([(NOW - 600, 4), (NOW, 6)], False),
        ([(NOW - 900, 1), (NOW - 700, 4), (NOW, 7)], True),
        ([(NOW - 900, 1), (NOW - 599, 4), (NOW, 7)], True),
        ([(NOW - 900, 9), (NOW - 300, 1), (NOW, 2)], False),
        ([(NOW - 900, 9), (NOW - 300, 2), (NOW - 200, 3), (NOW, 3)], True),
        ([(NOW - 30, 4), (NOW, 7)], True),
        ([(NOW - 30, 4), (NOW, 6)], None),
        ([(NOW, 7)], None),
        ([(NOW, 0), (NOW, 7)], True),
        ([], None),
    ],
)
def test_a_counter_grew_at_least_by_what_was_seen(points: list[Point], expected: bool | None) -> None:
    """Three errors seen are three errors; none seen in a window half watched are not none."""
    assert ask(f'delta({ERRORS}, "10m") >= 3', ERRORS, points) is expected
    assert ask(f'3 <= delta({ERRORS}, "10m")', ERRORS, points) is expected
    assert ask(f'delta({ERRORS}, "10m") > 2', ERRORS, points) is expected
    assert ask(f'not (delta({ERRORS}, "10m") < 3)', ERRORS, points) is expected
    assert ask(f'not (delta({ERRORS}, "10m") <= 2)', ERRORS, points) is expected
    assert ask(f'rate({ERRORS}, "10m") * 600 > 2.9', ERRORS, points) is (
        expected if _covered(points) else None
    )
    assert ask(f'rate({ERRORS}, "10m") > 2.9 / 600', ERRORS, points) is expected


def _covered(points: list[Point]) -> bool:
    return bool(points) and points[0][0] <= NOW - 600


def test_exactly_so_many_needs_the_whole_window() -> None:
    assert ask(f'delta({ERRORS}, "10m") == 3', ERRORS, [(NOW - 700, 4), (NOW, 7)]) is True
    assert ask(f'delta({ERRORS}, "10m") == 3', ERRORS, [(NOW - 30, 4), (NOW, 7)]) is None


def test_a_counter_that_is_stale_now_says_nothing() -> None:
    assert ask(f'delta({ERRORS}, "10m") >= 3', ERRORS, [(NOW - 700, 4), (NOW, 9)], value=None) is None


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(NOW - 700, 50), (NOW, 30)], True),
        ([(NOW - 700, 50), (NOW - 300, 1), (NOW, 45)], False),
        ([(NOW - 500, 50), (NOW, 30)], None),
        ([], None),
    ],
)
def test_a_gauge_differs_from_what_it_was_when_the_window_began(
    points: list[Point], expected: bool | None
) -> None:
    assert ask('delta(free_bytes, "10m") < -10', "free_bytes", points) is expected
    assert ask('rate(free_bytes, "10m") * 600 < -10', "free_bytes", points) is expected


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(NOW - 700, 1), (NOW, 1)], False),
        ([(NOW - 700, 1), (NOW - 100, 0), (NOW, 1)], True),
        ([(NOW - 900, 0), (NOW - 700, 1), (NOW, 1)], False),
        ([(NOW - 100, 1), (NOW, 1)], None),
        ([(NOW - 100, 1), (NOW, 0)], True),
        ([], None),
    ],
)
def test_a_change_is_one_as_soon_as_it_is_seen(points: list[Point], expected: bool | None) -> None:
    assert ask('changed(writable, "10m")', "writable", points, value=True) is expected


def seconds_left(points: list[Point], window: float = 6 * HOUR, now: float = NOW) -> float | None:
    resource = Resource(facts={"free_bytes": 1}, histories={"free_bytes": points})
    return time_to_zero(resource.facts.get, resource, "free_bytes", window, now)


def fall(level: float, per_hour: float, minutes: int, every: int = 1) -> list[Point]:
    """A level that has fallen steadily to `level`."""
    return [(NOW - 60.0 * ago, level + per_hour * ago / 60) for ago in range(minutes, -1, -every)]


@pytest.mark.parametrize("every", [1, 7, 30])
@pytest.mark.parametrize("minutes", [180, 300, 360])
def test_a_steady_fall_is_carried_on(minutes: int, every: int) -> None:
    left = seconds_left(fall(10.0, 2.0, minutes, every))

    assert left == pytest.approx(5 * HOUR, rel=0.15)


def test_less_than_half_of_the_window_is_not_enough_to_tell() -> None:
    assert seconds_left(fall(10.0, 2.0, 179)) is None
    assert seconds_left([]) is None


def test_what_does_not_fall_never_reaches_zero() -> None:
    assert seconds_left(fall(10.0, 0.0, 360)) == NEVER_SECONDS
    assert seconds_left(fall(90.0, -2.0, 360)) == NEVER_SECONDS
    assert seconds_left(fall(10.0, 1e-9, 360)) == NEVER_SECONDS


def test_what_is_at_zero_has_reached_it() -> None:
    assert seconds_left(fall(0.0, 1.0, 360)) == 0.0


@pytest.mark.parametrize("period", [20, 35, 60, 90, 119, 150])
@pytest.mark.parametrize("phase", [0.0, 0.3, 0.6, 0.9])
def test_a_saw_tooth_is_not_taken_for_a_fall(period: int, phase: float) -> None:
    """Logs that fill up and are rotated away: a straight line through the newest tooth says full tonight."""
    points = [
        (NOW - 60.0 * ago, 40.0 - 30.0 * (((360 - ago) / period + phase) % 1.0)) for ago in range(360, -1, -1)
    ]

    left = seconds_left(points)

    assert left is not None
    assert left > 24 * HOUR


@pytest.mark.parametrize("period", [20, 60, 90])
def test_a_saw_tooth_that_sinks_is_seen_to_sink(period: int) -> None:
    points = [
        (NOW - 60.0 * ago, 20.0 + 5.0 * ago / 60 - 3.0 * (((360 - ago) / period) % 1.0))
        for ago in range(360, -1, -1)
    ]

    left = seconds_left(points)

    assert left is not None
    assert left < 8 * HOUR


@pytest.mark.parametrize("begin", [30, 100, 250])
def test_a_brief_dip_is_not_taken_for_a_fall(begin: int) -> None:
    """A temporary file of ten minutes."""
    points = [(NOW - 60.0 * ago, 5.0 if begin <= ago < begin + 10 else 50.0) for ago in range(360, -1, -1)]

    assert seconds_left(points) == NEVER_SECONDS


@given(st.integers(0, 2**32), st.floats(1.0, 5.0))
def test_noise_does_not_hide_a_fall(seed: int, per_hour: float) -> None:
    chance = random.Random(seed)
    points = [(at, level + chance.uniform(-0.3, 0.3)) for at, level in fall(20.0, per_hour, 360)]

    left = seconds_left(points)

    assert left == pytest.approx(20.0 / per_hour * HOUR, rel=0.4)
