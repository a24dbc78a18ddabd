"""What happens, as it happens: server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Each client has the bounded queue that `Context.subscribe` gives it. One that does not read is cut off, by the queue or
by the time a write may take, and comes back by itself, as the format's clients do. There is no replay: who comes back
reads `/api/v1/alerts` first.
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec

from holdfast_collector.context import Context, StreamItem
from holdfast_collector.core.effect import Transitioned, Turned
from holdfast_collector.web.guard import Message, Receive, Scope, Send
from holdfast_collector.web.shapes import alert_shape

HEARTBEAT_SECONDS = 15.0
"""A comment this often keeps proxies from closing an idle stream, and finds clients that are gone."""
WRITE_SECONDS_MAX = 10.0
CLIENTS_MAX = 64
RETRY_MILLISECONDS = 3000


def frame(item: StreamItem) -> bytes:
    """One event in the stream's format. JSON has no raw line ends, so one `data` line holds it."""
    happened = item.happened
    if isinstance(happened, Transitioned):
        name = "alert"
        data = {
            "at": item.at,
            "transition": happened.transition.value,
            "alert": alert_shape(happened.tracked, ()),
        }
    elif isinstance(happened, Turned):
        name = "verdict"
        data = msgspec.to_builtins(happened)
    else:
        name = "node"
        data = {"at": item.at, "node": happened.node, "event": happened.event, "detail": happened.detail}
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data))


class Stream:
    """An ASGI application that streams until the client or the collector goes."""

    def __init__(self, context: Context, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._context = context
        self._heartbeat_seconds = heartbeat_seconds
        self._clients = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._clients >= CLIENTS_MAX:
            await _refuse(send)
            return
        self._clients += 1
        self._context.metrics.stream_clients(self._clients)
        try:
            await self._serve(receive, send)
        finally:
            self._clients -= 1
            self._context.metrics.stream_clients(self._clients)

    async def _serve(self, receive: Receive, send: Send) -> None:
        items = self._context.subscribe()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/event-stream")],
            }
        )
        gone = asyncio.create_task(_gone(receive))
        coming = asyncio.create_task(_next(items))
        chunk = b"retry: %d\n\n" % RETRY_MILLISECONDS
        try:
            while chunk:
                async with asyncio.timeout(WRITE_SECONDS_MAX):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await asyncio.wait(
                    {gone, coming}, timeout=self._heartbeat_seconds, return_when=asyncio.FIRST_COMPLETED
                )
                if gone.done() or self._context.stopping():
                    break
                chunk = b": still here\n\n"
                if coming.done():
                    item = coming.result()
                    if item is None:
                        self._fell_behind()
                        break
                    chunk = frame(item)
                    coming = asyncio.create_task(_next(items))
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            self._context.metrics.stream_dropped()
        finally:
            gone.cancel()
            coming.cancel()
            await asyncio.gather(gone, coming, return_exceptions=True)

    def _fell_behind(self) -> None:
        if not self._context.stopping():
            self._context.metrics.stream_dropped()


async def _next(items: AsyncIterator[StreamItem]) -> StreamItem | None:
    """The next item; None at the end. A task cannot carry StopAsyncIteration."""
    return await anext(items, None)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(send: Send) -> None:
    body = msgspec.json.encode({"error": f"{CLIENTS_MAX} clients listen already"})
    start: Message = {
        "type": "http.response.start",
        "status": 503,
        "headers": [(b"content-type", b"application/json"), (b"retry-after", b"30")],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})
