"""The link, against real brokers: what is refused is seen, what is lost is said, and it always comes back."""

import asyncio
import contextlib
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from holdfast_agent.broker import BrokerAddress, LinkOptions, tls_context
from holdfast_agent.link import Link
from holdfast_agent.link_user import LinkStanding
from holdfast_wire.topic import down_topic, up_topic
from tests.agent.peer import Peer
from tests.broker import Broker
from tests.ports import free_port
from tests.waiting import wait_until


class User:
    """Notes what the link tells."""

    def __init__(self) -> None:
        self.number = 0
        self.standings: list[LinkStanding] = []
        self.failures: list[str] = []
        self.endings: list[tuple[int, str]] = []
        self.takeovers: list[int] = []
        self.answers: list[tuple[int, int, str]] = []
        self.payloads: list[bytes] = []
        self.link: Link

    def connecting(self) -> tuple[int, bytes]:
        self.number += 1
        return self.number, f"will {self.number}".encode()

    def connected(self, number: int, standing: LinkStanding) -> None:
        self.standings.append(standing)

    def connect_failed(self, broker: BrokerAddress, reason: str, pause_seconds: float) -> None:
        self.failures.append(reason)

    def disconnected(self, number: int, reason: str) -> None:
        self.endings.append((number, reason))

    def taken_over(self, number: int) -> None:
        self.takeovers.append(number)

    def answered(self, number: int, token: int, refusal: str) -> None:
        self.answers.append((number, token, refusal))

    def received(self, payload: bytes) -> None:
        self.payloads.append(payload)


def options(*ports: int, tls: bool = False, **more: Any) -> LinkOptions:
    return LinkOptions(
        brokers=tuple(BrokerAddress("127.0.0.1", port, tls) for port in ports),
        client_id="n",
        up_topic=up_topic("n"),
        down_topic=down_topic("n"),
        **{"will_delay_seconds": 0.0, **more},
    )


@contextlib.asynccontextmanager
async def linked(chosen: LinkOptions, *, connects: bool = True) -> AsyncIterator[User]:
    """A running link that tries again at once; ends without a goodbye."""
    user = User()
    user.link = Link(chosen, user, entropy=lambda: 0.0)
    running = asyncio.create_task(user.link.run())
    try:
        if connects:
            await wait_until(lambda: user.standings or running.done(), what=lambda: f"{user.failures}")
        yield user
    finally:
        running.cancel()
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()


def payloads(peer: Peer) -> list[bytes]:
    return [payload for _, payload in peer.messages]


# What the broker answers


async def test_publish_is_taken_and_answered_with_its_token(broker: Broker) -> None:
    async with linked(options(broker.port)) as user:
        with Peer(broker.port) as peer:
            user.link.publish(user.number, b"hello", 7)
            await wait_until(lambda: payloads(peer) == [b"hello"] and user.answers)

        assert (user.answers, user.standings[0].protocol) == ([(1, 7, "")], "5")


async def test_refused_publish_is_seen_and_counted(tmp_path: Path) -> None:
    """aiomqtt's own publish reports success for it."""
    acl = tmp_path / "acl"
    acl.write_text("topic read holdfast/v1/n/down\n")
    refusing = Broker(tmp_path / "broker", lines=[f"acl_file {acl}"]).start()
    try:
        async with linked(options(refusing.port)) as user:
            user.link.publish(user.number, b"hello", 7)
            await wait_until(lambda: user.answers)

            assert user.answers == [(1, 7, "Not authorized")]
            assert (user.link.counts.refused_total, user.link.counts.published_total) == (1, 1)
    finally:
        refusing.stop()


async def test_publish_on_an_earlier_connection_goes_nowhere(broker: Broker) -> None:
    async with linked(options(broker.port)) as user:
        with Peer(broker.port) as peer:
            user.link.publish(user.number - 1, b"old", 1)
            user.link.publish(user.number, b"new", 2)
            await wait_until(lambda: payloads(peer))

            assert payloads(peer) == [b"new"]


