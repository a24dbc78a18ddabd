"""The MQTT session: nothing is acknowledged before we say so, nothing refused looks delivered, nothing stays down."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast_collector.errors import SessionLost
from holdfast_collector.ingest.mqtt import Delivery, Session, SessionOptions, Will
from tests.broker import Broker
from tests.collector.wire_broker import (
    CONNACK,
    CONNECT,
    PUBACK,
    PUBLISH,
    SUBACK,
    SUBSCRIBE,
    WireBroker,
    obliging,
    packet,
    publish,
    version_of,
)
from tests.ports import free_port
from tests.waiting import wait_until


class Line:
    """A session that runs, and what it said."""

    def __init__(self, brokers: list[str], **options: Any) -> None:
        self.deliveries: list[Delivery] = []
        self.changes: list[tuple[bool, str]] = []
        defaults: dict[str, Any] = {"client_id": "line", "backoff_seconds_max": 0.05}
        self.session = Session(
            SessionOptions(brokers=brokers, **(defaults | options)),
            delivered=self.deliveries.append,
            changed=lambda connected, detail: self.changes.append((connected, detail)),
        )

    @property
    def payloads(self) -> list[bytes]:
        return [delivery.payload for delivery in self.deliveries]

    def acknowledge_all(self) -> None:
        self.session.acknowledge([delivery.receipt for delivery in self.deliveries if delivery.receipt])


@contextlib.asynccontextmanager
async def running(brokers: list[str], *, connected: bool = True, **options: Any) -> AsyncIterator[Line]:
    line = Line(brokers, **options)
    task = asyncio.create_task(line.session.run())
    try:
        if connected:
            await wait_until(lambda: line.session.connected, what=lambda: f"a session; so far {line.changes}")
        yield line
    finally:
        line.session.stop()
        await task


def subscriber(broker: Broker, **options: Any) -> Any:
    defaults: dict[str, Any] = {"client_id": "ear", "filters": ["t/#"], "session_expiry_seconds": 600}
    return running([broker.url], **(defaults | options))


async def say(line: Line, *payloads: bytes) -> None:
    for payload in payloads:
        assert await line.session.publish("t/x", payload) in (0, 0x10)


# ---- acknowledgement ---------------------------------------------------------------------------------------------


@pytest.mark.system
async def test_broker_sends_no_more_than_the_receive_maximum_ahead_of_our_acknowledgements(
    broker: Broker,
) -> None:
    """PUBACK leaves when we say so and not before: else the sixth message would come by itself."""
    async with subscriber(broker, receive_maximum=5) as ear, running([broker.url]) as mouth:
        await say(mouth, *[b"%d" % number for number in range(12)])
        await wait_until(lambda: len(ear.deliveries) == 5)
        # Another round trip through the same broker: what it would still send ahead, it has sent by then.
        await say(mouth, b"12")

        assert ear.payloads == [b"0", b"1", b"2", b"3", b"4"]

        ear.acknowledge_all()
        # mosquitto 2.0.11 fills the window anew at the first PUBACK and again at the others: at least so many.
        await wait_until(lambda: len(ear.deliveries) >= 10)


@pytest.mark.system
async def test_unacknowledged_messages_come_again_and_acknowledged_ones_do_not(broker: Broker) -> None:
    """A collector that dies between receiving and committing loses nothing."""
    async with subscriber(broker) as ear, running([broker.url]) as mouth:
        await say(mouth, b"committed", b"lost in the crash")
        await wait_until(lambda: len(ear.deliveries) == 2)
        ear.session.acknowledge([ear.deliveries[0].receipt])
    async with subscriber(broker) as successor, running([broker.url]) as mouth:
        await say(mouth, b"new")
        await wait_until(lambda: len(successor.deliveries) == 2)

        assert successor.payloads == [b"lost in the crash", b"new"]


async def test_receipt_of_an_earlier_connection_acknowledges_nothing() -> None:
    """After a reconnect the broker may have given the same number to another message."""
    async with WireBroker(obliging) as broker, running([broker.url], filters=["t/#"]) as line:
        broker.send(publish(b"t/x", b"old", 7))
        await wait_until(lambda: line.deliveries)
        broker.cut()
        await wait_until(lambda: len(broker.of_kind(SUBSCRIBE)) == 2 and line.session.connected)
        broker.send(publish(b"t/x", b"new", 7))
        await wait_until(lambda: len(line.deliveries) == 2)

        old, new = (delivery.receipt for delivery in line.deliveries)
        assert old is not None
        assert new is not None
        line.session.acknowledge([old])
        line.session.acknowledge([new])
        await wait_until(lambda: broker.of_kind(PUBACK))
        assert broker.of_kind(PUBACK) == [(2, struct.pack("!H", 7))]


async def test_messages_that_come_before_the_subscription_is_confirmed_can_be_acknowledged() -> None:
    """A resumed session delivers at once. Without their PUBACK the broker's window would be smaller for ever."""

    def eager(connection: int, header: int, body: bytes) -> bytes | None:
        answer = obliging(connection, header, body)
        return (answer or b"") + publish(b"t/x", b"early", 1) if header == CONNECT else answer

    async with WireBroker(eager) as broker, running([broker.url], filters=["t/#"]) as line:
        await wait_until(lambda: line.deliveries)
        line.acknowledge_all()

        await wait_until(lambda: broker.of_kind(PUBACK))
        assert broker.of_kind(PUBACK) == [(1, struct.pack("!H", 1))]


