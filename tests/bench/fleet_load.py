"""What a fleet sends, composed before the clock runs: reports of simulated nodes, events that tell when they arrived."""

import random
import threading
import time
from collections.abc import Sequence
from typing import Any

from holdfast.simulated_node import Shape, SimulatedNode, Stamp
from holdfast_wire import (
    Ack,
    Birth,
    Event,
    Report,
    SpoolState,
    content_digest,
    decode_down,
    decode_up,
    encode,
)
from holdfast_wire.topic import up_topic

INTERVAL_SECONDS = 10.0
_EPOCH = 1
_SPOOL = SpoolState(messages=0, bytes=0, dropped_total=0, in_memory=False)

Composed = tuple[bytes, bytes]
"""Topic and payload."""


class Fleet:
    """Simulated nodes that report in turn: 17 facts of one volume each time, the node's own 18 every sixth time."""

    def __init__(self, nodes: int, seed: int = 1) -> None:
        entropy = random.Random(seed)
        shape = Shape(
            interval_seconds=INTERVAL_SECONDS, volumes=1, services=3, events_per_hour=0.0, epoch=_EPOCH
        )
        self._began = time.time()
        self._round = 0
        self._nodes = [
            SimulatedNode(f"bench-{number:05}", shape, random.Random(entropy.getrandbits(64)), self._stamp())
            for number in range(nodes)
        ]

    def births(self) -> list[Composed]:
        """Every node's first message."""
        for node in self._nodes:
            node.birth(self._stamp())
            node.connecting(self._stamp())
        return [
            (_topic(node.name), payload) for node in self._nodes for payload in node.due(self._stamp(), 1e9)
        ]

    def reports(self) -> list[Composed]:
        """One report of every node; the first ones carry all sections."""
        self._round += 1
        return [(_topic(node.name), node.report(self._stamp())) for node in self._nodes]

    def _stamp(self) -> Stamp:
        elapsed = self._round * INTERVAL_SECONDS
        return Stamp(self._began + elapsed, elapsed)


class EventSource:
    """One node that reports durable events, and notes when the collector's own acknowledgement of each came.

    `composed` is called before an event leaves, `acknowledged` in the thread of a listener on the node's down topic.
    """

    def __init__(self, node: str) -> None:
        self.node = node
        self._seq = 0
        self._digests: dict[int, str] = {}
        self._sent_at: dict[int, float] = {}
        self._acked_at: dict[int, float] = {}
        self._changed = threading.Condition()

    def birth(self) -> Composed:
        """The first message of a node."""
        return self._compose(
            Birth(
                **self._header(),
                agent_version="bench",
                os="linux",
                os_name="Debian GNU/Linux 12 (bookworm)",
                kernel="6.1.0-28-amd64",
                interval_seconds=INTERVAL_SECONDS,
                previous_stop="first",
                spool=_SPOOL,
            )
        )

    def event(self) -> Composed:
        """A service was started again."""
        return self._compose(
            Event(
                **self._header(),
                type="unit_restarted",
                resource_kind="service",
                resource="postgresql@15-main.service",
                at=time.time(),
                summary="postgresql@15-main.service was started again after exit-code 1 (bench)",
                fields={"result": "exit-code", "exit_status": 1},
            )
        )

    def sent(self, count: int = 1) -> None:
        """The next `count` composed messages leave now."""
        now = time.perf_counter()
        first = len(self._sent_at) + 1
        self._sent_at.update(dict.fromkeys(range(first, first + count), now))

    def delivered(self, topic: bytes, payload: bytes) -> None:
        """A message to the node. Raises AssertionError when it acknowledges what was never sent."""
        now = time.perf_counter()
        message = decode_down(payload)
        if not isinstance(message, Ack):
            return
        with self._changed:
            for held in message.messages:
                assert self._digests[held.seq] == held.digest, "an acknowledgement of another message"
                self._acked_at.setdefault(held.seq, now)
            self._changed.notify_all()

    def wait_acknowledged(self, unanswered_max: int = 0, timeout: float = 120.0) -> None:
        """Until the collector has acknowledged all that was sent, but for so many. Raises AssertionError."""
        with self._changed:
            good = self._changed.wait_for(
                lambda: len(self._sent_at) - len(self._acked_at) <= unanswered_max, timeout=timeout
            )
        assert good, (
            f"{len(self._sent_at) - len(self._acked_at)} messages without the collector's acknowledgement"
        )

    def latencies(self, first: int = 1) -> list[float]:
        """Seconds from sending to the acknowledgement, of the messages from the `first` on."""
        return [self._acked_at[seq] - at for seq, at in self._sent_at.items() if seq >= first]

    def _header(self) -> dict[str, Any]:
        self._seq += 1
        return {
            "node": self.node,
            "install_id": f"bench-{self.node}",
            "boot_id": "bench-boot",
            "epoch": _EPOCH,
            "seq": self._seq,
            "sent_at": time.time(),
            "mono": 1000.0 + self._seq,
        }

    def _compose(self, message: Birth | Event) -> Composed:
        payload = encode(message)
        self._digests[message.seq] = content_digest(payload)
        return _topic(self.node), payload


def mean_facts(composed: Sequence[Composed]) -> float:
    """Facts per report."""
    total = 0
    for topic, payload in composed:
        message = decode_up(topic.decode().split("/")[2], payload)
        assert isinstance(message, Report), message
        total += sum(len(resource.facts) for section in message.sections for resource in section.resources)
    return total / len(composed)


def _topic(node: str) -> bytes:
    return up_topic(node).encode()
