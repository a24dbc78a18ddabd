"""A real HTTP receiver that records what it is sent, and can be as unreliable as the world's."""

import json
import random
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from msgspec import Struct

DROP_REPLY = 0
"""As a status: the request is taken, then the connection is cut instead of answered."""


class Post(Struct, frozen=True, kw_only=True):
    """One request as it came."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    status: int
    """How it was answered; DROP_REPLY when it was not."""

    @property
    def taken(self) -> bool:
        """Whether the receiver acts on it. The sender of one that was dropped cannot know, and must send again."""
        return self.status == DROP_REPLY or 200 <= self.status < 300

    def json(self) -> Any:
        return json.loads(self.body)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            # The sender was killed in the middle of it: no request at all.
            self.close_connection = True
            return
        status = self.server.receiver.record(
            self.path, {key.lower(): value for key, value in self.headers.items()}, body
        )
        if status == DROP_REPLY:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """The posts are the log."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    receiver: "Receiver"


class Receiver:
    """Listens on loopback, on a free port unless told which, from construction until `close`, or for the length of a `with`.

    `refuse_ratio` of requests get a 503 and are not acted on; `drop_ratio` are taken but never answered. `answer`
    decides instead when given: path → status. All may be changed while it runs.
    """

    def __init__(
        self, *, port: int = 0, refuse_ratio: float = 0.0, drop_ratio: float = 0.0, seed: int = 1
    ) -> None:
        self.refuse_ratio = refuse_ratio
        self.drop_ratio = drop_ratio
        self.answer: Callable[[str], int] | None = None
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._posts: list[Post] = []
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.receiver = self
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def posts(self) -> list[Post]:
        """Every request so far, refused ones included, in the order of arrival."""
        with self._lock:
            return list(self._posts)

    @property
    def taken(self) -> list[Post]:
        """The requests the receiver acts on."""
        return [post for post in self.posts if post.taken]

    def record(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Note a request; how it is to be answered."""
        with self._lock:
            status = self._decide(path)
            self._posts.append(Post(path=path, headers=headers, body=body, status=status))
            return status

    def _decide(self, path: str) -> int:
        if self.answer is not None:
            return self.answer(path)
        draw = self._random.random()
        if draw < self.refuse_ratio:
            return 503
        return DROP_REPLY if draw < self.refuse_ratio + self.drop_ratio else 200

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
