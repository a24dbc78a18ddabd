"""The hub: everybody who watches hears everything, and nobody who watches slowly holds it up."""

import asyncio

from holdfast_collector.context import StreamItem
from holdfast_collector.core.effect import Noted
from holdfast_collector.hub import BEHIND_MAX, Hub


def item(number: int) -> StreamItem:
    return StreamItem(at=float(number), happened=Noted("db-1", "node met"))


async def test_every_subscriber_hears_everything_from_its_subscription_on() -> None:
    hub = Hub()
    hub.tell(item(0))
    first = hub.subscribe()
    hub.tell(item(1))
    second = hub.subscribe()
    hub.tell(item(2))
    hub.close()

    heard = [[one.at async for one in stream] for stream in (first, second)]

    assert heard == [[1.0, 2.0], [2.0]]


async def test_subscriber_that_falls_behind_is_cut_off_and_the_others_are_not() -> None:
    hub = Hub()
    slow, quick = hub.subscribe(), hub.subscribe()
    heard = []
    for number in range(BEHIND_MAX + 50):
        hub.tell(item(number))
        heard.append((await anext(quick)).at)

    assert len(heard) == BEHIND_MAX + 50
    assert len([one async for one in slow]) == BEHIND_MAX


async def test_stream_ends_with_the_hub_even_for_who_comes_late() -> None:
    hub = Hub()
    waiting = asyncio.ensure_future(anext(hub.subscribe(), None))
    hub.close()

    assert (await waiting, [one async for one in hub.subscribe()]) == (None, [])