async def test_hundreds_of_publishes_at_once_arrive_in_order(broker: Broker) -> None:
    """More than the broker lets be under way: the rest waits below, none is dropped."""
    async with linked(options(broker.port)) as user:
        with Peer(broker.port) as peer:
            for token in range(500):
                user.link.publish(user.number, b"%d" % token, token)
            await wait_until(lambda: len(user.answers) == 500 and len(peer.messages) == 500)

            assert payloads(peer) == [b"%d" % token for token in range(500)]


async def test_collectors_messages_arrive(broker: Broker) -> None:
    async with linked(options(broker.port)) as user:
        with Peer(broker.port) as peer:
            peer.publish(down_topic("n"), b"ack")
            peer.publish(down_topic("other"), b"not ours")
            await wait_until(lambda: user.payloads)

            assert user.payloads == [b"ack"]


async def test_broker_that_limits_packets_is_heard(tmp_path: Path) -> None:
    limiting = Broker(tmp_path / "broker", lines=["max_packet_size 65536"]).start()
    try:
        async with linked(options(limiting.port)) as user:
            assert user.standings[0].payload_bytes_max == 65536 - 256
    finally:
        limiting.stop()


# Births and deaths


async def test_goodbye_is_taken_and_no_will_follows(broker: Broker) -> None:
    async with linked(options(broker.port)) as user:
        with Peer(broker.port) as peer:
            taken = await user.link.stop(b"goodbye")
            peer.publish(up_topic("n"), b"after")
            await wait_until(lambda: b"after" in payloads(peer))

            assert (taken, payloads(peer), user.endings) == (True, [b"goodbye", b"after"], [(1, "stopped")])


AGENT_THAT_DIES = """
import asyncio, os, sys
from tests.agent.test_link import linked, options
async def main():
    async with linked(options(int(sys.argv[1]), protocol=sys.argv[2])):
        os.kill(os.getpid(), 9)
asyncio.run(main())
"""


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_killed_agent_leaves_its_will(broker: Broker, protocol: str) -> None:
    with Peer(broker.port) as peer:
        await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", AGENT_THAT_DIES, str(broker.port), protocol], check=False
        )
        await wait_until(lambda: peer.messages)

        assert peer.messages == [(up_topic("n"), b"will 1")]


async def test_agent_that_comes_back_in_time_is_not_called_lost(broker: Broker) -> None:
    """With MQTT 5 the broker waits before it tells the will: a dropped connection is no death."""
    with Peer(broker.port) as peer:
        async with linked(options(broker.port, will_delay_seconds=60.0)):
            pass  # the connection breaks without a DISCONNECT
        async with linked(options(broker.port, will_delay_seconds=60.0)) as user:
            user.link.publish(user.number, b"back", 1)
            await wait_until(lambda: b"back" in payloads(peer))

            assert payloads(peer) == [b"back"]


# Coming back


async def test_link_comes_back_after_the_broker_is_killed(broker: Broker) -> None:
    async with linked(options(broker.port)) as user:
        broker.kill()
        await wait_until(lambda: user.endings and user.failures)
        broker.start()
        await wait_until(lambda: len(user.standings) == 2)
        user.link.publish(user.number, b"hello", 1)
        await wait_until(lambda: user.answers)

        assert (user.endings[0][0], user.failures[0]) == (1, "Connection refused")
        assert user.answers == [(user.number, 1, "")]


async def test_next_broker_of_the_list_is_tried(broker: Broker) -> None:
    async with linked(options(free_port(), broker.port)) as user:
        assert (user.failures, user.standings[0].broker.port) == (["Connection refused"], broker.port)


async def test_clients_that_throw_each_other_off_are_told_the_likely_cause(broker: Broker) -> None:
    """mosquitto 2.0 says nothing to the one it throws off."""
    async with linked(options(broker.port)) as first, linked(options(broker.port)):
        await wait_until(lambda: len(first.endings) >= 3)

        assert first.endings[0][1] == "the connection broke"
        assert first.endings[2][1].endswith("do two machines share a node name?")


