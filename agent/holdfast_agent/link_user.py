"""What the link tells whom it serves. Knows no MQTT."""

from typing import Protocol

from msgspec import Struct

from holdfast_agent.broker import BrokerAddress


class LinkStanding(Struct, frozen=True, kw_only=True):
    """A connection that stands."""

    broker: BrokerAddress
    protocol: str
    payload_bytes_max: int | None
    """The largest payload the broker says it takes; None where it did not say."""
    subscribed: bool
    """Whether the broker granted the down topic. It may grant and still not deliver."""


class Counts(Struct):
    """What happened on the link since the agent started."""

    connected_total: int = 0
    failed_total: int = 0
    published_total: int = 0
    refused_total: int = 0
    """Publishes that a broker answered with a reason code of 0x80 or above."""


class LinkUser(Protocol):
    """Whom the link serves. Everything is called on the event loop and must not block."""

    def connecting(self) -> tuple[int, bytes | None]:
        """A connection is about to be tried: its number and the payload of its will, if it shall have one."""

    def connected(self, number: int, standing: LinkStanding) -> None: ...

    def connect_failed(self, broker: BrokerAddress, reason: str, pause_seconds: float) -> None: ...

    def disconnected(self, number: int, reason: str) -> None: ...

    def taken_over(self, number: int) -> None:
        """Follows `disconnected`: the broker gave the session to another client of this name. MQTT 5 says so."""

    def answered(self, number: int, token: int, refusal: str) -> None:
        """The broker took a publish, or refused it with this reason."""

    def received(self, payload: bytes) -> None:
        """A message on the down topic."""
