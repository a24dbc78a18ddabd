"""A pause in a loop that must end when the agent stops."""

import asyncio
import contextlib

from holdfast_agent.pause import until


async def test_a_loop_ends_although_its_event_is_set_as_it_is_cancelled() -> None:
    """`asyncio.wait_for` of Python 3.11 takes the event for the answer, and the agent never stops."""
    event = asyncio.Event()

    async def look() -> None:
        while True:
            event.clear()
            await until(event, 3600.0)

    looking = asyncio.create_task(look())
    for _ in range(3):
        await asyncio.sleep(0)
    event.set()
    looking.cancel()
    done, _ = await asyncio.wait([looking], timeout=5.0)

    assert done == {looking}


async def test_a_pause_is_over_in_time_or_when_something_happens() -> None:
    event = asyncio.Event()
    await until(event, 0.0)
    event.set()
    await until(event, None)

    assert event.is_set()


async def test_a_loop_ends_although_a_library_dropped_its_cancellation() -> None:
    """As a client does whose answer comes in the moment in which it is cancelled."""
    answered = asyncio.Event()

    async def look() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await answered.wait()
            await until(asyncio.Event(), 0.0)

    looking = asyncio.create_task(look())
    await asyncio.sleep(0)
    looking.cancel()
    answered.set()
    done, _ = await asyncio.wait([looking], timeout=5.0)

    assert done == {looking}
    assert looking.cancelled()
