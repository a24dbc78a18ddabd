"""Witnesses and reads through the whole core: committed, acknowledged, answered, judged, and said to people."""

import random
from functools import partial
from typing import Any

import pytest

from holdfast_collector.core.chain import BreachKind, ChainState
from holdfast_collector.core.effect import Commit
from holdfast_collector.core.event import Acknowledged, NodeForgotten, RestoreAnnounced
from holdfast_collector.core.record import State
from holdfast_collector.web.evidence import Grounds
from holdfast_collector.web.shapes import node_detail
from holdfast_wire import Ack, ChainHead, Expect, ReadCause, VolumeIdentity, Witness
from holdfast_wire.message import DeathReason
from tests.collector.fleet import WARM, Desk, commit_of, published, rejected
from tests.collector.witnessed import (
    CHAIN,
    Disk,
    Witnessed,
    chain,
    desk,
    digest,
    events,
    expected,
    facts,
    lived,
)


def lost(upon: Desk, agent: Witnessed, at: float, newest: int = 90) -> float:
    """Crash, come back without the newest records, and be read twice."""
    agent.disk.cut(newest)
    agent.reboot(at)
    for message in (agent.born(at, "dirty"), agent.alive(at), agent.read(at, previous_boot="dirty")):
        upon.feed(message, at)
    upon.feed(agent.read(at + 35, ReadCause.AGAIN, previous_boot="dirty"), at + 35)
    return at + 35


def test_a_witness_is_acknowledged_with_the_commit_that_holds_its_head() -> None:
    """The agent writes this acknowledgement into its next record: it must not be given before it is true."""
    upon, agent = desk(), Witnessed()
    effects = upon.feed(agent.witness(WARM))

    committed = commit_of(effects).chains[("n1", CHAIN)]
    assert committed is not None
    assert committed.head == ChainHead(1, digest(CHAIN, 1, "a"))
    assert [type(answer.message) for answer in published(effects)] == [Ack]


def test_a_tail_that_is_gone_after_a_crash_is_lost_with_its_extent() -> None:
    """The heart of the product: a flush returned, and what it promised is not there."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent)

    lost(upon, agent, at)

    said = facts(upon)
    assert (said["witness_lost"], said["witness_loss"]) == (True, "lost_tail")
    assert (said["witness_loss_records"], said["witness_loss_seconds"]) == (10, 600.0)
    assert upon.firing() == {("WitnessLost", "/srv")}


@pytest.mark.parametrize("cause", list(ReadCause))
def test_no_single_read_convicts(cause: ReadCause) -> None:
    """A misread, a slow device, a wrong guess at the newest record: one look is no proof, whatever made us look."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent)
    agent.disk.cut(10)
    agent.reboot(at)
    upon.feed(agent.born(at, "dirty"), at)

    upon.feed(agent.read(at, cause, previous_boot="dirty"), at)
    for later in range(0, 600, 30):
        upon.tick(at + later)

    said = facts(upon)
    assert (said["witness_lost"], said["witness_suspected"], upon.firing()) == (False, True, set())


def test_the_same_read_delivered_twice_is_one_read() -> None:
    """At-least-once delivery must not make evidence out of itself."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent)
    agent.disk.cut(10)
    agent.reboot(at)
    report = agent.read(at)
    upon.feed(report, at)

    effects = upon.feed(report, at + 40)

    assert (rejected(effects), facts(upon)["witness_lost"]) == (["duplicate"], False)


def test_the_answer_to_a_short_read_names_what_was_promised() -> None:
    """From it the agent knows that it must read again, and where to go on counting."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent)
    promised = agent.disk.head
    agent.disk.cut(90)
    agent.reboot(at)

    answer = expected(upon.feed(agent.read(at), at))

    assert (answer.volume, answer.chain_id, answer.head, answer.frozen) == ("/srv", CHAIN, promised, False)


def test_a_loss_stays_until_an_operator_takes_note_of_it() -> None:
    """Nothing that happens later makes lost data come back."""
    upon, agent = desk(), Witnessed()
    at = lost(upon, agent, lived(upon, agent)) + 60
    for _ in range(5):
        upon.feed(agent.witness(at), at)
        upon.feed(agent.read(at + 1, ReadCause.DAILY), at + 1)
        at += 60
    assert upon.firing() == {("WitnessLost", "/srv")}
    (key,) = [key for key, row in upon.collector.alerts.items() if row.alert.alertname == "WitnessLost"]

    effects = upon.collector.handle(Acknowledged(at, key, "replayed from the replica"))

    (breach,) = chain(upon).breaches
    assert (breach.acknowledged_at, breach.reason) == (at, "replayed from the replica")
    assert (facts(upon)["witness_lost"], upon.firing()) == (False, set())
    assert commit_of(effects).chains[("n1", CHAIN)] == chain(upon)


def test_an_announced_restore_is_measured_and_calls_nobody() -> None:
    """A restore drill's number is worth having; a page about what one is just doing is not."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent)
    upon.collector.handle(RestoreAnnounced(at, "n1", at + 600, "drill"))

    lost(upon, agent, at + 5)

    said = facts(upon)
    assert (said["witness_lost"], said["witness_loss_records"], upon.firing()) == (False, 10, set())
    assert (chain(upon).breaches[0].announced, said["witness_loss_total"]) == (True, 1)


def test_an_announcement_that_is_over_excuses_nothing() -> None:
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent)
    upon.collector.handle(RestoreAnnounced(at, "n1", at + 600, "drill"))

    lost(upon, agent, at + 700)

    assert upon.firing() == {("WitnessLost", "/srv")}


def test_a_chain_is_remembered_over_a_restart_of_the_collector() -> None:
    """The collector's own crash between two reads must not lose the first one."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent)
    agent.disk.cut(90)
    agent.reboot(at)
    commit = commit_of(upon.feed(agent.read(at), at))
    kept = State(
        nodes=[row for row in commit.nodes.values() if row],
        chains=[row for row in commit.chains.values() if row],
        seen=commit.seen,
    )

    again = desk(state=kept, started_at=at + 1)
    again.feed(agent.read(at + 35, ReadCause.AGAIN), at + 35)

    assert [breach.kind for breach in chain(again).breaches] == [BreachKind.LOST_TAIL]


