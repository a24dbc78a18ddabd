"""What the functions over history compute, and when they admit that they do not know.

A series tells what was seen; a window reaches back whether or not anybody looked. So each function says what it does
when the window is only partly covered:

`delta`, `rate` of a counter   at least what was seen. A comparison with it holds as soon as that is enough, and is
                               denied only once the whole window is covered: three restarts seen are three restarts,
                               none seen in the first minute after a start are not none
`delta`, `rate` of a gauge     unknown until the whole window is covered
`changed`                      yes as soon as a change was seen, no only once the whole window is covered
`time_to_zero`                 unknown until half of the window is covered
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from statistics import median

from holdfast_rules.subject import Point, Subject
from holdfast_wire.message import Value

NEVER_SECONDS = 1e10
"""What `time_to_zero` answers when nothing falls: three centuries. Finite, so that arithmetic with it stays plain."""
GRID = 24
"""Levels that `time_to_zero` looks at. Enough for a median that a quarter of outliers cannot move."""

Lookup = Callable[[str], Value | None]


def _window(series: Sequence[Point], start: float) -> tuple[list[Point], bool]:
    """The points of the window, begun with the value that held when it began, and whether there was one."""
    first = bisect_right(series, start, key=_at)
    covered = first > 0
    return list(series[max(first - 1, 0) :]), covered


def _at(point: Point) -> float:
    return point[0]


def increase(
    lookup: Lookup, subject: Subject, fact: str, window_seconds: float, at: float
) -> tuple[float, bool] | None:
    """How much a counter grew, and whether that is all of it. A counter that went down started again from 0."""
    if lookup(fact) is None:
        return None
    series = subject.series(fact)
    if not series:
        return None
    start = at - window_seconds
    # Most counters of a healthy machine stand still, and two points say so: those are not worth a copy. From the
    # newest back, for the window is nearly always at the end.
    points = list(series) if len(series) > 4 else series
    index = len(points) - 1
    since, later = points[index]
    grown = 0.0
    while since > start and index:
        index -= 1
        since, earlier = points[index]
        grown += later - earlier if later >= earlier else later
        later = earlier
    return grown, since <= start


def increase_per_second(
    lookup: Lookup, subject: Subject, fact: str, window_seconds: float, at: float
) -> tuple[float, bool] | None:
    grown = increase(lookup, subject, fact, window_seconds, at)
    return None if grown is None else (grown[0] / window_seconds, grown[1])


def settled(grown: tuple[float, bool] | None) -> float | None:
    """What a counter grew, where at-least is not enough."""
    return grown[0] if grown is not None and grown[1] else None


def exceeds(grown: tuple[float, bool] | None, limit: float | None) -> bool | None:
    """Whether a counter grew by more than `limit`."""
    if grown is None or limit is None:
        return None
    return True if grown[0] > limit else (False if grown[1] else None)


def reaches(grown: tuple[float, bool] | None, limit: float | None) -> bool | None:
    """Whether a counter grew by `limit` or more."""
    if grown is None or limit is None:
        return None
    return True if grown[0] >= limit else (False if grown[1] else None)


def short_of(grown: tuple[float, bool] | None, limit: float | None) -> bool | None:
    """Whether a counter grew by less than `limit`."""
    answer = reaches(grown, limit)
    return None if answer is None else not answer


def at_most(grown: tuple[float, bool] | None, limit: float | None) -> bool | None:
    """Whether a counter grew by `limit` or less."""
    answer = exceeds(grown, limit)
    return None if answer is None else not answer


def difference(lookup: Lookup, subject: Subject, fact: str, window_seconds: float, at: float) -> float | None:
    """How much higher a gauge is than when the window began."""
    if lookup(fact) is None:
        return None
    points, covered = _window(subject.series(fact), at - window_seconds)
    return points[-1][1] - points[0][1] if covered else None


def difference_per_second(
    lookup: Lookup, subject: Subject, fact: str, window_seconds: float, at: float
) -> float | None:
    higher = difference(lookup, subject, fact, window_seconds, at)
    return None if higher is None else higher / window_seconds


def changed(lookup: Lookup, subject: Subject, fact: str, window_seconds: float, at: float) -> bool | None:
    """Whether a fact had more than one value within the window."""
    if lookup(fact) is None:
        return None
    points, covered = _window(subject.series(fact), at - window_seconds)
    if not points:
        return None
    first = points[0][1]
    if any(value != first for _, value in points):
        return True
    return False if covered else None


def age(subject: Subject, fact: str, at: float) -> float | None:
    """Seconds since the fact was last observed, fresh or not; None when it never was."""
    seen_at = subject.observed_at(fact)
    return None if seen_at is None else max(0.0, at - seen_at)


def time_to_zero(
    lookup: Lookup, subject: Subject, fact: str, window_seconds: float, at: float
) -> float | None:
    """Seconds until a level that falls as it did over the window reaches 0; NEVER_SECONDS when it does not fall.

    Two slopes are taken and the gentler one believed, because each sees through what fools the other:
    the median of many slopes (Theil's incomplete method, 1950: each level against the one half a window later) is not
    moved by a brief dip; the fall of the lowest level from one half of the window to the other is not moved by a
    saw-tooth, whose valleys stay where they are. On a steady fall both are the fall.
    """
    if lookup(fact) is None:
        return None
    series = subject.series(fact)
    start = at - window_seconds
    if not series or series[0][0] > at - window_seconds / 2:
        return None
    level = series[-1][1]
    if level <= 0:
        return 0.0
    begin = max(start, series[0][0])
    levels = _levels(series, begin, at)
    half = GRID // 2
    half_seconds = (at - begin) * half / (GRID - 1)
    typical = median(later - earlier for earlier, later in zip(levels, levels[half:], strict=False))
    valleys = min(levels[half:]) - min(levels[:half])
    fall_per_second = -max(typical, valleys) / half_seconds
    if fall_per_second <= 0:
        return NEVER_SECONDS
    return min(level / fall_per_second, NEVER_SECONDS)


def _levels(series: Sequence[Point], begin: float, end: float) -> list[float]:
    """The level at GRID evenly spaced moments, each as last seen."""
    points = list(series)
    index = 0
    levels = []
    for step in range(GRID):
        moment = begin + (end - begin) * step / (GRID - 1)
        while index + 1 < len(points) and points[index + 1][0] <= moment:
            index += 1
        levels.append(points[index][1])
    return levels


def related(subject: Subject, kind: str, fact: str) -> Value | None:
    """A fact of the resource of another kind that this one rests on."""
    facts = subject.related(kind)
    return None if facts is None else facts.get(fact)
