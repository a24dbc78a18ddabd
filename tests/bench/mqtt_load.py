"""Load for a broker or a collector: MQTT 3.1.1 packets made beforehand and written to a plain socket.

A bench's own client must cost less than what it measures, and every client library costs more. Only what the benches
need is here: CONNECT, SUBSCRIBE, PUBLISH with QoS 1 and their answers (MQTT 3.1.1 sections 2.2.3, 3.1, 3.3, 3.4, 3.8).
"""

import socket
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from msgspec import Struct

PACKET_IDS = 65_535
CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x40, 0x80, 0x90
_READ_BYTES = 1 << 18


def remaining_length(length: int) -> bytes:
    """The variable-length count of bytes that follow."""
    out = bytearray()
    while True:
        length, digit = divmod(length, 128)
        out.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(out)


def publish_packet(topic: bytes, payload: bytes, packet_id: int, *, properties: bytes = b"") -> bytes:
    """A PUBLISH with QoS 1. `properties` is what MQTT 5 has between the packet id and the payload."""
    head = struct.pack("!H", len(topic)) + topic + struct.pack("!H", packet_id) + properties
    return b"\x32" + remaining_length(len(head) + len(payload)) + head + payload


class Packet(Struct, frozen=True):
    """One packet of the other side."""

    first: int
    """Type and flags."""
    body: bytes

    @property
    def type(self) -> int:
        return self.first & 0xF0


def split(buffer: bytes) -> tuple[list[Packet], bytes]:
    """The whole packets at the beginning of the buffer, and what is left."""
    found: list[Packet] = []
    position, end = 0, len(buffer)
    while end - position >= 2:
        place, shift, length = position + 1, 0, 0
        while place < end:
            byte = buffer[place]
            place += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        else:
            break
        if place + length > end:
            break
        found.append(Packet(buffer[position], buffer[place : place + length]))
        position = place + length
    return found, buffer[position:]


class _Connection(ABC):
    """One session, read by a thread of its own."""

    def __init__(self, port: int, client_id: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30.0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = client_id.encode()
        body = b"\0\4MQTT\4\2" + struct.pack("!HH", 0, len(name)) + name
        self._ask(0x10, body, CONNACK)
        self._socket.settimeout(None)
        self._reader = threading.Thread(target=self._read, daemon=True)

    def close(self) -> None:
        """DISCONNECT and hang up."""
        try:
            self._socket.sendall(b"\xe0\0")
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the broker was faster
        self._socket.close()
        self._reader.join(timeout=10.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, first: int, body: bytes, answer: int) -> None:
        """Send a packet and wait for its answer, before the reading thread runs."""
        self._socket.settimeout(30.0)
        self._socket.sendall(bytes([first]) + remaining_length(len(body)) + body)
        rest = b""
        while True:
            found, rest = split(rest + self._socket.recv(_READ_BYTES))
            if found:
                assert found[0].type == answer, f"the broker answered with {found[0].first:#x}"
                assert not rest, "the broker sent more than the answer"
                return

    def _read(self) -> None:
        rest = b""
        while True:
            try:
                data = self._socket.recv(_READ_BYTES)
            except OSError:
                return
            if not data:
                return
            found, rest = split(rest + data)
            try:
                self._take(found)
            except OSError:
                return  # closed between reading and answering

    @abstractmethod
    def _take(self, found: Sequence[Packet]) -> None:
        """What came, in the reading thread."""


class Publisher(_Connection):
    """Publishes packets that were made beforehand."""

    def __init__(self, port: int, client_id: str) -> None:
        super().__init__(port, client_id)
        self._answered = threading.Condition()
        self._sent = 0
        self._taken = 0
        self._reader.start()

    @property
    def next_packet_id(self) -> int:
        """The id for the next packet to be made. Far fewer than PACKET_IDS are ever under way."""
        return self._sent % PACKET_IDS + 1

    def send(self, made: Sequence[bytes]) -> None:
        """Write PUBLISH packets in one piece."""
        self._sent += len(made)
        self._socket.sendall(b"".join(made))

    def publish(self, topic: str, payload: bytes) -> None:
        """Send one message."""
        self.send([publish_packet(topic.encode(), payload, self.next_packet_id)])

    def wait_taken(self, unanswered_max: int = 0, timeout: float = 120.0) -> None:
        """Until the broker has answered all but so many. Raises AssertionError when it does not."""
        with self._answered:
            good = self._answered.wait_for(
                lambda: self._sent - self._taken <= unanswered_max, timeout=timeout
            )
        assert good, f"the broker left {self._sent - self._taken} publishes without an answer"

    def _take(self, found: Sequence[Packet]) -> None:
        taken = sum(packet.type == PUBACK for packet in found)
        with self._answered:
            self._taken += taken
            self._answered.notify_all()


class Listener(_Connection):
    """Subscribes with QoS 1 and hands every message over, in the reading thread."""

    def __init__(
        self, port: int, client_id: str, filter_: str, delivered: Callable[[bytes, bytes], None]
    ) -> None:
        """`delivered(topic, payload)`."""
        super().__init__(port, client_id)
        self._delivered = delivered
        name = filter_.encode()
        self._ask(0x82, b"\0\1" + struct.pack("!H", len(name)) + name + b"\1", SUBACK)
        self._reader.start()

    def _take(self, found: Sequence[Packet]) -> None:
        answers = bytearray()
        for packet in found:
            if packet.type != PUBLISH:
                continue
            place = 2 + (packet.body[0] << 8 | packet.body[1])
            topic = packet.body[2:place]
            if packet.first & 0x06:
                answers += b"\x40\x02" + packet.body[place : place + 2]
                place += 2
            self._delivered(topic, packet.body[place:])
        if answers:
            self._socket.sendall(answers)


def pace(rate: float, count: int) -> Iterator[int]:
    """Numbers 0 to `count` - 1, each when its time has come at `rate` per second. Lateness is made up for."""
    began = time.perf_counter()
    for number in range(count):
        wait = began + number / rate - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        yield number
