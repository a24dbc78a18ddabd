"""Tells everybody who watches what happens, and lets nobody who watches slowly hold it up."""

import asyncio
from collections.abc import AsyncIterator

from holdfast_collector.context import StreamItem

BEHIND_MAX = 1_000
"""Items a subscriber may lag before it is cut off: it can ask for the whole state and begin anew."""


class Hub:
    """Distributes items to any number of subscribers. Lives in one event loop."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[StreamItem | None]] = set()
        self._closed = False

    def tell(self, item: StreamItem) -> None:
        """Give the item to every subscriber."""
        for queue in list(self._queues):
            if queue.qsize() >= BEHIND_MAX:
                # The end mark goes on top: what the subscriber has not read yet it may still read.
                self._queues.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(item)

    def subscribe(self) -> AsyncIterator[StreamItem]:
        """All items from now on, not from the first `anext` on. Ends when the hub closes or the reader lags."""
        queue: asyncio.Queue[StreamItem | None] = asyncio.Queue()
        if self._closed:
            queue.put_nowait(None)
        else:
            self._queues.add(queue)
        return self._read(queue)

    async def _read(self, queue: "asyncio.Queue[StreamItem | None]") -> AsyncIterator[StreamItem]:
        try:
            while (item := await queue.get()) is not None:
                yield item
        finally:
            self._queues.discard(queue)

    def close(self) -> None:
        """End every subscription."""
        self._closed = True
        for queue in self._queues:
            queue.put_nowait(None)
        self._queues.clear()