def test_facts_of_chains_are_there_at_once_after_a_restart() -> None:
    """A lost disk must not become unknown because the collector was updated."""
    upon, agent = desk(), Witnessed()
    lost(upon, agent, lived(upon, agent))
    node = upon.collector.nodes["n1"]

    again = desk(state=State(nodes=[node.record], chains=list(node.chains.values())))

    assert facts(again)["witness_lost"] is True


def test_a_volume_the_agent_no_longer_lists_keeps_its_facts() -> None:
    """A disk that is gone is the worst that can happen to it; it must not drop out of sight."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 3)

    upon.feed(agent.read(at, ReadCause.MOUNT, mounted=False, head=None, hashes=[]), at)

    said = facts(upon)
    assert (said["witness_missing"], said["witness_missing_reason"]) == (True, "mount_missing")
    assert upon.firing() == {("WitnessMissing", "/srv")}


def test_a_forgotten_node_takes_its_chains_along() -> None:
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 3)
    upon.collector.handle(NodeForgotten(at, "n1"))

    answer = expected(upon.feed(agent.read(at + 1, ReadCause.DAILY), at + 1))

    assert (answer.head, upon.collector.chains("n1")[0].began_at) == (agent.disk.head, at + 1)


def test_late_promises_of_a_machine_that_is_gone_are_held_against_the_read_that_lacked_them() -> None:
    """The broker drained late: nobody knew of these records when the disk was read, yet they were promised."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 100)
    spooled = [agent.witness(at + second) for second in range(3)]
    agent.disk.cut(100)
    agent.reboot(at + 10)
    upon.feed(agent.born(at + 10, "dirty"), at + 10)
    upon.feed(agent.read(at + 10, previous_boot="dirty"), at + 10)
    assert facts(upon)["witness_suspected"] is False

    effects = upon.feed(spooled[2], at + 20)

    assert (chain(upon).suspicion is not None, expected(effects).head) == (True, spooled[2].head)
    upon.feed(agent.read(at + 50, ReadCause.AGAIN, previous_boot="dirty"), at + 50)
    (breach,) = chain(upon).breaches
    assert (breach.kind, breach.records) == (BreachKind.LOST_TAIL, 3)


def test_late_promises_that_two_reads_lacked_convict_at_once() -> None:
    """Both reads are evidence already, and the record cannot come back."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 100)
    spooled = agent.witness(at)
    agent.disk.cut(100)
    agent.reboot(at + 10)
    upon.feed(agent.born(at + 10, "dirty"), at + 10)
    upon.feed(agent.read(at + 10, previous_boot="dirty"), at + 10)
    upon.feed(agent.read(at + 90, ReadCause.DAILY, previous_boot="dirty"), at + 90)

    upon.feed(spooled, at + 100)

    assert [(breach.kind, breach.records) for breach in chain(upon).breaches] == [(BreachKind.LOST_TAIL, 1)]


def test_a_late_promise_that_the_read_did_contain_is_no_loss() -> None:
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 100)
    spooled = agent.witness(at)
    agent.reboot(at + 10)
    upon.feed(agent.born(at + 10, "dirty"), at + 10)
    upon.feed(agent.read(at + 10, previous_boot="dirty"), at + 10)

    upon.feed(spooled, at + 20)

    assert (chain(upon).suspicion, chain(upon).breaches, chain(upon).head) == (None, (), spooled.head)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_witnesses_out_of_order_leave_the_newest_as_head(order: tuple[int, ...]) -> None:
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 5)
    messages = [agent.witness(at + second) for second in range(3)]

    for place in order:
        upon.feed(messages[place], at + 10)

    assert (chain(upon).head, chain(upon).breaches) == (messages[2].head, ())


def test_a_gap_of_records_that_failed_is_legal() -> None:
    """A number whose write failed is never used again; the next record says which one was the last confirmed."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 5)
    upon.feed(agent.witness(at, seq=9), at)
    agent.reboot(at + 10)

    upon.feed(agent.read(at + 10, previous_boot="dirty"), at + 10)

    assert (list(chain(upon).survived), chain(upon).suspicion) == (["guest_crash"], None)


def test_the_second_read_clears_what_the_first_one_got_wrong() -> None:
    """And the crash the chain came through counts, although the first look was wrong."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 100)
    agent.reboot(at)
    whole = agent.disk
    agent.disk = whole.copy()
    agent.disk.cut(90)
    upon.feed(agent.born(at, "dirty"), at)
    upon.feed(agent.read(at, previous_boot="dirty"), at)
    agent.disk = whole

    upon.feed(agent.read(at + 35, ReadCause.AGAIN, previous_boot="dirty"), at + 35)

    assert (chain(upon).suspicion, chain(upon).breaches) == (None, ())
    assert chain(upon).survived["guest_crash"].at == at + 35


def test_a_chain_that_went_on_counting_above_the_loss_is_still_convicted() -> None:
    """After the answer the agent continues beyond what was promised: a newer head must not hide the hole."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 100)
    agent.disk.cut(90)
    agent.disk.line = "b"
    agent.reboot(at)
    upon.feed(agent.read(at, previous_boot="dirty"), at)
    upon.feed(agent.witness(at + 5, seq=101), at + 5)

    upon.feed(agent.read(at + 35, ReadCause.AGAIN, previous_boot="dirty"), at + 35)

    (breach,) = chain(upon).breaches
    assert (breach.kind, breach.records) == (BreachKind.LOST_TAIL, 10)
    assert (chain(upon).state, chain(upon).head) == (ChainState.OPEN, agent.disk.head)


