"""What the simulator of tests/sim found in the judgement of chains, each as the shortest history that shows it."""

import pytest

from holdfast_collector.core.chain import BreachKind, ChainState
from holdfast_collector.core.event import Acknowledged
from holdfast_wire import ChainHead, ChainReport, ReadCause, VolumeIdentity, Witness
from tests.collector.fleet import WARM, Desk, commit_of, rejected
from tests.collector.witnessed import (
    CHAIN,
    OTHER,
    Disk,
    Witnessed,
    chain,
    desk,
    events,
    expected,
    facts,
    lived,
)


def test_a_read_of_an_earlier_boot_is_not_held_against_what_a_later_one_wrote() -> None:
    """It was long under way. The record that it lacks did not exist when it was made."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 10)
    agent.epoch, agent.seq = 2, 0
    late = agent.read(at, ReadCause.AGENT_START)
    agent.reboot(at + 60, "boot-2")
    for message in (
        agent.born(at + 60, "dirty"),
        agent.alive(at + 60),
        agent.read(at + 60, previous_boot="dirty"),
    ):
        upon.feed(message, at + 61)
    upon.feed(agent.witness(at + 62), at + 62)

    upon.feed(late, at + 70)

    assert (chain(upon).suspicion, chain(upon).breaches) == (None, ())


def test_a_record_that_claims_an_unknown_acknowledgement_shows_a_restored_collector() -> None:
    """An agent that just goes on is the rule: nobody restarts it because the collector was restored."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 10)
    agent.disk.append(at)

    upon.feed(agent.witness(at, acknowledged_seq=11), at)

    assert upon.collector.health(at)["behind_agents"] is True
    assert chain(upon).breaches == ()


def test_what_an_answer_named_is_no_acknowledgement_that_the_collector_forgot() -> None:
    """The answer to a read says what is held, and the agent writes it into its next record."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 10)
    for _ in range(3):
        agent.disk.append(at)
    assert expected(upon.feed(agent.read(at, ReadCause.DAILY), at)).head.seq == 13

    upon.feed(agent.read(at + 9, ReadCause.DAILY, acknowledged_seq=13), at + 9)

    assert upon.collector.health(at + 9)["behind_agents"] is False


def test_a_ring_without_a_whole_record_is_convicted_once() -> None:
    """Each further read shows the same, and no further loss."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 10)
    agent.disk.cut(0)
    agent.reboot(at)
    for later in range(0, 200, 40):
        upon.feed(agent.read(at + later, previous_boot="dirty"), at + later)

    assert [breach.kind for breach in chain(upon).breaches] == [BreachKind.LOST_TAIL]


def fell_short() -> tuple[Desk, Witnessed, float]:
    """A crash took the newest two records, and a first read shows it."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 10)
    agent.disk.cut(8)
    agent.reboot(at)
    upon.feed(agent.alive(at), at)
    upon.feed(agent.read(at, previous_boot="dirty"), at)
    return upon, agent, at


def test_a_second_read_counts_although_a_record_overtook_it() -> None:
    """What was promised before it is missing in it, whatever was written since."""
    upon, agent, at = fell_short()
    second = agent.read(at + 30, ReadCause.AGAIN, previous_boot="dirty")
    newest = agent.witness(at + 31, seq=11)
    upon.feed(newest, at + 31)

    upon.feed(second, at + 33)

    assert [breach.kind for breach in chain(upon).breaches] == [BreachKind.LOST_TAIL]
    assert chain(upon).head == newest.head


def test_a_doubted_volume_is_asked_again_with_every_record() -> None:
    """The first question may have been lost on its way."""
    upon, agent, at = fell_short()

    answer = expected(upon.feed(agent.witness(at + 60, seq=11), at + 60))

    assert answer.doubted


def test_a_chain_that_was_just_begun_says_nothing_of_the_one_before() -> None:
    """It is introduced a moment after the read that found none: that is not a second look."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 10)
    anew = VolumeIdentity(volume="/srv", filesystem_id="fs-2")
    upon.feed(agent.read(at, ReadCause.MOUNT, identity=anew, chain_id="", head=None, hashes=[]), at)
    agent.disk = Disk(chain_id="c9" * 16, filesystem="fs-2")
    upon.feed(agent.read(at, ReadCause.BEGUN), at)
    before = facts(upon)["witness_lost"]

    upon.feed(agent.read(at + 30, ReadCause.AGAIN), at + 30)

    assert before is False
    assert [breach.kind for breach in chain(upon).breaches] == [BreachKind.REFORMATTED]


