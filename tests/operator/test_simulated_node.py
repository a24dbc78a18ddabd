"""A simulated node is worth its name only if no collector can tell it from an agent by the contract."""

import random

from holdfast.simulated_node import FACTS_PER_VOLUME, Shape, SimulatedNode, Stamp, shape_for
from holdfast_wire import (
    Ack,
    Acknowledgement,
    Birth,
    Death,
    Event,
    Position,
    Refusal,
    Report,
    UpMessage,
    content_digest,
    decode_up,
    fact,
    section_digest,
)


def a_node(seed: int = 1, **shape: float) -> SimulatedNode:
    made = Shape(interval_seconds=10.0, epoch=7, **shape)  # type: ignore[arg-type]  # tests name any of its numbers
    return SimulatedNode("sim-00001", made, random.Random(seed), at(0))


def at(mono: float) -> Stamp:
    return Stamp(1_700_000_000.0 + mono, mono)


def taken(payload: bytes) -> UpMessage:
    message = decode_up("sim-00001", payload)
    assert not isinstance(message, Refusal), message
    return message


def a_report(payload: bytes) -> Report:
    message = taken(payload)
    assert isinstance(message, Report)
    return message


def test_everything_it_says_obeys_the_contract() -> None:
    """Known facts of the right type only, digests that are true, no position twice, none going back."""
    node = a_node(events_per_hour=200.0)
    will = taken(node.connecting(at(0)))
    node.birth(at(0))
    said = [*node.due(at(0), 15.0)]
    for number in range(1, 200):
        said += [node.report(at(10.0 * number)), *node.due(at(10.0 * number), 15.0)]
        node.waiting.clear()
    messages = [taken(payload) for payload in (*said, node.goodbye(at(2000)))]
    reports = [message for message in messages if isinstance(message, Report)]
    facts = {
        (resource.kind, name)
        for report in reports
        for section in report.sections
        for resource in section.resources
        for name in resource.facts
    }

    assert isinstance(will, Death)
    assert {type(message) for message in messages} == {Birth, Report, Event, Death}
    assert len({message.seq for message in [will, *messages]}) == len(messages) + 1
    assert [report.seq for report in reports] == sorted(report.seq for report in reports)
    assert {pair for pair in facts if pair[1] not in fact.FACTS_OF[pair[0]]} == set()
    assert all(
        report.marks[section.probe].digest == section_digest(section)
        for report in reports
        for section in report.sections
    )


def test_a_section_comes_again_when_it_changed_or_was_asked_for() -> None:
    """As an agent's: otherwise a sizing run would measure another load than a fleet makes."""
    node = a_node(events_per_hour=0.0)
    node.connecting(at(0))
    reports = [a_report(node.report(at(10.0 * number))) for number in range(1, 4)]
    node.resend(["services"])
    asked = a_report(node.report(at(40)))
    node.connecting(at(50))
    anew = a_report(node.report(at(50)))

    assert [[section.probe for section in report.sections] for report in (*reports, asked, anew)] == [
        ["host", "volumes", "services"],
        ["volumes"],
        ["volumes"],
        ["volumes", "services"],
        ["host", "volumes", "services"],
    ]
    assert all(set(report.marks) == {"host", "volumes", "services"} for report in (*reports, asked, anew))


def test_what_is_not_acknowledged_is_sent_again_and_what_is_not() -> None:
    node = a_node()
    node.connecting(at(0))
    node.birth(at(0))
    first = node.due(at(0), 15.0)
    early = node.due(at(10), 15.0)
    late = node.due(at(20), 15.0)
    node.connecting(at(21))
    after_a_reconnect = node.due(at(21), 15.0)
    birth = taken(first[0])
    forged = Ack(install_id=birth.install_id, messages=[Acknowledgement(7, birth.seq, "0" * 16)])
    foreign = Ack(install_id="another", messages=[Acknowledgement(7, birth.seq, content_digest(first[0]))])
    right = Ack(
        install_id=birth.install_id, messages=[Acknowledgement(7, birth.seq, content_digest(first[0]))]
    )
    freed = [node.acked(ack) for ack in (forged, foreign, right, right)]

    assert (len(first), early, late, after_a_reconnect) == (1, [], first, first)
    assert (freed, node.waiting) == ([0, 0, 1, 0], {})


def test_the_floor_waits_for_the_oldest_unacknowledged_message() -> None:
    node = a_node()
    node.connecting(at(0))
    node.birth(at(0))
    waiting = a_report(node.report(at(10)))
    born = next(iter(node.waiting))
    node.waiting.clear()
    free = a_report(node.report(at(20)))

    assert (waiting.floor, waiting.spool.messages) == (born, 1)
    assert (free.floor, free.spool.messages) == (Position(7, free.seq), 0)


def test_a_will_carries_the_number_of_its_connection() -> None:
    """A will of an older connection is outdated; one that looked newer would declare a living node lost."""
    node = a_node()
    wills = [taken(node.connecting(at(number))) for number in range(3)]

    assert [(will.connection, will.reason) for will in wills if isinstance(will, Death)] == [
        (1, "lost"),
        (2, "lost"),
        (3, "lost"),
    ]


def test_the_same_seed_gives_the_same_node() -> None:
    one, same, other = a_node(seed=3), a_node(seed=3), a_node(seed=4)
    reports = [a_report(node.report(at(10))) for node in (one, same, other)]

    assert reports[0] == reports[1]
    assert reports[0] != reports[2]
    assert reports[0].install_id == reports[2].install_id, "the name's installation stays over runs"


def test_a_report_carries_about_as_many_facts_as_asked() -> None:
    for wanted in (17, 51, 170):
        node = SimulatedNode("sim-00001", shape_for(wanted, 10.0, 0.0, epoch=1), random.Random(1), at(0))
        node.connecting(at(0))
        node.report(at(10))
        ordinary = a_report(node.report(at(20)))
        carried = sum(len(resource.facts) for section in ordinary.sections for resource in section.resources)

        assert abs(carried - wanted) <= FACTS_PER_VOLUME // 2
