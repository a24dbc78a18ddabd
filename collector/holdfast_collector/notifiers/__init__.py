"""How people are told: each configured receiver drains its part of the outbox.

    committed notice ─▶ Notifier.add ─▶ attempt ─┬─ taken   ─▶ Delivered ─▶ the row leaves the outbox
                             ▲                   ├─ refused ─▶ Delivered(refused=…), an error in the log
                             └───── back-off ◀───┴─ failed

At least once: a notice whose answer was lost, or that was taken just before a crash, is sent again with the same id.
A receiver that is away delays nobody else, and its notices wait for it for as long as it takes.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from holdfast_collector.core.record import Notice

NoticeDone = Callable[[Notice, str], None]
"""Told when a notice is off our hands, and why it was refused for good; empty when the receiver took it."""

Counted = Callable[[str, str, float | None], None]
"""(receiver, outcome, age in seconds when taken): the metric of attempts."""


class Notifier(Protocol):
    """One receiver's way out."""

    name: str

    def add(self, notice: Notice) -> None:
        """Deliver it, however long that takes. Called after the notice's commit, in the order of the outbox."""

    async def run(self) -> None:
        """Deliver until cancelled. Does not end by itself, whatever the receiver does."""


def rfc3339(at: float) -> str:
    """Unix seconds → `2026-11-24T00:05:31.250Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
