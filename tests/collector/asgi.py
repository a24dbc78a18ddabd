"""Requests to the collector's pages and API as a server would hand them over, without a socket."""

import asyncio
import gzip
from typing import Any

import msgspec
from msgspec import Struct

from holdfast_collector.web.app import application
from holdfast_collector.web.guard import Message
from tests.collector.visited import Visited


class Answer(Struct, frozen=True):
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        packed = self.headers.get("content-encoding") == "gzip"
        return (gzip.decompress(self.body) if packed else self.body).decode()

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Exchange:
    """One request, and what was answered so far."""

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        path, _, query = target.partition("?")
        self.scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
            "server": ("127.0.0.1", 9760),
        }
        self._request: asyncio.Queue[Message] = asyncio.Queue()
        self._request.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self._progress = asyncio.Event()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()

    async def receive(self) -> Message:
        return await self._request.get()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
        self._progress.set()

    def leave(self) -> None:
        """The client is gone."""
        self._request.put_nowait({"type": "http.disconnect"})

    async def until(self, part: bytes) -> None:
        """Wait until the answer contains `part`."""
        while part not in self.body:
            self._progress.clear()
            await self._progress.wait()


class Visitor:
    """Asks one collector."""

    def __init__(self, visited: Visited) -> None:
        self._application = application(visited.context)

    def begin(
        self, method: str, target: str, *, body: bytes = b"", **headers: str
    ) -> tuple[Exchange, asyncio.Task[None]]:
        """Start a request that ends later. Underscores in header names become dashes."""
        named = {name.lower().replace("_", "-"): value for name, value in headers.items()}
        exchange = Exchange(method, target, {"host": "127.0.0.1:9760", **named}, body)
        task = asyncio.ensure_future(self._application(exchange.scope, exchange.receive, exchange.send))
        return exchange, task

    async def ask(self, method: str, target: str, *, body: bytes = b"", **headers: str) -> Answer:
        exchange, task = self.begin(method, target, body=body, **headers)
        await task
        return Answer(exchange.status, exchange.headers, bytes(exchange.body))

    async def get(self, target: str, **headers: str) -> Answer:
        return await self.ask("GET", target, body=b"", **headers)

    async def post(self, target: str, content: Any, **headers: str) -> Answer:
        body = content if isinstance(content, bytes) else msgspec.json.encode(content)
        media = headers.pop("content_type", "application/json")
        return await self.ask("POST", target, body=body, content_type=media, **headers)
