"""Which boots of which installations speak under a node's name, and since when: two that lived at once are two machines.

No machine's wall clock is trusted. A boot's own clock starts at its boot, so the smallest difference seen between the
receive time and that clock is the boot's beginning in the collector's time, late by the quickest delivery. It turns the
clock in any later message, however long that was under way, into the time the message was made.
"""

from msgspec import Struct

from holdfast_wire import Report, UpMessage

SLACK_SECONDS = 5.0
"""Deliveries are this quick at least once in a boot's life."""
DRIFT = 1e-4
"""Clocks of machines run apart by this much at most: 100 ppm, twice what an undisciplined quartz does."""
LIVES_MAX = 16


class Life(Struct):
    """One boot of one installation. Changed in place by `heard`, at every message."""

    install_id: str
    boot_id: str
    began_at: float
    """When it booted, collector's clock."""
    newest_at: float
    """When its newest message was made, collector's clock."""
    heard_at: float
    """When its newest report was received."""
    live: bool = False
    """A report came, which is never kept for later: its beginning is measured."""


Lives = dict[tuple[str, str], Life]
"""(install_id, boot_id) → life, in the order they were met."""


def heard(lives: Lives, message: UpMessage, at: float) -> Life:
    """Take note of a message, in place; the life it belongs to."""
    key = (message.install_id, message.boot_id)
    before, live = lives.get(key), isinstance(message, Report)
    began = at - message.mono
    if before is None:
        life = lives[key] = Life(key[0], key[1], began, at, at if live else 0.0, live)
        while len(lives) > LIVES_MAX:
            del lives[next(iter(lives))]
        return life
    if began < before.began_at:
        before.newest_at += began - before.began_at
        before.began_at = began
    before.newest_at = max(before.newest_at, before.began_at + message.mono)
    if live:
        before.live, before.heard_at = True, at
    return before


def made_at(life: Life, mono: float) -> float:
    """When a message of this boot was made, collector's clock."""
    return life.began_at + mono


def together(one: Life | None, other: Life | None) -> bool:
    """Whether two boots lived at the same time, each beyond the other's beginning. False when that is not known."""
    if one is None or other is None or one.boot_id == other.boot_id or not (one.live and other.live):
        return False
    return _after(one.newest_at, other) and _after(other.newest_at, one)


def _after(at: float, life: Life) -> bool:
    return at > life.began_at + SLACK_SECONDS + DRIFT * (life.newest_at - life.began_at)
