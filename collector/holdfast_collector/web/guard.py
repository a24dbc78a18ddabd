"""Who may ask the collector what: the checks before every request, and the headers on every answer.

    host      a name that is not ours, while nobody need authenticate, is a web page that rebinds DNS to reach us
    identity  a bearer token, or the token as the password of HTTP basic authentication, which browsers can send
    write     JSON only, and from our own pages or from no page at all: no other site may act through a browser

`/healthz` and `/readyz` answer everybody: orchestrators and load balancers have no token.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from holdfast_collector.config import Http, host_and_port, read_secret

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
AUTHORISED = "holdfast.authorised"
"""The key in an ASGI scope that says whether the asker may see more than a yes or no."""

_CONTENT_SECURITY_POLICY = (
    b"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    b"frame-ancestors 'none'"
)
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", _CONTENT_SECURITY_POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Refused(Struct, frozen=True):
    """A request that is not taken."""

    status: int
    reason: str
    """A metric label: `host`, `unauthenticated`, `forbidden`, `cross_site`, `content_type`."""
    detail: str


class Access(Struct, frozen=True):
    """Who may come in, as configured."""

    write_token: bytes = b""
    """SHA-256 of the token; empty: there is none."""
    read_token: bytes = b""
    loopback: bool = True
    names: frozenset[str] = frozenset()
    """Host names that are ours."""

    @property
    def open(self) -> bool:
        """Whether whoever reaches us may do everything: on loopback, or by a client certificate that TLS has checked."""
        return not self.write_token and not self.read_token


def access(http: Http) -> Access:
    """Read the tokens. Raises OSError when a file is gone."""
    place = host_and_port(http.listen)
    host = place[0] if place else ""
    names = {"localhost", host}
    if http.external_url:
        names.add(urlsplit(http.external_url).hostname or "")
    return Access(
        write_token=_digest(read_secret(http.token_file)) if http.token_file else b"",
        read_token=_digest(read_secret(http.read_token_file)) if http.read_token_file else b"",
        loopback=host == "localhost" or _loopback(host),
        names=frozenset(name.lower() for name in names if name),
    )


def check(access: Access, method: str, path: str, headers: Mapping[str, str]) -> Refused | None:
    """Why a request is not taken; None when it is. `headers`: lower-case name → value."""
    host = _host_name(headers.get("host", ""))
    if access.open and access.loopback and not (host in access.names or _address(host)):
        detail = f"{headers.get('host', '')[:100]!r} is not a name of this collector; set http.external_url"
        return Refused(421, "host", detail)
    reads = method in {"GET", "HEAD", "OPTIONS"}
    if path in OPEN_PATHS and reads:
        return None
    if not access.open:
        token = _token(headers.get("authorization", ""))
        if token is None:
            return Refused(401, "unauthenticated", "a token is needed: Authorization: Bearer …")
        digest = _digest(token)
        writes = _same(digest, access.write_token)
        if not writes and not _same(digest, access.read_token):
            return Refused(401, "unauthenticated", "this token is not known here")
        if not writes and not reads:
            return Refused(403, "forbidden", "this token may only read")
    return None if reads else _check_write(method, headers)


def _check_write(method: str, headers: Mapping[str, str]) -> Refused | None:
    site = headers.get("sec-fetch-site", "none")
    if site not in {"same-origin", "none"}:
        return Refused(403, "cross_site", "another site's page asks for this")
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        return Refused(403, "cross_site", "another site's page asks for this")
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method == "POST" and media != "application/json":
        return Refused(415, "content_type", "send Content-Type: application/json")
    return None


class Guard:
    """ASGI middleware around everything the collector serves."""

    def __init__(
        self, application: Application, http: Callable[[], Http], refused: Callable[[str], None]
    ) -> None:
        """`http` gives the configuration in force; `refused` is told the reason of every refusal."""
        self._application = application
        self._http = http
        self._refused = refused
        self._configured = http()
        self._access = access(self._configured)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "the server is told that there are neither web sockets nor a lifespan"
        configured = self._http()
        if configured is not self._configured:
            self._access = access(configured)
            self._configured = configured
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        guarded = _with_security_headers(send)
        refusal = check(self._access, scope["method"], scope["path"], headers)
        if refusal is not None:
            self._refused(refusal.reason)
            await _answer(refusal, guarded)
            return
        scope[AUTHORISED] = self._access.open or check(self._access, "GET", "/", headers) is None
        await self._application(scope, receive, guarded)


def _with_security_headers(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = list(message.get("headers", []))
            names = {name for name, _ in given}
            given += [header for header in SECURITY_HEADERS if header[0] not in names]
            if b"cache-control" not in names:
                given.append((b"cache-control", b"no-store"))
            message = {**message, "headers": given}
        await send(message)

    return guarded


async def _answer(refusal: Refused, send: Send) -> None:
    body = msgspec.json.encode({"error": refusal.detail})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b'Basic realm="holdfast", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _token(authorization: str) -> str | None:
    scheme, _, given = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return given.strip()
        case "basic":
            try:
                return base64.b64decode(given, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return None
        case _:
            return None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _same(digest: bytes, expected: bytes) -> bool:
    """Compare in constant time; nothing equals a token that is not configured."""
    return bool(expected) and hmac.compare_digest(digest, expected)


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _address(host: str) -> bool:
    """DNS can be rebound for names only."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _loopback(host: str) -> bool:
    return _address(host) and ipaddress.ip_address(host).is_loopback
