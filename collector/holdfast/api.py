"""A running collector's JSON API, as the operator's command asks it. The standard library's client is enough for that.

Raises `Unreachable` when nobody answers, `Refused` when the collector answers and will not.
"""

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from msgspec import Struct

STREAM_SILENCE_SECONDS = 60.0
"""The collector sends a sign of life every 15 s on a stream."""


class Unreachable(Exception):
    """No collector answers there."""


class Refused(Exception):
    """The collector answered, and did not do it. `status` is HTTP's."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Address(Struct, frozen=True, kw_only=True):
    """Where the collector is, and who asks."""

    url: str
    token_file: str = ""
    ca_file: str = ""
    """Whom to trust with https; empty: the system's authorities."""
    timeout_seconds: float = 10.0
    """How long an answer may take, but for the stream's."""


class CollectorApi:
    """Questions to one collector."""

    def __init__(self, address: Address) -> None:
        """Raises ValueError when the address is none, OSError when the token's file cannot be read."""
        parts = urlsplit(address.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{address.url!r} is no address of a collector: write http://HOST:PORT")
        self.url = address.url.rstrip("/")
        self._timeout = address.timeout_seconds
        self._headers = {"accept": "application/json"}
        if address.token_file:
            token = Path(address.token_file).read_text(encoding="utf-8").strip()
            self._headers["authorization"] = f"Bearer {token}"
        context = ssl.create_default_context(cafile=address.ca_file or None)
        # No proxy: a collector is asked on its own machine, or over the operators' own network.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def get(self, path: str, **asked: str | int) -> Any:
        """The answer to a question, e.g. `get("/api/v1/alerts", state="firing")`."""
        query = f"?{urlencode(asked)}" if asked else ""
        return self._ask(urllib.request.Request(self.url + path + query, headers=self._headers))

    def post(self, path: str, body: Any) -> Any:
        """The answer to a wish."""
        headers = self._headers | {"content-type": "application/json"}
        data = json.dumps(body).encode()
        return self._ask(urllib.request.Request(self.url + path, data=data, headers=headers, method="POST"))

    def stream(self) -> Iterator[tuple[str, Any]]:
        """(event, data) of `/api/v1/stream` until the collector ends it. An empty event is a sign of life."""
        asked = urllib.request.Request(f"{self.url}/api/v1/stream", headers=self._headers)
        with self._open(asked, STREAM_SILENCE_SECONDS) as answer:
            event = ""
            try:
                for raw in answer:
                    name, _, value = raw.decode().rstrip("\r\n").partition(": ")
                    if name == "event":
                        event = value
                    elif name == "data":
                        yield event, json.loads(value)
                    else:
                        yield "", None
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(f"{self.url}: {error}") from error

    def fetch(self, path: str) -> bytes:
        """A page as it is."""
        asked = urllib.request.Request(self.url + path, headers=self._headers)
        try:
            with self._open(asked, self._timeout) as answer:
                return bytes(answer.read())
        except (http.client.HTTPException, OSError) as error:
            raise Unreachable(f"{self.url}: {error}") from error

    def _ask(self, asked: urllib.request.Request) -> Any:
        try:
            with self._open(asked, self._timeout) as answer:
                return json.load(answer)
        except (http.client.HTTPException, ValueError) as error:
            raise Unreachable(f"{self.url} answers, but not as a collector does: {error}") from error
        except OSError as error:
            raise Unreachable(f"{self.url}: {error}") from error

    def _open(self, asked: urllib.request.Request, timeout: float) -> Any:
        try:
            return self._opener.open(asked, timeout=timeout)
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error.code, _detail(error)) from None
        except urllib.error.URLError as error:
            raise Unreachable(f"{self.url}: {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.url}: {error}") from None


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        said = json.loads(error.read(64 * 1024))
        return str(said["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"HTTP {error.code} {error.reason}"
