"""One run of the agent: positions, connections, and what leaves when."""

import math

import msgspec
import pytest

from holdfast_agent.core.delivery import Spooled
from holdfast_agent.core.happening import Happening
from holdfast_agent.core.session import (
    FIRST_SECTIONS_PATIENCE_SECONDS,
    GATHER_SECONDS,
    REPORT_STALL_SECONDS,
    RESENT_PATIENCE_SECONDS,
    Identity,
    Profile,
    Session,
    SpoolFacts,
    Stamp,
    Step,
)
from holdfast_wire import (
    Ack,
    Acknowledgement,
    Birth,
    Capability,
    Death,
    DeathReason,
    Event,
    Position,
    Refusal,
    Report,
    Resend,
    Resource,
    Section,
    SectionStatus,
    SpoolState,
    UpMessage,
    content_digest,
    decode_up,
)

IDENTITY = Identity(node="n", install_id="i" * 16, boot_id="b", epoch=4)
PROFILE = Profile(agent_version="1", os="linux", os_name="Debian", kernel="6", previous_stop="clean")
EMPTY = SpoolFacts(state=SpoolState(messages=0, bytes=0, dropped_total=0, in_memory=False))
from holdfast_wire.message import Value


def at(mono: float) -> Stamp:
    return Stamp(1_000_000.0 + mono, mono)


def said(payload: bytes) -> UpMessage:
    message = decode_up("n", payload)
    assert not isinstance(message, Refusal)
    return message


def section(probe: str, number: int = 0, *, size: int = 0) -> Section:
    facts: dict[str, Value] = {"mountpoint": str(number), "source": "x" * size}
    return Section(
        probe=probe, status=SectionStatus.OK, observed_at=0.0, mono=0.0, period_seconds=10.0, duration_seconds=0.1,
        resources=[Resource(kind="volume", name="/", facts=facts)],
    )  # fmt: skip


def happening(summary: str = "it failed") -> Happening:
    return Happening(
        type="unit_failed", resource_kind="service", resource="a.service", at=5.0, summary=summary
    )


class Agent:
    """A session with a broker that takes what it is given, unless told otherwise."""

    def __init__(self, *probes: str, interval: float = 10.0) -> None:
        self.session = Session(IDENTITY, interval)
        self.session.expect(set(probes))
        self.number = 0
        self.spool = EMPTY

    def connect(self, mono: float, bytes_max: int | None = None) -> None:
        self.number, _ = self.session.connecting(at(mono))
        self.session.connected(at(mono), self.number, bytes_max)

    def step(self, mono: float, *, takes: bool = True) -> Step:
        step = self.session.step(at(mono), self.spool)
        if step.load is not None:
            self.session.loaded(step.load, [])
        for message in step.publish if takes else ():
            self.session.published(self.number, message.token)
        return step

    def reports(self, mono: float) -> list[Report]:
        messages = [said(message.payload) for message in self.step(mono).publish]
        return [message for message in messages if isinstance(message, Report)]


def connected_agent(*probes: str) -> Agent:
    """Connected at second 100, every probe's first section reported there."""
    agent = Agent(*probes)
    for probe in probes:
        agent.session.section(at(99.0), section(probe))
    agent.connect(100.0)
    assert [sorted(report.marks) for report in agent.reports(100.0)] == [sorted(probes)]
    return agent


# Positions


def test_messages_count_from_one_in_the_order_they_come_into_being() -> None:
    agent = connected_agent("p")
    event = agent.session.event(at(101.0), happening())
    (report,) = agent.reports(110.0)

    assert isinstance(event, Spooled)
    assert (event.position, report.position) == (Position(4, 2), Position(4, 3))


def test_event_carries_what_happened() -> None:
    message = Agent("p").session.event(at(7.0), happening("x" * 5000))

    assert isinstance(message, Spooled)
    event = said(message.payload)
    assert isinstance(event, Event)
    assert (event.type, event.resource, event.at, event.summary, event.mono) == (
        "unit_failed",
        "a.service",
        5.0,
        "x" * 1000,
        7.0,
    )
    assert message.digest == content_digest(message.payload)


def test_event_that_no_collector_takes_is_refused_and_uses_up_no_position() -> None:
    """A gap in the numbers would look like a lost message."""
    session = Agent("p").session
    wrong = msgspec.structs.replace(happening(), resource_kind="volume")
    refusal = session.event(at(1.0), wrong)
    right = session.event(at(2.0), happening())

    assert isinstance(refusal, Refusal)
    assert isinstance(right, Spooled)
    assert right.position == Position(4, 1)


def test_birth_says_who_speaks_and_what_the_collector_has_acknowledged() -> None:
    capability = Capability(name="p", available=False, reason="no rights", cost="nobody knows")
    spool = msgspec.structs.replace(EMPTY, acknowledged=Position(3, 9))
    message = Agent("p").session.birth(at(1.0), PROFILE, [capability], spool)

    birth = said(message.payload)
    assert isinstance(birth, Birth)
    assert (birth.previous_stop, birth.capabilities, birth.acknowledged, birth.position) == (
        "clean",
        [capability],
        Position(3, 9),
        Position(4, 1),
    )


