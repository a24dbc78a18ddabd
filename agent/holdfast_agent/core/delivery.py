"""Which durable messages are sent now, and which are sent again.

The spool holds everything the collector has not acknowledged; a window of it, oldest first, is in flight. PUBACK
plays no part: only the collector's acknowledgement of position and digest takes a message out.

    in spool only ──load──▶ waiting ──due──▶ sent ──acked──▶ gone
                              ▲               │ no answer within its patience
                              └───────────────┘

While acknowledgements flow, each message that stays without one is sent again after 15 s, then 30 s, and so on.
While none come, the collector is away, and sending everything again would only fill the broker: one message at a
time knocks, with growing pauses, and the first acknowledgement lets all the late ones go at once. New messages are
always sent once, whatever the state: an event must not wait for an older one's trouble.
"""

import math

from msgspec import Struct

from holdfast_agent.core.schedule import pause_seconds
from holdfast_wire import Acknowledgement, Position

WINDOW_MESSAGES_MAX = 500
"""Half of what mosquitto queues for a collector that is away (1,000, the rest silently dropped)."""
WINDOW_BYTES_MAX = 2 * 1024 * 1024
"""What a window may add to the agent's memory."""
ACK_PATIENCE_SECONDS = 15.0
"""A collector acknowledges within tens of milliseconds; 15 s covers its restart."""
ACK_PATIENCE_SECONDS_MAX = 120.0


class Spooled(Struct, frozen=True):
    """A durable message as it lies in the spool and goes over the wire."""

    position: Position
    digest: str
    payload: bytes


class Load(Struct, frozen=True):
    """A wish to the spool: the oldest unacknowledged messages after a position."""

    after: Position | None
    messages_max: int
    bytes_max: int


class _Flight(Struct):
    message: Spooled
    sent_at: float | None = None
    attempts: int = 0

    def late_at(self) -> float:
        """When its patience ends; never, while it waits to be sent."""
        if self.sent_at is None:
            return math.inf
        return self.sent_at + pause_seconds(
            self.attempts - 1, base=ACK_PATIENCE_SECONDS, cap=ACK_PATIENCE_SECONDS_MAX
        )


class Delivery:
    """The window of durable messages in flight on one connection. Times are monotonic seconds.

    A new connection has a new one: everything unacknowledged goes again, oldest first.
    """

    def __init__(self) -> None:
        self._flights: dict[Position, _Flight] = {}
        self._bytes = 0
        self._reached: Position | None = None
        """Everything up to here was taken from the spool."""
        self._more = True
        """The spool may hold messages after `_reached`."""
        self._wish: Load | None = None
        """What the spool was asked and has not answered yet."""
        self._arrived: list[Spooled] = []
        """Spooled while a load was under way; the load may or may not have seen them."""
        self._heard_at = -math.inf
        self._knock_at = -math.inf
        self._knocks = 0

    def spooled(self, message: Spooled) -> None:
        """A new message is in the spool."""
        if self._wish is not None:
            self._arrived.append(message)
        elif not self._more and self._room_for(message):
            self._take(message)
        else:
            self._more = True

    def load(self) -> Load | None:
        """What to ask of the spool now; `loaded` must follow. None while there is nothing to ask."""
        room = WINDOW_MESSAGES_MAX - len(self._flights)
        bytes_room = WINDOW_BYTES_MAX - self._bytes
        half_empty = room * 2 >= WINDOW_MESSAGES_MAX and bytes_room * 2 >= WINDOW_BYTES_MAX
        if self._wish is not None or not self._more or not half_empty:
            return None
        self._wish = Load(self._reached, room, bytes_room)
        return self._wish

    def loaded(self, wish: Load, messages: list[Spooled]) -> None:
        """What the spool gave. Fewer messages than wished for, and no bound of bytes met: that was all."""
        if wish is not self._wish:
            return  # asked by an earlier connection
        self._wish = None
        arrived, self._arrived = self._arrived, []
        size = sum(len(message.payload) for message in messages)
        for message in messages:
            self._take(message)
        self._more = len(messages) >= wish.messages_max or size >= wish.bytes_max
        for message in arrived:
            self.spooled(message)

    def acked(self, acknowledgements: list[Acknowledgement], now: float) -> None:
        """The collector holds these. One whose digest differs is about another message and changes nothing."""
        for acknowledgement in acknowledgements:
            position = Position(acknowledgement.epoch, acknowledgement.seq)
            flight = self._flights.get(position)
            if flight is not None and flight.message.digest == acknowledgement.digest:
                self._drop(position)
        self._heard_at, self._knocks, self._knock_at = now, 0, -math.inf

    def forget_before(self, oldest: Position | None) -> None:
        """The spool dropped what is older than `oldest` for want of room: none of it may be sent any more."""
        if oldest is None:
            return
        for position in [position for position in self._flights if position < oldest]:
            self._drop(position)

    def due(self, now: float) -> list[Spooled]:
        """The messages to send now, oldest first; they count as sent."""
        flights = [flight for flight in self._flights.values() if flight.sent_at is None]
        flights += self._again(now)
        flights.sort(key=lambda flight: flight.message.position)
        for flight in flights:
            flight.sent_at = now
            flight.attempts += 1
        return [flight.message for flight in flights]

    def wake_at(self, now: float) -> float:
        """When `due` next has something to give, if nothing else happens."""
        if any(flight.sent_at is None for flight in self._flights.values()):
            return now
        late_at = min((flight.late_at() for flight in self._flights.values()), default=math.inf)
        return max(late_at, self._knock_at)

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    def _again(self, now: float) -> list[_Flight]:
        late = [flight for flight in self._flights.values() if flight.late_at() <= now]
        if not late or now - self._heard_at < ACK_PATIENCE_SECONDS:
            return late
        if now < self._knock_at:
            return []
        self._knock_at = now + pause_seconds(
            self._knocks, base=ACK_PATIENCE_SECONDS, cap=ACK_PATIENCE_SECONDS_MAX
        )
        self._knocks += 1
        # The least recently sent, so that one message the collector never answers does not shadow the others.
        return [min(late, key=lambda flight: (flight.sent_at or 0.0, flight.message.position))]

    def _room_for(self, message: Spooled) -> bool:
        return (
            len(self._flights) < WINDOW_MESSAGES_MAX
            and self._bytes + len(message.payload) <= WINDOW_BYTES_MAX
        )

    def _take(self, message: Spooled) -> None:
        if message.position not in self._flights:
            self._flights[message.position] = _Flight(message)
            self._bytes += len(message.payload)
        if self._reached is None or self._reached < message.position:
            self._reached = message.position

    def _drop(self, position: Position) -> None:
        self._bytes -= len(self._flights.pop(position).message.payload)
