"""The collector's clock in front of a wall clock that is set: it never runs backwards and never jumps."""

import pytest

from holdfast_collector.clock import Clock


class Clocks:
    """A wall clock that can be set, and one that only counts."""

    def __init__(self) -> None:
        self.wall_offset = 1_700_000_000.0
        self.counted = 0.0

    def wall(self) -> float:
        return self.wall_offset + self.counted

    def monotonic(self) -> float:
        return self.counted


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def reading(clocks: Clocks) -> Clock:
    return Clock(wall=clocks.wall, monotonic=clocks.monotonic)


def test_clock_agrees_with_a_wall_clock_that_nobody_sets(clocks: Clocks) -> None:
    clock = reading(clocks)
    clocks.counted += 12.5

    assert clock() == 1_700_000_012.5


@pytest.mark.parametrize(("step", "pace"), [(3600.0, 1.1), (-3600.0, 0.9)])
def test_step_of_an_hour_is_followed_a_tenth_faster_or_slower(
    clocks: Clocks, step: float, pace: float
) -> None:
    """A jump would call the whole fleet silent, or keep it from being called so."""
    clock = reading(clocks)
    clocks.wall_offset += step
    readings = []
    for _ in range(10):
        clocks.counted += 1.0
        readings.append(clock())

    assert readings == pytest.approx([1_700_000_000.0 + pace * (second + 1) for second in range(10)])


@pytest.mark.parametrize("step", [30.0, -30.0])
def test_clock_catches_up_with_the_wall_clock_in_the_end(clocks: Clocks, step: float) -> None:
    clock = reading(clocks)
    clocks.wall_offset += step
    for _ in range(400):
        clocks.counted += 1.0
        clock()

    assert clock() == pytest.approx(clocks.wall())


def test_clock_stands_still_rather_than_run_backwards(clocks: Clocks) -> None:
    clock = reading(clocks)
    clocks.counted += 10.0
    first = clock()
    clocks.counted -= 5.0

    assert clock() == first
