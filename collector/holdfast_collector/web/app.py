"""The collector's addresses: the one place where starlette is known.

    /              status page      /metrics   Prometheus        /api/v1/…        JSON, see README
    /nodes/<n>     one node         /healthz   alive             /api/v1/stream   server-sent events
    /alerts        all alerts       /readyz    does its work

Handlers fetch, and hand on: what a page says is decided in the views, what the API says in `api`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from holdfast_collector.context import Context
from holdfast_collector.exposition import gzip_accepted, wanted_format
from holdfast_collector.web import api, pages
from holdfast_collector.web.alerts_view import alerts_view
from holdfast_collector.web.facts import facts
from holdfast_collector.web.fleet import query, survey
from holdfast_collector.web.group_shape import group_shapes
from holdfast_collector.web.guard import AUTHORISED, Application, Guard
from holdfast_collector.web.history import PAGE_SECONDS_MAX, group_history, history, what_happened
from holdfast_collector.web.history_view import ASKED
from holdfast_collector.web.node_view import node_view
from holdfast_collector.web.pages import NO_RELOAD, Reload
from holdfast_collector.web.problem import Problem
from holdfast_collector.web.samples import sample_file, samples
from holdfast_collector.web.status_view import status_view
from holdfast_collector.web.stream import Stream
from holdfast_collector.web.words import Moment, moment, plain

BODY_BYTES_MAX = 16 * 1024
RELOAD_SECONDS = 10
QUERY_LENGTH_MAX = 100

Handler = Callable[[Request], Awaitable[Response]]


class ProblemView(Struct, frozen=True):
    """A page that could not be had."""

    now: Moment
    title: str
    detail: str


def application(context: Context) -> Application:
    """Everything the collector serves, guarded. Raises OSError when a token's file is gone."""
    site = _Site(context)
    questions = _Api(context)
    starlette = Starlette(
        routes=[
            Route("/", site.status),
            Route("/nodes/{name}", site.node),
            Route("/alerts", site.alerts),
            Route("/style.css", site.style),
            Route("/favicon.ico", site.no_icon),
            Route("/metrics", site.metrics),
            Route("/healthz", site.health),
            Route("/readyz", site.ready),
            Route("/api/v1/status", questions.status),
            Route("/api/v1/nodes", questions.nodes),
            Route("/api/v1/nodes/{name}", questions.node, methods=["GET", "DELETE"]),
            Route("/api/v1/nodes/{name}/history", questions.history),
            Route("/api/v1/groups", questions.groups),
            Route("/api/v1/groups/{name:path}/history", questions.group_history),
            Route("/api/v1/alerts", questions.alerts),
            Route("/api/v1/witness", questions.witness),
            Route("/api/v1/rules", questions.rules),
            Route("/api/v1/explain", questions.explain),
            Route("/api/v1/facts", questions.facts),
            Route("/api/v1/samples", questions.samples),
            Route("/api/v1/samples/{name}", questions.sample_file),
            Route("/api/v1/rejections", questions.rejections),
            Route("/api/v1/acks", questions.acknowledge, methods=["POST"]),
            Route("/api/v1/restores", questions.announce, methods=["POST"]),
            Route("/api/v1/stream", _only_get(Stream(context))),
        ],
        exception_handlers={Problem: site.problem, HTTPException: site.not_here, ClientDisconnect: site.gone},
    )
    return Guard(starlette, lambda: context.config.http, context.metrics.http_refused)


def _only_get(stream: Stream) -> Handler:
    async def handler(request: Request) -> Any:
        """A stream is an ASGI application of its own: it must notice slow clients, which Response cannot."""
        return stream

    return handler


