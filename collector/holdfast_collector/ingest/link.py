"""One connection to a broker: a gmqtt client with the handling of its packets in our hands. The only file that knows
gmqtt.

gmqtt parses and keeps the connection alive. Three things are ours, because its own way does not fit:

- *Acknowledgement.* gmqtt runs one task per message and sends one PUBACK per task. Here messages are handed over
  synchronously with a `Receipt`, and `acknowledge` sends all PUBACKs of a committed batch in one write: measured, 71,000
  messages per second and core instead of 20,000.
- *Reason codes.* gmqtt drops the reason code of a PUBACK; a publish the broker refused would look delivered.
- *Reconnection.* gmqtt retries one address at a fixed pace. Here a client serves one connection and never reconnects.
"""

import asyncio
import contextlib
import logging
import ssl
import struct
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import gmqtt
from gmqtt.mqtt.constants import MQTTv50, MQTTv311
from msgspec import Struct

from holdfast_collector.errors import SessionLost

MQTT_5 = int(MQTTv50)
MQTT_3_1_1 = int(MQTTv311)
PORTS = {"mqtt": 1883, "mqtts": 8883}

_NEVER = -2
"""As gmqtt's `reconnect_retries`: fewer than the number of failures there can be, and not its -1 for "for ever"."""
_REFUSED = 0x80
"""Reason codes from here on mean that the packet was not accepted (MQTT 5.0 section 2.4)."""
_UNSUPPORTED_VERSION = 0x84
"""MQTT 5.0 section 3.2.2.2."""
_UNACCEPTABLE_VERSION = 0x01
"""MQTT 3.1.1 section 3.2.2.3."""

# What gmqtt says about a connection, the session's owner says better, and says once.
_silent = logging.getLogger("gmqtt")
_silent.setLevel(logging.CRITICAL + 1)


class Will(Struct, frozen=True, kw_only=True):
    """What the broker publishes, QoS 1, when the session ends without goodbye."""

    topic: str
    payload: bytes
    delay_seconds: int = 0
    """MQTT 5 only: a reconnect within this time cancels the will."""


class SessionOptions(Struct, frozen=True, kw_only=True):
    """What makes a session."""

    brokers: Sequence[str]
    """`mqtt://host:port` or `mqtts://host:port`, tried in turn."""
    client_id: str
    username: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None
    """For `mqtts://`; None: the system's authorities."""
    keepalive_seconds: int = 20
    clean_start: bool = False
    session_expiry_seconds: int = 0
    receive_maximum: int = 65_535
    filters: Sequence[str] = ()
    """Subscribed with QoS 1 at every connection. Retained messages are not asked for."""
    will: Will | None = None
    backoff_seconds_max: float = 5.0


class Receipt(Struct, frozen=True):
    """What `acknowledge` needs of a message."""

    connection: int
    packet_id: int


class Delivery(Struct, frozen=True):
    """A message as the broker delivered it."""

    topic: bytes
    payload: bytes
    retained: bool
    receipt: Receipt | None
    """None with QoS 0, which nobody acknowledges."""


class VersionRefused(SessionLost):
    """The broker ended the attempt in a way that older brokers end one for MQTT 5."""