def test_a_chain_that_wrote_the_lost_numbers_anew_is_convicted_and_no_fork() -> None:
    """Without an answer for days the agent cannot know better. The shortage was said, so the numbers are free."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 100)
    agent.disk.cut(90)
    agent.disk.line = "b"
    agent.reboot(at)
    upon.feed(agent.read(at, previous_boot="dirty"), at)
    for second in range(12):
        upon.feed(agent.witness(at + 1 + second), at + 1 + second)

    upon.feed(agent.read(at + 35, ReadCause.AGAIN, previous_boot="dirty"), at + 35)

    assert [breach.kind for breach in chain(upon).breaches] == [BreachKind.LOST_TAIL]


def test_a_second_content_for_a_known_number_is_a_fork() -> None:
    """Both machines are told to begin anew; the chain is evidence."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 10)
    twin = Witnessed(agent.disk.copy("b"), epoch=1)
    twin.seq = agent.seq + 100
    upon.feed(agent.witness(at), at)

    effects = upon.feed(twin.witness(at + 1), at + 1)

    assert (chain(upon).state, expected(effects).frozen) == (ChainState.FROZEN, True)
    assert upon.firing() == {("WitnessForked", "/srv")}
    assert expected(upon.feed(agent.witness(at + 60), at + 60)).frozen is True


def cloned(upon: Desk, agent: Witnessed, at: float) -> tuple[Witnessed, float]:
    """A machine made from a copy of the agent's disk boots while the first one lives on."""
    twin = Witnessed(agent.disk.copy("b"))
    twin.epoch = agent.epoch
    upon.feed(agent.alive(at), at)
    upon.feed(agent.witness(at), at)
    twin.reboot(at + 30, "boot-clone")
    upon.feed(twin.born(at + 40), at + 40)
    upon.feed(twin.alive(at + 40), at + 40)
    return twin, at + 40


def test_a_clone_is_no_rollback_even_though_its_disk_is_older() -> None:
    """Its first read looks like a loss. That the first machine goes on writing is what tells them apart."""
    upon, agent = desk(), Witnessed()
    twin, at = cloned(upon, agent, lived(upon, agent, 50))
    upon.feed(twin.read(at + 1), at + 1)
    assert facts(upon)["witness_suspected"] is True

    upon.feed(agent.alive(at + 5), at + 5)
    upon.feed(agent.witness(at + 10), at + 10)

    assert [breach.kind for breach in chain(upon).breaches] == [BreachKind.FORK]
    assert (chain(upon).state, facts(upon)["witness_lost"]) == (ChainState.FROZEN, False)


def test_a_clone_is_found_at_its_second_read_although_the_first_machine_wrote_nothing() -> None:
    """Reports alone show that the first machine lives."""
    upon, agent = desk(), Witnessed()
    twin, at = cloned(upon, agent, lived(upon, agent, 50))
    upon.feed(twin.read(at + 1), at + 1)
    upon.feed(agent.alive(at + 10), at + 10)
    upon.feed(twin.alive(at + 11), at + 11)

    upon.feed(twin.read(at + 35, ReadCause.AGAIN), at + 35)

    assert [breach.kind for breach in chain(upon).breaches] == [BreachKind.FORK]


def test_two_machines_that_alternate_under_one_name_are_counted_and_neither_hides() -> None:
    """Same installation, same name: by position the older one is always late, and yet it is there."""
    upon, agent = desk(), Witnessed()
    twin, at = cloned(upon, agent, lived(upon, agent, 5))
    for second in range(10, 60, 10):
        upon.feed(agent.alive(at + second), at + second)
        upon.feed(twin.alive(at + second + 1), at + second + 1)
    node = upon.collector.nodes["n1"]

    assert node.resources[("node", "n1")]["claimants"] == 2

    at += 60
    for second in range(0, 200, 10):
        upon.feed(agent.alive(at + second), at + second)
        upon.tick(at + second)
    assert (node.record.boot_id, node.reporting) == ("boot-1", True)
    assert node.resources[("node", "n1")]["claimants"] == 1


def test_a_reboot_is_one_machine() -> None:
    """A late report of the boot before was made before this one began."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 5)
    late = agent.alive(at)
    agent.reboot(at + 30)
    upon.feed(agent.born(at + 40), at + 40)
    upon.feed(agent.alive(at + 40), at + 40)

    effects = upon.feed(late, at + 50)

    assert rejected(effects) == ["late"]
    assert upon.collector.nodes["n1"].resources[("node", "n1")]["claimants"] == 1


def test_a_frozen_chain_gives_way_to_a_new_one_on_each_machine() -> None:
    """Two lines, two chains, on volumes of the same name: neither makes the other look deleted."""
    upon, agent = desk(), Witnessed()
    twin, at = cloned(upon, agent, lived(upon, agent, 50))
    upon.feed(twin.read(at + 1), at + 1)
    upon.feed(agent.alive(at + 5), at + 5)
    upon.feed(agent.witness(at + 10), at + 10)
    upon.feed(twin.alive(at + 11), at + 11)
    agent.disk, twin.disk = Disk(chain_id="d1" * 16), Disk(chain_id="d2" * 16)
    for second, machine in ((20, agent), (21, twin), (80, agent), (81, twin)):
        upon.feed(machine.alive(at + second), at + second)
        upon.feed(machine.read(at + second, ReadCause.DAILY), at + second)
        upon.feed(machine.witness(at + second), at + second)

    states = {record.chain_id[:2]: record.state.value for record in upon.collector.chains("n1")}

    assert states == {"c1": "frozen", "d1": "open", "d2": "open"}
    assert facts(upon)["witness_missing"] is False


def test_a_collector_restored_from_an_older_copy_says_so_and_convicts_nobody() -> None:
    """It is the collector that lost records then. The agents' chains know, and are adopted."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 50)
    node = upon.collector.nodes["n1"]
    copy = State(nodes=[node.record], chains=list(node.chains.values()))
    at = lived(upon, agent, 50, at)
    restored = desk(state=copy, started_at=at)

    restored.feed(agent.read(at + 70, ReadCause.DAILY, acknowledged_seq=99), at + 70)
    restored.tick(at + 71)

    assert (chain(restored).head, chain(restored).breaches) == (agent.disk.head, ())
    assert ("CollectorBehind", "collector") in restored.firing()


