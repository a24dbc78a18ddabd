"""A webhook: one POST per notice, signed when there is a secret. The shape is documented in collector/README.md."""

import asyncio
import contextlib
import hashlib
import hmac
import random
import time
from collections.abc import Callable
from urllib.parse import quote

import msgspec

from holdfast_collector.config import ReceiverConfig, read_secret
from holdfast_collector.core.record import Notice
from holdfast_collector.notifiers import Counted, NoticeDone, rfc3339
from holdfast_collector.notifiers.health import ReceiverHealth
from holdfast_collector.notifiers.http import Answer, Outcome, Poster
from holdfast_collector.notifiers.lane import Lane


class Webhook:
    """Delivers notices to one URL."""

    def __init__(
        self,
        receiver: ReceiverConfig,
        *,
        external_url: str,
        done: NoticeDone,
        counted: Counted,
        now: Callable[[], float],
    ) -> None:
        """Reads the receiver's secrets. Raises OSError when one of them is gone. `now` is the wall clock."""
        self.name = receiver.name
        self._url = receiver.url
        self._external_url = external_url
        self._secret = read_secret(receiver.secret_file).encode() if receiver.secret_file else b""
        self._done = done
        self._counted = counted
        self._now = now
        self._poster = Poster(receiver)
        self._lane = Lane()
        self._moved = asyncio.Event()
        self._health = ReceiverHealth(receiver.name, receiver.url)

    def add(self, notice: Notice) -> None:
        self._lane.add(notice)
        self._moved.set()

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as attempts:
                while True:
                    self._moved.clear()
                    while (notice := self._lane.next(time.monotonic())) is not None:
                        attempts.create_task(self._attempt(notice))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._lane.wait_seconds(time.monotonic())):
                            await self._moved.wait()
        finally:
            await self._poster.close()

    async def _attempt(self, notice: Notice) -> None:
        body = webhook_body(notice, self._external_url)
        headers = {"idempotency-key": quote(notice.id, safe="/:@=+,()-._~")}
        if self._secret:
            headers["holdfast-signature"] = signature(self._secret, int(self._now()), body)
        answer = await self._poster.post(self._url, body, headers)
        self._report(notice, answer)
        match answer.outcome:
            case Outcome.TAKEN:
                self._lane.done(notice)
                self._done(notice, "")
            case Outcome.REFUSED:
                self._lane.done(notice)
                self._done(notice, answer.detail)
            case Outcome.FAILED:
                self._lane.failed(
                    notice,
                    time.monotonic(),
                    chance=random.random(),
                    retry_after=answer.retry_after,
                    answered=answer.status != 0,
                )
        self._moved.set()

    def _report(self, notice: Notice, answer: Answer) -> None:
        taken = answer.outcome is Outcome.TAKEN
        age = max(0.0, self._now() - notice.created_at) if taken else None
        self._counted(self.name, answer.outcome.value, age)
        self._health.answered(answer)


def webhook_body(notice: Notice, external_url: str) -> bytes:
    """The JSON of one notice; the same notice always gives the same bytes."""
    alert = notice.alert
    return msgspec.json.encode(
        {
            "version": 1,
            "id": notice.id,
            "key": notice.key,
            "status": notice.status,
            "alertname": alert.alertname,
            "severity": alert.severity,
            "node": alert.node,
            "resource_kind": alert.kind,
            "resource": alert.resource,
            "rule_id": alert.rule_id,
            "labels": alert.labels,
            "annotations": alert.annotations,
            "starts_at": rfc3339(notice.created_at if alert.fired_at is None else alert.fired_at),
            "ends_at": rfc3339(notice.resolved_at) if notice.status == "resolved" else None,
            "url": external_url,
        }
    )


def signature(secret: bytes, timestamp: int, body: bytes) -> str:
    """`t=<unix time>,v1=<hex HMAC-SHA256 of "<unix time>.<body>">`: whoever knows the secret can tell that we sent it
    and when, so that a recorded request cannot be played again later."""
    mac = hmac.new(secret, b"%d." % timestamp + body, hashlib.sha256)
    return f"t={timestamp},v1={mac.hexdigest()}"