@pytest.mark.parametrize(
    ("properties", "payload"),
    [
        (b"\0", b"plain"),
        (b"\x05\x02\0\0\0\x3c", b"with an expiry"),
        # 0x26: user property, two strings; together longer than one length byte can say.
        (b"\xcb\x01\x26" + struct.pack("!H", 100) + b"k" * 100 + struct.pack("!H", 98) + b"v" * 98, b"long"),
    ],
)
async def test_payload_is_found_behind_properties_of_any_length(properties: bytes, payload: bytes) -> None:
    async with WireBroker(obliging) as broker, running([broker.url], filters=["t/#"]) as line:
        broker.send(publish(b"t/x", payload, 9, properties))
        await wait_until(lambda: line.deliveries)

        (delivery,) = line.deliveries
        assert (delivery.topic, delivery.payload, delivery.retained) == (b"t/x", payload, False)


async def test_publish_that_ends_too_early_ends_the_connection() -> None:
    """What follows a broken packet cannot be trusted; a new connection begins at a known place."""
    async with WireBroker(obliging) as broker, running([broker.url], filters=["t/#"]) as line:
        broker.send(packet(PUBLISH | 0x02, b"\0\x03t/x\0"))
        await wait_until(lambda: len(broker.of_kind(CONNECT)) == 2 and line.session.connected)

        assert [detail for connected, detail in line.changes if not connected] == [
            f"{broker.url}: the broker sent a PUBLISH that ends too early"
        ]


# ---- publishing --------------------------------------------------------------------------------------------------


@pytest.mark.system
async def test_publishes_beyond_the_brokers_window_wait_for_their_turn(broker: Broker) -> None:
    """mosquitto takes 20 at a time by default; gmqtt raises on the twenty-first."""
    async with subscriber(broker) as ear, running([broker.url]) as mouth:
        codes = await asyncio.gather(*[mouth.session.publish("t/x", b"%d" % number) for number in range(300)])
        await wait_until(lambda: len(ear.deliveries) == 300)

        assert (set(codes), ear.payloads) == ({0}, [b"%d" % number for number in range(300)])


async def test_refused_publish_is_told_from_a_delivered_one() -> None:
    """MQTT 5 refuses with a PUBACK, too: gmqtt, aiomqtt and others take it for success."""

    def strict(connection: int, header: int, body: bytes) -> bytes | None:
        if header & 0xF0 == PUBLISH:
            return packet(PUBACK, body[5:7] + b"\x87\0")
        return obliging(connection, header, body)

    async with WireBroker(strict) as broker, running([broker.url]) as line:
        assert await line.session.publish("t/x", b"payload") == 0x87


async def test_publish_without_an_answer_is_lost_when_the_session_ends() -> None:
    def mute(connection: int, header: int, body: bytes) -> bytes | None:
        return None if header & 0xF0 == PUBLISH else obliging(connection, header, body)

    async with WireBroker(mute) as broker, running([broker.url]) as line:
        with pytest.raises(SessionLost):
            await line.session.publish("t/x", b"payload")


async def test_publish_while_not_connected_is_lost_at_once() -> None:
    async with running([f"mqtt://127.0.0.1:{free_port()}"], connected=False) as line:
        with pytest.raises(SessionLost, match="not connected"):
            await line.session.publish("t/x", b"payload")


# ---- connections -------------------------------------------------------------------------------------------------


@pytest.mark.system
async def test_session_comes_back_after_the_broker_was_killed(broker: Broker) -> None:
    async with subscriber(broker) as ear, running([broker.url]) as mouth:
        broker.restart()
        await wait_until(lambda: len(ear.changes) >= 3 and ear.session.connected and mouth.session.connected)
        await say(mouth, b"after")
        await wait_until(lambda: ear.deliveries)

        assert ear.payloads == [b"after"]
        assert [connected for connected, _ in ear.changes][:2] == [True, False]


@pytest.mark.system
async def test_next_broker_of_the_list_is_tried_when_one_is_away(broker: Broker) -> None:
    dead = f"mqtt://127.0.0.1:{free_port()}"
    async with running([dead, broker.url]) as line:
        assert line.changes[-1] == (True, f"{broker.url}, MQTT 5.0")
        assert all(detail.startswith(dead) for _, detail in line.changes[:-1])