def test_after_a_restore_of_the_collector_other_chains_are_taken_as_they_are() -> None:
    """What it remembers of them is old, too: a disk rolled back and written anew since then is no loss twice told."""
    upon = desk()
    first, second = Witnessed(), Witnessed(Disk(chain_id="c2" * 16), node="n2", install="install-2")
    at = lived(upon, first, 50)
    lived(upon, second, 50)
    nodes = upon.collector.nodes
    copy = State(
        nodes=[nodes["n1"].record, nodes["n2"].record],
        chains=[*nodes["n1"].chains.values(), *nodes["n2"].chains.values()],
    )
    for _ in range(3):
        first.witness(at)
    second.disk.cut(40)
    second.disk.line = "b"
    restored = desk(state=copy, started_at=at)
    restored.feed(first.read(at + 70, ReadCause.DAILY, acknowledged_seq=52), at + 70)

    for later in (80, 120):
        restored.feed(second.read(at + later, ReadCause.DAILY), at + later, "n2")

    known = chain(restored, "c2" * 16, "n2")
    assert (known.head, known.breaches, known.suspicion) == (second.disk.head, (), None)


def test_the_restored_collector_is_excused_by_an_operator() -> None:
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 5)
    upon.feed(agent.read(at, ReadCause.DAILY, acknowledged_seq=900), at)
    upon.tick(at + 1)
    (key,) = [key for key, row in upon.collector.alerts.items() if row.alert.alertname == "CollectorBehind"]

    upon.collector.handle(Acknowledged(at + 2, key, "restored on purpose"))
    upon.tick(at + 3)

    assert upon.collector.health(at + 4)["behind_agents"] is False


def test_a_clean_reboot_is_told_once_with_what_came_through() -> None:
    """People want to know that it was nothing, too."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 10)
    agent.reboot(at + 30)
    told: list[Commit] = [commit_of(upon.feed(agent.born(at + 40, "clean"), at + 40))]
    told.append(commit_of(upon.feed(agent.alive(at + 40), at + 40)))
    told.append(commit_of(upon.feed(agent.read(at + 41, previous_boot="clean"), at + 41)))
    told.extend(commit_of(upon.tick(at + 41 + later)) for later in range(0, 300, 10))

    fates = [row for commit in told for row in commit.events if row.type == "reboot_fate"]

    assert [(row.fields["fate"], row.fields["survived"], row.resource) for row in fates] == [
        ("clean_reboot", "/srv", "n1")
    ]
    assert chain(upon).survived.keys() == {"clean_reboot"}


def test_what_a_boot_was_is_kept_with_its_evidence_as_fields() -> None:
    """A summary is cut and read by people; what was promised and what was found must not have to be parsed out of it."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 10)
    agent.disk.cut(3)
    agent.reboot(at + 30)
    upon.feed(agent.born(at + 40, "dirty", "EXT4-fs: recovery complete"), at + 40)
    before = upon.collector.nodes["n1"].record.fate
    for later in (41, 75):
        upon.feed(agent.read(at + later, previous_boot="dirty"), at + later)

    node = upon.collector.nodes["n1"]
    fate = node_detail(node, [], [], [], Grounds(upon.collector, node, at + 75)).last_boot

    assert before is None
    assert fate is not None
    (volume,) = fate.volumes
    assert (fate.kind, fate.boot_id, fate.previous_boot_id) == ("crash", "boot-2", "boot-1")
    assert (fate.previous_stop, fate.previous_stop_evidence) == ("dirty", "EXT4-fs: recovery complete")
    assert (volume.volume, volume.conclusion, volume.promised_seq, volume.found_seq) == (
        "/srv",
        "lost_tail",
        10,
        3,
    )
    assert "after a boot" in volume.evidence
    assert fate.summary == "crash: it crashed, and flushed data is gone; harmed: /srv (lost tail)"


def test_a_reboot_whose_volumes_are_not_read_is_told_after_two_minutes() -> None:
    """What is not read is named, not taken for whole."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 10)
    agent.reboot(at + 30)
    upon.feed(agent.born(at + 40, "dirty", "EXT4-fs: recovery complete"), at + 40)

    told = [row for later in range(0, 300, 10) for row in commit_of(upon.tick(at + 40 + later)).events]

    (row,) = told
    assert (row.received_at, row.fields["fate"], row.fields["unread"]) == (at + 160, "crash", "/srv")


def test_a_second_boot_closes_what_was_still_open_of_the_first() -> None:
    """A machine that crashes again before its disks were read: each boot is told."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 10)
    agent.reboot(at + 30)
    upon.feed(agent.born(at + 40, "dirty"), at + 40)
    agent.reboot(at + 60, "boot-3")

    effects = upon.feed(agent.born(at + 70, "dirty"), at + 70)

    (fate,) = [row for row in commit_of(effects).events if row.type == "reboot_fate"]
    assert (fate.fields["boot_id"], fate.fields["fate"], fate.fields["unread"]) == ("boot-2", "crash", "/srv")


def test_a_restore_on_another_machine_is_told_as_one_fate_and_a_changed_identity() -> None:
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 100)
    agent.disk.cut(40)
    agent.machine = type(agent.machine)(machine_id="m-1", instance_id="i-2")
    agent.reboot(at + 30)
    upon.feed(agent.born(at + 40, "dirty"), at + 40)
    upon.feed(agent.read(at + 41, previous_boot="dirty"), at + 41)

    effects = upon.feed(agent.read(at + 75, ReadCause.AGAIN, previous_boot="dirty"), at + 75)

    (fate,) = [row for row in commit_of(effects).events if row.type == "reboot_fate"]
    assert (fate.fields["fate"], facts(upon)["witness_loss_seconds"]) == ("restored", 3600.0)
    assert upon.firing() == {("WitnessLost", "/srv"), ("IdentityChanged", "n1")}


