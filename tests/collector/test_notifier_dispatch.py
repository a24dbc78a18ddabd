"""All receivers together: each gets its own notices, and the Watchdog is asserted by a collector that works, only."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast_collector.config import ReceiverConfig
from holdfast_collector.core.record import State
from holdfast_collector.errors import ConfigInvalid
from holdfast_collector.notifiers.dispatch import Dispatch
from tests.collector.fleet import Desk
from tests.collector.records import AT, alert, notice, resolved, tracked
from tests.ports import free_port
from tests.receiver import Receiver as HttpReceiver
from tests.waiting import wait_until

FULL = alert("/full")
QUIET = alert("/inhibited", episode=2)
INFO = alert("/info", episode=3, severity="info")
DOG = alert("collector", episode=4, alertname="Watchdog")
OVER, LONG_OVER, UNTOLD = (
    alert(name, episode=number) for number, name in enumerate(("/over", "/old", "/untold"), 5)
)

STATE = State(
    alerts=[tracked(FULL), tracked(QUIET, notified=False), tracked(INFO), tracked(DOG)],
    resolved=[
        resolved(OVER, at=AT),
        resolved(LONG_OVER, at=AT - 3600),
        resolved(UNTOLD, at=AT, notified=False),
    ],
)


class AtWork:
    """A dispatch, and what came of its notices."""

    def __init__(self) -> None:
        self.works = True
        self.done: list[tuple[str, str]] = []
        self.dispatch = Dispatch(
            Desk(state=STATE, started_at=AT).collector,
            works=lambda: self.works,
            done=lambda one, refused: self.done.append((one.id, refused)),
            counted=lambda receiver, outcome, age: None,
            now=lambda: AT + 60.0,
        )


@contextlib.asynccontextmanager
async def at_work(*receivers: ReceiverConfig) -> AsyncIterator[AtWork]:
    made = AtWork()
    made.dispatch.replace(receivers, "")
    task = asyncio.create_task(made.dispatch.run())
    try:
        yield made
        assert not task.done(), "the dispatch ended by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def hook(url: str, name: str = "hook") -> ReceiverConfig:
    return ReceiverConfig(name=name, kind="webhook", url=url)


def asserted(receiver: HttpReceiver) -> list[list[str]]:
    """The resources in each POST of an Alertmanager's notifier."""
    return [sorted(item["labels"]["resource"] for item in post.json()) for post in receiver.posts]


async def test_each_receiver_gets_its_own_notices(receiver: HttpReceiver) -> None:
    with HttpReceiver() as other:
        async with at_work(hook(receiver.url), hook(other.url, "pager")) as desk:
            for one in (notice(FULL), notice(FULL, receiver="pager"), notice(INFO)):
                desk.dispatch.dispatch(one)
            await wait_until(lambda: len(desk.done) == 3)

        assert sorted(post.json()["id"] for post in receiver.posts) == sorted(
            [notice(FULL).id, notice(INFO).id]
        )
        assert [post.json()["id"] for post in other.posts] == [notice(FULL, receiver="pager").id]


async def test_alertmanager_believes_what_fires_and_was_announced_and_what_resolved_lately(
    receiver: HttpReceiver,
) -> None:
    """Neither what an inhibition keeps quiet, nor the end of something nobody heard of."""
    manager = ReceiverConfig(name="am", kind="alertmanager", urls=(receiver.url,), severities=("page",))
    async with at_work(manager):
        await wait_until(lambda: receiver.posts)

    assert asserted(receiver) == [["/full", "/over", "collector"]]


async def test_watchdog_ends_when_the_collector_does_not_do_its_whole_work(receiver: HttpReceiver) -> None:
    manager = ReceiverConfig(name="am", kind="alertmanager", urls=(receiver.url,), resolved=False, resend=5.0)
    async with at_work(manager) as desk:
        await wait_until(lambda: receiver.posts)
        desk.works = False
        await wait_until(lambda: len(receiver.posts) == 2)

    assert asserted(receiver) == [["/full", "/info", "collector"], ["/full", "/info"]]


async def test_notice_without_a_receiver_is_given_up_at_once() -> None:
    async with at_work() as desk:
        desk.dispatch.dispatch(notice(FULL))

    assert desk.done == [(notice(FULL).id, "no receiver of this name is configured any more")]


async def test_new_address_of_a_receiver_gets_what_the_old_one_never_took(receiver: HttpReceiver) -> None:
    async with at_work(hook(f"http://127.0.0.1:{free_port()}")) as desk:
        desk.dispatch.dispatch(notice(FULL))
        desk.dispatch.replace([hook(receiver.url)], "")
        await wait_until(lambda: desk.done)

    assert desk.done == [(notice(FULL).id, "")]
    assert [post.json()["id"] for post in receiver.posts] == [notice(FULL).id]


async def test_receivers_whose_secret_is_gone_change_nothing(tmp_path: Path, receiver: HttpReceiver) -> None:
    async with at_work(hook(receiver.url)) as desk:
        broken = ReceiverConfig(
            name="hook", kind="webhook", url="http://127.0.0.1:1", secret_file=str(tmp_path / "gone")
        )
        with pytest.raises(ConfigInvalid, match="No such file"):
            desk.dispatch.replace([broken], "")
        desk.dispatch.dispatch(notice(FULL))
        await wait_until(lambda: desk.done)

    assert desk.done == [(notice(FULL).id, "")]
