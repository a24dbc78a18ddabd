"""One right that an agent lacks is one ticket, however many services it hides, and each of them is unknown."""

from holdfast_collector.core.event import Delivered
from holdfast_collector.packs import load_rules
from holdfast_rules.verdict import Verdict
from holdfast_wire import Resource, Section, SectionStatus
from holdfast_wire.message import Value
from tests.collector.fleet import T0, WARM, Agent, Desk, commit_of

ALERTS = ("ServicesOutOfSight", "ServiceStateOutOfSight", "ServiceStateUnknown")
HIDDEN = ("etcd.service", "mysql.service", "redis.service")


def survey(mono: float, *, granted: bool = False) -> Section:
    """Three databases, each with a path that may not be followed."""
    resources = [
        Resource(
            kind="node",
            name="n1",
            facts={"services_out_of_sight": 0 if granted else 3, "services_out_of_sight_right": "CAP_X"},
        )
    ]
    for service in HIDDEN:
        facts: dict[str, Value] = {
            "stateful": True,
            "state_paths_unresolved": 0 if granted else 1,
            "state_denied": not granted,
        }
        resources.append(Resource(kind="service", name=service, facts=facts))
    return Section(
        probe="state_paths",
        status=SectionStatus.OK,
        observed_at=T0,
        mono=mono,
        period_seconds=300.0,
        duration_seconds=0.1,
        resources=resources,
    )


class Watched:
    """A collector with the shipped rules, and an agent that says the same every ten seconds."""

    def __init__(self) -> None:
        self.desk, self.agent, self.at = Desk(rules=load_rules()), Agent(), WARM
        self.told: list[tuple[str, str]] = []
        """(resource, status) of what is told of state that is out of sight."""

    def live(self, seconds: int, *, granted: bool = False) -> None:
        for _ in range(seconds // 10):
            self.at += 10.0
            mono = self.at - T0
            effects = self.desk.feed(self.agent.report(survey(mono, granted=granted), mono=mono), self.at)
            for notice in commit_of(effects).notices:
                self.desk.collector.handle(Delivered(self.at, notice.id))
                if notice.receiver == "hook" and notice.alert.alertname in ALERTS:
                    self.told.append((notice.alert.resource, notice.status))

    def verdicts(self) -> set[Verdict]:
        rulings = self.desk.collector.rulings.of("n1")
        return {rulings[("service", service)].ruling.verdict for service in HIDDEN}


def test_a_missing_right_is_one_ticket_and_every_service_it_hides_is_unknown() -> None:
    """Twenty databases on a host with the shipped unit were twenty tickets for one line in a drop-in."""
    watched = Watched()

    watched.live(3 * 3600)

    assert watched.told == [("n1", "firing")]
    assert watched.verdicts() == {Verdict.UNKNOWN}
    assert watched.desk.firing() >= {("ServiceStateOutOfSight", service) for service in HIDDEN}


def test_the_right_once_granted_ends_the_ticket() -> None:
    watched = Watched()
    watched.live(2 * 3600)

    watched.live(600, granted=True)

    assert watched.told == [("n1", "firing"), ("n1", "resolved")]
    assert "ServiceStateOutOfSight" not in {alert for alert, _ in watched.desk.firing()}
