"""A lasting MQTT session: links one after the other, over a list of brokers, until somebody wants the end.

Whatever ends a link, the next is tried with full jitter
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). MQTT 5 is asked for first. A broker that
refuses it, hangs up on it or does not answer it is asked for 3.1.1 at once, and for MQTT 5 again some time later.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from holdfast_collector.errors import SessionLost
from holdfast_collector.ingest.link import (
    MQTT_3_1_1,
    MQTT_5,
    PORTS,
    Delivery,
    Link,
    Receipt,
    SessionOptions,
    VersionRefused,
    Will,
)

__all__ = ["PORTS", "Delivery", "Receipt", "Session", "SessionOptions", "Will"]

CONNECT_SECONDS_MAX = 10.0
"""From the first SYN to the SUBACK. TLS over a slow link takes two seconds at the most."""
CONNECT5_SECONDS_MAX = 5.0
"""A broker that knows no MQTT 5 (amqtt) takes its properties for the length of a text and waits for the rest."""
OLD_SECONDS = 600.0
"""How long a broker is taken for an old one: it may only have been starting when it hung up on MQTT 5."""
SHORT_SECONDS = 5.0
"""A session that ended sooner was no success."""
OUTGOING_MAX = 10_000
"""Publishes that may wait for the broker's window; what does not fit is not sent, and its sender is told."""


class Session:
    """One MQTT session, kept up until `stop`. Belongs to one event loop."""

    def __init__(
        self,
        options: SessionOptions,
        *,
        delivered: Callable[[Delivery], None] | None = None,
        changed: Callable[[bool, str], None] | None = None,
    ) -> None:
        """`delivered` gets every message, in order, from within the reading of the socket: it must be quick.

        `changed(connected, detail)` is told when the session comes up and goes down, and why.
        """
        self._options = options
        self._delivered = delivered or (lambda delivery: None)
        self._changed = changed or (lambda connected, detail: None)
        self._link: Link | None = None
        self._links = 0
        self._outgoing: deque[tuple[str, bytes, asyncio.Future[int]]] = deque()
        self._old_until: dict[str, float] = {}
        """Brokers that spoke 3.1.1 and not 5 → until when, on the loop's clock, they are not asked again."""
        self._stopping = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether messages can come and go now."""
        return self._link is not None and self._link.up

    @property
    def protocol(self) -> str:
        """`5.0` or `3.1.1` while connected, else empty."""
        if self._link is None or not self._link.up:
            return ""
        return "5.0" if self._link.version == MQTT_5 else "3.1.1"

    async def run(self) -> None:
        """Keep the session up until `stop`, then say goodbye. Returns only then, whatever the world does."""
        failures = 0
        while not self._stopping.is_set():
            url = self._options.brokers[failures % len(self._options.brokers)]
            try:
                link = await self._connect(url)
            except SessionLost as error:
                failures += 1
                self._changed(False, f"{url}: {error.reason}")
                await self._pause(failures // len(self._options.brokers))
                continue
            self._changed(True, f"{url}, MQTT {self.protocol}")
            self._send_waiting()
            began = asyncio.get_running_loop().time()
            reason = await self._until_lost(link)
            # Two clients with one id throw each other off for ever: such a session counts as a failure.
            lasted = asyncio.get_running_loop().time() - began
            failures = failures + 1 if lasted < SHORT_SECONDS else 0
            if reason is not None:
                self._changed(False, f"{url}: {reason}")
                await self._pause(failures)

    def stop(self) -> None:
        """Let `run` return: disconnect cleanly, so the will stays unsent, and connect no more."""
        self._stopping.set()

    def publish(self, topic: str, payload: bytes) -> asyncio.Future[int]:
        """Publish with QoS 1. The future gives the broker's reason code, 0x80 and above meaning refused.

        It raises SessionLost when the session ends first, when there is none, or when OUTGOING_MAX others wait.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        link = self._link
        if link is None or not link.up:
            future.set_exception(SessionLost("not connected"))
        elif self._outgoing or not link.publish(topic, payload, future):
            if len(self._outgoing) >= OUTGOING_MAX:
                future.set_exception(SessionLost(f"{OUTGOING_MAX} messages wait for the broker already"))
            else:
                self._outgoing.append((topic, payload, future))
        return future

    def acknowledge(self, receipts: Sequence[Receipt]) -> None:
        """Tell the broker that these messages are done with. Those of an earlier connection are left to come again."""
        link = self._link
        # Messages of a resumed session come before the SUBACK that completes the connection.
        if link is not None and not link.lost.done():
            link.acknowledge([receipt.packet_id for receipt in receipts if receipt.connection == link.number])

    async def _connect(self, url: str) -> Link:
        now = asyncio.get_running_loop().time()
        if now < self._old_until.get(url, 0.0):
            return await self._open(url, MQTT_3_1_1)
        try:
            return await self._open(url, MQTT_5)
        except VersionRefused as refused:
            try:
                link = await self._open(url, MQTT_3_1_1)
            except SessionLost:
                raise refused from None
            self._old_until[url] = now + OLD_SECONDS
            return link

    async def _open(self, url: str, version: int) -> Link:
        patience = CONNECT5_SECONDS_MAX if version == MQTT_5 else CONNECT_SECONDS_MAX
        self._links += 1
        link = Link(self._options, self._links, version, self._delivered, self._send_waiting)
        # Messages of a resumed session may come with the CONNACK: from here on they find this link.
        self._link = link
        try:
            async with asyncio.timeout(patience):
                await link.open(url)
        except TimeoutError:
            await link.close()
            kind = VersionRefused if version == MQTT_5 else SessionLost
            raise kind(f"no answer within {patience:g} s") from None
        except BaseException:
            await link.close()
            raise
        return link

    async def _until_lost(self, link: Link) -> str | None:
        """Why the connection ended; None when we ended it."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        ends: set[asyncio.Future[Any]] = {stopping, link.lost}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return link.lost.result() if link.lost.done() else None
        finally:
            stopping.cancel()
            await link.close()
            self._fail_waiting("the session ended before it could be sent")

    async def _pause(self, failures: int) -> None:
        limit = min(self._options.backoff_seconds_max, 0.25 * 2.0 ** min(failures, 16))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(random.uniform(0.0, limit)):
                await self._stopping.wait()

    def _send_waiting(self) -> None:
        while self._outgoing and self._link is not None and self._link.up:
            topic, payload, future = self._outgoing[0]
            if not future.done() and not self._link.publish(topic, payload, future):
                return
            self._outgoing.popleft()

    def _fail_waiting(self, reason: str) -> None:
        while self._outgoing:
            future = self._outgoing.popleft()[2]
            if not future.done():
                future.set_exception(SessionLost(reason))
