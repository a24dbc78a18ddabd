"""The source: what came takes effect first, and is acknowledged then; what is none of ours disturbs nothing."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Sequence

import pytest

from holdfast_collector.core.event import Received
from holdfast_collector.ingest.mqtt import SessionOptions
from holdfast_collector.ingest.source import Source
from holdfast_wire.topic import UP_FILTER
from tests.collector.wire_broker import PUBACK, PUBLISH, WireBroker, obliging, packet, publish
from tests.waiting import wait_until

AT = 1_700_000_000.0


class Gate:
    """An intake that takes its time: batches wait until it is opened."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.batches: list[list[Received]] = []
        self.opening = asyncio.Event()

    async def opened(self, partition: str) -> None:
        self.calls.append(f"opened {partition}")

    async def batch(self, partition: str, messages: Sequence[Received]) -> None:
        self.batches.append(list(messages))
        await self.opening.wait()

    async def closed(self, partition: str) -> None:
        self.calls.append(f"closed {partition}")


class Listening:
    """A source at work, with what it said."""

    def __init__(self, url: str) -> None:
        self.gate = Gate()
        self.refused: list[tuple[str, str, bytes]] = []
        self.published: list[str] = []
        self.source = Source(
            SessionOptions(brokers=[url], client_id="c", filters=(UP_FILTER,), backoff_seconds_max=0.05),
            self.gate,
            now=lambda: AT,
            changed=lambda connected, detail: None,
            refused=lambda *what: self.refused.append(what),
            published=self.published.append,
        )


@contextlib.asynccontextmanager
async def listening(broker: WireBroker) -> AsyncIterator[Listening]:
    made = Listening(broker.url)
    task = asyncio.create_task(made.source.run())
    await wait_until(lambda: made.source.connected)
    try:
        yield made
    finally:
        made.source.stop()
        await task


def acknowledged(broker: WireBroker) -> list[int]:
    """Packet ids the source acknowledged, in order."""
    return [struct.unpack("!H", body[:2])[0] for _, body in broker.of_kind(PUBACK)]


async def test_nothing_is_acknowledged_before_the_batch_took_effect() -> None:
    async with WireBroker(obliging) as broker, listening(broker) as listener:
        broker.send(publish(b"holdfast/v1/db-1/up", b"first", 1))
        await wait_until(lambda: listener.gate.batches)
        broker.send(
            publish(b"holdfast/v1/db-1/up", b"second", 2) + publish(b"holdfast/v1/web-1/up", b"third", 3)
        )
        # A full round trip after them: the source has read all three.
        listener.source.publish("db-1", b"ping")
        await wait_until(lambda: listener.published)

        assert acknowledged(broker) == []

        listener.gate.opening.set()
        await wait_until(lambda: len(acknowledged(broker)) == 3)
        assert acknowledged(broker) == [1, 2, 3]
        assert listener.gate.batches == [
            [Received(AT, "db-1", b"first")],
            [Received(AT, "db-1", b"second"), Received(AT, "web-1", b"third")],
        ]


@pytest.mark.parametrize(
    ("topic", "header", "reason"),
    [
        (b"holdfast/v1/db-1/down", 0x32, "foreign_topic"),
        (b"holdfast/v1/DB-1/up", 0x32, "foreign_topic"),
        (b"holdfast/v1/db-1/up/up", 0x32, "foreign_topic"),
        (b"holdfast/v1/\xff\xfe/up", 0x32, "foreign_topic"),
        (b"holdfast/v1/db-1/up", 0x33, "retained"),
    ],
)
async def test_messages_that_are_none_of_ours_are_refused_and_still_acknowledged(
    topic: bytes, header: int, reason: str
) -> None:
    """Unacknowledged they would hold the broker's window for ever."""
    async with WireBroker(obliging) as broker, listening(broker) as listener:
        listener.gate.opening.set()
        broker.send(
            publish(topic, b"payload", 8, header=header) + publish(b"holdfast/v1/db-1/up", b"ours", 9)
        )
        await wait_until(lambda: acknowledged(broker) == [8, 9])

        assert [(why, payload) for why, _, payload in listener.refused] == [(reason, b"payload")]
        assert listener.gate.batches == [[Received(AT, "db-1", b"ours")]]


async def test_message_with_qos_0_takes_effect_without_acknowledgement() -> None:
    async with WireBroker(obliging) as broker, listening(broker) as listener:
        listener.gate.opening.set()
        broker.send(publish(b"holdfast/v1/db-1/up", b"cheap", 0, header=0x30))
        await wait_until(lambda: listener.gate.batches)

        assert (listener.gate.batches, acknowledged(broker)) == ([[Received(AT, "db-1", b"cheap")]], [])


async def test_publishes_are_counted_by_how_they_ended() -> None:
    def answer(connection: int, header: int, body: bytes) -> bytes | None:
        if header & 0xF0 == PUBLISH and body.endswith(b"refuse"):
            length = struct.unpack("!H", body[:2])[0]
            return packet(PUBACK, body[2 + length : 4 + length] + b"\x87\0")
        return None if body.endswith(b"cut") else obliging(connection, header, body)

    async with WireBroker(answer) as broker, listening(broker) as listener:
        for payload in (b"take", b"refuse", b"cut"):
            listener.source.publish("db-1", payload)
            await wait_until(lambda: len(listener.published) == len(broker.of_kind(PUBLISH)) > 0)

        await wait_until(lambda: len(listener.published) == 3)
        assert listener.published == ["sent", "refused", "lost"]


async def test_partition_is_opened_before_the_first_batch_and_closed_after_the_last() -> None:
    async with WireBroker(obliging) as broker:
        async with listening(broker) as listener:
            assert listener.gate.calls == ["opened main"]

        assert listener.gate.calls == ["opened main", "closed main"]


async def test_failure_of_the_intake_ends_the_source() -> None:
    """Fenced or corrupt: who cannot commit must not go on listening as if nothing had happened."""

    class Broken(Gate):
        async def batch(self, partition: str, messages: Sequence[Received]) -> None:
            raise RuntimeError("no store")

    async with WireBroker(obliging) as broker:
        made = Listening(broker.url)
        made.source._intake = Broken()
        task = asyncio.create_task(made.source.run())
        await wait_until(lambda: made.source.connected)
        broker.send(publish(b"holdfast/v1/db-1/up", b"x", 1))

        with pytest.raises(RuntimeError, match="no store"):
            await task
