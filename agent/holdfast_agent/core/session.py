"""One run of the agent: which message has which position, and what leaves on the current connection when.

The shell feeds in what happened (a section, a spooled message, a connection, an acknowledgement) and asks `step` what
to do: messages to publish, a wish to the spool, when to ask again.

A section is published when its digest differs from what was last published *on this connection*, and when the
collector asks for it; the marks in every report let the collector notice what it lacks. What is published is not
taken for held: PUBACK is not delivery, and a collector restored from a backup knows less than it did.

A report leaves when the interval is over, `GATHER_SECONDS` after the first scheduled news (the other probes of the
same slot are about to finish), and at once for urgent news, a new connection or a request. One report is under way
at a time: while the broker has not taken the last one, the next is not made, and what is sent later is newer.
"""

import math
from typing import Literal, TypedDict

from msgspec import Struct, structs

from holdfast_agent.core.delivery import Delivery, Load, Spooled
from holdfast_agent.core.happening import Happening
from holdfast_agent.core.section import REPORT_BYTES_MAX, Held, Sections
from holdfast_agent.core.testimony import Confirmed, ReadBack
from holdfast_wire import (
    Ack,
    Acknowledgement,
    Birth,
    Capability,
    ChainReport,
    Death,
    DeathReason,
    DurableMessage,
    Event,
    Machine,
    Position,
    Refusal,
    Report,
    Resend,
    Section,
    SpoolState,
    Witness,
    content_digest,
    decode_up,
    encode,
)

GATHER_SECONDS = 0.25
FIRST_SECTIONS_PATIENCE_SECONDS = 5.0
"""A report names all probes, so the first one waits for each to have looked once; not for one that hangs."""
RESENT_PATIENCE_SECONDS = 3.0
"""A section asked for within this time of its publishing is on its way; the next report shows whether it came."""
REPORT_STALL_SECONDS = 30.0
"""A broker that answers pings but takes no report for this long is given up for another connection."""
SUMMARY_LENGTH_MAX = 1000
"""The kernel's own line limit is 1,024 bytes (kernel/printk: PRINTKRB_RECORD_MAX, formerly LOG_LINE_MAX)."""


class Stamp(Struct, frozen=True):
    """One instant on both clocks."""

    at: float
    """Wall clock, Unix seconds UTC. Stated, never compared."""
    mono: float
    """Boot-time clock, seconds. Everything here is decided by it."""


class Identity(Struct, frozen=True, kw_only=True):
    """Who speaks, in this run."""

    node: str
    install_id: str
    boot_id: str
    epoch: int


class Profile(Struct, frozen=True, kw_only=True):
    """What a birth tells of machine and agent."""

    agent_version: str
    os: str
    os_name: str
    kernel: str
    previous_stop: Literal["clean", "dirty", "first"]
    machine: Machine = Machine()
    previous_boot: Literal["clean", "dirty", "unknown"] = "unknown"
    previous_boot_evidence: str = ""


class SpoolFacts(Struct, frozen=True, kw_only=True):
    """How the spool stands."""

    state: SpoolState
    oldest: Position | None = None
    """The oldest message that is neither acknowledged nor dropped, on disk or in memory."""
    acknowledged: Position | None = None
    """The newest position that the collector acknowledged."""


class Publish(Struct, frozen=True):
    """One message to publish now. The link returns `token` when the broker has answered."""

    token: int
    payload: bytes


class Step(Struct, frozen=True, kw_only=True):
    """What to do now."""

    publish: list[Publish]
    load: Load | None
    wake_at: float
    """When to ask again if nothing happens, by the boot-time clock."""
    stalled: bool = False
    """The broker takes nothing; connect again."""


class _Header(TypedDict):
    node: str
    install_id: str
    boot_id: str
    epoch: int
    seq: int
    sent_at: float
    mono: float


class _Connection(Struct):
    """What is only true of one connection to a broker."""

    number: int
    since: float
    bytes_max: int
    delivery: Delivery
    published: dict[str, str]
    """Probe → digest last published here."""
    published_at: dict[str, float]
    reports_under_way: set[int]
    report_sent_at: float = -math.inf


