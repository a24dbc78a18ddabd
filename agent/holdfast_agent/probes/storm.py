"""Holds back a storm: the first few of one kind pass, the rest are counted, and the last one tells how many.

A dying disk fills the kernel log with thousands of lines that all say the same. Each one as a durable event would fill
the spool and drown what else happens; the first ones and a count say as much.
"""

from typing import Generic, TypeVar

from msgspec import Struct

PASS_MAX = 10
WINDOW_SECONDS = 60.0

Item = TypeVar("Item")


class Held(Struct, Generic[Item], frozen=True):
    """The newest item of a storm, and how many before it were held back."""

    item: Item
    suppressed: int


class _Window(Struct, Generic[Item]):
    opened: float
    passed: int = 0
    held: int = 0
    first_held: Item | None = None
    newest: Item | None = None


class StormLimiter(Generic[Item]):
    """At most `PASS_MAX` items of one key within a window; `now` is any clock that only grows, in seconds."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window[Item]] = {}

    def offer(self, key: str, item: Item, now: float) -> list[Held[Item]]:
        """What is to be reported now: what an ended window held back, and the item unless it is held back."""
        ended = self._end(key, now)
        window = self._windows.setdefault(key, _Window(opened=now))
        if window.passed < PASS_MAX:
            window.passed += 1
            return [*ended, Held(item, 0)]
        if window.first_held is None:
            window.first_held = item
        window.held += 1
        window.newest = item
        return ended

    def due(self, now: float) -> list[Held[Item]]:
        """What the windows that have ended held back."""
        return [held for key in list(self._windows) for held in self._end(key, now)]

    def next_due_seconds(self, now: float) -> float | None:
        """How long until `due` has something; None while nothing is held back."""
        ends = [window.opened + WINDOW_SECONDS for window in self._windows.values() if window.held]
        return max(0.0, min(ends) - now) if ends else None

    def first_held(self) -> list[Item]:
        """The oldest item held back, per key: what a crash now would leave unreported."""
        return [window.first_held for window in self._windows.values() if window.first_held is not None]

    def _end(self, key: str, now: float) -> list[Held[Item]]:
        window = self._windows.get(key)
        if window is None or now - window.opened < WINDOW_SECONDS:
            return []
        del self._windows[key]
        return [Held(window.newest, window.held - 1)] if window.newest is not None else []
