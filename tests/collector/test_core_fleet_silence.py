"""Many nodes that fall silent together are one page about the way to them; one that falls silent alone pages itself."""

from holdfast_collector.core.effect import Effect
from holdfast_collector.core.event import BrokerChanged, Delivered
from holdfast_collector.core.record import State
from holdfast_collector.packs import load_rules
from tests.collector.fleet import T0, Agent, Desk, commit_of, section

RULES = load_rules()
UP = section({"a.service": {"up": True}})


class Fleet:
    """A collector with the shipped rules about nodes, and nodes that report every ten seconds while they live."""

    def __init__(self, size: int, state: State | None = None, started_at: float = T0) -> None:
        self.desk = Desk(rules=RULES, state=state, started_at=started_at)
        self.agents = [Agent(f"n{number:03}") for number in range(size)]
        self.at = started_at
        self.paged: list[tuple[str, str, str]] = []
        """(alert, node, status) of what went to the pager."""

    def live(self, seconds: int, dead: range | set[int] = range(0)) -> None:
        """Time passes; the agents with these numbers say nothing."""
        for _ in range(seconds):
            self.at += 1.0
            if int(self.at) % 10 == 0:
                for number, agent in enumerate(self.agents):
                    if number not in dead:
                        self._note(self.desk.feed(agent.report(UP), self.at, agent.node))
            self._note(self.desk.tick(self.at))

    def _note(self, effects: list[Effect]) -> None:
        for notice in commit_of(effects).notices:
            self.desk.collector.handle(Delivered(self.at, notice.id))
            if notice.receiver == "pager":
                self.paged.append((notice.alert.alertname, notice.alert.node, notice.status))


def test_three_of_five_are_one_page_that_explains_theirs() -> None:
    """It names them, and their own alerts fire and are kept quiet."""
    fleet = Fleet(5)
    fleet.live(60)

    fleet.live(420, dead=range(3))

    assert fleet.paged == [("FleetSilent", "", "firing")]
    [cause] = [row for row in fleet.desk.collector.alerts.values() if row.alert.alertname == "FleetSilent"]
    assert cause.alert.annotations["summary"] == "3 of 5 nodes fell silent within a minute"
    assert cause.alert.annotations["description"].startswith("n000, n001, n002. ")
    explained = fleet.desk.collector.explained(cause.key)
    assert {(row.alert.alertname, row.alert.node) for row in explained} >= {
        ("NodeSilent", f"n00{number}") for number in range(3)
    }
    assert {row.alert.node for row in explained} == {"n000", "n001", "n002"}


def test_one_of_a_hundred_pages_for_itself() -> None:
    """A machine that fails alone has its own cause."""
    fleet = Fleet(100)
    fleet.live(60)

    fleet.live(400, dead=range(1))

    assert fleet.paged == [("NodeSilent", "n000", "firing")]


def test_sixty_of_a_hundred_are_one_page_and_its_end_tells_of_who_stayed_away() -> None:
    """Who does not come back with the others is a case of its own, and those that came back page nobody."""
    fleet = Fleet(100)
    fleet.live(60)
    fleet.live(400, dead=range(60))
    stormed = list(fleet.paged)

    fleet.live(200, dead=range(1))

    assert stormed == [("FleetSilent", "", "firing")]
    assert fleet.paged[1:] == [("FleetSilent", "", "resolved"), ("NodeSilent", "n000", "firing")]


def test_a_node_that_falls_silent_later_pages_although_the_fleet_is_silent() -> None:
    """An outage that nobody mends for a week must not keep quiet whatever dies meanwhile."""
    fleet = Fleet(10)
    fleet.live(60)
    fleet.live(600, dead=range(3))

    fleet.live(400, dead={0, 1, 2, 9})

    assert fleet.paged == [("FleetSilent", "", "firing"), ("NodeSilent", "n009", "firing")]


def test_nodes_that_fall_silent_one_by_one_are_no_storm() -> None:
    """Three minutes apart they have nothing in common."""
    fleet = Fleet(5)
    fleet.live(60)

    for count in (1, 2, 3):
        fleet.live(180, dead=range(count))
    fleet.live(400, dead=range(3))

    assert sorted(fleet.paged) == [("NodeSilent", f"n00{number}", "firing") for number in range(3)]


def test_a_deaf_collector_calls_nobody_silent() -> None:
    """Without a broker it is the collector that hears nothing: one page about that."""
    fleet = Fleet(5)
    fleet.live(60)
    fleet.desk.collector.handle(BrokerChanged(fleet.at, connected=False))

    fleet.live(600, dead=range(5))

    assert fleet.paged == [("CollectorBrokerDisconnected", "", "firing")]


def test_a_restart_of_the_collector_in_the_middle_tells_nobody_anew() -> None:
    """What it knew of the silence is on disk: neither the storm ends nor do its members page."""
    fleet = Fleet(20)
    fleet.live(60)
    fleet.live(420, dead=range(12))
    collector = fleet.desk.collector
    kept = State(
        nodes=[node.record for node in collector.nodes.values()],
        alerts=list(collector.alerts.values()),
        next_episode=1000,
    )

    again = Fleet(20, state=kept, started_at=fleet.at + 5)
    for agent in again.agents:
        agent.epoch, agent.connection = 2, 2
    again.live(600, dead=range(12))

    assert (fleet.paged, again.paged) == ([("FleetSilent", "", "firing")], [])