def test_a_machine_that_boots_twice_is_told_of_twice() -> None:
    """The first boot's chains were not all read when the second one came."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 3)
    told = []
    for boot in ("boot-2", "boot-3"):
        agent.reboot(at, boot)
        told += events(upon.feed(agent.born(at, "dirty"), at))
        at += 10
    told += events(upon.feed(agent.read(at, previous_boot="dirty"), at))

    assert [type_ for type_, _ in told] == ["reboot_fate", "reboot_fate"]


def test_an_unknown_boot_with_an_older_count_is_heard_once_it_is_known_to_live() -> None:
    """An earlier boot whose read was late, or a machine that was set back: its first report tells."""
    upon, agent = desk(), Witnessed()
    agent.epoch = 5
    at = lived(upon, agent, 10)
    agent.disk.cut(8)
    agent.reboot(at, "boot-2")
    agent.epoch = 3
    read = agent.read(at, previous_boot="dirty")

    early = upon.feed(read, at + 1)
    upon.feed(agent.alive(at + 2), at + 2)
    upon.feed(read, at + 16)

    suspicion = chain(upon).suspicion
    assert rejected(early) == ["early"]
    assert suspicion is not None
    assert suspicion.target.seq == 10


def test_the_identity_in_an_overtaken_introduction_is_not_lost() -> None:
    """Which instance and which filesystem it was is what a later loss is named by."""
    upon, agent = desk(), Witnessed()
    introduction = agent.read(WARM, ReadCause.BEGUN)
    upon.feed(agent.witness(WARM + 1), WARM + 1)

    upon.feed(introduction, WARM + 2)

    writer = chain(upon, CHAIN).writer
    assert (writer.instance_id, writer.filesystem_id) == ("i-1", "fs-1")
    assert chain(upon).head == ChainHead(1, agent.disk.records[1].hash)


def test_a_renamed_file_that_is_gone_is_looked_for_again_although_the_records_are_whole() -> None:
    """Nothing but the question makes the agent read again: its own record is where it should be."""
    upon, agent = desk(), Witnessed()
    agent.disk.metadata_seq = 7
    at = lived(upon, agent, 10)
    agent.disk.metadata_seq = 6
    agent.reboot(at)
    upon.feed(agent.alive(at), at)

    answer = expected(upon.feed(agent.read(at, previous_boot="dirty"), at))

    assert answer.doubted
    assert facts(upon)["witness_suspected"] is True


def test_a_doubt_about_a_renamed_file_hides_no_lost_record() -> None:
    """The second read says something else: the records, too, are gone. That is a new doubt, and then a loss of its own."""
    upon, agent = desk(), Witnessed()
    agent.disk.metadata_seq = 7
    at = lived(upon, agent, 10)
    agent.disk.metadata_seq = 6
    agent.reboot(at)
    upon.feed(agent.alive(at), at)
    upon.feed(agent.read(at, previous_boot="dirty"), at)
    for later in (20, 40):
        upon.feed(agent.witness(at + later), at + later)
    agent.disk.cut(11)
    agent.reboot(at + 60, "boot-3")
    upon.feed(agent.alive(at + 60), at + 60)
    upon.feed(agent.read(at + 60, previous_boot="dirty"), at + 60)

    upon.feed(agent.read(at + 90, ReadCause.AGAIN, previous_boot="dirty"), at + 90)

    (breach,) = chain(upon).breaches
    assert (breach.kind, breach.records) == (BreachKind.LOST_TAIL, 1)


def test_a_second_read_that_a_newer_rename_overtook_is_not_short_of_it() -> None:
    """The first read missed records for once; the second shows them, and cannot know of what was renamed after it."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 10)
    whole = agent.disk.copy()
    agent.disk.cut(8)
    upon.feed(agent.read(at, ReadCause.RESUME), at)
    agent.disk = whole
    second = agent.read(at + 30, ReadCause.AGAIN)
    agent.disk.metadata_seq = 1
    upon.feed(agent.witness(at + 40, seq=11), at + 41)

    upon.feed(second, at + 42)

    assert (chain(upon).breaches, chain(upon).suspicion) == ((), None)