# Connections


def test_will_names_the_connection_it_is_of() -> None:
    session = Agent().session
    wills = [said(session.connecting(at(mono))[1]) for mono in (1.0, 2.0)]

    assert [(will.reason, will.connection) for will in wills if isinstance(will, Death)] == [
        (DeathReason.LOST, 1),
        (DeathReason.LOST, 2),
    ]


def test_goodbye_is_of_the_newest_connection_and_later_than_every_report() -> None:
    agent = connected_agent("p")
    goodbye = said(agent.session.death(at(105.0)))

    assert isinstance(goodbye, Death)
    assert (goodbye.reason, goodbye.connection, goodbye.position) == (
        DeathReason.STOPPED,
        1,
        Position(4, 2),
    )


def test_connection_that_was_given_up_does_not_come_to_life() -> None:
    agent = Agent()
    old, _ = agent.session.connecting(at(1.0))
    agent.session.connecting(at(2.0))
    agent.session.connected(at(3.0), old)

    assert agent.step(3.0).publish == []


def test_end_of_an_earlier_connection_does_not_end_the_present_one() -> None:
    agent = connected_agent("p")
    agent.connect(101.0)
    agent.session.disconnected(1)

    assert len(agent.reports(101.0)) == 1


def test_without_a_connection_nothing_leaves_and_nothing_wakes() -> None:
    agent = connected_agent("p")
    agent.session.disconnected(1)

    assert agent.session.step(at(500.0), EMPTY) == Step(publish=[], load=None, wake_at=math.inf)


def test_new_connection_gets_everything_anew() -> None:
    """What an earlier connection carried may never have reached the collector."""
    agent = connected_agent("p", "q")
    agent.session.disconnected(1)
    agent.connect(103.0)
    (report,) = agent.reports(103.0)

    assert ([each.probe for each in report.sections], report.connection) == (["p", "q"], 2)


# Reports


def test_report_comes_every_interval_changed_or_not() -> None:
    agent = connected_agent("p")

    assert [len(agent.reports(mono)) for mono in (109.9, 110.0, 119.9, 120.0)] == [0, 1, 0, 1]


def test_report_without_news_carries_the_marks_alone() -> None:
    agent = connected_agent("p")
    (report,) = agent.reports(110.0)

    assert (report.sections, list(report.marks)) == ([], ["p"])


def test_scheduled_news_wait_a_moment_for_the_other_probes_of_the_slot() -> None:
    agent = connected_agent("p", "q")
    agent.session.section(at(105.0), section("p", 1))
    agent.session.section(at(105.1), section("q", 1))
    assert agent.reports(105.1) == []
    (report,) = agent.reports(105.0 + GATHER_SECONDS)

    assert [each.probe for each in report.sections] == ["p", "q"]


def test_urgent_news_leave_at_once() -> None:
    agent = connected_agent("p", "q")
    agent.session.section(at(105.0), section("p", 1), urgent=True)
    (report,) = agent.reports(105.0)

    assert [each.probe for each in report.sections] == ["p"]


def test_urgent_look_that_saw_nothing_new_sends_nothing() -> None:
    agent = connected_agent("p")
    agent.session.section(at(105.0), section("p"), urgent=True)

    assert agent.reports(105.0) == []


def test_first_report_waits_for_every_probes_first_look() -> None:
    """A report names all probes: one missing there would seem to be gone."""
    agent = Agent("p", "q")
    agent.session.section(at(99.0), section("p"))
    agent.connect(100.0)
    assert agent.reports(100.0) == []
    agent.session.section(at(101.0), section("q"))
    (report,) = agent.reports(101.0 + GATHER_SECONDS)

    assert sorted(report.marks) == ["p", "q"]


def test_first_report_does_not_wait_for_a_probe_that_hangs() -> None:
    agent = Agent("p", "q")
    agent.session.section(at(99.0), section("p"))
    agent.connect(100.0)
    step = agent.step(100.0)
    assert (step.publish, step.wake_at) == ([], 100.0 + FIRST_SECTIONS_PATIENCE_SECONDS)
    (report,) = agent.reports(step.wake_at)

    assert list(report.marks) == ["p"]


def test_while_the_broker_has_not_taken_a_report_no_other_is_made() -> None:
    """They would queue up, each older than what the probes say by then."""
    agent = connected_agent("p")
    agent.step(110.0, takes=False)
    agent.session.section(at(111.0), section("p", 1), urgent=True)

    assert agent.step(112.0).publish == []


def test_what_waited_for_the_broker_leaves_as_soon_as_it_answers() -> None:
    agent = connected_agent("p")
    step = agent.step(110.0, takes=False)
    agent.session.section(at(111.0), section("p", 1), urgent=True)
    agent.session.published(1, step.publish[0].token)
    (report,) = agent.reports(111.5)

    assert [each.probe for each in report.sections] == ["p"]


