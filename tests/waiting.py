"""The one place where tests wait: for a condition, never for a length of time.

A time-out is how long a broken build may take to fail, not a claim about speed: generous, and the same on any machine.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.02

Found = TypeVar("Found")


def wait_for(
    condition: Callable[[], Found | None],
    timeout: float = TIMEOUT_SECONDS,
    what: str | Callable[[], str] = "",
    *,
    pause: float = _POLL_SECONDS,
) -> Found:
    """The first truthy answer of `condition`, asked every `pause` seconds. Raises AssertionError, with `what` in it,
    when none came in time."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(_too_long(timeout, what))
        time.sleep(pause)
    return found


async def wait_until(
    condition: Callable[[], Found | Awaitable[Found | None] | None],
    timeout: float = TIMEOUT_SECONDS,
    what: str | Callable[[], str] = "",
) -> Found:
    """`wait_for` inside an event loop, which runs on meanwhile. The condition may be asynchronous."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        found = await answer if isinstance(answer, Awaitable) else answer
        if found:
            return cast(Found, found)
        if time.monotonic() > deadline:
            raise AssertionError(_too_long(timeout, what))
        await asyncio.sleep(_POLL_SECONDS)


def until_a_random_moment(rng: random.Random, seconds_max: float) -> None:
    """Let time pass for a fault that may come at any moment. Nothing may be expected to have happened by then."""
    time.sleep(rng.uniform(0.0, seconds_max))


def _too_long(timeout: float, what: str | Callable[[], str]) -> str:
    return f"waited {timeout:g} s for {what() if callable(what) else what or 'a condition'}"
