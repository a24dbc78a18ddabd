"""`holdfast simulate`: many nodes over real MQTT connections from one process, to size a collector or to try rules.

Each node has a connection of its own, as each agent has, with its own will and its own subscription. Nodes speak at
random phases of the interval, so the load is even. A report is held back while the broker has not taken the one
before: what then limits the rate is the broker or the collector, and the figures show it.
"""

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Callable

from msgspec import Struct

from holdfast.simulated_node import Shape, SimulatedNode, Stamp
from holdfast_collector.errors import SessionLost
from holdfast_collector.ingest.mqtt import Delivery, Session, SessionOptions, Will
from holdfast_wire import Ack, Refusal, Resend, decode_down
from holdfast_wire.topic import down_topic, up_topic

CONNECTS_PER_SECOND_MAX = 500
"""Faster than any fleet comes back to a broker, slower than what overflows its accept queue."""
ACK_PATIENCE_SECONDS = 15.0
"""As an agent's: a durable message without the collector's acknowledgement is sent again after this long."""
GOODBYE_SECONDS_MAX = 5.0
"""How long the end waits for acknowledgements that are still due."""
_FILES_BESIDE_CONNECTIONS = 64


class Plan(Struct, frozen=True, kw_only=True):
    """What to simulate."""

    brokers: tuple[str, ...]
    nodes: int
    shape: Shape
    seconds: float | None
    """How long; None: until stopped."""
    prefix: str = "sim"
    """Nodes are called `<prefix>-00001` and so on."""
    seed: int = 1


class Tally(Struct):
    """What happened so far. All counts grow, but for `connected` and `waiting`."""

    connected: int = 0
    connects_failed: int = 0
    connections_lost: int = 0
    reports: int = 0
    """Given to a connection."""
    reports_taken: int = 0
    """Answered by the broker's PUBACK."""
    reports_held_back: int = 0
    """Not made, because the one before had no answer yet."""
    refused: int = 0
    """Publishes the broker answered with a refusal."""
    durable: int = 0
    """Births and events that came into being."""
    durable_acknowledged: int = 0
    """Of them, those the collector has acknowledged."""
    sections_asked_again: int = 0
    bytes: int = 0
    trouble: str = ""
    """The newest reason of a failed or lost connection."""
    seconds: float = 0.0
    """Since the start, the wait for late acknowledgements not included."""
    reports_taken_per_second: float = 0.0
    """While it runs, within the last second or so; at the end, over all `seconds`."""

    @property
    def waiting(self) -> int:
        """Durable messages without the collector's acknowledgement."""
        return self.durable - self.durable_acknowledged