async def test_reconnect_moves_to_the_new_broker_without_a_will(broker: Broker, tmp_path: Path) -> None:
    other = Broker(tmp_path / "other").start()
    try:
        with Peer(broker.port) as peer:
            async with linked(options(broker.port)) as user:
                user.link.reconnect("the configuration changed", options(other.port))
                await wait_until(lambda: len(user.standings) == 2)
                peer.publish(up_topic("n"), b"after")
                await wait_until(lambda: b"after" in payloads(peer))

                assert user.endings == [(1, "the configuration changed")]
                assert (user.standings[1].broker.port, payloads(peer)) == (other.port, [b"after"])
    finally:
        other.stop()


async def test_wrong_password_is_said_with_what_to_check(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("wrong\n")
    users = tmp_path / "users"
    users.write_text("")
    strict = Broker(
        tmp_path / "broker",
        lines=[f"password_file {users}"],
        listener=["listener {port} 127.0.0.1", "allow_anonymous false"],
    )
    strict.start()
    try:
        chosen = options(strict.port, username="n", password_file=str(secret))
        async with linked(chosen, connects=False) as user:
            await wait_until(lambda: user.failures)

            assert user.failures[0].startswith(
                "the broker refused the connection: Not authorized: check username"
            )
    finally:
        strict.stop()


# Older brokers


@contextlib.asynccontextmanager
async def old_broker() -> AsyncIterator[int]:
    """amqtt: MQTT 3.1.1 only, and deaf to an MQTT 5 CONNECT with properties."""
    amqtt_broker = pytest.importorskip("amqtt.broker")
    port = free_port()
    broker = amqtt_broker.Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    try:
        yield port
    finally:
        await broker.shutdown()


async def test_broker_that_is_deaf_to_mqtt_5_is_spoken_to_in_3_1_1() -> None:
    async with old_broker() as port, linked(options(port)) as user:
        user.link.publish(user.number, b"hello", 1)
        await wait_until(lambda: user.answers)

        assert (user.standings[0].protocol, user.answers, user.failures) == ("3.1.1", [(2, 1, "")], [])


async def _answer_connect(first: bytes) -> tuple[asyncio.Server, list[int]]:
    """A listener that gives every CONNECT the same answer and hangs up; the protocol levels it was asked for."""
    levels: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connect = await reader.read(1000)
        levels.append(connect[connect.index(b"MQTT") + 4])
        writer.write(first)
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0), levels


@pytest.mark.parametrize(
    "answer", [b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00", b""], ids=["3.1.1", "5", "silent"]
)
async def test_refusal_of_the_version_is_understood_in_every_form(answer: bytes) -> None:
    server, levels = await _answer_connect(answer)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with linked(options(port), connects=False) as user:
            await wait_until(lambda: user.failures)

    assert levels[:2] == [5, 4]


async def test_session_that_another_client_took_over_is_told_and_the_pauses_grow() -> None:
    """Two machines of one name must not hide each other by coming back at once."""
    pauses: list[float] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"\x20\x03\x00\x00\x00")  # CONNACK
        subscribe = await reader.read(1000)
        writer.write(b"\x90\x04" + subscribe[2:4] + b"\x00\x01")  # SUBACK
        writer.write(b"\xe0\x02\x8e\x00")  # DISCONNECT: session taken over
        writer.close()

    class Patient(User):
        def taken_over(self, number: int) -> None:
            super().taken_over(number)
            pauses.append(self.link._takeover_pause())

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        user = Patient()
        chosen = options(server.sockets[0].getsockname()[1], protocol="5")
        user.link = Link(chosen, user, entropy=lambda: 0.001)
        running = asyncio.create_task(user.link.run())
        await wait_until(lambda: len(user.takeovers) >= 8)
        running.cancel()
        await asyncio.wait([running])

    assert user.takeovers == [number for number, _ in user.endings]
    assert "another client connected" in user.endings[0][1]
    assert [round(pause * 1000) for pause in pauses[:8]] == [5, 10, 20, 40, 80, 160, 300, 300]


