"""The collector under kill -9 at every boundary it has, and on a disk that fills up: nothing lost, nothing twice."""

import errno
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_wire import Event, UpMessage
from tests import needs
from tests.broker import Broker
from tests.collector.crashing import BOUNDARIES, VARIABLE
from tests.collector.running import CollectorProcess, hand
from tests.receiver import Receiver
from tests.waiting import wait_for, wait_until

pytestmark = pytest.mark.system

WEBHOOK = '[[receiver]]\nname = "hook"\nkind = "webhook"\nurl = "{url}"\n'


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("crossing", [1, 3])
async def test_kill_9_at_any_boundary_costs_nothing_and_repeats_nothing(
    tmp_path: Path, broker: Broker, receiver: Receiver, boundary: str, crossing: int
) -> None:
    """One event, one episode, one notice by its id; the agent's message is kept before it may forget it."""
    collector = CollectorProcess(tmp_path / "c", broker.url, receivers=WEBHOOK.format(url=receiver.url))
    collector.start(module=["tests.collector.crashing"], environment={VARIABLE: f"{boundary}:{crossing}"})
    try:
        async with hand(broker.url) as agent:
            messages: list[UpMessage] = [agent.birth(), agent.event("a.service"), agent.event("b.service")]
            # Some boundaries are crossed less often than that; then it lives, and dies at a moment of ours.
            await wait_until(lambda: agent.urge(messages) or collector.dead)
            acknowledged = list(agent.acknowledged)
            collector.end(signal.SIGKILL)
            kept = {(row.epoch, row.seq, row.digest) for row in collector.stored().seen}
            assert {(one.epoch, one.seq, one.digest) for one in acknowledged} <= kept, (
                "acknowledged and not kept"
            )

            collector.start()
            await agent.deliver(*messages)
            await wait_until(lambda: len({post.json()["id"] for post in receiver.taken}) >= 2)
            await wait_until(lambda: not collector.stored().notices)
            state = collector.stored()
    finally:
        collector.end(signal.SIGKILL)

    assert sorted(row.resource for row in state.recent) == ["a.service", "b.service"]
    assert sorted(count.total for count in state.counts) == [1, 1]
    assert sorted(row.alert.resource for row in state.alerts) == ["a.service", "b.service"]
    assert {post.json()["id"] for post in receiver.taken} == {
        f"{row.key}:firing:hook" for row in state.alerts
    }


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 2 MiB of our own."""
    needs.root()
    folder = tmp_path / "small"
    folder.mkdir()
    mount = [needs.tool("mount", package="mount"), "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, check=False)
    needs.condition(done.returncode == 0, f"cannot mount a tmpfs here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(512))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


async def test_full_disk_stops_acknowledgements_and_readiness_until_there_is_room(
    tmp_path: Path, broker: Broker, receiver: Receiver, small_disk: Path
) -> None:
    collector = CollectorProcess(
        tmp_path / "c", broker.url, receivers=WEBHOOK.format(url=receiver.url), data_dir=small_disk / "data"
    )
    collector.start()
    try:
        async with hand(broker.url) as agent:
            await agent.deliver(agent.birth())
            fill(small_disk / "ballast")
            sent: list[Event] = []
            while collector.ask("/readyz")[0] != 503:
                # SQLite writes into room it has already; sooner or later it needs more.
                sent.append(agent.event(f"s{len(sent)}.service", summary="x" * 3000))
                agent.send(sent[-1])
                await wait_until(lambda: agent.has_ack(sent[-1]) or collector.ask("/readyz")[0] == 503)
            assert "the store does not commit: FullError" in collector.ask("/readyz")[1]
            assert collector.ask("/metrics")[0] == 200
            assert not agent.has_ack(sent[-1])

            (small_disk / "ballast").unlink()
            collector.wait_ready()
            await agent.deliver(*sent)
            wait_for(lambda: len(receiver.taken) == len(sent))
    finally:
        collector.end(signal.SIGKILL)

    assert {post.json()["resource"] for post in receiver.taken} == {message.resource for message in sent}
    assert len(collector.log("commit failed")) == 1
    assert len(collector.log("store commits again")) == 1
