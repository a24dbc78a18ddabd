"""Which messages count: claims, order, identity, and what is said in answer."""

import msgspec
import pytest

from holdfast_collector.core.record import State
from holdfast_wire import Ack, Acknowledgement, Resend, content_digest, encode
from holdfast_wire.message import DeathReason
from tests.collector.fleet import T0, WARM, Agent, Desk, commit_of, published, rejected, section

UP = section({"a.service": {"up": True}})


def test_an_event_is_committed_before_it_is_acknowledged_by_position_and_digest() -> None:
    """The agent deletes on this word alone."""
    desk, agent = Desk(), Agent()
    event = agent.event()

    effects = desk.feed(event)

    assert [row.type for row in commit_of(effects).events] == ["unit_failed"]
    assert [answer.message for answer in published(effects)] == [
        Ack(install_id="install-1", messages=[Acknowledgement(1, 1, content_digest(encode(event)))])
    ]


def test_a_duplicate_is_acknowledged_again_and_changes_nothing() -> None:
    """An acknowledgement may be lost, so the sender asks until it hears one."""
    desk, agent = Desk(), Agent()
    event = agent.event()
    first = desk.feed(event)

    again = desk.feed(event)

    assert published(again) == published(first)
    assert (commit_of(again).empty, rejected(again)) == (True, ["duplicate"])


def test_a_duplicate_is_known_after_a_restart() -> None:
    """The identity is committed with the effect, not beside it."""
    desk, agent = Desk(), Agent()
    event = agent.event()
    commit = commit_of(desk.feed(event))
    kept = State(nodes=[record for record in commit.nodes.values() if record], seen=commit.seen)

    again = Desk(state=kept).feed(event)

    assert (rejected(again), len(published(again))) == (["duplicate"], 1)


def test_a_twin_takes_effect_too() -> None:
    """The same position with other content comes from a clone or a rolled-back machine, whose events are as real."""
    desk, agent, clone = Desk(), Agent(), Agent()
    desk.feed(agent.event(summary="one"))

    effects = desk.feed(clone.event(summary="other"))

    assert [row.summary for row in commit_of(effects).events] == ["other"]
    assert desk.collector.nodes["n1"].resources[("service", "a.service")]["unit_failed_total"] == 2


def test_a_message_from_before_the_floor_is_a_replay() -> None:
    """The agent promised never to send it again, and it is older than what is remembered. It is not acknowledged: were
    it real, its sender would still have it."""
    desk, agent, old = Desk(), Agent(), Agent()
    agent.seq = 10
    desk.feed(agent.report(UP, floor=10))

    effects = desk.feed(old.event(), WARM + 90_000.0)

    assert (rejected(effects), published(effects), commit_of(effects).events) == (["replayed"], [], [])


@pytest.mark.parametrize("behind", [0, 1, 5])
def test_a_report_that_is_not_newer_is_late(behind: int) -> None:
    """Reordering and redelivery must not bring old facts back."""
    desk, agent = Desk(), Agent()
    agent.seq = 20
    desk.feed(agent.report(UP))
    agent.seq -= 1 + behind

    effects = desk.feed(agent.report(section({"a.service": {"up": False}})))

    assert (rejected(effects), desk.firing()) == (["late"], set())


def test_a_report_of_an_earlier_boot_is_late_however_it_counts() -> None:
    """A broker may hold one back across a reboot."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(UP))
    reborn = Agent(boot="boot-2", epoch=2)
    desk.feed(reborn.report(UP))
    agent.seq = 900

    assert rejected(desk.feed(agent.report(UP))) == ["late"]


def test_a_machine_rolled_back_to_an_older_epoch_is_heard_again_after_its_boot() -> None:
    """Its positions start over below those known; ignoring it would call a living machine silent."""
    desk = Desk()
    desk.feed(Agent(epoch=7).report(UP))
    rolled_back = Agent(epoch=3, boot="boot-after-restore")

    effects = desk.feed(rolled_back.report(section({"a.service": {"up": False}})))

    assert (rejected(effects), desk.firing()) == ([], {("ServiceDown", "a.service")})


def test_a_birth_overtaken_by_its_own_run_s_report_takes_nothing_back() -> None:
    """The birth goes through the spool and may reach the broker second; the report's facts would be missing until asked for."""
    desk, agent = Desk(), Agent()
    birth = agent.birth()
    desk.feed(agent.report(UP))

    desk.feed(birth)

    node = desk.collector.nodes["n1"]
    assert node.record.birth is not None
    assert node.resources[("service", "a.service")]["up"] is True


def test_a_late_birth_goes_on_record_and_not_into_force() -> None:
    """A machine that was offline for a whole boot delivers that boot's birth after the next one's report."""
    desk = Desk()
    newer = Agent(epoch=3, boot="boot-3")
    desk.feed(newer.report(UP))

    effects = desk.feed(Agent(epoch=2, boot="boot-2").birth())

    node = desk.collector.nodes["n1"]
    assert (node.record.boot_id, node.position.epoch, len(published(effects))) == ("boot-3", 3, 1)


