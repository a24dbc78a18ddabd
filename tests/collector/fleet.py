"""Messages and collectors for tests of the core: literals for states, virtual time for time."""

from typing import Any

from holdfast_collector.core.collector import Collector
from holdfast_collector.core.effect import Commit, Effect, Publish, Rejected, Transitioned
from holdfast_collector.core.event import BrokerChanged, Received, Ticked
from holdfast_collector.core.record import Receiver, State
from holdfast_rules import RuleSet, load
from holdfast_wire import (
    Birth,
    Death,
    Event,
    Mark,
    Position,
    Report,
    Resource,
    Section,
    SectionStatus,
    SpoolState,
    UpMessage,
    encode,
    section_digest,
)
from holdfast_wire.message import DeathReason, Value

T0 = 1_000_000.0
"""When every test's collector starts."""
WARM = T0 + 60.0
"""When it has watched long enough."""
SPOOL = SpoolState(messages=0, bytes=0, dropped_total=0, in_memory=False)

RULES = """
rules:
  - {alert: ServiceDown, id: S-01, resource: service, when: not up, for: 0s, severity: page,
     summary: "{node}: {resource} is down", inhibited_by: [NodeSilent]}
  - {alert: ServiceSlow, id: S-02, resource: service, when: restart_looping, for: 30s, severity: ticket,
     summary: "{node}: {resource} restarts"}
  - {alert: ServiceCrashed, id: S-03, resource: service, when: 'delta(unit_failed_total, "10m") > 0', severity: info,
     summary: "{node}: {resource}: {unit_failed_last}"}
  - {alert: NodeSilent, id: S-04, resource: node, when: not reporting and session != "stopped", for: 20s,
     severity: page, summary: "{node} is silent"}
  - {alert: Watchdog, id: S-05, resource: collector, when: "True", severity: info, summary: the path works}
"""


def section(
    services: dict[str, dict[str, Value]],
    *,
    mono: float = 0.0,
    status: SectionStatus = SectionStatus.OK,
    period_seconds: float = 10.0,
) -> Section:
    """What the probe `services` says."""
    return Section(
        probe="services",
        status=status,
        observed_at=T0,
        mono=mono,
        period_seconds=period_seconds,
        duration_seconds=0.01,
        resources=[Resource(kind="service", name=name, facts=facts) for name, facts in services.items()],
    )


class Agent:
    """Composes what an agent would send; nothing is sent by itself."""

    def __init__(
        self, node: str = "n1", *, install: str = "install-1", boot: str = "boot-1", epoch: int = 1
    ) -> None:
        self.node, self.install, self.boot, self.epoch = node, install, boot, epoch
        self.seq = 0
        self.connection = 1

    def header(self, mono: float = 0.0) -> dict[str, Any]:
        self.seq += 1
        return {
            "node": self.node,
            "install_id": self.install,
            "boot_id": self.boot,
            "epoch": self.epoch,
            "seq": self.seq,
            "sent_at": T0,
            "mono": mono,
        }

    def birth(self) -> Birth:
        return Birth(
            **self.header(),
            agent_version="0",
            os="linux",
            os_name="test",
            kernel="0",
            interval_seconds=10.0,
            previous_stop="first",
            spool=SPOOL,
        )

    def report(
        self, *sections: Section, held: tuple[Section, ...] = (), mono: float = 0.0, floor: int = 0
    ) -> Report:
        """A report that carries `sections` and only marks what is `held`."""
        marks = {
            one.probe: Mark(digest=section_digest(one), mono=one.mono, duration_seconds=one.duration_seconds)
            for one in (*sections, *held)
        }
        return Report(
            **self.header(mono),
            connection=self.connection,
            interval_seconds=10.0,
            floor=Position(self.epoch, floor),
            spool=SPOOL,
            marks=marks,
            sections=list(sections),
        )

    def event(self, resource: str = "a.service", type_: str = "unit_failed", summary: str = "died") -> Event:
        kind = "service" if type_.startswith("unit_") else "device"
        return Event(
            **self.header(), type=type_, resource_kind=kind, resource=resource, at=T0, summary=summary
        )

    def death(self, reason: DeathReason = DeathReason.LOST) -> Death:
        return Death(**self.header(), reason=reason, connection=self.connection)


class Desk:
    """A collector on a desk: feed it, look at what it wants done, switch it off and on again."""

    def __init__(
        self, *, rules: str | RuleSet = RULES, state: State | None = None, started_at: float = T0
    ) -> None:
        self.rules = load({"test.yaml": rules}) if isinstance(rules, str) else rules
        self.receivers = [Receiver(name="hook"), Receiver(name="pager", severities=("page",))]
        self.collector = Collector(
            state or State(), rules=self.rules, receivers=self.receivers, started_at=started_at
        )
        self.collector.handle(BrokerChanged(started_at, connected=True))

    def feed(self, message: UpMessage | bytes, at: float = WARM, node: str = "n1") -> list[Effect]:
        payload = message if isinstance(message, bytes) else encode(message)
        return self.collector.handle(Received(at, node, payload))

    def tick(self, at: float) -> list[Effect]:
        return self.collector.handle(Ticked(at))

    def firing(self) -> set[tuple[str, str]]:
        """(alert, resource) of what fires, the watchdog aside."""
        return {
            (row.alert.alertname, row.alert.resource)
            for row in self.collector.alerts.values()
            if row.alert.state == "firing" and row.alert.alertname != "Watchdog"
        }


def commit_of(effects: list[Effect]) -> Commit:
    """The one commit among the effects; an empty one when there is none."""
    commits = [effect for effect in effects if isinstance(effect, Commit)]
    assert len(commits) <= 1, "more than one commit for one event"
    assert not commits or effects[0] is commits[0], "the commit must come first"
    return commits[0] if commits else Commit()


def published(effects: list[Effect]) -> list[Publish]:
    return [effect for effect in effects if isinstance(effect, Publish)]


def rejected(effects: list[Effect]) -> list[str]:
    """The reasons why something was not taken."""
    return [effect.reason for effect in effects if isinstance(effect, Rejected)]


def transitions(effects: list[Effect]) -> list[tuple[str, str]]:
    return [
        (effect.tracked.alert.alertname, effect.transition.value)
        for effect in effects
        if isinstance(effect, Transitioned) and effect.tracked.alert.alertname != "Watchdog"
    ]