def old_broker(refusal: bytes | None) -> Callable[[int, int, bytes], bytes | None]:
    """Speaks 3.1.1 only, and says so to MQTT 5 with `refusal`, or by hanging up."""

    def answer(connection: int, header: int, body: bytes) -> bytes | None:
        match header & 0xF0:
            case 0x10:
                return packet(CONNACK, b"\0\0") if version_of(body) == 4 else refusal
            case 0x80:
                return packet(SUBACK, body[:2] + b"\1")
            case 0xE0:
                return None
            case _:
                return b""

    return answer


@pytest.mark.parametrize("refusal", [packet(CONNACK, b"\0\x01"), packet(CONNACK, b"\0\x84\0"), None])
async def test_broker_without_mqtt_5_is_spoken_to_in_3_1_1(refusal: bytes | None) -> None:
    async with WireBroker(old_broker(refusal)) as broker, running([broker.url], filters=["t/#"]) as line:
        broker.send(publish(b"t/x", b"payload", 3, properties=b""))
        await wait_until(lambda: line.deliveries)
        line.acknowledge_all()
        await wait_until(lambda: broker.of_kind(PUBACK))

        assert (line.session.protocol, line.payloads) == ("3.1.1", [b"payload"])
        # The bits of the subscription beyond QoS must be zero in 3.1.1.
        assert [body[-1] for _, body in broker.of_kind(SUBSCRIBE)] == [1]


async def test_refused_subscription_is_no_session() -> None:
    """A collector that hears nothing must not believe it is connected."""

    def deaf(connection: int, header: int, body: bytes) -> bytes | None:
        if header & 0xF0 == SUBSCRIBE:
            return packet(SUBACK, body[:2] + b"\0\x87")
        return obliging(connection, header, body)

    async with WireBroker(deaf) as broker, running([broker.url], connected=False, filters=["t/#"]) as line:
        await wait_until(lambda: len(line.changes) >= 2)

        assert set(line.changes) == {(False, f"{broker.url}: the broker refused the subscription: code 135")}


async def test_refused_credentials_are_named() -> None:
    def strict(connection: int, header: int, body: bytes) -> bytes | None:
        return packet(CONNACK, b"\0\x86\0")

    async with WireBroker(strict) as broker, running([broker.url], connected=False) as line:
        await wait_until(lambda: line.changes)

        assert line.changes[0] == (
            False,
            f"{broker.url}: code 134 (Connection Refused: Bad User Name or Password)",
        )


@pytest.mark.system
async def test_will_is_sent_when_the_session_dies_and_not_when_it_says_goodbye(broker: Broker) -> None:
    async with subscriber(broker) as ear:
        async with running([broker.url], client_id="polite", will=Will(topic="t/will", payload=b"polite")):
            pass
        async with running([broker.url], client_id="cut", will=Will(topic="t/will", payload=b"cut")) as cut:
            assert cut.session._link is not None
            cut.session._link._client._connection._transport.abort()
            await wait_until(lambda: ear.deliveries)

        assert ear.payloads == [b"cut"]


@pytest.mark.system
async def test_retained_message_is_marked_when_an_old_broker_sends_it(broker: Broker) -> None:
    """In MQTT 5 we ask for none; this is the broker's copy of unknown age, told by its flag."""
    async with (
        WireBroker(obliging) as broker_of_bytes,
        running([broker_of_bytes.url], filters=["t/#"]) as line,
    ):
        broker_of_bytes.send(publish(b"t/x", b"stale", 4, header=0x33))
        await wait_until(lambda: line.deliveries)

        assert line.deliveries[0].retained


@pytest.mark.system
async def test_session_speaks_tls_and_refuses_a_stranger(tmp_path: Path) -> None:
    import ssl

    import trustme

    ours, theirs = trustme.CA(), trustme.CA()
    certificate = ours.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    listener = [
        "listener {port} 127.0.0.1",
        "allow_anonymous true",
        f"certfile {tmp_path}/cert.pem",
        f"keyfile {tmp_path}/key.pem",
    ]
    broker = Broker(tmp_path / "broker", listener=listener)
    broker.start()
    trusting, wary = ssl.create_default_context(), ssl.create_default_context()
    ours.configure_trust(trusting)
    theirs.configure_trust(wary)
    url = f"mqtts://127.0.0.1:{broker.port}"
    try:
        async with running([url], tls=trusting) as line:
            assert await line.session.publish("t/x", b"secret") in (0, 0x10)
        async with running([url], tls=wary, connected=False) as line:
            await wait_until(lambda: line.changes)
            assert "CERTIFICATE_VERIFY_FAILED" in line.changes[0][1]
    finally:
        broker.stop()
