"""The history of one fact: bounded, and still right about what rules ask of it.

A window is cut into buckets, and of each bucket at most four points are kept: the first, the lowest, the highest and
the last. So `delta` and `changed` see every level that was reached, and a slope sees every valley. While a value stays
what it was, two points say so, however long it lasts: most facts of most machines cost a few hundred bytes.
"""

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import overload

from holdfast_rules.subject import Point

BUCKETS = 31
"""Per window. With four points each, those half outside included, at most about 130 points."""


class Series(Sequence[Point]):
    """Points (at, value) in order of time, as far back as `window_seconds`, plus the one that held when it began."""

    __slots__ = ("_ats", "_bucket_end", "_bucket_seconds", "_bucket_start", "_values", "window_seconds")

    def __init__(self, window_seconds: float) -> None:
        assert window_seconds > 0, window_seconds
        self.window_seconds = window_seconds
        self._bucket_seconds = window_seconds / BUCKETS
        # Two arrays of doubles and not a list of tuples: an eighth of the memory, and a collector has many of these.
        self._ats = array("d")
        self._values = array("d")
        self._bucket_start = 0
        """The index of the newest bucket's first point."""
        self._bucket_end = float("-inf")

    def append(self, at: float, value: float) -> None:
        """Take in one observation. One that is older than the newest point is ignored: it cannot be current."""
        ats, values = self._ats, self._values
        if ats and at < ats[-1]:
            return
        if len(ats) > 1 and values[-1] == value == values[-2]:
            ats[-1] = at
            return
        ats.append(at)
        values.append(value)
        if at >= self._bucket_end:
            self._forget_before(at - self.window_seconds)
            self._bucket_start = len(ats) - 1
            self._bucket_end = (at // self._bucket_seconds + 1) * self._bucket_seconds
        elif len(ats) - self._bucket_start > 4:
            self._thin_bucket()

    def widen(self, window_seconds: float) -> None:
        """Reach further back from now on. What was let go before does not come back, and windows say so."""
        if window_seconds > self.window_seconds:
            self.window_seconds = window_seconds
            self._bucket_seconds = window_seconds / BUCKETS

    @property
    def newest_at(self) -> float:
        """When the newest point was observed; minus infinity while there is none."""
        return self._ats[-1] if self._ats else -math.inf

    def since(self, at: float) -> Sequence[Point]:
        """The points from `at` on."""
        start = bisect_left(self._ats, at)
        return list(zip(self._ats[start:], self._values[start:], strict=True))

    def _thin_bucket(self) -> None:
        """Of the newest bucket keep the first point, the last, the lowest and the highest."""
        ats, values, start = self._ats, self._values, self._bucket_start
        bucket = values[start:]
        lowest, highest = start + bucket.index(min(bucket)), start + bucket.index(max(bucket))
        for index in range(len(ats) - 2, start, -1):
            if index != lowest and index != highest:
                del ats[index], values[index]

    def _forget_before(self, start: float) -> None:
        """Keep the newest of the points at or before `start`: it is the value the window begins with."""
        old = 0
        while old + 1 < len(self._ats) and self._ats[old + 1] <= start:
            old += 1
        if old:
            del self._ats[:old]
            del self._values[:old]

    def __len__(self) -> int:
        return len(self._ats)

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Point]: ...
    def __getitem__(self, index: int | slice) -> Point | Sequence[Point]:
        if isinstance(index, slice):
            return list(zip(self._ats[index], self._values[index], strict=True))
        return self._ats[index], self._values[index]

    def __iter__(self) -> Iterator[Point]:
        return zip(self._ats, self._values, strict=True)

    def __repr__(self) -> str:
        return f"Series({self.window_seconds}, {list(self)})"