def test_a_changed_identity_leaves_with_the_operators_word() -> None:
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 5)
    agent.machine = type(agent.machine)(machine_id="m-1", instance_id="i-2")
    upon.feed(agent.read(at, ReadCause.DAILY), at)
    (key,) = [key for key, row in upon.collector.alerts.items() if row.alert.alertname == "IdentityChanged"]

    upon.collector.handle(Acknowledged(at + 1, key, "moved"))

    assert (upon.firing(), upon.collector.nodes["n1"].record.identity_change) == (set(), "")


def test_two_live_nodes_with_one_machine_id_are_told_of_each_other() -> None:
    """A golden image whose id was never made anew; once one of them is silent there is nothing to tell."""
    upon = desk()
    first, second = Witnessed(), Witnessed(Disk(chain_id="c2" * 16), node="n2", install="install-2")
    at = lived(upon, first, 1)
    lived(upon, second, 1)
    for later in range(0, 61, 10):
        upon.feed(first.alive(at + later), at + later)
        upon.feed(second.alive(at + later), at + later, "n2")
        upon.tick(at + later)
    nodes = upon.collector.nodes
    assert [nodes[name].resources[("node", name)]["machine_id_shared"] for name in ("n1", "n2")] == [
        True,
        True,
    ]

    at += 60
    for later in range(10, 181, 10):
        upon.feed(first.alive(at + later), at + later)
        upon.tick(at + later)

    assert nodes["n1"].resources[("node", "n1")]["machine_id_shared"] is False


def test_swapped_disks_are_named_on_both_volumes_and_nothing_is_lost() -> None:
    """Mounted by device names that changed places: the data is there, under the wrong names."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 20)
    first, second = agent.disk, Disk("/var", "c2" * 16, filesystem="fs-2", device="disk-2")
    agent.disk = second
    at = lived(upon, agent, 20, at)
    agent.reboot(at)
    for disk, volume in ((first, "/var"), (second, "/srv")):
        agent.disk = disk
        report = agent.read(at + 10)
        moved = type(report.identity)(volume=volume, filesystem_id=disk.filesystem)
        agent.seq -= 1
        upon.feed(agent.read(at + 10, identity=moved), at + 10)

    said = {volume: facts(upon, volume) for volume in ("/srv", "/var")}

    assert [said[volume]["witness_swapped"] for volume in said] == [True, True]
    assert [said[volume]["witness_lost"] for volume in said] == [False, False]
    assert {resource for _, resource in upon.firing()} == {"/srv", "/var"}


def test_every_witness_is_committed_even_when_it_says_nothing_new() -> None:
    """What was dropped with a failed batch must reach the disk with its next copy."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 3)
    message = agent.witness(at)
    upon.feed(message, at)
    agent.seq += 1
    again = type(message)(
        **{name: getattr(message, name) for name in message.__struct_fields__ if name != "seq"}, seq=agent.seq
    )

    effects = upon.feed(again, at + 1)

    assert commit_of(effects).chains == {("n1", CHAIN): chain(upon)}


def test_an_unreadable_chain_says_nothing() -> None:
    """Denied is not lost."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 20)
    for later in (0, 35):
        upon.feed(
            agent.read(at + later, ReadCause.AGAIN, head=None, hashes=[], read_error="EIO at slot 4"),
            at + later,
        )

    assert (chain(upon).suspicion, chain(upon).breaches, events([])) == (None, (), [])


def reads(upon: Desk, agent: Witnessed, at: float, *causes: ReadCause, **fields: Any) -> float:
    """Read a volume that many times, 35 s apart."""
    for cause in causes:
        upon.feed(agent.read(at, cause, **fields), at, agent.node)
        at += 35
    return at


TWICE = (ReadCause.BOOT, ReadCause.AGAIN)


def test_a_volume_formatted_anew_is_lost_by_two_reads() -> None:
    """The first read finds no chain, the second one the chain begun since: neither is the one that was promised."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 20)
    agent.disk = Disk(chain_id="d1" * 16, filesystem="fs-2")
    agent.reboot(at)
    upon.feed(agent.read(at, chain_id="", head=None), at)
    assert (facts(upon)["witness_lost"], facts(upon)["witness_suspected"]) == (False, True)
    assert facts(upon)["witness_missing_reason"] == "reformatted"
    upon.feed(agent.read(at + 1, ReadCause.BEGUN), at + 1)
    upon.feed(agent.witness(at + 20), at + 20)
    assert chain(upon, "d1" * 16).writer.filesystem_id == "fs-2"

    upon.feed(agent.read(at + 35, ReadCause.AGAIN), at + 35)

    said = facts(upon)
    assert (said["witness_lost"], said["witness_loss"], said["witness_missing_reason"]) == (
        True,
        "reformatted",
        "reformatted",
    )
    assert (chain(upon).state, said["witness_seq"], said["witness_loss_records"]) == (ChainState.ENDED, 1, 20)


def test_a_temporary_disk_that_was_set_up_anew_is_expected() -> None:
    """That is what its class promises. What relied on it is another rule's business."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 5)
    upon.collector.nodes["n1"].resources[("volume", "/srv")]["volatile"] = True
    agent.disk = Disk(chain_id="d1" * 16, filesystem="fs-2")
    agent.reboot(at)

    reads(upon, agent, at, *TWICE)

    assert (chain(upon).state, facts(upon)["witness_lost"], upon.firing()) == (ChainState.ENDED, False, set())


def test_a_deleted_chain_is_missed_until_an_operator_takes_note() -> None:
    """The agent begins another one within a minute, which must not make the question go away."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 5)
    agent.disk = Disk(chain_id="d1" * 16)
    at = reads(upon, agent, at, ReadCause.AGENT_START, ReadCause.DAILY)
    upon.feed(agent.witness(at), at)
    assert (facts(upon)["witness_missing_reason"], upon.firing()) == ("deleted", {("WitnessMissing", "/srv")})
    (key,) = [key for key, row in upon.collector.alerts.items() if row.alert.alertname == "WitnessMissing"]

    upon.collector.handle(Acknowledged(at + 1, key, "cleaned by mistake"))

    assert (facts(upon)["witness_missing"], facts(upon)["witness_lost"], upon.firing()) == (
        False,
        False,
        set(),
    )