class _Speaker:
    """One node's connection after connection, until told to end."""

    def __init__(
        self, node: SimulatedNode, plan: Plan, entropy: random.Random, tally: Tally, began: float
    ) -> None:
        self._node = node
        self._plan = plan
        self._entropy = entropy
        self._tally = tally
        self._began = began
        self._session: Session | None = None
        self._under_way: asyncio.Future[int] | None = None
        self._durable_counted = 0
        self._connected = False

    def stamp(self) -> Stamp:
        return Stamp(time.time(), time.monotonic() - self._began)

    async def run(self, first_at: float) -> None:
        """Speak from `first_at` seconds on, until cancelled; then say goodbye."""
        await asyncio.sleep(first_at)
        self._node.birth(self.stamp())
        connecting = asyncio.ensure_future(self._keep_connected())
        try:
            while True:
                self._speak()
                await asyncio.sleep(self._plan.shape.interval_seconds)
        finally:
            await self._goodbye()
            connecting.cancel()
            if self._session is not None:
                self._session.stop()
            await asyncio.gather(connecting, return_exceptions=True)

    async def _keep_connected(self) -> None:
        """A session per connection, for each has a will of its own."""
        failures = 0
        while True:
            will = Will(topic=up_topic(self._node.name), payload=self._node.connecting(self.stamp()))
            options = SessionOptions(
                brokers=self._plan.brokers,
                client_id=self._node.name,
                filters=[down_topic(self._node.name)],
                will=will,
            )
            session = self._session = Session(options, delivered=self._deliver, changed=self._changed)
            before = self._tally.connections_lost
            await session.run()
            failures = 0 if self._tally.connections_lost > before else failures + 1
            await asyncio.sleep(self._entropy.uniform(0.0, min(30.0, 0.5 * 2.0 ** min(failures, 6))))

    def _changed(self, connected: bool, detail: str) -> None:
        if connected == self._connected and connected:
            return
        if connected:
            self._tally.connected += 1
            self._connected = True
            self._under_way = None
            asyncio.get_running_loop().call_soon(self._speak)
            return
        self._tally.trouble = detail
        if self._connected:
            self._tally.connected -= 1
            self._tally.connections_lost += 1
            self._connected = False
        else:
            self._tally.connects_failed += 1
        # One connection per session: the next has another will.
        if self._session is not None:
            self._session.stop()

    def _speak(self) -> None:
        """A report if it is its turn, and what must be kept until acknowledged."""
        session = self._session
        if session is None or not self._connected:
            return
        if self._under_way is not None and not self._under_way.done():
            self._tally.reports_held_back += 1
        else:
            payload = self._node.report(self.stamp())
            self._under_way = self._publish(session, payload)
            self._under_way.add_done_callback(self._report_answered)
            self._tally.reports += 1
        self._send_durable(session)

    def _send_durable(self, session: Session) -> None:
        for payload in self._node.due(self.stamp(), ACK_PATIENCE_SECONDS):
            self._publish(session, payload).add_done_callback(self._answered)
        self._tally.durable += self._node.durable_total - self._durable_counted
        self._durable_counted = self._node.durable_total

    def _publish(self, session: Session, payload: bytes) -> asyncio.Future[int]:
        self._tally.bytes += len(payload)
        return session.publish(up_topic(self._node.name), payload)

    def _report_answered(self, answer: asyncio.Future[int]) -> None:
        if self._answered(answer):
            self._tally.reports_taken += 1

    def _answered(self, answer: asyncio.Future[int]) -> bool:
        """Whether the broker took the message. One that went down with its connection is made or sent again."""
        if answer.cancelled() or isinstance(answer.exception(), SessionLost):
            return False
        taken = answer.result() < 0x80
        self._tally.refused += not taken
        return taken

    def _deliver(self, delivery: Delivery) -> None:
        session = self._session
        if session is None:
            return
        if delivery.receipt is not None:
            session.acknowledge([delivery.receipt])
        match decode_down(delivery.payload):
            case Ack() as ack:
                self._tally.durable_acknowledged += self._node.acked(ack)
            case Resend() as asked:
                self._node.resend(asked.probes)
                self._tally.sections_asked_again += len(asked.probes)
                asyncio.get_running_loop().call_soon(self._speak)
            case Refusal():
                pass

    async def _goodbye(self) -> None:
        session = self._session
        if session is not None and self._connected:
            with contextlib.suppress(SessionLost, TimeoutError):
                async with asyncio.timeout(GOODBYE_SECONDS_MAX):
                    await self._publish(session, self._node.goodbye(self.stamp()))


async def simulate(plan: Plan, progress: Callable[[Tally], None], stopping: asyncio.Event) -> Tally:
    """Run the plan until its time is over or `stopping` is set. `progress` is told about every second.

    Afterwards durable messages that the collector has not acknowledged are waited for, at most GOODBYE_SECONDS_MAX.
    """
    _raise_file_limit(plan.nodes)
    tally = Tally()
    began = time.monotonic()
    entropy = random.Random(plan.seed)
    spread = max(plan.shape.interval_seconds, plan.nodes / CONNECTS_PER_SECOND_MAX)
    speakers = []
    for number in range(1, plan.nodes + 1):
        own = random.Random(entropy.getrandbits(64))
        node = SimulatedNode(f"{plan.prefix}-{number:05}", plan.shape, own, Stamp(time.time(), 0.0))
        speaker = _Speaker(node, plan, own, tally, began)
        speakers.append(asyncio.ensure_future(speaker.run(own.uniform(0.0, spread))))
    try:
        deadline = None if plan.seconds is None else began + plan.seconds
        while not stopping.is_set() and (deadline is None or time.monotonic() < deadline):
            before, taken = time.monotonic(), tally.reports_taken
            await _pause(stopping, 1.0 if deadline is None else min(1.0, deadline - before))
            now = time.monotonic()
            tally.seconds = now - began
            tally.reports_taken_per_second = (tally.reports_taken - taken) / (now - before)
            progress(tally)
        tally.reports_taken_per_second = tally.reports_taken / max(tally.seconds, 1e-3)
        patience = time.monotonic() + GOODBYE_SECONDS_MAX
        # The tally is filled by many, and an event would have to be set by all of them.
        while tally.waiting and tally.connected and time.monotonic() < patience:  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.05)
    finally:
        for task in speakers:
            task.cancel()
        await asyncio.gather(*speakers, return_exceptions=True)
    return tally


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), max(seconds, 0.0))


def _raise_file_limit(nodes: int) -> None:
    """A connection is a file. The soft limit is often 1,024, the hard one a million (getrlimit(2))."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = nodes + _FILES_BESIDE_CONNECTIONS
    if soft < wanted:
        ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
