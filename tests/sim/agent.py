"""A simulated machine: the truth about its services, and an agent that tells it with the real delivery core."""

import random
from typing import Any

from holdfast_agent.core.delivery import Delivery, Spooled
from holdfast_wire import (
    Ack,
    Birth,
    Death,
    Event,
    Mark,
    Position,
    Report,
    Resend,
    Resource,
    Section,
    SectionStatus,
    SpoolState,
    content_digest,
    decode_down,
    encode,
    section_digest,
)
from holdfast_wire.message import DeathReason

INTERVAL = 5.0
SERVICES = 3


class Machine:
    """What is on the machine's disk outlives a crash of the agent and a reboot: install id, epoch, spool, truth."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.name = name
        self.rng = rng
        self.install_id = f"install-{name}"
        self.boots = 0
        self.epoch = 0
        self.spool: dict[Position, Spooled] = {}
        self.up = {f"s{n}.service": True for n in range(SERVICES)}
        self.happened: set[str] = set()
        """Ids of events whose spooling was confirmed: from then on they must not be lost."""
        self.faults: dict[str, int] = {}
        """Service → how often it went down."""
        self.running = False

    # ---- the agent's life ----------------------------------------------------------------------------------------

    def start(self, now: float, *, reboot: bool) -> None:
        """Boot, or start the agent again on the same boot."""
        self.boots += reboot or not self.boots
        self.epoch += 1
        self.seq = 0
        self.connection = 0
        self.connected = False
        self.running = True
        self.sent_digests: dict[str, str] = {}
        self.wanted: set[str] = set()
        birth = Birth(
            **self._header(now),
            agent_version="0",
            os="linux",
            os_name="sim",
            kernel="0",
            interval_seconds=INTERVAL,
            previous_stop="dirty",
            spool=self._spool_state(),
        )
        self._append(birth)

    def connect(self) -> None:
        """A new connection: everything unacknowledged goes again."""
        self.connection += 1
        self.connected = True
        self.delivery = Delivery()
        self.sent_digests = {}

    def will(self, now: float) -> bytes:
        """The will of the connection that begins now."""
        return self._death(now, DeathReason.LOST)

    def goodbye(self, now: float) -> bytes:
        """A clean stop's last word."""
        return self._death(now, DeathReason.STOPPED)

    def _death(self, now: float, reason: DeathReason) -> bytes:
        header = self._header(now, count=False)
        return encode(Death(**header, reason=reason, connection=self.connection))

    # ---- what happens --------------------------------------------------------------------------------------------

    def flip(self, service: str, now: float) -> None:
        """A service fails or comes back. A failure is an event, durable before anybody hears of it."""
        self.up[service] = not self.up[service]
        if not self.up[service]:
            self.faults[service] = self.faults.get(service, 0) + 1
            if self.running:
                self._event("unit_failed", service, now)

    def _event(self, type_: str, service: str, now: float) -> None:
        event = Event(
            **self._header(now),
            type=type_,
            resource_kind="service",
            resource=service,
            at=now,
            summary=f"{service} failed",
        )
        self._append(event)
        self.happened.add(f"{self.name}/{event.epoch}.{event.seq}")

    # ---- messages ------------------------------------------------------------------------------------------------

    def due(self, now: float) -> list[bytes]:
        """Durable messages to send now."""
        while (wish := self.delivery.load()) is not None:
            after = wish.after or Position(0, 0)
            stored = sorted(position for position in self.spool if position > after)[: wish.messages_max]
            self.delivery.loaded(wish, [self.spool[position] for position in stored])
        return [message.payload for message in self.delivery.due(now)]

    def report(self, now: float) -> bytes:
        """The newest report, with the sections that changed on this connection or were asked for."""
        section = self._section(now)
        digest = section_digest(section)
        fresh = self.sent_digests.get("services") != digest or "services" in self.wanted
        self.sent_digests["services"] = digest
        self.wanted.clear()
        return encode(
            Report(
                **self._header(now),
                connection=self.connection,
                interval_seconds=INTERVAL,
                floor=min(self.spool, default=Position(self.epoch, self.seq + 1)),
                spool=self._spool_state(),
                marks={"services": Mark(digest=digest, mono=now, duration_seconds=0.0)},
                sections=[section] if fresh else [],
            )
        )

    def heard(self, payload: bytes, now: float) -> list[str]:
        """Take in an answer. Returns the ids of events that left the spool on its word."""
        message = decode_down(payload)
        match message:
            case Ack() if message.install_id == self.install_id:
                self.delivery.acked(message.messages, now)
                return [
                    f"{self.name}/{acked.epoch}.{acked.seq}"
                    for acked in message.messages
                    if (kept := self.spool.get(Position(acked.epoch, acked.seq)))
                    and kept.digest == acked.digest
                    and self.spool.pop(Position(acked.epoch, acked.seq))
                ]
            case Resend() if message.install_id == self.install_id:
                self.wanted.update(message.probes)
            case _:
                pass
        return []

    def _section(self, now: float) -> Section:
        return Section(
            probe="services",
            status=SectionStatus.OK,
            observed_at=now,
            mono=now,
            period_seconds=INTERVAL,
            duration_seconds=0.0,
            resources=[
                *(
                    Resource(kind="service", name=name, facts={"up": up, "stateful": True})
                    for name, up in self.up.items()
                ),
                Resource(kind="volume", name="/srv", facts={"durability_class": 2, "writable": True}),
            ],
        )

    def _append(self, message: Birth | Event) -> None:
        payload = encode(message)
        spooled = Spooled(message.position, content_digest(payload), payload)
        self.spool[message.position] = spooled
        if self.connected:
            self.delivery.spooled(spooled)

    def _spool_state(self) -> SpoolState:
        return SpoolState(messages=len(self.spool), bytes=0, dropped_total=0, in_memory=False)

    def _header(self, now: float, *, count: bool = True) -> dict[str, Any]:
        self.seq += count
        return {
            "node": self.name,
            "install_id": self.install_id,
            "boot_id": f"boot-{self.name}-{self.boots}",
            "epoch": self.epoch,
            "seq": self.seq,
            "sent_at": now,
            "mono": now,
        }
