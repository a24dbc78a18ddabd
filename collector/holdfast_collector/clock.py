"""The collector's clock: Unix seconds that never run backwards and never jump.

It starts at the wall clock and then counts monotonic time. Where the wall clock is set while the collector runs, this
one follows by running a tenth faster or slower until they agree again: a step of an hour ends no grace period early and
calls nobody silent.
"""

import time
from collections.abc import Callable

SLEW_RATIO_MAX = 0.1
"""How far the pace may differ from true time. Grace periods are three intervals long, so a tenth decides nothing."""


class Clock:
    """Call it for the time. Not shared between threads."""

    def __init__(
        self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._at = wall()
        self._read = monotonic()

    def __call__(self) -> float:
        read = self._monotonic()
        passed = read - self._read
        if passed <= 0.0:
            return self._at
        self._read = read
        self._at += passed
        slew = passed * SLEW_RATIO_MAX
        self._at += min(max(self._wall() - self._at, -slew), slew)
        return self._at