def test_a_chain_of_an_installation_that_was_replaced_is_left_behind_without_a_word() -> None:
    """A new agent begins its own chain; it names the old one, which is whole, once."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 5)
    upon.feed(agent.death(DeathReason.STOPPED), at)
    anew = Witnessed(Disk(chain_id="d1" * 16), install="install-2", boot=agent.boot)
    anew.began_at = agent.began_at
    upon.feed(anew.born(at + 10), at + 10)
    own, anew.disk, anew.owner = anew.disk, agent.disk, agent.install
    upon.feed(anew.read(at + 10, ReadCause.AGENT_START), at + 10)
    anew.disk, anew.owner = own, anew.install
    upon.feed(anew.witness(at + 20), at + 20)

    upon.feed(anew.read(at + 100, ReadCause.DAILY), at + 100)

    assert (chain(upon).state, upon.firing()) == (ChainState.ENDED, set())
    assert (facts(upon)["witness_seq"], facts(upon)["witness_missing"]) == (1, False)


def test_a_deleted_chain_that_comes_back_is_missed_no_more() -> None:
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 5)
    at = reads(upon, agent, at, ReadCause.AGENT_START, chain_id="", head=None)
    assert facts(upon)["witness_missing_reason"] == "deleted"

    reads(upon, agent, at, ReadCause.DAILY)

    assert (facts(upon)["witness_missing"], chain(upon).state) == (False, ChainState.OPEN)


def test_a_mount_that_is_back_is_missed_no_more() -> None:
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 5)
    at = reads(upon, agent, at, ReadCause.MOUNT, mounted=False, head=None, hashes=[])

    reads(upon, agent, at, ReadCause.MOUNT)

    assert (facts(upon)["witness_missing"], upon.firing()) == (False, set())
    assert list(chain(upon).survived) == ["remount"]


def test_another_machines_disk_is_named_and_its_chain_is_not_gone_on_with() -> None:
    """A disk that was attached here carries somebody else's promises."""
    upon = desk()
    owner, finder = Witnessed(), Witnessed(Disk(chain_id="c2" * 16), node="n2", install="install-2")
    at = lived(upon, owner, 5)
    lived(upon, finder, 5)
    finder.disk, finder.owner = owner.disk, "install-1"

    answer = upon.feed(finder.read(at, ReadCause.MOUNT), at, "n2")

    said = facts(upon, node="n2")
    frozen = {
        one.chain_id[:2]: one.frozen
        for sent in published(answer)
        if isinstance(sent.message, Expect)
        for one in sent.message.chains
    }
    assert (said["witness_foreign"], said["witness_missing_reason"], frozen) == (
        True,
        "wrong_disk",
        {"c1": True, "c2": False},
    )
    assert (chain(upon).state, facts(upon)["witness_foreign"]) == (ChainState.OPEN, False)


@pytest.mark.parametrize(
    ("fields", "kind", "loss"),
    [
        ({"previous_boot": "clean"}, "rolled_back", 10),
        ({"previous_boot": "dirty"}, "lost_tail", 10),
        ({"torn_seq": 91}, "torn", 10),
        ({"identity": VolumeIdentity(volume="/srv", filesystem_id="fs-9")}, "restored", 10),
    ],
)
def test_what_is_lost_is_named_by_how(fields: dict[str, Any], kind: str, loss: int) -> None:
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent)
    agent.disk.cut(90)
    agent.reboot(at)

    reads(upon, agent, at, *TWICE, **fields)

    said = facts(upon)
    assert (said["witness_loss"], said["witness_loss_records"], said["witness_lost"]) == (kind, loss, True)


def test_a_snapshot_of_memory_that_was_put_back_is_named_and_told_as_a_fate() -> None:
    """Same boot, older disk: only the hypervisor's notice and the chain know that time went back."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent)
    agent.disk.cut(70)
    agent.seq -= 40

    effects = upon.feed(agent.read(at, ReadCause.FORK), at)
    agent.seq += 100
    effects = upon.feed(agent.read(at + 35, ReadCause.AGAIN), at + 35)

    (fate,) = [row for row in commit_of(effects).events if row.type == "reboot_fate"]
    assert (facts(upon)["witness_loss"], fate.fields["fate"]) == ("memory_rollback", "memory_fork")


def test_damage_in_the_middle_needs_two_reads_and_leaves_the_head_alone() -> None:
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 20)
    at = reads(upon, agent, at, ReadCause.DAILY, broken=[7])
    assert facts(upon)["witness_corrupt"] is False

    reads(upon, agent, at, ReadCause.AGAIN, broken=[7])

    said = facts(upon)
    assert (said["witness_corrupt"], said["witness_lost"], said["witness_seq"]) == (True, False, 20)


def test_a_cache_that_hides_a_failed_write_is_told_while_it_does() -> None:
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 20)
    at = reads(upon, agent, at, ReadCause.DAILY, cache_differs=True)
    assert facts(upon)["witness_cache_differs"] is True

    reads(upon, agent, at, ReadCause.DAILY)

    assert facts(upon)["witness_cache_differs"] is False


def test_a_renamed_file_that_is_gone_is_a_loss_of_its_own() -> None:
    """The records survived, so flushes work; the folder's entry did not."""
    upon, agent = desk(), Witnessed()
    agent.disk.metadata_seq = 5
    at = lived(upon, agent, 20)
    agent.disk.metadata_seq = 4
    agent.reboot(at)

    at = reads(upon, agent, at, ReadCause.BOOT)
    assert facts(upon)["witness_lost"] is False
    reads(upon, agent, at, ReadCause.AGAIN)

    said = facts(upon)
    assert (said["witness_loss"], said["witness_loss_records"], said["witness_seq"]) == ("metadata", 0, 20)


