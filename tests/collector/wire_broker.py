"""A broker of a few bytes, for what no real broker does on demand: refuse a version, hang up, talk nonsense."""

import asyncio
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Self

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, DISCONNECT = 0x10, 0x20, 0x30, 0x40, 0x80, 0x90, 0xE0


def packet(header: int, body: bytes) -> bytes:
    """One MQTT control packet."""
    length, encoded = len(body), b""
    while True:
        length, byte = divmod(length, 128)
        encoded += bytes([byte | (128 if length else 0)])
        if not length:
            return bytes([header]) + encoded + body


def publish(
    topic: bytes, payload: bytes, packet_id: int, properties: bytes = b"\0", header: int = 0x32
) -> bytes:
    """A PUBLISH, QoS 1 unless `header` says otherwise. In 3.1.1 `properties` must be empty."""
    number = struct.pack("!H", packet_id) if header & 0x06 else b""
    return packet(header, struct.pack("!H", len(topic)) + topic + number + properties + payload)


class WireBroker:
    """Listens on loopback; `answer(connection, header, body)` says what goes back for each packet that comes.

    It gives bytes, or None to hang up. What came stands in `packets` as (number of the connection, header, body).
    """

    def __init__(self, answer: Callable[[int, int, bytes], bytes | None]) -> None:
        self._answer = answer
        self.packets: list[tuple[int, int, bytes]] = []
        self._writers: list[asyncio.StreamWriter] = []

    def of_kind(self, kind: int) -> list[tuple[int, bytes]]:
        """(connection, body) of all packets of one kind."""
        return [(number, body) for number, header, body in self.packets if header & 0xF0 == kind]

    def send(self, data: bytes) -> None:
        """Say something unasked, on the newest connection."""
        self._writers[-1].write(data)

    def cut(self) -> None:
        """Close the newest connection."""
        self._writers[-1].close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"mqtt://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers:
            writer.close()
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        number = len(self._writers)
        try:
            while True:
                header = (await reader.readexactly(1))[0]
                length = shift = 0
                while True:
                    byte = (await reader.readexactly(1))[0]
                    length |= (byte & 0x7F) << shift
                    shift += 7
                    if not byte & 0x80:
                        break
                body = await reader.readexactly(length)
                self.packets.append((number, header, body))
                answer = self._answer(number, header, body)
                if answer is None:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def obliging(connection: int, header: int, body: bytes) -> bytes | None:
    """An MQTT 5 broker that agrees to everything: the usual `answer`."""
    match header & 0xF0:
        case 0x10:
            return packet(CONNACK, b"\0\0\0")
        case 0x80:
            return packet(SUBACK, body[:2] + b"\0\1")
        case 0x30:
            topic_length = struct.unpack("!H", body[:2])[0]
            return packet(PUBACK, body[2 + topic_length : 4 + topic_length])
        case 0xE0:
            return None
        case _:
            return b""


def version_of(connect: bytes) -> int:
    """The protocol level a CONNECT asks for: 4 is 3.1.1, 5 is 5.0."""
    return connect[6]
