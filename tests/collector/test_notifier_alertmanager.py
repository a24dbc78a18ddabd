"""Alertmanager: told at once, told again, told by every road there is, and never misled by our silence."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from holdfast_collector.config import ReceiverConfig
from holdfast_collector.core.record import Notice
from holdfast_collector.notifiers.alertmanager import Alertmanager, Assertion, alertmanager_body
from tests.collector.alertmanager import AlertmanagerProcess
from tests.collector.records import AT, alert, key, notice
from tests.ports import free_port
from tests.receiver import Receiver
from tests.waiting import wait_until


class Telling:
    """A notifier at work, with what it reported; `view` is what it should assert."""

    def __init__(self, urls: list[str], *, now: Callable[[], float], **config: Any) -> None:
        self.view: list[Assertion] = []
        self.done: list[tuple[Notice, str]] = []
        self.counted: list[tuple[str, str, float | None]] = []
        self.notifier = Alertmanager(
            ReceiverConfig(name="am", kind="alertmanager", urls=tuple(urls), **config),
            external_url="",
            view=lambda: list(self.view),
            done=lambda one, refused: self.done.append((one, refused)),
            counted=lambda *how: self.counted.append(how),
            now=now,
        )


@contextlib.asynccontextmanager
async def telling(*urls: str, now: Callable[[], float] = time.time, **config: Any) -> AsyncIterator[Telling]:
    made = Telling(list(urls), now=now, **config)
    task = asyncio.create_task(made.notifier.run())
    try:
        yield made
        assert not task.done(), "the notifier ended by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def told(hook: Receiver) -> list[tuple[str, str]]:
    """(status, resource) of everything Alertmanager told its webhook, in order."""
    return [
        (item["status"], item["labels"]["resource"]) for post in hook.taken for item in post.json()["alerts"]
    ]


def resources(posts: Iterable[Any]) -> list[list[str]]:
    """The resources in each POST to a plain receiver that stands for an Alertmanager."""
    return [[item["labels"]["resource"] for item in post.json()] for post in posts]


# ---- a real Alertmanager -----------------------------------------------------------------------------------------


async def knows_any(manager: AlertmanagerProcess) -> bool:
    """Whether it holds an alert at all."""
    return bool(await known(manager))


async def known(manager: AlertmanagerProcess) -> list[dict[str, Any]]:
    """The alerts that Alertmanager holds now."""
    return await asyncio.to_thread(manager.alerts)


@pytest.mark.system
async def test_alertmanager_notifies_firing_and_resolve_once_each(tmp_path: Path, receiver: Receiver) -> None:
    fired_at = time.time()
    full = alert("/", pending_since=fired_at, fired_at=fired_at)
    with AlertmanagerProcess(tmp_path / "am", receiver.url) as manager:
        async with telling(manager.url, resend=5.0) as at_work:
            at_work.notifier.add(notice(full, at=fired_at))
            await wait_until(lambda: told(receiver))
            at_work.notifier.add(notice(full, "resolved", at=time.time()))
            await wait_until(lambda: len(told(receiver)) == 2)

            assert [each["labels"] for each in await known(manager)] in ([], [full.labels])
        assert told(receiver) == [("firing", "/"), ("resolved", "/")]
        assert [refused for _, refused in at_work.done] == ["", ""]


@pytest.mark.system
async def test_alertmanager_that_lost_its_memory_learns_again(tmp_path: Path, receiver: Receiver) -> None:
    """It keeps no alerts over a restart: what fires must be asserted, or it silently ends."""
    fired_at = time.time()
    full = alert("/", pending_since=fired_at, fired_at=fired_at)
    with AlertmanagerProcess(tmp_path / "am", receiver.url) as manager:
        async with telling(manager.url, resend=5.0) as at_work:
            at_work.view = [Assertion(key=key(full), alert=full)]
            learned: bool = await wait_until(lambda: knows_any(manager))
            assert learned
            await asyncio.to_thread(manager.kill)
            await asyncio.to_thread(manager.start)
            assert await known(manager) == []

            learned = await wait_until(lambda: knows_any(manager))
            assert learned
            (believed,) = await known(manager)

    assert (believed["labels"], believed["annotations"]) == (full.labels, full.annotations)


@pytest.mark.system
async def test_one_bad_alert_does_not_cost_the_others_of_its_batch(
    tmp_path: Path, receiver: Receiver
) -> None:
    """Alertmanager answers 400 for the whole batch, although it takes the good ones."""
    fired_at = time.time()
    good = [alert(f"/{number}", pending_since=fired_at, fired_at=fired_at) for number in range(20)]
    labels = good[7].labels | {"not a label name": "x"}
    bad = alert("/7", pending_since=fired_at, fired_at=fired_at, labels=labels)
    sent = [notice(bad if number == 7 else one, at=fired_at) for number, one in enumerate(good)]
    with AlertmanagerProcess(tmp_path / "am", receiver.url) as manager:
        async with telling(manager.url) as at_work:
            for one in sent:
                at_work.notifier.add(one)
            await wait_until(lambda: len(at_work.done) == 20)
            await wait_until(lambda: len(told(receiver)) == 19)

    refused = {one.alert.resource: why for one, why in at_work.done if why}
    assert set(refused) == {"/7"}
    assert refused["/7"].startswith("HTTP 400")
    assert {resource for _, resource in told(receiver)} == {
        f"/{number}" for number in range(20) if number != 7
    }


# ---- peers -------------------------------------------------------------------------------------------------------


async def test_dead_peer_delays_nobody_and_the_living_ones_delivery_counts() -> None:
    with Receiver() as living:
        async with telling(f"http://127.0.0.1:{free_port()}", living.url) as at_work:
            for number in range(5):
                at_work.notifier.add(notice(alert(f"/{number}")))
            await wait_until(lambda: len(at_work.done) == 5)

            assert all(refused == "" for _, refused in at_work.done)
            assert {post.path for post in living.posts} == {"/api/v2/alerts"}


async def test_every_peer_is_told() -> None:
    with Receiver() as first, Receiver() as second:
        async with telling(first.url, second.url) as at_work:
            at_work.notifier.add(notice(alert()))
            await wait_until(lambda: first.posts and second.posts)

            assert at_work.done == [(notice(alert()), "")]


async def test_peer_that_comes_back_learns_the_state_of_things_and_not_the_old_news() -> None:
    """It was away while an alert fired and resolved elsewhere: telling it the firing now would page somebody."""
    port = free_port()
    lasting = alert("/lasting")
    with Receiver() as living:
        async with telling(living.url, f"http://127.0.0.1:{port}") as at_work:
            at_work.notifier.add(notice(alert("/over")))
            at_work.notifier.add(notice(alert("/over"), "resolved"))
            at_work.notifier.add(notice(lasting))
            await wait_until(lambda: len(at_work.done) == 3)
            at_work.view = [Assertion(key=key(lasting), alert=lasting)]
            await wait_until(lambda: any(outcome == "failed" for _, outcome, _ in at_work.counted))
            with Receiver(port=port) as returned:
                await wait_until(lambda: returned.posts)

                assert resources(returned.posts) == [["/lasting"]]


async def test_notice_is_refused_only_when_every_peer_refuses_it() -> None:
    with Receiver() as first, Receiver() as second:
        first.answer = lambda path: 400
        async with telling(first.url, second.url) as at_work:
            at_work.notifier.add(notice(alert()))
            await wait_until(lambda: at_work.done)
            assert at_work.done == [(notice(alert()), "")]

        second.answer = lambda path: 400
        async with telling(first.url, second.url) as at_work:
            at_work.notifier.add(notice(alert()))
            await wait_until(lambda: at_work.done)
            assert at_work.done == [(notice(alert()), "HTTP 400")]


# ---- order and repetition ----------------------------------------------------------------------------------------


async def test_firing_and_resolve_of_one_alert_go_in_order_and_never_in_one_request(
    receiver: Receiver,
) -> None:
    async with telling(receiver.url) as at_work:
        at_work.notifier.add(notice(alert()))
        at_work.notifier.add(notice(alert(), "resolved", at=AT + 60))
        await wait_until(lambda: len(at_work.done) == 2)

    sent = [item for post in receiver.posts for item in post.json()]
    assert [len(post.json()) for post in receiver.posts] == [1, 1]
    assert [item["endsAt"] > item["startsAt"] for item in sent] == [True, True]
    assert sent[1]["endsAt"] == "2023-11-14T22:14:20.000Z"


async def test_refusing_receiver_gets_everything_in_the_end(receiver: Receiver) -> None:
    receiver.refuse_ratio, receiver.drop_ratio = 0.3, 0.1
    async with telling(receiver.url) as at_work:
        for number in range(10):
            at_work.notifier.add(notice(alert(f"/{number}")))
            at_work.notifier.add(notice(alert(f"/{number}"), "resolved", at=AT + 60))
        await wait_until(lambda: len(at_work.done) == 20, timeout=60)

    assert all(refused == "" for _, refused in at_work.done)


async def test_alert_that_a_peer_cannot_take_is_not_asserted_for_ever(receiver: Receiver) -> None:
    receiver.answer = lambda path: 400
    async with telling(receiver.url, resend=5.0) as at_work:
        at_work.view = [
            Assertion(key=key(alert(f"/{number}")), alert=alert(f"/{number}")) for number in range(4)
        ]
        # The whole, its halves, and the quarters: after these it knows all four.
        await wait_until(lambda: len(receiver.posts) == 7)
        receiver.answer = None
        at_work.notifier.add(notice(alert("/new")))
        await wait_until(lambda: at_work.done)
        at_work.view.append(Assertion(key=key(alert("/new")), alert=alert("/new")))
        await wait_until(lambda: len(receiver.posts) == 9)

    assert resources(receiver.posts[7:]) == [["/new"], ["/new"]]


# ---- the body ----------------------------------------------------------------------------------------------------


def body(*assertions: Assertion, url: str = "") -> Any:
    return json.loads(alertmanager_body(assertions, now=AT + 100, resend=60.0, external_url=url))


def test_firing_alert_is_asserted_for_four_periods_from_its_true_beginning() -> None:
    of = alert(pending_since=AT - 30, fired_at=AT)

    assert body(Assertion(key=key(of), alert=of), url="https://holdfast.example") == [
        {
            "labels": {
                "alertname": "VolumeAlmostFull",
                "severity": "page",
                "node": "db-1",
                "resource_kind": "volume",
                "resource": "/",
                "rule_id": "R-30",
            },
            "annotations": {"summary": "db-1: / is full"},
            "startsAt": "2023-11-14T22:13:20.000Z",
            "endsAt": "2023-11-14T22:19:00.000Z",
            "generatorURL": "https://holdfast.example",
        }
    ]


def test_resolve_never_ends_before_it_began() -> None:
    """An alert that fires and resolves in one instant would be refused."""
    (item,) = body(Assertion(key=key(alert()), alert=alert(), resolved_at=AT))

    assert (item["startsAt"], item["endsAt"]) == ("2023-11-14T22:13:20.000Z", "2023-11-14T22:13:20.001Z")


def test_watchdog_is_asserted_for_less_than_three_minutes() -> None:
    """Who watches for its end must hear of it within three minutes."""
    dog = alert(alertname="Watchdog")
    (item,) = body(Assertion(key=key(dog), alert=dog))

    assert item["endsAt"] == "2023-11-14T22:17:30.000Z"