class Session:
    """See the module. Not thread-safe; every `stamp` is later than or equal to the one before."""

    def __init__(self, identity: Identity, interval_seconds: float) -> None:
        self._identity = identity
        self._interval = interval_seconds
        self._seq = 0
        self._appending: set[Position] = set()
        """Positions given out whose messages are not in the spool yet: no report may pass its floor over them."""
        self._sections = Sections()
        self._expected: set[str] = set()
        self._connection: _Connection | None = None
        self._connections = 0
        self._report_at = 0.0
        self._token = 0

    # Messages

    def birth(
        self, stamp: Stamp, profile: Profile, capabilities: list[Capability], spool: SpoolFacts
    ) -> Spooled:
        """The birth message of this run; to be spooled like any durable message."""
        return self._durable(
            Birth(
                **self._header(stamp),
                agent_version=profile.agent_version,
                os=profile.os,
                os_name=profile.os_name,
                kernel=profile.kernel,
                interval_seconds=self._interval,
                previous_stop=profile.previous_stop,
                capabilities=capabilities,
                spool=spool.state,
                acknowledged=spool.acknowledged,
                machine=profile.machine,
                previous_boot=profile.previous_boot,
                previous_boot_evidence=profile.previous_boot_evidence[:SUMMARY_LENGTH_MAX],
            )
        )

    def event(self, stamp: Stamp, happening: Happening) -> Spooled | Refusal:
        """The event message of what happened, to be spooled; or why no collector would take it."""
        message = Event(
            **self._header(stamp),
            type=happening.type,
            resource_kind=happening.resource_kind,
            resource=happening.resource,
            at=happening.at,
            summary=happening.summary[:SUMMARY_LENGTH_MAX],
            fields=happening.fields,
        )
        return self._sound(message)

    def witness(self, stamp: Stamp, confirmed: Confirmed) -> Spooled | Refusal:
        """The message that a record is on a volume's medium, to be spooled; or why no collector would take it."""
        return self._sound(Witness(**self._header(stamp), **structs.asdict(confirmed)))

    def chain_report(self, stamp: Stamp, read: ReadBack) -> Spooled | Refusal:
        """The message on what was read back of a chain, to be spooled; or why no collector would take it."""
        return self._sound(ChainReport(**self._header(stamp), **structs.asdict(read)))

    def spooled(self, message: Spooled) -> None:
        """The message is in the spool and may leave."""
        self._appending.discard(message.position)
        if self._connection is not None:
            self._connection.delivery.spooled(message)

    def death(self, stamp: Stamp) -> bytes:
        """The goodbye of a clean stop."""
        return encode(Death(**self._header(stamp), reason=DeathReason.STOPPED, connection=self._connections))

    # Sections

    def expect(self, probes: set[str]) -> None:
        """These probes are run from now on; what others said is forgotten."""
        self._expected = set(probes)
        for name in self._sections.names() - probes:
            self._sections.remove(name)

    def section(self, stamp: Stamp, section: Section, *, urgent: bool = False) -> None:
        """A probe has looked. `urgent`: it was asked to, and what it saw leaves at once."""
        if section.probe not in self._expected or not self._sections.put(section):
            return
        self._report_at = min(self._report_at, stamp.mono + (0.0 if urgent else GATHER_SECONDS))

    def set_interval(self, stamp: Stamp, seconds: float) -> None:
        """Report this often from now on."""
        self._interval = seconds
        self._report_at = min(self._report_at, stamp.mono + seconds)

    # Connections

    def connecting(self, stamp: Stamp) -> tuple[int, bytes]:
        """A connection is about to be tried: its number, and its will."""
        self._connections += 1
        will = Death(**self._header(stamp), reason=DeathReason.LOST, connection=self._connections)
        return self._connections, encode(will)

    def connected(self, stamp: Stamp, number: int, bytes_max: int | None = None) -> None:
        """Connection `number` stands. `bytes_max`: the largest payload its broker takes, where it said so."""
        if number != self._connections:
            return  # an older attempt came through after it was given up
        self._connection = _Connection(
            number=number,
            since=stamp.mono,
            bytes_max=min(REPORT_BYTES_MAX, bytes_max or REPORT_BYTES_MAX),
            delivery=Delivery(),
            published={},
            published_at={},
            reports_under_way=set(),
        )
        self._report_at = stamp.mono

    def disconnected(self, number: int) -> None:
        """Connection `number` ended; news of an older one than the current changes nothing."""
        if self._connection is not None and self._connection.number == number:
            self._connection = None

    def published(self, number: int, token: int) -> None:
        """The broker answered a publish: it took it or refused it, which the link counts. Not delivery."""
        if self._connection is not None and self._connection.number == number:
            self._connection.reports_under_way.discard(token)

    # What the collector says

    def acked(self, stamp: Stamp, ack: Ack) -> list[Acknowledgement]:
        """What the spool may forget; nothing when the acknowledgement is for another installation."""
        if ack.install_id != self._identity.install_id:
            return []
        if self._connection is not None:
            self._connection.delivery.acked(ack.messages, stamp.mono)
        return ack.messages

    def resend(self, stamp: Stamp, resend: Resend) -> None:
        """The collector lacks sections: they leave at once, unless they are on their way already."""
        connection = self._connection
        if connection is None or resend.install_id != self._identity.install_id:
            return
        for name in resend.probes:
            if stamp.mono - connection.published_at.get(name, -math.inf) < RESENT_PATIENCE_SECONDS:
                continue
            if name in self._sections.names():
                connection.published.pop(name, None)
                self._report_at = stamp.mono

    # Decisions

    def loaded(self, wish: Load, messages: list[Spooled]) -> None:
        """The spool's answer to `Step.load`."""
        if self._connection is not None:
            self._connection.delivery.loaded(wish, messages)

    def step(self, stamp: Stamp, spool: SpoolFacts) -> Step:
        """What is to be done now. Messages given out count as published."""
        connection = self._connection
        if connection is None:
            return Step(publish=[], load=None, wake_at=math.inf)
        connection.delivery.forget_before(spool.oldest)
        publish = [
            Publish(self._next_token(), message.payload) for message in connection.delivery.due(stamp.mono)
        ]
        if self._report_due(stamp, connection):
            publish += self._reports(stamp, connection, spool)
        return Step(
            publish=publish,
            load=connection.delivery.load(),
            wake_at=min(connection.delivery.wake_at(stamp.mono), self._report_wake_at(connection)),
            stalled=bool(connection.reports_under_way)
            and stamp.mono >= connection.report_sent_at + REPORT_STALL_SECONDS,
        )

    def _report_due(self, stamp: Stamp, connection: _Connection) -> bool:
        return stamp.mono >= self._report_at and not (
            connection.reports_under_way or self._awaiting_sections(stamp, connection)
        )

    def _awaiting_sections(self, stamp: Stamp, connection: _Connection) -> bool:
        waiting = connection.report_sent_at == -math.inf and bool(self._expected - self._sections.names())
        return waiting and stamp.mono < connection.since + FIRST_SECTIONS_PATIENCE_SECONDS

    def _report_wake_at(self, connection: _Connection) -> float:
        if connection.reports_under_way:
            return connection.report_sent_at + REPORT_STALL_SECONDS
        if connection.report_sent_at == -math.inf and self._expected - self._sections.names():
            return max(self._report_at, connection.since + FIRST_SECTIONS_PATIENCE_SECONDS)
        return self._report_at

    def _reports(self, stamp: Stamp, connection: _Connection, spool: SpoolFacts) -> list[Publish]:
        groups = self._sections.parts(connection.published, connection.bytes_max)
        connection.report_sent_at = stamp.mono
        self._report_at = stamp.mono + self._interval
        return [self._report(stamp, connection, spool, group) for group in groups]

    def _report(self, stamp: Stamp, connection: _Connection, spool: SpoolFacts, group: list[Held]) -> Publish:
        report = Report(
            **self._header(stamp),
            connection=connection.number,
            interval_seconds=self._interval,
            floor=self._floor(spool),
            spool=spool.state,
            marks=self._sections.marks(),
            sections=[held.section for held in group],
        )
        self._seq += 1
        for held in group:
            connection.published[held.section.probe] = held.digest
            connection.published_at[held.section.probe] = stamp.mono
        token = self._next_token()
        connection.reports_under_way.add(token)
        return Publish(token, encode(report))

    def _floor(self, spool: SpoolFacts) -> Position:
        undelivered = [*self._appending, *([spool.oldest] if spool.oldest else [])]
        return min(undelivered, default=Position(self._identity.epoch, self._seq + 1))

    def _sound(self, message: DurableMessage) -> Spooled | Refusal:
        """As it will be taken; what is refused uses up no position."""
        refusal = decode_up(self._identity.node, encode(message))
        return refusal if isinstance(refusal, Refusal) else self._durable(message)

    def _durable(self, message: DurableMessage) -> Spooled:
        self._seq += 1
        payload = encode(message)
        self._appending.add(message.position)
        return Spooled(message.position, content_digest(payload), payload)

    def _header(self, stamp: Stamp) -> _Header:
        """The next message's header. Its `seq` is used up by what is durable or a report.

        A death only borrows it: as a will it is composed long before it is sent, and nothing is ordered by it.
        """
        return {
            "node": self._identity.node,
            "install_id": self._identity.install_id,
            "boot_id": self._identity.boot_id,
            "epoch": self._identity.epoch,
            "seq": self._seq + 1,
            "sent_at": stamp.at,
            "mono": stamp.mono,
        }

    def _next_token(self) -> int:
        self._token += 1
        return self._token
