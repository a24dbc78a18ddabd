"""Damaged records through the whole core: told once, with a loss where one fault did both, and not again for the same records."""

from holdfast_collector.core.chain import BreachKind
from holdfast_collector.core.event import Acknowledged
from holdfast_wire import Expect, ReadCause
from tests.collector.fleet import Desk, published
from tests.collector.witnessed import CHAIN, RULES, Witnessed, chain, expected, facts, lived

DAMAGE_RULES = (
    RULES
    + """
  - {alert: WitnessCorrupt, id: W-07, resource: volume, when: witness_corrupt, for: 0s, severity: page, sticky: true,
     summary: "{node}: {resource} returns damaged data"}
"""
)


def read_twice(
    upon: Desk, agent: Witnessed, at: float, broken: list[int], previous_boot: str = "unknown"
) -> float:
    """A read, and half a minute later a second one that shows the same."""
    for cause in (ReadCause.AGENT_START, ReadCause.AGAIN):
        upon.feed(agent.read(at, cause, broken=broken, previous_boot=previous_boot), at)
        at += 35.0
    return at


def kinds(upon: Desk) -> list[BreachKind]:
    return [one.kind for one in chain(upon).breaches]


def test_damage_that_an_operator_took_note_of_is_not_told_again_by_the_next_read() -> None:
    """It lies in the ring until it is overwritten, a day and more: each start of the agent would call somebody anew."""
    upon, agent = Desk(rules=DAMAGE_RULES), Witnessed()
    at = read_twice(upon, agent, lived(upon, agent, 20), [7])
    (key,) = [key for key, row in upon.collector.alerts.items() if row.alert.alertname == "WitnessCorrupt"]
    upon.collector.handle(Acknowledged(at, key, "scrubbed"))
    assert facts(upon)["witness_corrupt"] is False
    at = read_twice(upon, agent, at, [7])

    assert (facts(upon)["witness_corrupt"], kinds(upon)) == (False, [BreachKind.CORRUPT])

    read_twice(upon, agent, at, [7, 9])

    assert (facts(upon)["witness_corrupt"], kinds(upon)) == (True, [BreachKind.CORRUPT] * 2)
    assert "records 9 are damaged" in chain(upon).breaches[-1].evidence


def test_records_that_one_power_cut_took_and_damaged_are_one_loss() -> None:
    """A disk that lies keeps some of what it has in its cache. Two pages for that would be two faults to look for."""
    upon, agent = Desk(rules=DAMAGE_RULES), Witnessed()
    at = lived(upon, agent, 100)
    agent.disk.cut(98)
    for seq in (95, 96):
        del agent.disk.records[seq]
    agent.reboot(at)
    for message in (agent.born(at, "dirty"), agent.alive(at)):
        upon.feed(message, at)
    at = read_twice(upon, agent, at, [95, 96], "dirty")
    read_twice(upon, agent, at, [95, 96], "dirty")

    assert (facts(upon)["witness_lost"], facts(upon)["witness_corrupt"]) == (True, False)
    assert kinds(upon) == [BreachKind.LOST_TAIL]
    assert "damaged: 95, 96" in chain(upon).breaches[0].evidence


def test_damage_beside_a_shortage_that_a_second_read_does_not_confirm_is_damage() -> None:
    """A doubt that was dispelled explains nothing."""
    upon, agent = Desk(rules=DAMAGE_RULES), Witnessed()
    at = lived(upon, agent, 100)
    whole = agent.disk.copy()
    agent.disk.cut(98)
    upon.feed(agent.read(at, ReadCause.DAILY, broken=[40]), at)
    assert facts(upon)["witness_suspected"] is True
    agent.disk.records = whole.records

    upon.feed(agent.read(at + 35, ReadCause.AGAIN, broken=[40]), at + 35)

    assert kinds(upon) == [BreachKind.CORRUPT]


def test_damage_is_asked_about_with_every_record_until_a_second_read_has_told() -> None:
    """The first question may have been lost on its way, and the next read by itself is a day off."""
    upon, agent = Desk(rules=DAMAGE_RULES), Witnessed()
    at = lived(upon, agent, 20)
    upon.feed(agent.read(at, ReadCause.DAILY, broken=[7]), at)

    asked = expected(upon.feed(agent.witness(at + 60), at + 60))
    upon.feed(agent.read(at + 95, ReadCause.AGAIN, broken=[7]), at + 95)
    after = upon.feed(agent.witness(at + 120), at + 120)

    assert (asked.chain_id, asked.head.seq) == (CHAIN, 21)
    assert not any(isinstance(one.message, Expect) for one in published(after))
