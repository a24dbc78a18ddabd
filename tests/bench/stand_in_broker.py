"""As much of an MQTT 5 broker as one collector needs, to see the instant of each of its PUBACKs.

With a real broker a publisher's PUBACK comes from the broker; when the collector's own came nobody outside can tell.
This one delivers given messages with QoS 1, never more under way than the collector asked for, and notes how long each
stays unanswered. It also shows the collector without a broker that limits it.
"""

import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.bench.fleet_load import Composed
from tests.bench.mqtt_load import (
    CONNECT,
    PACKET_IDS,
    PUBACK,
    PUBLISH,
    SUBSCRIBE,
    Packet,
    pace,
    publish_packet,
    split,
)

WINDOW = 2000
"""The collector's default receive maximum, `mqtt.receive_maximum`."""
_CHUNK = 250
_PINGREQ = 0xC0
_READ_BYTES = 1 << 18


class StandInBroker:
    """Listens from construction until `close`; serves the newest connection."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"
        self._connection: socket.socket | None = None
        self._writing = threading.Lock()
        self._changed = threading.Condition()
        self._subscribed = False
        self._sent = 0
        self._under_way: dict[int, tuple[int, float]] = {}
        """Packet id → the message's place in the load, and when it left."""
        self._latencies: dict[int, float] = {}
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def send_all(self, load: Sequence[Composed], *, rate: float | None = None) -> list[float]:
        """Deliver the messages in order, as fast as the window allows or at `rate` per second.

        Returns, when the last is acknowledged, the seconds each waited for its PUBACK. Raises AssertionError when
        one does not come.
        """
        with self._changed:
            assert self._changed.wait_for(lambda: self._subscribed, 30.0), "nobody subscribed"
        self._latencies = {}
        made = [
            publish_packet(topic, payload, (self._sent + place) % PACKET_IDS + 1, properties=b"\0")
            for place, (topic, payload) in enumerate(load)
        ]
        if rate is None:
            for start in range(0, len(made), _CHUNK):
                self._await_room(WINDOW - _CHUNK)
                self._send(made, start, min(start + _CHUNK, len(made)))
        else:
            for place in pace(rate, len(made)):
                self._await_room(WINDOW - 1)
                self._send(made, place, place + 1)
        self._await_room(0)
        self._sent += len(made)
        return [self._latencies[place] for place in range(len(made))]

    def close(self) -> None:
        """Hang up."""
        for one in (self._listener, self._connection):
            if one is not None:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it has gone before
                one.close()
        self._thread.join(timeout=10.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _await_room(self, under_way_max: int) -> None:
        with self._changed:
            good = self._changed.wait_for(lambda: len(self._under_way) <= under_way_max, 120.0)
        assert good, f"{len(self._under_way)} messages without a PUBACK"

    def _send(self, made: Sequence[bytes], start: int, stop: int) -> None:
        now = time.perf_counter()
        with self._changed:
            for place in range(start, stop):
                self._under_way[(self._sent + place) % PACKET_IDS + 1] = (place, now)
        self._write(b"".join(made[start:stop]))

    def _write(self, data: bytes) -> None:
        assert self._connection is not None, "nobody is connected"
        with self._writing:
            self._connection.sendall(data)

    def _serve(self) -> None:
        while True:
            try:
                self._connection, _ = self._listener.accept()
                self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._answer(self._connection)
            except OSError:
                if self._listener.fileno() < 0:
                    return

    def _answer(self, connection: socket.socket) -> None:
        rest = b""
        while data := connection.recv(_READ_BYTES):
            found, rest = split(rest + data)
            now = time.perf_counter()
            answers = b"".join(self._reply(packet, now) for packet in found)
            if answers:
                self._write(answers)
            with self._changed:
                self._changed.notify_all()

    def _reply(self, packet: Packet, now: float) -> bytes:
        """MQTT 5.0 sections 3.2, 3.4, 3.9 and 3.13; every answer with success and without properties."""
        match packet.type:
            case kind if kind == PUBACK:
                place, left = self._under_way.pop(packet.body[0] << 8 | packet.body[1])
                self._latencies[place] = now - left
            case kind if kind == PUBLISH:
                topic_end = 2 + (packet.body[0] << 8 | packet.body[1])
                return b"\x40\x02" + packet.body[topic_end : topic_end + 2]
            case kind if kind == CONNECT:
                return b"\x20\x03\x00\x00\x00"
            case kind if kind == SUBSCRIBE:
                self._subscribed = True
                return b"\x90\x04" + packet.body[:2] + b"\x00\x01"
            case kind if kind == _PINGREQ:
                return b"\xd0\x00"
        return b""