class _Site:
    """Pages, and what machines ask without JSON."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def status(self, request: Request) -> Response:
        asked = request.query_params
        text, state = asked.get("q", "")[:QUERY_LENGTH_MAX], asked.get("state", "")
        collector = self._context.collector
        found = await survey(collector.nodes, collector.alerts.values(), query(text, state), by_trouble=True)
        view = status_view(self._context, found, text, state, _page(asked.get("page", "1")))
        return await _html("status.html", view, _reload(request))

    async def node(self, request: Request) -> Response:
        name = request.path_params["name"]
        node = self._context.collector.nodes.get(name)
        if node is None:
            raise Problem(404, f"no node {name[:100]!r} is known; was it taken out of service?")
        try:
            past = await what_happened(self._context, name, limit=ASKED, patience_seconds=PAGE_SECONDS_MAX)
        except Problem as error:
            if error.status == 404:
                raise
            past = None  # a store that hangs must not take the page along: it is then that people look
        return await _html("node.html", node_view(self._context, node, past), _reload(request))

    async def alerts(self, request: Request) -> Response:
        return await _html("alerts.html", alerts_view(self._context), _reload(request))

    async def style(self, request: Request) -> Response:
        kept = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(pages.STYLE, media_type="text/css", headers=kept)

    async def no_icon(self, request: Request) -> Response:
        return Response(status_code=204)

    async def metrics(self, request: Request) -> Response:
        context = self._context
        context.metrics.observe_health(context.health(), _outbox(context))
        page = await context.exposition.page(
            wanted_format(request.headers.get("accept", "")),
            gzipped=gzip_accepted(request.headers.get("accept-encoding", "")),
        )
        headers = {"vary": "Accept, Accept-Encoding", "content-length": str(page.total_bytes)}
        if page.gzipped:
            headers["content-encoding"] = "gzip"
        # Not media_type: starlette would add a charset of its own.
        headers["content-type"] = page.format.value
        return StreamingResponse(_chunks(page.chunks), headers=headers)

    async def health(self, request: Request) -> Response:
        """The process lives and its loop turns: whoever reads this has the proof."""
        return Response("ok\n", media_type="text/plain")

    async def ready(self, request: Request) -> Response:
        reasons = self._context.readiness()
        known = (
            reasons
            if request.scope.get(AUTHORISED)
            else ["not ready; a token gets the reasons"] * bool(reasons)
        )
        if "json" in request.headers.get("accept", ""):
            return _json({"ready": not reasons, "reasons": known}, 503 if reasons else 200)
        text = "".join(f"{plain(reason)}\n" for reason in known) or "ready\n"
        return Response(text, status_code=503 if reasons else 200, media_type="text/plain")

    async def problem(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem), "the handler of this exception"
        return await self._say(request, error.status, error.detail)

    async def not_here(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException), "the handler of this exception"
        response = await self._say(request, error.status_code, f"{error.detail}: {request.url.path[:200]}")
        response.headers.update(error.headers or {})
        return response

    async def gone(self, request: Request, error: Exception) -> Response:
        """The client left in the middle of its question; nobody reads this."""
        return Response(status_code=400)

    async def _say(self, request: Request, status: int, detail: str) -> Response:
        if request.url.path.startswith("/api/"):
            return _json({"error": detail}, status)
        now = self._context.now()
        view = ProblemView(moment(now, now), "Not here" if status == 404 else "Not possible", plain(detail))
        return await _html("problem.html", view, status=status)


class _Api:
    """The JSON API."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def status(self, request: Request) -> Response:
        return _json(api.status(self._context))

    async def nodes(self, request: Request) -> Response:
        return await _long_json(await api.nodes(self._context, request.query_params))

    async def node(self, request: Request) -> Response:
        name = request.path_params["name"]
        if request.method == "DELETE":
            return _json(await api.forget(self._context, name))
        return await _long_json(api.node(self._context, name))

    async def history(self, request: Request) -> Response:
        name = request.path_params["name"]
        return await _long_json(await history(self._context, name, request.query_params))

    async def group_history(self, request: Request) -> Response:
        name = request.path_params["name"]
        return await _long_json(await group_history(self._context, name, request.query_params))

    async def groups(self, request: Request) -> Response:
        return await _long_json({"groups": group_shapes(self._context.collector)})

    async def alerts(self, request: Request) -> Response:
        return await _long_json(await api.alerts(self._context, request.query_params))

    async def witness(self, request: Request) -> Response:
        return await _long_json(api.witness(self._context, request.query_params))

    async def rules(self, request: Request) -> Response:
        return _json(api.rules(self._context, request.query_params))

    async def explain(self, request: Request) -> Response:
        return _json(api.explain(self._context, request.query_params))

    async def facts(self, request: Request) -> Response:
        return await _long_json(await facts(self._context))

    async def samples(self, request: Request) -> Response:
        return _json(await samples(self._context))

    async def sample_file(self, request: Request) -> Response:
        content = await sample_file(self._context, request.path_params["name"])
        return Response(content, media_type="application/octet-stream")

    async def rejections(self, request: Request) -> Response:
        return _json(api.rejections(self._context))

    async def acknowledge(self, request: Request) -> Response:
        return _json(await api.acknowledge(self._context, await _body(request)))

    async def announce(self, request: Request) -> Response:
        return _json(await api.announce(self._context, await _body(request)))


async def _body(request: Request) -> bytes:
    """The request's body, as far as it is of a reasonable size. Raises Problem."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise Problem(413, f"at most {BODY_BYTES_MAX} bytes are taken")
    return bytes(body)


def _reload(request: Request) -> Reload:
    """A page comes anew by itself unless its reader stopped that, to type or to read in peace."""
    asked = dict(request.query_params)
    stopped = asked.pop("live", "") == "no"
    return Reload(
        seconds=0 if stopped else RELOAD_SECONDS,
        live_query=urlencode(asked) or "live=yes",
        paused_query=urlencode({**asked, "live": "no"}),
    )


async def _html(template: str, view: Struct, reload: Reload = NO_RELOAD, *, status: int = 200) -> Response:
    # In a thread: a page of a hundred nodes takes milliseconds, one with a thousand services tens of them. The view
    # is the thread's own by then, nothing of the core is touched.
    page = await asyncio.to_thread(pages.render, template, view, reload)
    return Response(page, status_code=status, media_type="text/html")


def _json(answer: Any, status: int = 200) -> Response:
    return Response(api.encode(answer), status_code=status, media_type="application/json")


async def _long_json(answer: Any) -> Response:
    """As `_json` for what may be megabytes. The shapes are built; what they refer to is never changed in place."""
    return Response(await asyncio.to_thread(api.encode, answer), media_type="application/json")


async def _chunks(chunks: list[bytes]) -> Any:
    for chunk in chunks:
        yield chunk


def _page(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 7 else 1


def _outbox(context: Context) -> Mapping[str, tuple[int, float]]:
    """Receiver → notices that wait, and the age of the oldest in seconds; receivers without any included."""
    now = context.now()
    waiting = {receiver.name: (0, 0.0) for receiver in context.config.receiver}
    for notice in context.collector.outbox.values():
        count, age = waiting.get(notice.receiver, (0, 0.0))
        waiting[notice.receiver] = (count + 1, max(age, now - notice.created_at))
    return waiting
