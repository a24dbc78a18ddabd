"""The HTTP server: the one place where uvicorn is known.

It listens before it serves, so an address that cannot be had is a plain error at start, and it leaves signals alone:
the collector's own loop decides when to stop.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn

from holdfast_collector.config import Http, host_and_port
from holdfast_collector.errors import ListenFailed

REQUEST_HEAD_BYTES_MAX = 16 * 1024
CONNECTIONS_MAX = 512
"""Far above a few Prometheus, people and streams; each costs a file descriptor and some 10 KiB."""
KEEP_ALIVE_SECONDS = 75
"""Longer than the usual scrape interval, so a scraper keeps its connection."""
STOP_SECONDS = 2
"""A page in flight may end; a stream is told to stop before."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the application."""
        yield


class WebServer:
    """Serves one ASGI application on one address."""

    def __init__(self, application: Any, http: Http) -> None:
        """`application` is ASGI, which has no type but callable."""
        self._http = http
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        tls: dict[str, Any] = {}
        if http.cert_file:
            tls = {"ssl_certfile": http.cert_file, "ssl_keyfile": http.key_file}
        if http.client_ca_file:
            tls |= {"ssl_ca_certs": http.client_ca_file, "ssl_cert_reqs": ssl.CERT_REQUIRED}
        self._config = uvicorn.Config(
            application,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=REQUEST_HEAD_BYTES_MAX,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            **tls,
        )
        self._server = _Server(self._config)

    @property
    def url(self) -> str:
        """Where it answers, once started; with the real port when the configuration said 0."""
        assert self._socket is not None, "not started"
        host, port = self._socket.getsockname()[:2]
        return (
            f"{'https' if self._http.cert_file else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        )

    async def start(self) -> None:
        """Listen, then serve until `stop`. Raises ListenFailed when the address or the certificate cannot be used."""
        place = host_and_port(self._http.listen)
        assert place is not None, "the configuration was checked"
        try:
            family, _, _, _, address = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)[0]
            self._socket = socket.create_server(address[:2], family=family, backlog=256)
        except OSError as error:
            raise ListenFailed(f"cannot listen on {self._http.listen}: {error.strerror or error}") from error
        try:
            self._config.load()
        except (ssl.SSLError, OSError) as error:
            self._socket.close()
            raise ListenFailed(f"cannot use the certificate {self._http.cert_file}: {error}") from error
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="http")

    def reread_certificate(self) -> None:
        """Use a renewed certificate for new connections. Raises ListenFailed, and the old one stays in use."""
        if self._config.ssl is None:
            return
        try:
            self._config.ssl.load_cert_chain(self._http.cert_file, self._http.key_file)
        except (ssl.SSLError, OSError) as error:
            raise ListenFailed(f"cannot use the certificate {self._http.cert_file}: {error}") from error

    async def stop(self) -> None:
        """Stop listening, let pages in flight end, cut the rest off."""
        if self._task is None:
            return
        self._server.should_exit = True
        await self._task
        self._task = None
