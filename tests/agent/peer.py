"""Somebody else on the broker: hears what an agent says, and can speak as a collector."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from holdfast_wire import DownMessage, Refusal, UpMessage, decode_up, encode
from holdfast_wire.topic import down_topic, parse_up
from tests.waiting import wait_for


class Peer:
    """Subscribed to everything from construction; `messages` grows in the order the broker delivers."""

    def __init__(self, port: int, *, configure: Callable[[paho.Client], None] | None = None) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._subscribed = False
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
        if configure:
            configure(self._client)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        wait_for(lambda: self._subscribed, what="the peer to be subscribed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def up(self, node: str) -> list[UpMessage]:
        """What the node said so far, decoded as a collector would."""
        said = []
        for topic, payload in list(self.messages):
            if parse_up(topic) == node:
                message = decode_up(node, payload)
                assert not isinstance(message, Refusal), message
                said.append(message)
        return said

    def tell(self, node: str, message: DownMessage) -> None:
        """Speak as the collector."""
        self._client.publish(down_topic(node), encode(message), qos=1)

    def publish(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, qos=1)

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        self._subscribed = False
        client.subscribe("holdfast/#", qos=1)

    def _on_subscribe(self, *_: Any) -> None:
        self._subscribed = True

    def _on_message(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        self.messages.append((message.topic, bytes(message.payload)))