def test_broker_that_takes_no_report_for_long_is_stalled() -> None:
    agent = connected_agent("p")
    step = agent.step(110.0, takes=False)
    assert (step.stalled, step.wake_at) == (False, 110.0 + REPORT_STALL_SECONDS)

    assert [agent.step(mono).stalled for mono in (139.9, 140.0)] == [False, True]


def test_large_news_are_split_and_every_part_names_all_probes() -> None:
    agent = Agent("p", "q", "r")
    for probe in ("p", "q", "r"):
        agent.session.section(at(99.0), section(probe, size=2000))
    agent.connect(100.0, bytes_max=7500)
    reports = agent.reports(100.0)

    assert [[each.probe for each in report.sections] for report in reports] == [["p", "q"], ["r"]]
    assert {tuple(report.marks) for report in reports} == {("p", "q", "r")}


def test_probe_no_longer_run_is_no_longer_named() -> None:
    agent = connected_agent("p", "q")
    agent.session.expect({"p"})
    agent.session.section(at(105.0), section("q", 1))
    (report,) = agent.reports(110.0)

    assert list(report.marks) == ["p"]


def test_shorter_interval_holds_at_once() -> None:
    agent = connected_agent("p")
    agent.session.set_interval(at(101.0), 2.0)
    (report,) = agent.reports(103.0)

    assert report.interval_seconds == 2.0


# What the collector says


def resend(*probes: str, install_id: str = IDENTITY.install_id) -> Resend:
    return Resend(install_id=install_id, probes=list(probes))


def test_section_the_collector_lacks_leaves_at_once() -> None:
    agent = connected_agent("p", "q")
    agent.session.resend(at(105.0), resend("q"))
    (report,) = agent.reports(105.0)

    assert [each.probe for each in report.sections] == ["q"]


@pytest.mark.parametrize("asked", [resend("nonsense"), resend("p", install_id="another"), resend()])
def test_request_that_is_not_for_us_changes_nothing(asked: Resend) -> None:
    agent = connected_agent("p")
    agent.session.resend(at(105.0), asked)

    assert agent.reports(105.0) == []


def test_section_asked_for_while_on_its_way_is_not_sent_twice() -> None:
    """The first part of a split report makes the collector ask for what the second one carries."""
    agent = connected_agent("p")
    agent.session.resend(at(100.0 + RESENT_PATIENCE_SECONDS - 0.1), resend("p"))
    assert agent.reports(103.0) == []
    agent.session.resend(at(100.0 + RESENT_PATIENCE_SECONDS), resend("p"))

    assert len(agent.reports(103.0)) == 1


def test_acknowledgement_is_passed_on_to_the_spool() -> None:
    acks = [Acknowledgement(4, 1, "d")]

    assert Agent("p").session.acked(at(1.0), Ack(install_id=IDENTITY.install_id, messages=acks)) == acks


def test_acknowledgement_for_another_installation_takes_nothing() -> None:
    acks = [Acknowledgement(4, 1, "d")]

    assert Agent("p").session.acked(at(1.0), Ack(install_id="another", messages=acks)) == []


# The floor


def floor(agent: Agent, mono: float) -> Position:
    (report,) = agent.reports(mono)
    return report.floor


def test_floor_of_an_empty_spool_is_the_next_position() -> None:
    agent = connected_agent("p")

    assert floor(agent, 110.0) == Position(4, 2)


def test_floor_does_not_pass_what_the_spool_still_holds() -> None:
    agent = connected_agent("p")
    agent.spool = msgspec.structs.replace(EMPTY, oldest=Position(3, 7))

    assert floor(agent, 110.0) == Position(3, 7)


def test_floor_does_not_pass_a_message_that_is_just_being_spooled() -> None:
    """Its fsync may take seconds; a report in between must not say that it will never come."""
    agent = connected_agent("p")
    event = agent.session.event(at(105.0), happening())
    assert isinstance(event, Spooled)
    during = floor(agent, 110.0)
    agent.session.spooled(event)

    assert (during, floor(agent, 120.0)) == (Position(4, 2), Position(4, 4))


def test_event_leaves_as_soon_as_it_is_spooled() -> None:
    agent = connected_agent("p")
    event = agent.session.event(at(105.0), happening())
    assert isinstance(event, Spooled)
    assert agent.step(105.0).publish == []
    agent.session.spooled(event)

    assert [message.payload for message in agent.step(105.0).publish] == [event.payload]


def test_what_the_spool_dropped_is_not_sent_again() -> None:
    agent = connected_agent("p")
    events = [agent.session.event(at(105.0), happening()) for _ in range(2)]
    for event in events:
        assert isinstance(event, Spooled)
        agent.session.spooled(event)
    agent.step(105.0)
    assert isinstance(events[1], Spooled)
    agent.spool = msgspec.structs.replace(EMPTY, oldest=events[1].position)

    assert [m.payload for m in agent.step(125.0).publish if isinstance(said(m.payload), Event)] == [
        events[1].payload
    ]