def test_a_late_read_that_still_found_a_chain_does_not_bring_it_back() -> None:
    """A later boot has looked since, and it was gone: it would be lost a second time."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 10)
    agent.reboot(at, "boot-2")
    late = agent.read(at, previous_boot="dirty")
    agent.reboot(at + 20, "boot-3")
    agent.disk = Disk(chain_id="c9" * 16, filesystem="fs-2")
    upon.feed(agent.alive(at + 20), at + 20)
    upon.feed(agent.read(at + 20, chain_id="", head=None, hashes=[]), at + 20)
    upon.feed(agent.read(at + 21, ReadCause.BEGUN), at + 21)
    upon.feed(agent.read(at + 50, ReadCause.AGAIN), at + 50)

    upon.feed(late, at + 60)
    upon.feed(late, at + 400)
    upon.feed(agent.read(at + 500, ReadCause.DAILY), at + 500)

    assert chain(upon, CHAIN).state is ChainState.ENDED
    assert [breach.kind for breach in chain(upon, CHAIN).breaches] == [BreachKind.REFORMATTED]


def test_a_deleted_chain_is_told_once_although_an_operator_has_taken_note() -> None:
    """The next read shows the chain begun since, and nothing new."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 10)
    upon.feed(agent.read(at, ReadCause.MOUNT, chain_id="", head=None, hashes=[]), at)
    (key,) = [key for key, row in upon.collector.alerts.items() if row.alert.alertname == "WitnessMissing"]
    upon.collector.handle(Acknowledged(at + 5, key, "it was me"))
    agent.disk = Disk(chain_id="c9" * 16)
    upon.feed(agent.read(at + 10, ReadCause.BEGUN), at + 10)

    upon.feed(agent.read(at + 600, ReadCause.DAILY), at + 600)

    assert [breach.kind for breach in chain(upon, CHAIN).breaches] == [BreachKind.DELETED]
    assert upon.firing() == set()


def test_a_temporary_disk_that_comes_back_empty_is_no_loss_before_its_class_is_told_anew() -> None:
    """After a boot the read comes first, and nobody has said yet what kind of disk it is."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 10)
    told = upon.collector.nodes["n1"].resources[("volume", "/srv")]
    told["durability_class"] = 1
    upon.feed(agent.witness(at), at)
    del told["durability_class"]
    agent.reboot(at)
    anew = VolumeIdentity(volume="/srv", filesystem_id="fs-2")

    upon.feed(agent.read(at, identity=anew, chain_id="", head=None, hashes=[]), at)

    assert chain(upon).state is ChainState.ENDED
    assert facts(upon).get("witness_missing", False) is False


def test_a_fork_told_of_late_does_not_hold_up_the_agent_started_since() -> None:
    """Its read comes after the newer agent's own, and takes its place; the records need not wait for another."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 10)
    fork = agent.read(at, ReadCause.FORK)
    agent.epoch, agent.seq = 2, 0
    upon.feed(agent.read(at + 10, ReadCause.AGENT_START), at + 10)
    upon.feed(fork, at + 11)

    newest = agent.witness(at + 20)
    upon.feed(newest, at + 20)

    assert chain(upon).head == newest.head


