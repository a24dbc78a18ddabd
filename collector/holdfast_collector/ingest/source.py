"""The collector's ear: one MQTT session whose messages reach the intake in batches and are acknowledged after them.

A batch is what arrived while the one before took effect, so a lone message goes at once and a flood shares its
transactions. What the broker may send ahead is bounded by the session's receive maximum, and by nothing else: nothing
is ever dropped here.
"""

import asyncio
from collections.abc import Callable

from holdfast_collector.core.event import Received
from holdfast_collector.errors import SessionLost
from holdfast_collector.ingest import PARTITION, Intake
from holdfast_collector.ingest.mqtt import Delivery, Receipt, Session, SessionOptions
from holdfast_wire.topic import down_topic, parse_up

BATCH_MAX = 1000
"""Messages in one transaction. A thousand rows commit in 4 ms, and their judging takes some 30 ms in slices."""
_TOPICS_MAX = 100_000
"""Topics remembered as parsed: twice the nodes one collector takes."""


class Source:
    """Subscribes to all nodes and feeds one partition."""

    def __init__(
        self,
        options: SessionOptions,
        intake: Intake,
        *,
        now: Callable[[], float],
        changed: Callable[[bool, str], None],
        refused: Callable[[str, str, bytes], None],
        published: Callable[[str], None],
    ) -> None:
        """`changed(connected, detail)` is told of the session's ups and downs; `refused(reason, topic, payload)` of
        messages that are none of ours; `published(outcome)` of each message to a node: `sent`, `refused`, `lost`.
        """
        self._intake = intake
        self._now = now
        self._refused = refused
        self._published = published
        self._session = Session(options, delivered=self._deliver, changed=changed)
        self._nodes: dict[bytes, str] = {}
        self._messages: list[Received] = []
        self._receipts: list[Receipt] = []
        self._arrived = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether messages can come and go now."""
        return self._session.connected

    async def run(self) -> None:
        """Listen until `stop`. Raises what the intake raises."""
        await self._intake.opened(PARTITION)
        feeding = asyncio.ensure_future(self._feed())
        listening = asyncio.ensure_future(self._session.run())
        try:
            await asyncio.wait({feeding, listening}, return_when=asyncio.FIRST_COMPLETED)
            if feeding.done():
                feeding.result()
            else:
                listening.result()
        finally:
            feeding.cancel()
            self._session.stop()
            await asyncio.gather(feeding, listening, return_exceptions=True)
            await self._intake.closed(PARTITION)

    def stop(self) -> None:
        """Let `run` return. What came and is not committed comes again, to us or to our successor."""
        self._session.stop()

    def publish(self, node: str, payload: bytes) -> None:
        """Send a message to a node. One that is lost is no loss: the node asks again by sending again."""
        self._session.publish(down_topic(node), payload).add_done_callback(self._sent)

    def _sent(self, future: asyncio.Future[int]) -> None:
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or isinstance(error, SessionLost):
            self._published("lost")
        else:
            self._published("refused" if future.result() >= 0x80 else "sent")

    def _deliver(self, delivery: Delivery) -> None:
        node = self._nodes.get(delivery.topic)
        if node is None:
            node = self._learn(delivery.topic)
        if not node:
            self._refused(
                "foreign_topic", delivery.topic.decode("utf-8", "backslashreplace"), delivery.payload
            )
        elif delivery.retained:
            # Nothing of ours is published retained; what the broker kept is of unknown age.
            self._refused("retained", delivery.topic.decode(), delivery.payload)
        else:
            self._messages.append(Received(self._now(), node, delivery.payload))
        if delivery.receipt is not None:
            self._receipts.append(delivery.receipt)
        self._arrived.set()

    def _learn(self, topic: bytes) -> str:
        """The node that speaks on the topic, remembered; empty when it is no topic of ours."""
        try:
            node = parse_up(topic.decode()) or ""
        except UnicodeDecodeError:
            node = ""
        if node:
            if len(self._nodes) >= _TOPICS_MAX:
                self._nodes.clear()
            self._nodes[topic] = node
        return node

    async def _feed(self) -> None:
        while True:
            await self._arrived.wait()
            while self._receipts or self._messages:
                messages, self._messages = self._messages, []
                receipts, self._receipts = self._receipts, []
                for start in range(0, len(messages), BATCH_MAX):
                    await self._intake.batch(PARTITION, messages[start : start + BATCH_MAX])
                self._session.acknowledge(receipts)
            self._arrived.clear()
