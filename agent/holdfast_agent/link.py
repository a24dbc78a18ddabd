"""The connection to a broker: the only file that knows MQTT.

aiomqtt carries the connection into the event loop; paho, below it, is reached through for what aiomqtt 2.5 hides:

- its `publish` waits for PUBACK but drops the reason code, so a refused publish looks like a success. We publish
  through paho and read the code in `on_publish`. MQTT 3.1.1 cannot say it at all;
- a broker that hangs up before CONNACK leaves it waiting for its time-out; `on_disconnect` tells us at once;
- it warns at more than ten publishes under way, and keeps a task for each; we keep a number for each.

`clean_start=False` with a short session expiry (MQTT 5): the broker holds the will back for `will_delay`, and for
that the session must outlive the connection (MQTT 5.0, 3.1.3.2.2: the will leaves at the end of the delay or of the
session, whichever is first). A reconnect in time recalls it. MQTT 3.1.1 has no such thing; there the session is clean.

No message is taken for delivered because a broker took it.
"""

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdfast_agent.broker import BrokerAddress, LinkOptions, tls_context
from holdfast_agent.core.schedule import jittered_seconds
from holdfast_agent.errors import LinkDown
from holdfast_agent.late_imports import imported_late
from holdfast_agent.link_user import Counts, LinkStanding, LinkUser
from holdfast_agent.pause import until

with imported_late("ssl", "urllib.request"):  # TLS where a broker wants it; proxies only with PySocks
    import aiomqtt
    import paho.mqtt.client as paho
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode
    from paho.mqtt.subscribeoptions import SubscribeOptions

if TYPE_CHECKING:
    import ssl

MQTT5, MQTT311 = "5", "3.1.1"

PAUSE_BASE_SECONDS = 0.5
PAUSE_CAP_SECONDS = 60.0
STEADY_SECONDS = 30.0
"""A connection that held this long was a good one: the next failure starts with short pauses again."""
CONNECT_TIMEOUT_SECONDS = 5.0
"""For TCP, and again for TLS."""
ATTEMPT_TIMEOUT_SECONDS = 20.0
"""For everything before CONNECT, name resolution included, which nothing else bounds."""
CONNACK_PATIENCE_SECONDS = 5.0
"""An older broker (amqtt) takes the properties of MQTT 5 for the length of a text and waits for the rest for ever."""
IN_FLIGHT_MAX = 20
"""Publishes without a PUBACK: paho's own default and mosquitto's; a smaller receive maximum of the broker holds."""
FAREWELL_SECONDS = 2.0
"""For the goodbye to be taken by the broker, within the 5 s in which the agent stops."""
PACKET_OVERHEAD_BYTES = 256
"""A PUBLISH packet around its payload: fixed header, topic of at most 76 bytes, packet id, properties."""
MISC_SECONDS = 5.0
"""paho sends its ping and finds a dead connection when it is asked; so late may either be."""
UNSUPPORTED_VERSION, UNSPECIFIED = 0x84, 0x80
TAKEN_OVER = 0x8E
"""MQTT 5: another client connected with this client id."""
TAKEN_OVER_PAUSE_BASE_SECONDS = 5.0
TAKEN_OVER_PAUSE_CAP_SECONDS = 300.0
"""Two machines of one name throw each other off. Those who come back at once hide each other, and both are heard of in
turns of minutes."""
TAKEN_OVER_FORGOTTEN_SECONDS = 600.0
"""A connection that held this long, twice the longest pause, had no rival."""
SHORT_LIVED_MAX = 3
"""Connections in a row that ended soon: mosquitto 2.0 throws one of two clients of one name off without a word."""


class _VersionRefused(LinkDown):
    """The broker does not speak this version of MQTT, or hangs up on it without a word."""


class _Client(aiomqtt.Client):
    """Looks after the keepalive as often as that needs: once a second would be most of what an idle agent wakes for."""

    async def _misc_loop(self) -> None:
        pause = min(MISC_SECONDS, max(1.0, self._client.keepalive / 6))
        while self._client.loop_misc() == paho.MQTT_ERR_SUCCESS:  # noqa: ASYNC110  # paho has nothing to wait for
            await asyncio.sleep(pause)


