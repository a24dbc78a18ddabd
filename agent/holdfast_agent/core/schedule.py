"""When each probe looks, and how long to pause before a next try.

All probes of an agent look on one grid, `phase + k × period`, so that what they see leaves in one report; the phase
is random per agent, so that a fleet started at once does not speak at once. A probe that is late skips the slots it
missed. A request to look now (`refresh`) runs at once, and what follows it within `SETTLE_SECONDS` runs as one.
"""

import math

from msgspec import Struct

SETTLE_SECONDS = 0.020
"""systemd announces one death in several signals within a few milliseconds."""


def pause_seconds(attempt: int, *, base: float, cap: float) -> float:
    """How long to wait before try number `attempt` (0 is the first retry): `base`, doubled each time, up to `cap`."""
    return float(min(cap, base * 2.0 ** min(attempt, 62)))


def jittered_seconds(attempt: int, entropy: float, *, base: float, cap: float) -> float:
    """Full jitter: anything between nothing and the doubled pause, by `entropy` in [0, 1).

    A fleet that lost one broker must not come back in step (Brooker, "Exponential Backoff And Jitter", AWS 2015).
    """
    return entropy * pause_seconds(attempt, base=base, cap=cap)


class _Entry(Struct):
    period: float
    next_at: float
    started_at: float = -math.inf
    running: bool = False
    again: bool = False
    """A refresh came while it ran: what it saw may be older than the reason to look."""


class Schedule:
    """The times at which probes look. All times are seconds on one monotonic clock."""

    def __init__(self, phase: float) -> None:
        self._phase = phase
        self._entries: dict[str, _Entry] = {}

    def begin(self, name: str, period: float, now: float) -> None:
        """A probe is taken up, and its first run starts now. Replaces an entry of the same name."""
        self._entries[name] = _Entry(period=period, next_at=now, started_at=now, running=True)

    def remove(self, name: str) -> None:
        self._entries.pop(name, None)

    def refresh(self, name: str, now: float) -> None:
        """Look now, or as soon as the run under way is over. An unknown name is ignored."""
        entry = self._entries.get(name)
        if entry is None:
            return
        if entry.running:
            entry.again = True
        else:
            entry.next_at = min(entry.next_at, max(now, entry.started_at + SETTLE_SECONDS))

    def due(self, now: float) -> list[str]:
        """The probes to start now, by name. They count as running until `finished`."""
        names = sorted(name for name, entry in self._entries.items() if self._due(entry, now))
        for name in names:
            entry = self._entries[name]
            entry.running, entry.started_at, entry.again = True, now, False
        return names

    def finished(self, name: str, now: float, period: float | None = None) -> None:
        """The run is over. `period` replaces the entry's: a probe that cannot work here is asked less often."""
        entry = self._entries.get(name)
        if entry is None:
            return
        entry.running = False
        if period is not None:
            entry.period = period
        entry.next_at = self.slot_after(now, entry.period)
        if entry.again:
            entry.next_at = min(entry.next_at, max(now, entry.started_at + SETTLE_SECONDS))

    def slot_after(self, now: float, period: float) -> float:
        """The first time on the grid that is later than `now`."""
        return self._phase + (math.floor((now - self._phase) / period) + 1) * period

    def wake_at(self) -> float:
        """When `due` next has something to give; infinity when all are running or there are none."""
        return min((entry.next_at for entry in self._entries.values() if not entry.running), default=math.inf)

    @staticmethod
    def _due(entry: _Entry, now: float) -> bool:
        return not entry.running and entry.next_at <= now
