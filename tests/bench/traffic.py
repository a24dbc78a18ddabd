"""What subjects send to the broker, counted by a subscriber of the bench's own."""

import threading
from collections import defaultdict
from types import TracebackType
from typing import Any, Self

import msgspec
import paho.mqtt.client as paho
from msgspec import Struct
from paho.mqtt.enums import CallbackAPIVersion


class Sent(Struct):
    """Of one sender between `clear` and now. Bytes are those of payload and topic."""

    messages: int = 0
    bytes: int = 0
    report_bytes_min: int = 0
    """The smallest report of ours: what it costs to say that nothing changed. 0 when there was none."""


class _Kind(Struct):
    kind: str = ""


class Traffic:
    """Counts from `with` to its end."""

    def __init__(self, port: int, senders: dict[str, str]) -> None:
        """`senders`: the beginning of a topic → who publishes below it."""
        self._senders = senders
        self._sent: dict[str, Sent] = defaultdict(Sent)
        self._lock = threading.Lock()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "bench-traffic")
        self._client.on_message = self._count
        self._client.on_connect = lambda client, *_: client.subscribe("#", 0)
        self._client.connect("127.0.0.1", port)

    def __enter__(self) -> Self:
        self._client.loop_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def clear(self) -> None:
        with self._lock:
            self._sent.clear()

    def sent(self, name: str) -> Sent:
        """What `name` sent since `clear`."""
        with self._lock:
            return msgspec.structs.replace(self._sent[name])

    def _count(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        name = next((who for start, who in self._senders.items() if message.topic.startswith(start)), "")
        size = len(message.payload) + len(message.topic)
        with self._lock:
            sent = self._sent[name]
            sent.messages += 1
            sent.bytes += size
            if not message.topic.startswith("holdfast/"):
                return
            if msgspec.json.decode(message.payload, type=_Kind).kind == "report":
                sent.report_bytes_min = min(sent.report_bytes_min or size, size)