def test_an_agent_installed_anew_goes_on_with_the_chain_it_finds() -> None:
    """Its own memory was reset; the volume's was not."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 20)
    agent.epoch, agent.seq = 9, 0

    reads(upon, agent, at, ReadCause.AGENT_START)
    upon.feed(agent.witness(at + 60), at + 60)

    assert (chain(upon).head, list(chain(upon).survived)) == (agent.disk.head, ["agent_restart"])


def test_a_witness_that_overtook_its_boots_read_waits_for_it() -> None:
    """Taken as it comes it would look like a second machine; the read says why the number is used again."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 100)
    agent.disk.cut(90)
    agent.disk.line = "b"
    agent.reboot(at)
    upon.feed(agent.born(at, "dirty"), at)
    upon.feed(agent.alive(at), at)
    report, witness = agent.read(at, previous_boot="dirty"), agent.witness(at + 1)

    early = upon.feed(witness, at + 1)
    upon.feed(report, at + 5)
    upon.feed(witness, at + 6)

    assert (rejected(early), published(early)) == (["early"], [])
    assert (chain(upon).state, chain(upon).head) == (ChainState.OPEN, agent.disk.head)


def test_a_contradiction_whose_read_never_comes_is_a_fork_in_the_end() -> None:
    """Not acknowledged it comes again for as long as its sender lives; it must not do so for ever."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 100)
    agent.disk.cut(90)
    agent.disk.line = "b"
    agent.reboot(at)
    upon.feed(agent.alive(at), at)
    witness = agent.witness(at + 1)

    outcomes = [rejected(upon.feed(witness, at + 1 + later)) for later in (0, 250, 700)]

    assert (outcomes, chain(upon).state) == ([["early"], ["early"], []], ChainState.FROZEN)


def test_a_record_waits_for_the_read_that_goes_before_it() -> None:
    """What a boot found must be compared with what was promised before it, not with what it wrote since."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 100)
    agent.reboot(at)
    report, witness = agent.read(at, previous_boot="dirty"), agent.witness(at + 1)
    early = upon.feed(witness, at + 1)

    upon.feed(report, at + 5)
    upon.feed(witness, at + 15)

    assert (rejected(early), published(early)) == (["early"], [])
    assert (chain(upon).head, chain(upon).suspicion) == (agent.disk.head, None)
    assert chain(upon).survived["guest_crash"].count == 1


def test_an_acknowledgement_of_what_was_given_up_does_not_accuse_the_collector() -> None:
    """It did acknowledge record 100 once. That the volume lost it is the volume's doing."""
    upon, agent = desk(), Witnessed()
    at = lost(upon, agent, lived(upon, agent)) + 60
    upon.feed(agent.witness(at), at)

    upon.feed(agent.read(at + 1, ReadCause.DAILY, acknowledged_seq=100), at + 1)

    assert upon.collector.health(at + 2)["behind_agents"] is False


def test_what_an_answer_told_is_no_acknowledgement_that_was_forgotten() -> None:
    """An agent takes the answer to its read for an acknowledgement of all that the answer names."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 5)
    agent.witness(at)
    told = expected(upon.feed(agent.read(at + 1, ReadCause.DAILY), at + 1)).head

    upon.feed(agent.read(at + 2, ReadCause.DAILY, acknowledged_seq=told.seq), at + 2)

    assert (told.seq, upon.collector.health(at + 3)["behind_agents"]) == (6, False)


def test_a_disk_that_was_given_up_and_comes_back_testifies_again() -> None:
    """Otherwise its chain would never be watched again, and nobody would know."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 20)
    old, agent.disk = agent.disk, Disk(chain_id="d1" * 16, filesystem="fs-2")
    at = reads(upon, agent, at, *TWICE)
    assert chain(upon).state is ChainState.ENDED

    agent.disk = old
    at = reads(upon, agent, at, ReadCause.MOUNT)
    upon.feed(agent.witness(at), at)

    assert (chain(upon).state, chain(upon).head) == (ChainState.OPEN, old.head)


@pytest.mark.parametrize("seed", range(12))
def test_an_honest_machine_is_never_accused_whatever_the_network_does(seed: int) -> None:
    """Crashes, clean reboots, agent restarts, failed records; messages late, twice, overtaken; a restarted collector.

    The volume keeps every record it confirmed, so nothing may ever be called lost, forked or missing.
    """
    draw = random.Random(seed)
    upon, agent = desk(), Witnessed()
    spool: list[Any] = [agent.born(WARM), agent.read(WARM, ReadCause.AGENT_START)]
    at, acknowledged = WARM, 0
    for step in range(250):
        at += draw.uniform(1.0, 40.0)
        chance = draw.random()
        if chance < 0.03:
            agent.reboot(at, f"boot-{step}")
            how = draw.choice(["clean", "dirty", "unknown"])
            spool += [agent.born(at, how), agent.read(at, previous_boot=how, acknowledged_seq=acknowledged)]
        elif chance < 0.06:
            agent.epoch, agent.seq = agent.epoch + 1, 0
            spool += [agent.born(at), agent.read(at, ReadCause.AGENT_START, acknowledged_seq=acknowledged)]
        elif chance < 0.08:
            spool.append(agent.read(at, ReadCause.DAILY, acknowledged_seq=acknowledged))
        elif chance < 0.10:
            node = upon.collector.nodes.get("n1")
            if node is not None:
                kept = State(nodes=[node.record], chains=list(node.chains.values()))
                upon = desk(state=kept, started_at=at)
        elif chance < 0.6:
            newest = agent.disk.head.seq if agent.disk.head else 0
            spool.append(agent.witness(at, seq=newest + draw.choice([1, 1, 1, 2, 4])))
        if draw.random() < 0.7:
            upon.feed(agent.alive(at), at)
        while spool and draw.random() < 0.6:
            place = draw.randrange(min(3, len(spool)))
            message = spool[place]
            effects = upon.feed(message, at)
            if draw.random() < 0.2:
                upon.feed(message, at + 1.0)
            if any(isinstance(sent.message, Ack) for sent in published(effects)):
                spool.pop(place)
                acknowledged = max(acknowledged, message.head.seq if isinstance(message, Witness) else 0)

    for message in spool:
        at += 1.0
        upon.feed(message, at)
    for later in (10, 45):
        upon.feed(agent.read(at + later, ReadCause.DAILY, acknowledged_seq=acknowledged), at + later)

    known = chain(upon)
    assert (known.breaches, known.suspicion, known.state) == ((), None, ChainState.OPEN), f"seed {seed}"
    assert (known.head, upon.firing(), known.behind_at) == (agent.disk.head, set(), 0.0), f"seed {seed}"


