"""The webhook: every notice arrives, in order per alert, signed, with an id that stays the same."""

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holdfast_collector.config import ReceiverConfig
from holdfast_collector.core.record import Notice
from holdfast_collector.notifiers.http import retry_after_seconds
from holdfast_collector.notifiers.webhook import Webhook, signature
from tests.collector.records import AT, alert, notice
from tests.ports import free_port
from tests.receiver import DROP_REPLY, Receiver
from tests.waiting import wait_until


class Sending:
    """A webhook at work, with what it reported."""

    def __init__(self, url: str, **config: Any) -> None:
        self.done: list[tuple[Notice, str]] = []
        self.counted: list[tuple[str, str, float | None]] = []
        self.webhook = Webhook(
            ReceiverConfig(name="hook", kind="webhook", url=url, **config),
            external_url="https://holdfast.example",
            done=lambda one, refused: self.done.append((one, refused)),
            counted=lambda *how: self.counted.append(how),
            now=lambda: AT + 2.0,
        )

    @property
    def outcomes(self) -> list[str]:
        return [outcome for _, outcome, _ in self.counted]


@contextlib.asynccontextmanager
async def sending(url: str, **config: Any) -> AsyncIterator[Sending]:
    made = Sending(url, **config)
    task = asyncio.create_task(made.webhook.run())
    try:
        yield made
        assert not task.done(), "the notifier ended by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_firing_notice_arrives_in_the_documented_shape(receiver: Receiver) -> None:
    async with sending(receiver.url + "/alerts") as at_work:
        at_work.webhook.add(notice(alert()))
        await wait_until(lambda: at_work.done)

    (post,) = receiver.posts
    assert post.path == "/alerts"
    assert post.headers["content-type"] == "application/json"
    assert post.headers["idempotency-key"] == "install-db-1/R-30/volume://1:firing:hook"
    assert post.json() == {
        "version": 1,
        "id": "install-db-1/R-30/volume://1:firing:hook",
        "key": "install-db-1/R-30/volume://1",
        "status": "firing",
        "alertname": "VolumeAlmostFull",
        "severity": "page",
        "node": "db-1",
        "resource_kind": "volume",
        "resource": "/",
        "rule_id": "R-30",
        "labels": alert().labels,
        "annotations": {"summary": "db-1: / is full"},
        "starts_at": "2023-11-14T22:13:20.000Z",
        "ends_at": None,
        "url": "https://holdfast.example",
    }
    assert (at_work.done, at_work.counted) == ([(notice(alert()), "")], [("hook", "taken", 2.0)])


async def test_resolved_notice_says_when_it_ended(receiver: Receiver) -> None:
    async with sending(receiver.url) as at_work:
        at_work.webhook.add(notice(alert(), "resolved", at=AT + 60))
        await wait_until(lambda: at_work.done)

    body = receiver.posts[0].json()
    assert (body["status"], body["ends_at"]) == ("resolved", "2023-11-14T22:14:20.000Z")


async def test_signature_proves_sender_and_time(receiver: Receiver, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("correct horse\n")
    async with sending(receiver.url, secret_file=str(secret)) as at_work:
        at_work.webhook.add(notice(alert()))
        await wait_until(lambda: at_work.done)

    (post,) = receiver.posts
    mac = hmac.new(b"correct horse", b"%d." % (AT + 2) + post.body, hashlib.sha256).hexdigest()
    assert post.headers["holdfast-signature"] == f"t={int(AT + 2)},v1={mac}"
    assert signature(b"another", int(AT + 2), post.body) != post.headers["holdfast-signature"]


async def test_credentials_go_along(receiver: Receiver, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("letmein")
    async with sending(receiver.url, bearer_token_file=str(token)) as at_work:
        at_work.webhook.add(notice(alert()))
        await wait_until(lambda: at_work.done)
    async with sending(receiver.url, username="holdfast", password_file=str(token)) as at_work:
        at_work.webhook.add(notice(alert()))
        await wait_until(lambda: at_work.done)

    assert [post.headers["authorization"] for post in receiver.posts] == [
        "Bearer letmein",
        "Basic aG9sZGZhc3Q6bGV0bWVpbg==",
    ]


async def test_unreliable_receiver_gets_everything_in_order_and_repeats_carry_the_same_id(
    receiver: Receiver,
) -> None:
    """A tenth refused, a twentieth taken without an answer: at least once, and the receiver can tell."""
    receiver.refuse_ratio, receiver.drop_ratio = 0.1, 0.05
    sent = [notice(alert(f"/{number}"), status) for number in range(60) for status in ("firing", "resolved")]
    async with sending(receiver.url) as at_work:
        for one in sent:
            at_work.webhook.add(one)
        await wait_until(lambda: len(at_work.done) == len(sent), timeout=60)

    taken = [post.json() for post in receiver.taken]
    assert {body["id"] for body in taken} == {one.id for one in sent}
    for number in range(60):
        statuses = [body["status"] for body in taken if body["resource"] == f"/{number}"]
        assert statuses == sorted(statuses), "a resolve came before its firing"
        assert set(statuses) == {"firing", "resolved"}
    assert sorted(at_work.done, key=str) == sorted(((one, "") for one in sent), key=str)


async def test_request_that_can_never_be_taken_is_given_up_with_its_reason(receiver: Receiver) -> None:
    receiver.answer = lambda path: 422
    async with sending(receiver.url) as at_work:
        at_work.webhook.add(notice(alert()))
        await wait_until(lambda: at_work.done)

    assert (at_work.done, at_work.outcomes) == ([(notice(alert()), "HTTP 422")], ["refused"])


@pytest.mark.parametrize("status", [401, 404, 408, 429, 500, 503, DROP_REPLY])
async def test_what_an_operator_or_time_can_mend_is_tried_again(receiver: Receiver, status: int) -> None:
    """A wrong token at night must not cost the page: it goes out when the token is right again."""
    answers = [status, status]
    receiver.answer = lambda path: answers.pop() if answers else 200
    async with sending(receiver.url) as at_work:
        at_work.webhook.add(notice(alert()))
        await wait_until(lambda: at_work.done)

    assert (at_work.done, at_work.outcomes) == ([(notice(alert()), "")], ["failed", "failed", "taken"])
    assert len({post.headers["idempotency-key"] for post in receiver.posts}) == 1


async def test_receiver_that_is_away_gets_the_backlog_when_it_is_back() -> None:
    port = free_port()
    async with sending(f"http://127.0.0.1:{port}", timeout=1.0) as at_work:
        for number in range(30):
            at_work.webhook.add(notice(alert(f"/{number}")))
        await wait_until(lambda: len(at_work.counted) >= 4)
        assert at_work.done == []
        with Receiver(port=port):
            await wait_until(lambda: len(at_work.done) == 30)

    assert set(at_work.outcomes) == {"failed", "taken"}


def test_retry_after_is_read_as_seconds_or_as_a_date() -> None:
    read = [
        retry_after_seconds(value, AT) for value in ("30", "Tue, 14 Nov 2023 22:14:20 GMT", "", "soon", "-5")
    ]

    assert read == [30.0, 60.0, 0.0, 0.0, 0.0]
