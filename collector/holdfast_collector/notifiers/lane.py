"""One receiver's queue: which notice may be tried now, and when the next one may. Pure: time and chance come in.

- Notices of one alert go strictly one after the other, so that a resolve never overtakes its firing.
- Alerts do not wait for each other: up to `parallel_max` are in flight.
- A failed notice waits 1 s × 2ⁿ with full jitter, at most a minute, and is tried for ever. `Retry-After` holds up the
  whole lane: it speaks for the receiver, not for the notice.
- After three failures in a row without any answer the lane is down: one notice at a time probes it. The first answer
  brings back at once all that failed for want of one.
"""

import heapq
from collections import deque

from holdfast_collector.core.record import Notice

PARALLEL_MAX = 16
BACKOFF_SECONDS_MAX = 60.0
RETRY_AFTER_SECONDS_MAX = 600.0
"""A receiver may ask for ten minutes of peace, not for a day: it might be wrong, and somebody waits for the page."""
_DOWN_AFTER = 3


class _Line:
    """The notices of one alert, oldest first."""

    def __init__(self) -> None:
        self.notices: deque[Notice] = deque()
        self.attempts = 0
        self.unanswered = False
        """It waits because the receiver did not answer at all."""


class Lane:
    """The queue of one receiver."""

    def __init__(self, parallel_max: int = PARALLEL_MAX) -> None:
        self._parallel_max = parallel_max
        self._lines: dict[str, _Line] = {}
        self._ready: deque[str] = deque()
        self._waiting: list[tuple[float, int, str]] = []
        self._pushed = 0
        self._in_flight: set[str] = set()
        self._silent = 0
        """Attempts in a row that got no answer."""
        self._paused_until = 0.0

    @property
    def down(self) -> bool:
        """The receiver does not answer."""
        return self._silent >= _DOWN_AFTER

    def __len__(self) -> int:
        return sum(len(line.notices) for line in self._lines.values())

    def add(self, notice: Notice) -> None:
        """Take a notice in, behind those of the same alert."""
        line = self._lines.get(notice.key)
        if line is None:
            line = self._lines[notice.key] = _Line()
            self._ready.append(notice.key)
        line.notices.append(notice)

    def next(self, now: float) -> Notice | None:
        """The next notice to try, in flight from now on; None when there is none or none may be tried yet."""
        while self._waiting and self._waiting[0][0] <= now:
            self._wake(heapq.heappop(self._waiting)[2])
        limit = 1 if self.down else self._parallel_max
        if not self._ready or now < self._paused_until or len(self._in_flight) >= limit:
            return None
        key = self._ready.popleft()
        self._in_flight.add(key)
        return self._lines[key].notices[0]

    def wait_seconds(self, now: float) -> float | None:
        """How long until `next` may have something that it has not now; None: not before something happens."""
        if self._ready and len(self._in_flight) < (1 if self.down else self._parallel_max):
            return max(0.0, self._paused_until - now)
        if self._waiting:
            return max(0.0, self._waiting[0][0] - now, self._paused_until - now)
        return None

    def done(self, notice: Notice) -> None:
        """The receiver took the notice in flight, or refused it for good."""
        line = self._lines[notice.key]
        line.notices.popleft()
        line.attempts = 0
        self._in_flight.discard(notice.key)
        if line.notices:
            self._ready.append(notice.key)
        else:
            del self._lines[notice.key]
        self._answered()

    def failed(
        self, notice: Notice, now: float, *, chance: float, retry_after: float, answered: bool
    ) -> None:
        """The notice in flight was not taken and is to be tried again.

        `chance` is uniform in [0, 1); `retry_after` what the receiver asked for in seconds, 0 for nothing.
        """
        line = self._lines[notice.key]
        self._in_flight.discard(notice.key)
        if answered:
            self._answered()
        else:
            self._silent += 1
        line.unanswered = not answered
        delay = chance * min(BACKOFF_SECONDS_MAX, 2.0 ** min(line.attempts, 10))
        line.attempts += 1
        if retry_after > 0:
            self._paused_until = max(self._paused_until, now + min(retry_after, RETRY_AFTER_SECONDS_MAX))
        self._pushed += 1
        heapq.heappush(self._waiting, (now + delay, self._pushed, notice.key))

    def _answered(self) -> None:
        if self._silent:
            self._silent = 0
            for _, _, key in self._waiting:
                line = self._lines[key]
                if line.unanswered:
                    line.attempts = 0
                    self._ready.append(key)
            self._waiting = [entry for entry in self._waiting if not self._lines[entry[2]].unanswered]
            heapq.heapify(self._waiting)

    def _wake(self, key: str) -> None:
        self._lines[key].unanswered = False
        self._ready.append(key)