class Connection:
    """One connection to one broker, from CONNECT to its end."""

    def __init__(
        self,
        options: LinkOptions,
        broker: BrokerAddress,
        protocol: str,
        will: bytes | None,
        answered: Callable[[int, str], None],
    ) -> None:
        """`answered(token, refusal)` is called for each publish the broker answers; the refusal is empty if taken."""
        self._options = options
        self._broker = broker
        self._protocol = protocol
        self._will = will
        self._answered = answered
        self._tokens: dict[int, int] = {}
        self._client: aiomqtt.Client | None = None
        self._connack_came = False
        self._packet_bytes_max: int | None = None
        self.taken_over = False
        """The broker gave the session to another client of this name, and said so."""
        self._loop = asyncio.get_running_loop()
        self._hung_up: asyncio.Future[str] = self._loop.create_future()
        """Resolves when the broker or the network ends the connection, with the reason."""
        self._dialled: asyncio.Future[None] = self._loop.create_future()
        """Resolves when the socket is open and CONNECT is on its way."""

    async def open(self) -> LinkStanding:
        """Connect and subscribe. Raises LinkDown, and then everything is cleaned up."""
        loop = self._loop
        context = None
        if self._broker.tls:
            context = await loop.run_in_executor(None, tls_context, self._options)
        self._client = self._make_client(context, await loop.run_in_executor(None, self._password))
        self._hook(self._client._client)
        entering = loop.create_task(self._client.__aenter__())
        try:
            await asyncio.wait(
                (entering, self._hung_up, self._dialled),
                timeout=ATTEMPT_TIMEOUT_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if self._dialled.done():
                await self._first(entering, CONNACK_PATIENCE_SECONDS)
            if not (entering.done() or self._connack_came):
                raise self._unanswered()
            await self._entered(entering)
            return await self._standing()
        except BaseException:
            entering.cancel()
            self.abandon()
            raise

    def publish(self, payload: bytes, token: int) -> None:
        """Hand a message to the network, QoS 1. The answer comes through `answered`, or never, when the end does."""
        assert self._client is not None
        sent = self._client._client.publish(self._options.up_topic, payload, qos=1)
        if sent.rc == paho.MQTT_ERR_SUCCESS:
            self._tokens[sent.mid] = token
        elif not self._hung_up.done():
            self._hung_up.set_result(f"publishing failed: {paho.error_string(sent.rc)}")

    async def receive(self, received: Callable[[bytes], None]) -> str:
        """Hand on what comes on the down topic until the connection ends; why it did."""
        assert self._client is not None
        reading = self._loop.create_task(self._read(received))
        try:
            await self._first(reading, None)
            if self._hung_up.done():
                return self._hung_up.result()
            return reading.result()
        finally:
            reading.cancel()

    async def close(self, goodbye: bytes | None) -> bool:
        """Say goodbye, wait for the broker to take it, disconnect. Whether it was taken; the will is then recalled."""
        assert self._client is not None
        taken: asyncio.Future[bool] = self._loop.create_future()
        if goodbye is not None:
            self._answered = lambda token, refusal: (
                taken.set_result(not refusal) if token == -1 and not taken.done() else None
            )
            self.publish(goodbye, -1)
            await self._first(taken, FAREWELL_SECONDS)
        with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
            await asyncio.wait_for(self._client.__aexit__(None, None, None), FAREWELL_SECONDS)
        self.abandon()
        return taken.done() and taken.result() is True

    def abandon(self) -> None:
        """Close the socket without a word, now or, when it is still being made, as soon as it is there."""
        if self._client is None:
            return
        inner = self._client._client
        inner.on_socket_register_write = None
        inner.on_socket_open = lambda _client, _data, made: made.close()
        inner._sock_close()

    async def _first(self, awaited: "asyncio.Future[Any]", timeout: float | None) -> None:
        """Wait for `awaited`, the end of the connection, or the time-out: whichever is first."""
        await asyncio.wait((awaited, self._hung_up), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    def _make_client(self, context: "ssl.SSLContext | None", password: str | None) -> aiomqtt.Client:
        options = self._options
        newer = self._protocol == MQTT5
        connect = will_delay = None
        if newer:
            connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
            connect.SessionExpiryInterval = int(options.will_delay_seconds) + 20
            will_delay = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]  # as above
            will_delay.WillDelayInterval = int(options.will_delay_seconds)
        will = None
        if self._will is not None:
            will = aiomqtt.Will(options.up_topic, self._will, qos=1, retain=False, properties=will_delay)
        client = _Client(
            self._broker.host,
            self._broker.port,
            username=options.username or None,
            password=password,
            identifier=options.client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if newer else aiomqtt.ProtocolVersion.V311,
            clean_session=None if newer else True,
            clean_start=False if newer else paho.MQTT_CLEAN_START_FIRST_ONLY,
            properties=connect,
            will=will,
            keepalive=max(1, round(options.keepalive_seconds)),
            max_inflight_messages=IN_FLIGHT_MAX,
            timeout=ATTEMPT_TIMEOUT_SECONDS,
            tls_context=context,
            # An event and the report behind it are two small packets; Nagle would hold back the second.
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            logger=_SILENT,
        )
        client._client.connect_timeout = CONNECT_TIMEOUT_SECONDS
        return client

    def _hook(self, inner: paho.Client) -> None:
        """Listen in on paho's callbacks, before aiomqtt's own handlers get their turn."""
        # Their declared types are unions over two versions of paho's callbacks; aiomqtt sets those of version 2.
        on_connect: Any = inner.on_connect
        on_publish: Any = inner.on_publish
        on_disconnect: Any = inner.on_disconnect
        on_socket_open: Any = inner.on_socket_open

        def connect(client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
            self._connack_came = True
            self._packet_bytes_max = getattr(properties, "MaximumPacketSize", None)
            receive_maximum = getattr(properties, "ReceiveMaximum", IN_FLIGHT_MAX)
            client._max_inflight_messages = min(IN_FLIGHT_MAX, receive_maximum)
            on_connect(client, data, flags, code, properties)

        def dialled(client: Any, data: Any, made: Any) -> None:
            on_socket_open(client, data, made)
            self._loop.call_soon_threadsafe(_resolve, self._dialled)

        def publish(client: Any, data: Any, mid: int, code: ReasonCode, properties: Any) -> None:
            token = self._tokens.pop(mid, None)
            if token is not None:
                self._answered(token, str(code) if code.is_failure else "")
            on_publish(client, data, mid, code, properties)

        def disconnect(client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
            self.taken_over = getattr(code, "value", code) == TAKEN_OVER
            if not self._hung_up.done():
                self._hung_up.set_result(_said(code))
            on_disconnect(client, data, flags, code, properties)

        inner.on_connect, inner.on_publish, inner.on_disconnect = connect, publish, disconnect
        inner.on_socket_open = dialled

    async def _entered(self, entering: "asyncio.Task[Any]") -> None:
        assert self._client is not None
        try:
            await entering
        except aiomqtt.MqttCodeError as error:
            code = error.rc.value if isinstance(error.rc, ReasonCode) else error.rc
            reason = f"the broker refused the connection: {_said(error.rc)}"
            raise (_VersionRefused if code == UNSUPPORTED_VERSION else LinkDown)(reason) from None
        except (aiomqtt.MqttError, ValueError) as error:
            raise LinkDown(_plain(str(error))) from None
        # Nobody may be reading when the end comes, and asyncio would complain of an error nobody looked at.
        self._client._disconnected.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    def _unanswered(self) -> LinkDown:
        if self._hung_up.done():
            return _VersionRefused(f"the broker hung up before it answered ({self._hung_up.result()})")
        if self._dialled.done():
            return _VersionRefused(f"the broker did not answer CONNECT within {CONNACK_PATIENCE_SECONDS:g} s")
        return LinkDown(f"no connection within {ATTEMPT_TIMEOUT_SECONDS:g} s")

    async def _standing(self) -> LinkStanding:
        assert self._client is not None
        # paho takes the QoS from the options or from its own parameter, and refuses both.
        options = SubscribeOptions(qos=1, retainHandling=2) if self._protocol == MQTT5 else None
        try:
            codes = await self._client.subscribe(
                self._options.down_topic, qos=0 if options else 1, options=options, timeout=10.0
            )
        except aiomqtt.MqttError as error:
            raise LinkDown(f"subscribing to {self._options.down_topic} failed: {error}") from None
        granted = all((code.value if isinstance(code, ReasonCode) else code) < 0x80 for code in codes)
        packet_max = self._packet_bytes_max
        return LinkStanding(
            broker=self._broker,
            protocol=self._protocol,
            payload_bytes_max=packet_max - PACKET_OVERHEAD_BYTES if packet_max else None,
            subscribed=granted,
        )

    async def _read(self, received: Callable[[bytes], None]) -> str:
        assert self._client is not None
        try:
            async for message in self._client.messages:
                received(bytes(message.payload))
        except aiomqtt.MqttError as error:
            return _plain(str(error.__cause__ or error))
        return "the connection ended"

    def _password(self) -> str | None:
        if not self._options.password_file:
            return None
        try:
            with open(self._options.password_file, encoding="utf-8") as file:
                return file.read().strip("\r\n")
        except OSError as error:
            raise LinkDown(f"password_file {self._options.password_file}: {error.strerror}") from None


class Link:
    """The agent's connection for as long as it lives: one broker after the other, until told to stop."""

    def __init__(
        self, options: LinkOptions, user: LinkUser, entropy: Callable[[], float] = random.random
    ) -> None:
        self.counts = Counts()
        self._options = options
        self._user = user
        self._entropy = entropy
        self._connection: tuple[int, Connection] | None = None
        self._protocols: dict[BrokerAddress, str] = {}
        """What a broker was found to speak, until the agent or its configuration starts anew."""
        self._wanted = asyncio.Event()
        """Set to end the present connection or pause and try again at once."""
        self._ending_reason = ""
        self._short_lived = 0
        self._takeovers = 0
        self._stopping = False

    async def run(self) -> None:
        """Connect, again and again, until `stop`."""
        attempt = 0
        turn = 0
        while not self._stopping:
            self._wanted.clear()
            broker = self._options.brokers[turn % len(self._options.brokers)]
            began = asyncio.get_running_loop().time()
            try:
                await self._once(broker)
            except LinkDown as error:
                self.counts.failed_total += 1
                turn += 1
                pause = self._pause(attempt)
                self._user.connect_failed(broker, error.reason, pause)
            else:
                if asyncio.get_running_loop().time() - began >= STEADY_SECONDS:
                    attempt = 0
                pause = max(self._pause(attempt), self._takeover_pause())
            attempt += 1
            await until(self._wanted, pause)

    def publish(self, number: int, payload: bytes, token: int) -> None:
        """Send on connection `number`; nothing when that one has ended."""
        if self._connection is not None and self._connection[0] == number:
            self._connection[1].publish(payload, token)
            self.counts.published_total += 1

    def reconnect(self, reason: str, options: LinkOptions | None = None) -> None:
        """End the present connection and connect again at once, with these options from now on."""
        if options is not None:
            self._options = options
            self._protocols.clear()
        self._ending_reason = reason
        self._wanted.set()

    async def stop(self, goodbye: bytes) -> bool:
        """Say goodbye and end; whether the broker took the goodbye. Then `run` returns."""
        self._stopping = True
        taken = False
        if self._connection is not None:
            number, connection = self._connection
            self._connection = None
            taken = await connection.close(goodbye)
            self._user.disconnected(number, "stopped")
        self._wanted.set()
        return taken

    def _pause(self, attempt: int) -> float:
        # One quick try per further broker, before any pause grows.
        rounds = max(0, attempt - len(self._options.brokers) + 1)
        return jittered_seconds(rounds, self._entropy(), base=PAUSE_BASE_SECONDS, cap=PAUSE_CAP_SECONDS)

    def _takeover_pause(self) -> float:
        """Longer the more often the session was taken over, whatever else happened in between."""
        if not self._takeovers:
            return 0.0
        base, cap = TAKEN_OVER_PAUSE_BASE_SECONDS, TAKEN_OVER_PAUSE_CAP_SECONDS
        return jittered_seconds(self._takeovers - 1, self._entropy(), base=base, cap=cap)

    async def _once(self, broker: BrokerAddress) -> None:
        """One connection from beginning to end. Raises LinkDown when it never came to stand."""
        number, connection, standing = await self.open(broker)
        self.counts.connected_total += 1
        self._connection = number, connection
        self._user.connected(number, standing)
        since = asyncio.get_running_loop().time()
        reason = await self._until_ended(connection)
        held = asyncio.get_running_loop().time() - since
        self._short_lived = self._short_lived + 1 if held < STEADY_SECONDS else 0
        if held >= TAKEN_OVER_FORGOTTEN_SECONDS:
            self._takeovers = 0
        if self._connection is None:
            return  # `stop` has dealt with it
        self._connection = None
        if self._wanted.is_set():
            # No goodbye: the agent lives on. An orderly DISCONNECT recalls the will.
            await connection.close(None)
            reason = self._ending_reason
        else:
            connection.abandon()
            if self._short_lived >= SHORT_LIVED_MAX and _SHARED_NAME not in reason:
                reason += f", soon, and not for the first time; {_SHARED_NAME}"
        self._user.disconnected(number, reason)
        if connection.taken_over:
            self._takeovers += 1
            self._user.taken_over(number)

    async def open(self, broker: BrokerAddress) -> tuple[int, Connection, LinkStanding]:
        """One connection, in the newest version of MQTT that the broker speaks. Raises LinkDown."""
        configured = self._options.protocol
        protocol = self._protocols.get(broker, MQTT5) if configured == "auto" else configured
        try:
            return await self._attempt(broker, protocol)
        except _VersionRefused as refusal:
            if protocol == MQTT311 or configured != "auto":
                raise
            try:
                opened = await self._attempt(broker, MQTT311)
            except LinkDown:
                raise refusal from None
            self._protocols[broker] = MQTT311
            return opened

    async def _attempt(self, broker: BrokerAddress, protocol: str) -> tuple[int, Connection, LinkStanding]:
        number, will = self._user.connecting()

        def answered(token: int, refusal: str) -> None:
            if refusal:
                self.counts.refused_total += 1
            self._user.answered(number, token, refusal)

        connection = Connection(self._options, broker, protocol, will, answered)
        return number, connection, await connection.open()

    async def _until_ended(self, connection: Connection) -> str:
        loop = asyncio.get_running_loop()
        receiving = loop.create_task(connection.receive(self._user.received))
        wanted = loop.create_task(self._wanted.wait())
        try:
            await asyncio.wait({receiving, wanted}, return_when=asyncio.FIRST_COMPLETED)
            return receiving.result() if receiving.done() else ""
        finally:
            receiving.cancel()
            wanted.cancel()


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _said(code: Any) -> str:
    """A reason code in words, with what usually stands behind it."""
    if isinstance(code, ReasonCode):
        if code.value == UNSPECIFIED:
            return "the connection broke"  # what paho says when the broker said nothing
        return str(code) + _HINTS.get(code.value, "")
    if isinstance(code, int):
        return paho.error_string(code)
    return str(code)


_SHARED_NAME = "do two machines share a node name?"
_HINTS = {
    TAKEN_OVER: f": another client connected with this client id; {_SHARED_NAME}",
    0x87: ": check username, password or certificate, and the broker's access list",
}


def _plain(text: str) -> str:
    """`[Errno 111] Connection refused` → `Connection refused`; OpenSSL's name and our interpreter's line go likewise."""
    said = text.partition("] ")[2] if text.startswith(("[Errno", "[SSL")) else text
    return said.partition(" (_ssl.c:")[0]


_SILENT = logging.getLogger("holdfast_agent.paho")
"""What paho has to say reaches us through callbacks, with reasons; its own lines would be a second, looser account."""
_SILENT.setLevel(logging.CRITICAL + 1)
