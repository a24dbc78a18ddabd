"""The collector's command, set to die of kill -9 at one of its boundaries: `BOUNDARY:N` dies at the N-th crossing.

Run as `python -m tests.collector.crashing` with the boundary in the environment, and the command's own arguments.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from holdfast_collector.__main__ import main
from holdfast_collector.engine import Engine
from holdfast_collector.ingest.mqtt import Session
from holdfast_collector.notifiers.dispatch import Dispatch
from holdfast_collector.notifiers.http import Poster
from holdfast_collector.release import Release
from holdfast_collector.store.sqlite import SqliteStore

VARIABLE = "TEST_CRASH_AT"

BOUNDARIES: dict[str, tuple[type[Any], str, bool]] = {
    "before the core sees a batch": (Engine, "_handle", False),
    "before the transaction": (SqliteStore, "commit", False),
    "inside the transaction, state written": (SqliteStore, "_write_alerts", False),
    "inside the transaction, all written": (SqliteStore, "_write_events", True),
    "after the transaction": (SqliteStore, "commit", True),
    "before a notice is handed on": (Dispatch, "dispatch", False),
    "after a notice is handed on": (Dispatch, "dispatch", True),
    "after all effects are let go": (Release, "__call__", True),
    "before the broker is acknowledged": (Session, "acknowledge", False),
    "after the broker is acknowledged": (Session, "acknowledge", True),
    "before the receiver is told": (Poster, "post", False),
    "when the receiver has taken it": (Dispatch, "_done", False),
    "before its row leaves the outbox": (Dispatch, "_done", True),
}
"""Where to die: a method, and whether before or after it did its work."""


def arm(boundary: str, crossing: int) -> None:
    """Make the N-th crossing of the boundary the last thing this process does."""
    owner, name, after = BOUNDARIES[boundary]
    original: Callable[..., Any] = getattr(owner, name)
    crossings = 0

    def fatal(*arguments: Any, **named: Any) -> Any:
        nonlocal crossings
        crossings += 1
        if crossings == crossing and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if crossings == crossing and after:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, fatal)


if __name__ == "__main__":
    where, _, count = os.environ[VARIABLE].rpartition(":")
    arm(where, int(count))
    sys.exit(main())