@pytest.mark.parametrize("seed", range(10))
def test_a_disk_that_lies_is_convicted_once_whatever_the_network_does(seed: int) -> None:
    """However late the promises arrive and in whatever order: the loss is found, named, and counted once."""
    draw = random.Random(seed)
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 70)
    spool: list[Any] = [agent.witness(at + second) for second in range(5)]
    newest = 75 - draw.randrange(1, 20)
    agent.disk.cut(newest)
    agent.disk.line = "b"
    agent.reboot(at + 30)
    at += 30
    spool += [agent.born(at, "dirty"), agent.read(at, previous_boot="dirty")]
    while spool:
        at += 1.0
        place = draw.randrange(min(4, len(spool)))
        if any(isinstance(sent.message, Ack) for sent in published(upon.feed(spool[place], at))):
            spool.pop(place)
    upon.feed(agent.alive(at), at)

    for later in (40, 80, 120):
        upon.feed(agent.read(at + later, ReadCause.DAILY, previous_boot="dirty"), at + later)

    (breach,) = chain(upon).breaches
    assert (breach.kind, breach.records) == (BreachKind.LOST_TAIL, 75 - newest), f"seed {seed}"


@pytest.mark.parametrize("seed", range(10))
def test_a_clone_is_called_a_fork_and_never_a_loss(seed: int) -> None:
    """Two machines from one disk, each with its own clock, epoch and delays. Nothing was lost; two write."""
    draw = random.Random(seed)
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 60)
    twin = Witnessed(agent.disk.copy("b"))
    if draw.random() < 0.5:
        twin.disk.cut(60 - draw.randrange(1, 30))
    twin.epoch = max(1, agent.epoch + draw.randrange(-1, 2))
    at = lived(upon, agent, draw.randrange(0, 5), at)
    twin.reboot(at, "boot-clone")
    due: list[tuple[float, int, Any, Witnessed]] = []
    for machine, start in ((agent, at), (twin, at + draw.uniform(5, 20))):
        script = [(start + 10.0 * turn, "alive") for turn in range(30)]
        script += [(start + 7.0 + 60.0 * turn, "witness") for turn in range(5)]
        if machine is twin:
            script += [(start - 1.0, "born"), (start - 0.5, "read"), (start + 35.0, "again")]
        for when, what in sorted(script):
            make: dict[str, Any] = {
                "alive": machine.alive,
                "witness": machine.witness,
                "born": machine.born,
                "read": machine.read,
                "again": partial(machine.read, cause=ReadCause.AGAIN),
            }
            message = make[what](when)
            due.append((when + draw.uniform(0.0, 2.0), len(due), message, machine))

    for when, _, message, _ in sorted(due, key=lambda one: one[:2]):
        upon.feed(message, when)

    assert [breach.kind for breach in chain(upon).breaches] == [BreachKind.FORK], f"seed {seed}"
    assert (chain(upon).state, facts(upon)["witness_lost"]) == (ChainState.FROZEN, False), f"seed {seed}"


@pytest.mark.parametrize("seed", range(10))
def test_a_machine_that_was_set_back_is_no_clone(seed: int) -> None:
    """The same copy, but its original is gone: one machine, and what it lost is measured."""
    draw = random.Random(seed)
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 60)
    late = [agent.witness(at + second) for second in range(draw.randrange(0, 3))]
    newest = 61 - draw.randrange(2, 30)
    promised = 60 + len(late)
    agent.disk.cut(newest)
    agent.disk.line = "b"
    agent.epoch = max(1, agent.epoch - draw.randrange(0, 2))
    instance = draw.choice(["i-1", "i-2"])
    agent.machine = type(agent.machine)(machine_id="m-1", instance_id=instance)
    at += draw.uniform(20.0, 4000.0)
    agent.reboot(at, "boot-2")
    stop = draw.choice(["clean", "dirty"])
    messages: list[Any] = [
        agent.born(at + 10, stop),
        agent.alive(at + 10),
        agent.read(at + 10, previous_boot=stop),
    ]
    for place in sorted((draw.randrange(len(messages) + 1) for _ in late), reverse=True):
        messages.insert(place, late.pop())
    for message in messages:
        at += 0.5
        upon.feed(message, at + 10)
    for turn in range(10):
        upon.feed(agent.alive(at + 20 + turn), at + 20 + turn)

    upon.feed(agent.read(at + 45, ReadCause.AGAIN, previous_boot=stop), at + 45)
    upon.feed(agent.read(at + 95, ReadCause.DAILY, previous_boot=stop), at + 95)

    (breach,) = chain(upon).breaches
    kind = "restored" if instance == "i-2" else "rolled_back" if stop == "clean" else "lost_tail"
    assert (breach.kind.value, breach.records) == (kind, promised - newest), f"seed {seed}"
