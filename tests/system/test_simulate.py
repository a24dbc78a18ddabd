"""`holdfast simulate` against a real broker: what it claims to have sent arrived, and what it must not lose it keeps."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from holdfast_collector.ingest.mqtt import Delivery, Session, SessionOptions
from holdfast_wire import (
    Ack,
    Acknowledgement,
    Birth,
    Death,
    Event,
    Refusal,
    Report,
    UpMessage,
    content_digest,
    decode_up,
    encode,
)
from holdfast_wire.topic import UP_FILTER, down_topic, parse_up
from tests.broker import Broker
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.system

SIMULATE = [sys.executable, "-m", "holdfast", "simulate"]


class Listener:
    """The least collector there can be: takes everything, acknowledges what is durable, when it is told to."""

    def __init__(self, url: str) -> None:
        self.messages: list[UpMessage] = []
        self.refusals: list[Refusal] = []
        self.acknowledging = True
        self.session = Session(
            SessionOptions(brokers=[url], client_id="listener", filters=[UP_FILTER]), delivered=self._deliver
        )

    def count(self, kind: type[UpMessage]) -> int:
        return sum(isinstance(message, kind) for message in self.messages)

    def _deliver(self, delivery: Delivery) -> None:
        node = parse_up(delivery.topic.decode())
        assert node is not None
        message = decode_up(node, delivery.payload)
        if isinstance(message, Refusal):
            self.refusals.append(message)
        else:
            self.messages.append(message)
            if isinstance(message, Birth | Event) and self.acknowledging:
                held = Acknowledgement(message.epoch, message.seq, content_digest(delivery.payload))
                self.session.publish(
                    down_topic(node), encode(Ack(install_id=message.install_id, messages=[held]))
                )
        if delivery.receipt is not None:
            self.session.acknowledge([delivery.receipt])


@asynccontextmanager
async def listening(broker: Broker) -> AsyncIterator[Listener]:
    listener = Listener(broker.url)
    running = asyncio.ensure_future(listener.session.run())
    try:
        await wait_until(lambda: listener.session.connected, what="the listener's session")
        yield listener
    finally:
        listener.session.stop()
        await running


async def simulate(*words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *SIMULATE, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, Any, str]:
    """(exit code, figures, complaints)"""
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, json.loads(out), err.decode()


async def test_what_it_counts_is_what_arrived(broker: Broker) -> None:
    """Figures for sizing must not flatter: sent, taken and acknowledged agree with what the other side saw."""
    async with listening(broker) as listener:
        process = await simulate(
            "--broker", broker.url, "--nodes", "20", "--interval", "0.2s", "--for", "3s",
            "--events", "600", "--facts", "34", "--json",
        )  # fmt: skip
        code, figures, complaints = await ended(process)
        await wait_until(lambda: listener.count(Death) == 20, what="every node's goodbye")

    by_node = Counter(message.node for message in listener.messages if isinstance(message, Report))
    assert (code, complaints, listener.refusals) == (0, "", [])
    assert len(by_node) == 20
    assert min(by_node.values()) > 1
    assert listener.count(Report) == figures["reports"] == figures["reports_taken"]
    assert listener.count(Birth) == 20
    assert listener.count(Birth) + listener.count(Event) == figures["durable"]
    assert (figures["durable_acknowledged"], figures["waiting"]) == (figures["durable"], 0)
    assert listener.count(Event) > 0
    assert figures["seconds"] >= 3.0
    assert 0.0 < figures["reports_taken_per_second"] <= figures["reports_taken"] / figures["seconds"]


async def test_durable_messages_outlive_the_broker(broker: Broker) -> None:
    """The broker forgets everything; births that nobody acknowledged come again over the next connection."""
    async with listening(broker) as listener:
        listener.acknowledging = False
        process = await simulate("--broker", broker.url, "--nodes", "5", "--interval", "0.2s", "--json")
        await wait_until(lambda: listener.count(Birth) == 5, what="five births")
        listener.acknowledging = True
        broker.restart()
        await wait_until(lambda: listener.count(Birth) >= 10, what="the five births again")
        connections = {message.connection for message in listener.messages if isinstance(message, Report)}
        process.send_signal(signal.SIGTERM)
        code, figures, complaints = await ended(process)

    births = Counter(message.node for message in listener.messages if isinstance(message, Birth))
    assert (code, complaints) == (0, "")
    assert len(births) == 5
    assert (figures["durable"], figures["durable_acknowledged"]) == (5, 5)
    assert figures["connections_lost"] >= 5
    assert max(connections) > 1


async def test_the_broker_tells_of_a_killed_fleet(broker: Broker) -> None:
    """Each connection has a will of its own, as each agent has."""
    async with listening(broker) as listener:
        process = await simulate("--broker", broker.url, "--nodes", "8", "--interval", "0.2s")
        await wait_until(
            lambda: len({m.node for m in listener.messages if isinstance(m, Report)}) == 8, what="all nodes"
        )
        process.kill()
        await process.wait()
        await wait_until(lambda: listener.count(Death) == 8, what="the wills")

    wills = [message for message in listener.messages if isinstance(message, Death)]
    assert {(will.reason.value, will.connection) for will in wills} == {("lost", 1)}


async def test_messages_that_no_collector_acknowledges_are_bad_news(broker: Broker) -> None:
    process = await simulate(
        "--broker", broker.url, "--nodes", "3", "--interval", "1s", "--for", "2s", "--json"
    )
    code, figures, complaints = await ended(process)

    assert (code, figures["waiting"]) == (1, 3)
    assert "3 not acknowledged by a collector" in complaints


async def test_no_broker_is_bad_news_and_named() -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    process = await simulate("--broker", url, "--nodes", "2", "--interval", "1s", "--for", "1s", "--json")
    code, figures, complaints = await ended(process)

    assert (code, figures["reports"]) == (1, 0)
    assert url in complaints


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--broker", "localhost"], "is no broker"),
        (["--interval", "never"], "is no duration"),
        (["--prefix", "Not_Valid"], "cannot begin a node's name"),
        (["--nodes", "0"], "--nodes"),
    ],
)
def test_a_wrong_option_is_the_users_mistake(words: list[str], said: str) -> None:
    done = subprocess.run(
        [*SIMULATE, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"COLUMNS": "200"},
    )

    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
