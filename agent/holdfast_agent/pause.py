"""Waiting for something that may happen, and for the next look in any case."""

import asyncio
import contextlib


async def until(event: asyncio.Event, seconds: float | None) -> None:
    """Until the event is set, at most so long; None: until it is set. Raises CancelledError also for a cancellation that
    was dropped before.

    `asyncio.wait_for` is not used: in Python 3.11 it returns normally when the event is set as it is cancelled, and a loop
    around it then never ends. Libraries that a loop calls do use it.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