def test_the_fork_of_a_boot_that_was_not_met_is_told_of_as_that_boot() -> None:
    """Its birth is on its way; the boot before it was told of long ago."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 3)
    agent.reboot(at, "boot-2")

    commits = [
        commit_of(upon.feed(message, at + later))
        for later, message in enumerate(
            (
                agent.read(at, ReadCause.FORK, previous_boot="dirty"),
                agent.born(at, "dirty"),
                agent.alive(at + 3),
                agent.read(at + 4, previous_boot="dirty"),
            )
        )
    ]

    told = [row.fields["boot_id"] for commit in commits for row in commit.events if row.type == "reboot_fate"]
    assert told == ["boot-2"]


def test_a_record_of_a_boot_that_was_set_back_is_lost_and_no_second_machine() -> None:
    """It was written, never heard of, and overwritten after the rollback; its witness comes when all that is over."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 5)
    snapshot = agent.disk.copy("b")
    agent.reboot(at, "boot-2")
    unheard: list[ChainReport | Witness] = [
        agent.read(at, previous_boot="dirty"),
        agent.witness(at + 10),
        agent.witness(at + 20),
    ]
    agent.disk = snapshot
    agent.reboot(at + 60, "boot-3")
    upon.feed(agent.alive(at + 60), at + 60)
    upon.feed(agent.read(at + 60, previous_boot="dirty"), at + 60)
    for later in range(70, 150, 20):
        upon.feed(agent.witness(at + later), at + later)
    upon.feed(agent.read(at + 160, ReadCause.RESUME), at + 160)
    upon.feed(agent.read(at + 170, ReadCause.RESUME), at + 170)

    for message in unheard:
        upon.feed(message, at + 200)
        upon.feed(message, at + 600)

    assert BreachKind.FORK not in {breach.kind for breach in chain(upon).breaches}
    assert chain(upon).losses


def test_a_copy_of_a_memory_that_wrote_anew_what_was_promised_before_does_not_hide_its_loss() -> None:
    """Its first records overtake the read of the fork: the newest of them is there at the second read, an older is not."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 8)
    snapshot, position = agent.disk.copy("b"), agent.seq
    upon.feed(agent.witness(at), at)
    agent.disk, agent.seq = snapshot, position
    fork = agent.read(at + 20, ReadCause.FORK)
    agent.witness(at + 25)
    agent.witness(at + 30)
    upon.feed(agent.witness(at + 35), at + 35)
    upon.feed(fork, at + 36)

    upon.feed(agent.read(at + 66, ReadCause.AGAIN), at + 66)

    assert [breach.kind for breach in chain(upon).breaches] == [BreachKind.MEMORY_ROLLBACK]


def set_back(
    agent: Witnessed, at: float, restarts: int
) -> tuple[list[ChainReport], tuple[ChainReport, Witness]]:
    """The agent is started anew, and then its machine is set back to the memory from before that: the reads of the
    starts, then the read and the record that the copy went on with."""
    position, epoch, reads = agent.seq, agent.epoch, list[ChainReport]()
    for _ in range(restarts):
        agent.epoch, agent.seq = agent.epoch + 1, 0
        reads.append(agent.read(at, ReadCause.AGENT_START))
    agent.epoch, agent.seq = epoch, position
    return reads, (agent.read(at + 10, ReadCause.FORK), agent.witness(at + 20))


@pytest.mark.parametrize("restarts", [1, 2])
def test_a_record_of_a_copied_memory_that_overtakes_its_read_is_not_lost(restarts: int) -> None:
    """By position it is older than the reads of the agents started since the copy, which could not contain it."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 6)
    reads, (fork, record) = set_back(agent, at, restarts)
    for read in reads:
        upon.feed(read, at)
    upon.feed(record, at + 21)
    upon.feed(fork, at + 25)
    doubted = chain(upon).suspicion

    upon.feed(agent.read(at + 55, ReadCause.AGAIN), at + 55)

    assert doubted is not None
    assert (chain(upon).suspicion, chain(upon).breaches) == (None, ())