def test_sections_the_collector_lacks_are_asked_for_once_in_a_while() -> None:
    """A lost report heals itself, and a flood of questions heals nothing."""
    desk, agent = Desk(), Agent()

    asked = [published(desk.feed(agent.report(held=(UP,)), at=WARM + seconds)) for seconds in (0.0, 1.0, 6.0)]

    resend = Resend(install_id="install-1", probes=["services"])
    assert [[answer.message for answer in answers] for answers in asked] == [[resend], [], [resend]]


def test_a_heartbeat_that_changes_nothing_writes_nothing() -> None:
    """Ten thousand nodes report every ten seconds; the disk is for what changed."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(UP))
    desk.tick(WARM)

    assert commit_of(desk.feed(agent.report(held=(UP,)), at=WARM + 10)).empty


def test_a_second_installation_is_refused_while_the_first_reports() -> None:
    """Two machines under one name are never merged. Unacknowledged, the second one's messages stay in its spool."""
    desk, agent, rival = Desk(), Agent(), Agent(install="install-2")
    desk.feed(agent.report(UP))

    effects = desk.feed(rival.event())

    assert (rejected(effects), published(effects)) == (["second_claimant"], [])
    assert desk.collector.nodes["n1"].claimants == {"install-2": WARM}


@pytest.mark.parametrize("left", ["will", "goodbye", "silence"])
def test_a_new_installation_takes_over_what_the_first_has_left(left: str) -> None:
    """A machine re-installed under its old name must not be locked out."""
    desk, agent, successor = Desk(), Agent(), Agent(install="install-2", boot="boot-9")
    desk.feed(agent.report(UP))
    match left:
        case "will":
            desk.feed(agent.death(DeathReason.LOST))
        case "goodbye":
            desk.feed(agent.death(DeathReason.STOPPED))
        case _:
            desk.tick(WARM + 31)

    effects = desk.feed(successor.report(UP), at=WARM + 32)

    assert (rejected(effects), desk.collector.nodes["n1"].record.install_id) == ([], "install-2")


def test_a_will_of_an_earlier_connection_is_outdated() -> None:
    """The broker may send it after the agent is back."""
    desk, agent = Desk(), Agent()
    will = agent.death()
    agent.connection = 2
    desk.feed(agent.report(UP))

    effects = desk.feed(will)

    assert (rejected(effects), desk.collector.nodes["n1"].record.session) == (["late"], "connected")


def test_the_will_of_a_new_epochs_first_connection_counts() -> None:
    """The connection count starts over with each run of the agent."""
    desk, agent = Desk(), Agent()
    agent.connection = 9
    desk.feed(agent.report(UP))
    reborn = Agent(epoch=2)
    desk.feed(reborn.birth())

    desk.feed(reborn.death())

    assert desk.collector.nodes["n1"].record.session == "lost"


def test_no_node_can_say_what_is_the_collectors_to_say() -> None:
    """An agent that calls itself reporting, or a probe that calls itself working, proves nothing."""
    desk, agent = Desk(), Agent()
    lying = msgspec.structs.replace(
        UP,
        resources=[
            msgspec.structs.replace(UP.resources[0], facts={"up": True, "unit_failed_total": 7}),
            msgspec.structs.replace(
                UP.resources[0], kind="collector", name="collector", facts={"warm": True}
            ),
        ],
    )

    desk.feed(agent.report(lying))

    resources = desk.collector.nodes["n1"].resources
    assert (
        resources[("service", "a.service")]["unit_failed_total"],
        ("collector", "collector") in resources,
    ) == (0, False)


def test_one_nodes_nonsense_disturbs_no_other_node() -> None:
    """Refused with a counted reason, and the neighbour's facts stand."""
    desk, agent = Desk(), Agent()
    desk.feed(agent.report(UP))
    neighbour = dict(desk.collector.nodes["n1"].resources)

    effects = [
        effect for nonsense in (b"", b"{}", b"\xff", b"[1]") for effect in desk.feed(nonsense, node="n2")
    ]

    assert (rejected(effects), desk.collector.nodes["n1"].resources) == (["malformed"] * 4, neighbour)
    assert list(desk.collector.nodes) == ["n1"]


def test_events_received_at_start_are_ordered_by_the_collectors_clock() -> None:
    """A machine whose clock stands in 1970 is judged like any other."""
    desk, agent = Desk(), Agent()
    event = msgspec.structs.replace(agent.event(), at=12.0, sent_at=12.0)

    row = commit_of(desk.feed(event, at=T0 + 5)).events[0]

    assert (row.received_at, row.at) == (T0 + 5, 12.0)
