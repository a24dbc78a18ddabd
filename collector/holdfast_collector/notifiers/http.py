"""One POST and what became of it, over connections that stay open. The only file that knows httpx2."""

import email.utils
import time
from enum import Enum
from pathlib import Path
from ssl import SSLContext
from ssl import create_default_context as system_authorities

import httpx2
from msgspec import Struct

from holdfast_collector.config import ReceiverConfig, read_secret
from holdfast_collector.notifiers.lane import PARALLEL_MAX

_KEEPALIVE_SECONDS = 30.0
_DETAIL_CHARACTERS_MAX = 300
_OF_THE_PLACE = {401, 402, 403, 404, 405, 407, 408, 421, 423, 425, 429}
"""4xx that speak of the address, the credentials or the moment, all of which an operator or time can mend. What is
left speaks of the request: it would be refused for ever."""


class Outcome(Enum):
    """What became of a request."""

    TAKEN = "taken"
    REFUSED = "refused"
    """The receiver will never take this request."""
    FAILED = "failed"
    """It may take the same request later."""


class Answer(Struct, frozen=True, kw_only=True):
    """What the receiver said, or why it said nothing."""

    outcome: Outcome
    status: int = 0
    """0: no answer."""
    detail: str = ""
    retry_after: float = 0.0
    """Seconds it asked to be left alone for; 0: it did not ask."""


class Poster:
    """Posts to one receiver."""

    def __init__(self, receiver: ReceiverConfig) -> None:
        """Reads the receiver's secrets. Raises OSError when one of them is gone."""
        auth = None
        headers = {"user-agent": "holdfast", "content-type": "application/json"}
        if receiver.username:
            password = read_secret(receiver.password_file) if receiver.password_file else ""
            auth = httpx2.BasicAuth(receiver.username, password)
        if receiver.bearer_token_file:
            headers["authorization"] = f"Bearer {read_secret(receiver.bearer_token_file)}"
        self._client = httpx2.AsyncClient(
            auth=auth,
            headers=headers,
            verify=_authorities(receiver.ca_file),
            timeout=receiver.timeout,
            proxy=receiver.proxy or None,
            trust_env=False,
            limits=httpx2.Limits(
                max_connections=2 * PARALLEL_MAX,
                max_keepalive_connections=PARALLEL_MAX,
                keepalive_expiry=_KEEPALIVE_SECONDS,
            ),
        )

    async def post(self, url: str, body: bytes, headers: dict[str, str] | None = None) -> Answer:
        """Send once. Never raises for what a network or a receiver may do."""
        try:
            response = await self._client.post(url, content=body, headers=headers)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            return Answer(outcome=Outcome.FAILED, detail=f"{type(error).__name__}: {error}".rstrip(": "))
        if response.is_success:
            return Answer(outcome=Outcome.TAKEN, status=response.status_code)
        detail = f"HTTP {response.status_code}: {response.text[:_DETAIL_CHARACTERS_MAX]}".strip().rstrip(":")
        refused = 400 <= response.status_code < 500 and response.status_code not in _OF_THE_PLACE
        return Answer(
            outcome=Outcome.REFUSED if refused else Outcome.FAILED,
            status=response.status_code,
            detail=detail,
            retry_after=retry_after_seconds(response.headers.get("retry-after", ""), time.time()),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def retry_after_seconds(value: str, now: float) -> float:
    """RFC 9110 section 10.2.3: seconds, or an HTTP date. 0 for anything else."""
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return 0.0


def _authorities(ca_file: str) -> SSLContext:
    return system_authorities(cafile=str(Path(ca_file))) if ca_file else system_authorities()