@pytest.mark.parametrize("restarts", [1, 2])
def test_a_record_of_a_copied_memory_that_the_read_after_it_lacks_is_lost(restarts: int) -> None:
    """Patience with a copy is none with its disk."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 6)
    reads, (fork, record) = set_back(agent, at, restarts)
    agent.disk.cut(6)
    messages: list[ChainReport | Witness] = [*reads, record, fork]
    for message in messages:
        upon.feed(message, at + 25)

    upon.feed(agent.read(at + 55, ReadCause.AGAIN), at + 55)

    (breach,) = chain(upon).breaches
    assert (breach.kind, breach.records) == (BreachKind.MEMORY_ROLLBACK, 1)


def test_a_late_record_is_not_hidden_by_a_later_one_of_a_copy() -> None:
    """The copy wrote its own under the same number, and what comes after that is there."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 6)
    before, position, epoch = agent.disk.copy("b"), agent.seq, agent.epoch
    late = agent.witness(at)
    agent.disk = before
    agent.epoch, agent.seq = epoch + 1, 0
    upon.feed(agent.read(at, ReadCause.AGENT_START), at)
    agent.epoch, agent.seq = epoch, position
    fork = agent.read(at + 10, ReadCause.FORK)
    agent.witness(at + 20)
    upon.feed(late, at + 21)
    upon.feed(agent.witness(at + 40), at + 41)
    upon.feed(fork, at + 42)

    upon.feed(agent.read(at + 70, ReadCause.AGAIN), at + 70)

    assert [breach.kind for breach in chain(upon).breaches] == [BreachKind.MEMORY_ROLLBACK]


def test_a_doubt_that_the_records_of_a_copy_raised_does_not_hide_what_was_promised_before_it() -> None:
    """They overtook the read of the fork and are there at the next one; what the machine wrote before it was set back is not."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 6)
    before, position, epoch = agent.disk.copy("b"), agent.seq, agent.epoch
    agent.epoch, agent.seq = epoch + 1, 0
    upon.feed(agent.read(at, ReadCause.AGENT_START), at)
    for _ in range(2):
        upon.feed(agent.witness(at + 5), at + 5)
    agent.disk, agent.epoch, agent.seq = before, epoch, position
    fork = agent.read(at + 10, ReadCause.FORK)
    upon.feed(agent.witness(at + 20), at + 21)
    upon.feed(fork, at + 42)

    upon.feed(agent.read(at + 70, ReadCause.AGAIN), at + 70)

    (breach,) = chain(upon).breaches
    assert (breach.kind, breach.records) == (BreachKind.MEMORY_ROLLBACK, 2)


def test_a_doubt_about_a_renamed_file_hides_no_late_record() -> None:
    """The doubt is cleared by a newer name; the record that nobody knew of at the first read is gone all the same."""
    upon, agent = desk(), Witnessed()
    agent.disk.metadata_seq = 2
    at = lived(upon, agent, 6)
    kept = agent.disk.copy()
    late = agent.witness(at)
    agent.disk, agent.disk.metadata_seq = kept, 1
    upon.feed(agent.read(at + 1, ReadCause.DAILY), at + 1)
    upon.feed(late, at + 2)
    agent.disk.metadata_seq = 3

    upon.feed(agent.read(at + 31, ReadCause.AGAIN), at + 31)

    assert [breach.kind for breach in chain(upon).breaches] == [BreachKind.ROLLED_BACK]


def test_the_records_of_a_boot_do_not_wait_for_a_read_that_came_too_late_to_be_compared() -> None:
    """A collector that knows it was restored takes a boot's first record as it is, and the read comes after that."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 6)
    srv, data = agent.disk, Disk("/data", OTHER)
    agent.disk = data
    upon.feed(agent.read(at, ReadCause.BEGUN), at)
    upon.feed(agent.witness(at + 1, acknowledged_seq=9), at + 1)
    agent.disk = srv
    agent.reboot(at + 10)
    read = agent.read(at + 10, previous_boot="dirty")
    for message in (agent.born(at + 10, "dirty"), agent.alive(at + 10), agent.witness(at + 11), read):
        upon.feed(message, at + 12)

    upon.feed(agent.witness(at + 70), at + 70)

    newest = chain(upon).head
    assert newest is not None
    assert newest.seq == 8