async def test_configured_version_is_the_only_one_tried() -> None:
    server, levels = await _answer_connect(b"\x20\x03\x00\x84\x00")
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with linked(options(port, protocol="5"), connects=False) as user:
            await wait_until(lambda: len(user.failures) >= 2)

    assert set(levels) == {5}


async def test_attempts_leave_no_socket_behind() -> None:
    """A broker that is down for a week must not cost the agent its file descriptors."""
    server, _ = await _answer_connect(b"")
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with linked(options(port), connects=False) as user:
            await wait_until(lambda: len(user.failures) >= 3)
            before = _sockets()
            await wait_until(lambda: len(user.failures) >= 20)

            assert _sockets() <= before + 3


def _sockets() -> int:
    count = 0
    for entry in os.scandir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(entry.path).startswith("socket:")
    return count


# TLS


class Authority:
    """A certificate authority of the test's own, and a broker that trusts only its children."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.ca_file = self._write("ca.pem", self.ca.cert_pem.bytes())
        server = self.ca.issue_cert("broker.example")
        self._write("server.pem", b"".join(blob.bytes() for blob in server.cert_chain_pems))
        self._write("server.key", server.private_key_pem.bytes())
        client = self.ca.issue_cert("n.example", common_name="n")
        self.cert_file = self._write("client.pem", b"".join(blob.bytes() for blob in client.cert_chain_pems))
        self.key_file = self._write("client.key", client.private_key_pem.bytes())

    def _write(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def tls_broker(tmp_path: Path, authority: Authority) -> Iterator[Broker]:
    listener = [
        "listener {port} 127.0.0.1",
        "allow_anonymous true",
        "require_certificate true",
        f"cafile {authority.ca_file}",
        f"certfile {tmp_path}/server.pem",
        f"keyfile {tmp_path}/server.key",
    ]
    broker = Broker(tmp_path / "broker", listener=listener)
    broker.start()
    yield broker
    broker.stop()


async def test_mutual_tls_with_a_named_server(tls_broker: Broker, authority: Authority) -> None:
    chosen = options(
        tls_broker.port,
        tls=True,
        ca_file=authority.ca_file,
        cert_file=authority.cert_file,
        key_file=authority.key_file,
        server_name="broker.example",
    )
    async with linked(chosen) as user:
        user.link.publish(user.number, b"x" * 100_000, 1)
        await wait_until(lambda: user.answers)

        assert user.answers == [(1, 1, "")]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"server_name": "another.example"}, "Hostname mismatch"),
        ({"ca_file": ""}, "self-signed certificate in certificate chain"),
        ({"ca_file": "/nowhere/ca.pem"}, "ca_file /nowhere/ca.pem: No such file or directory"),
        ({"key_file": "/nowhere/key.pem"}, "No such file or directory"),
    ],
    ids=["name", "authority", "no authority file", "no key file"],
)
async def test_tls_that_fails_says_why(
    tls_broker: Broker, authority: Authority, changed: dict[str, str], reason: str
) -> None:
    files = {
        "ca_file": authority.ca_file,
        "cert_file": authority.cert_file,
        "key_file": authority.key_file,
        "server_name": "broker.example",
    }
    chosen = options(tls_broker.port, tls=True, **{**files, **changed})
    async with linked(chosen, connects=False) as user:
        await wait_until(lambda: user.failures)

        assert reason in user.failures[0]
        assert user.standings == []


def test_broker_must_speak_tls_1_2_at_least(authority: Authority) -> None:
    context = tls_context(options(1, tls=True, ca_file=authority.ca_file))

    assert (context.minimum_version, context.check_hostname, context.verify_mode) == (
        ssl.TLSVersion.TLSv1_2,
        True,
        ssl.CERT_REQUIRED,
    )