class Link:
    """One connection: a gmqtt client that never reconnects, with its handling of PUBLISH and PUBACK replaced."""

    def __init__(
        self,
        options: SessionOptions,
        number: int,
        version: int,
        delivered: Callable[[Delivery], None],
        window_opened: Callable[[], None],
    ) -> None:
        self.number = number
        self.version = version
        self.up = False
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._options = options
        self._delivered = delivered
        self._window_opened = window_opened
        self._subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inflight: dict[int, asyncio.Future[int]] = {}
        self._client = self._make_client()

    def _make_client(self) -> Any:
        options = self._options
        will = options.will
        message = None
        if will is not None:
            delay = {"will_delay_interval": will.delay_seconds} if will.delay_seconds else {}
            message = gmqtt.Message(will.topic, will.payload, qos=1, **delay)
        client = gmqtt.Client(
            options.client_id,
            clean_session=options.clean_start,
            optimistic_acknowledgement=False,
            will_message=message,
            logger=_silent,
            session_expiry_interval=options.session_expiry_seconds,
            receive_maximum=options.receive_maximum,
        )
        client.set_config({"reconnect_retries": _NEVER})
        if options.username:
            client.set_auth_credentials(options.username, options.password or None)
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        # gmqtt finds its handlers by these names, on the instance; a contract test holds it to that.
        handler = client._package_handler
        self._handle_connack = handler._handle_connack_packet
        self._free_packet_id = handler._handle_puback_packet
        handler._handle_connack_packet = self._on_connack
        handler._handle_publish_packet = self._on_publish
        handler._handle_puback_packet = self._on_puback
        return client

    async def open(self, url: str) -> None:
        """Connect and subscribe. Raises SessionLost with the reason, VersionRefused when another version may do."""
        parts = urlsplit(url)
        secure = parts.scheme == "mqtts"
        connecting = asyncio.ensure_future(
            self._client.connect(
                parts.hostname,
                parts.port or PORTS[parts.scheme],
                ssl=(self._options.tls or ssl.create_default_context()) if secure else False,
                keepalive=self._options.keepalive_seconds,
                version=self.version,
            )
        )
        try:
            await asyncio.wait({connecting, self.lost}, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise VersionRefused(f"during CONNECT: {self.lost.result()}")
            connecting.result()
        except (OSError, ssl.SSLError) as error:
            raise SessionLost(str(error) or type(error).__name__) from error
        except gmqtt.mqtt.handler.MQTTConnectError as error:
            kind = VersionRefused if f"code {_UNSUPPORTED_VERSION} " in str(error) else SessionLost
            raise kind(str(error)) from error
        finally:
            connecting.cancel()
        await self._subscribe()
        self.up = True

    async def _subscribe(self) -> None:
        if not self._options.filters:
            return
        # In 3.1.1 the bits of the options beyond QoS must be zero. There a retained message comes, and is not taken.
        handling = {"retain_handling_options": 2} if self.version == MQTT_5 else {}
        self._client.subscribe(
            [gmqtt.Subscription(filter_, qos=1, **handling) for filter_ in self._options.filters]
        )
        ends: set[asyncio.Future[Any]] = {self._subscribed, self.lost}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not self._subscribed.done():
            raise SessionLost(self.lost.result())
        self._subscribed.result()

    async def close(self) -> None:
        """End the connection, with DISCONNECT when it still stands. Publishes without an answer are lost."""
        was_lost = self.lost.done()
        self.up = False
        for future in self._inflight.values():
            if not future.done():
                future.set_exception(SessionLost("the session ended before the broker's answer"))
        self._inflight.clear()
        if self._client._connection is None:
            return
        with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
            async with asyncio.timeout(1.0):
                if was_lost:
                    await self._client._connection.close()
                else:
                    await self._client.disconnect()

    def publish(self, topic: str, payload: bytes, future: asyncio.Future[int]) -> bool:
        """Send; False, with nothing sent, when the broker's window is full."""
        try:
            packet_id, _ = self._client._connection.publish(gmqtt.Message(topic, payload, qos=1))
        except OverflowError:
            return False
        self._inflight[packet_id] = future
        return True

    def acknowledge(self, packet_ids: list[int]) -> None:
        """One write for all of them. Without a reason code a PUBACK means success in both versions."""
        if packet_ids and not self._client._connection.is_closing():
            packets = b"".join([_PUBACK(0x40, 2, packet_id) for packet_id in packet_ids])
            self._client._connection.send_package(packets)

    def _on_connack(self, header: int, packet: bytes) -> None:
        # An older broker answers in 3.1.1. gmqtt would wait here for a reconnect that it is not allowed.
        if self.version == MQTT_5 and len(packet) == 2 and packet[1] == _UNACCEPTABLE_VERSION:
            self._lose("the broker does not speak MQTT 5")
        else:
            self._handle_connack(header, packet)

    def _on_publish(self, header: int, packet: bytes) -> None:
        """PUBLISH (MQTT 5.0 section 3.3): topic, packet identifier unless QoS 0, properties in version 5, payload."""
        try:
            place = 2 + (packet[0] << 8 | packet[1])
            topic = packet[2:place]
            receipt = None
            if header & 0x06:
                receipt = Receipt(self.number, packet[place] << 8 | packet[place + 1])
                place += 2
            if self.version == MQTT_5:
                length = packet[place]
                place += 1
                if length & 0x80:
                    length, place = _long_length(packet, place - 1)
                place += length
        except IndexError:
            self._lose("the broker sent a PUBLISH that ends too early")
            self._client._connection._transport.abort()
            return
        self._delivered(Delivery(topic, packet[place:], bool(header & 0x01), receipt))

    def _on_puback(self, header: int, packet: bytes) -> None:
        packet_id = packet[0] << 8 | packet[1]
        self._free_packet_id(header, packet)
        future = self._inflight.pop(packet_id, None)
        if future is not None and not future.done():
            # MQTT 5.0 section 3.4.2.1: no reason code means success.
            future.set_result(packet[2] if len(packet) > 2 else 0)
        self._window_opened()

    def _on_subscribe(self, client: Any, packet_id: int, granted: Sequence[int], properties: object) -> None:
        refused = [code for code in granted if code >= _REFUSED]
        if self._subscribed.done():
            return
        if refused:
            self._subscribed.set_exception(
                SessionLost(f"the broker refused the subscription: code {refused[0]}")
            )
        else:
            self._subscribed.set_result(None)

    def _on_disconnect(self, client: Any, packet: object, exc: object = None) -> None:
        code = packet[0] if isinstance(packet, bytes) and packet else 0
        self._lose(f"the broker ended the session: code {code}" if code else "the connection was lost")

    def _lose(self, reason: str) -> None:
        self.up = False
        if not self.lost.done():
            self.lost.set_result(reason)


_PUBACK = struct.Struct("!BBH").pack


def _long_length(packet: bytes, place: int) -> tuple[int, int]:
    """A variable byte integer of more than one byte (MQTT 5.0 section 1.5.5), and the place behind it."""
    length = 0
    shift = 0
    while True:
        byte = packet[place]
        place += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return length, place
