"""How one volume's witness stands: what the keeper's thread learns, and the facts that are made of it."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct, field

from holdfast_wire.message import Value

EMITS = (
    "witness_wanted",
    "witness_enabled",
    "witness_reason",
    "witness_mode",
    "witness_interval_seconds",
    "witness_fsync_last_seconds",
    "witness_fsync_p50_seconds",
    "witness_fsync_p99_seconds",
    "witness_failed",
    "witness_failed_reason",
    "witness_stuck_seconds",
    "writeback_failed",
    "writeback_failed_reason",
    "write_probe_error",
    "witness_records_total",
    "witness_written_bytes_total",
)
"""Every fact that may be stated of a volume here."""
HOUR_SECONDS = 3600.0
STUCK_AFTER_SECONDS = 2.0
"""Slower than that a single call hangs; a busy spinning disk takes a second or two (`spool.PATIENCE_SECONDS`)."""
SAMPLES_MAX = 3600


class VolumeStanding(Struct):
    """Everything that is reported of one volume. Written by its keeper's thread, read by the event loop, under a lock."""

    reason: str = "its chain has not been read yet"
    """Why nothing is written; empty when records are."""
    denied: bool = False
    """The reason is a right that can be granted."""
    mode: str = ""
    fsyncs: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))
    """(boot-time clock, seconds) of the newest appends."""
    failed_reason: str = ""
    writeback_failed_reason: str = ""
    syncfs_skipped: str = ""
    write_error: str = ""
    appended: bool = False
    records_total: int = 0
    written_bytes_total: int = 0
    busy_since: float | None = None
    """Since when the thread is in one call that touches the volume."""


def witness_facts(standing: VolumeStanding, interval: float, now: float) -> dict[str, Value]:
    """`now` by the boot-time clock. Times of appends that are older than an hour are not counted."""
    busy = now - standing.busy_since if standing.busy_since is not None else 0.0
    facts: dict[str, Value] = {
        "witness_enabled": not standing.reason,
        "witness_reason": standing.reason[:1000],
        "witness_interval_seconds": interval,
        "witness_failed": bool(standing.failed_reason),
        "witness_failed_reason": standing.failed_reason[:1000],
        "witness_stuck_seconds": round(busy, 1) if busy >= STUCK_AFTER_SECONDS else 0.0,
        "witness_records_total": standing.records_total,
        "witness_written_bytes_total": standing.written_bytes_total,
    }
    if standing.mode:
        facts["witness_mode"] = standing.mode
    if standing.appended:
        facts["write_probe_error"] = standing.write_error
    if not standing.syncfs_skipped or standing.writeback_failed_reason:
        facts["writeback_failed"] = bool(standing.writeback_failed_reason)
        facts["writeback_failed_reason"] = standing.writeback_failed_reason[:1000]
    return facts | _latencies(standing, now)


def _latencies(standing: VolumeStanding, now: float) -> dict[str, Value]:
    if not standing.fsyncs:
        return {}
    newest = standing.fsyncs[-1][1]
    hour = sorted(seconds for at, seconds in standing.fsyncs if at > now - HOUR_SECONDS) or [newest]
    return {
        "witness_fsync_last_seconds": round(newest, 6),
        "witness_fsync_p50_seconds": round(_rank(hour, 0.50), 6),
        "witness_fsync_p99_seconds": round(_rank(hour, 0.99), 6),
    }


def _rank(ordered: list[float], share: float) -> float:
    """By nearest rank: a value that occurred."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class StandingBoard:
    """Where the keeper's thread writes how it stands and the event loop reads it. Never locked while a disk is asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._standing = VolumeStanding()

    @contextmanager
    def changing(self) -> Iterator[VolumeStanding]:
        """To be held for assignments only."""
        with self._lock:
            yield self._standing

    def facts(self, interval: float, now: float) -> dict[str, Value]:
        with self._lock:
            return witness_facts(self._standing, interval, now)

    def trouble(self) -> tuple[str, bool, str]:
        """Why nothing is written, whether for want of a right, and why syncfs was not asked; empty where all is well."""
        with self._lock:
            return self._standing.reason, self._standing.denied, self._standing.syncfs_skipped
