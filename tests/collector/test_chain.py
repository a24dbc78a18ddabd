"""The nouns of a chain: what is kept of it, what a read says of one record, what a survival is worth, who lives when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from holdfast_collector.core.chain import (
    BREACHES_MAX,
    Breach,
    BreachKind,
    Found,
    found,
    with_breach,
    with_marks,
)
from holdfast_collector.core.comparison import Conclusion
from holdfast_collector.core.lives import Lives, heard, together
from holdfast_collector.core.reboot_fate import KINDS, Passage, complete, fate, noted
from holdfast_collector.core.survival import EventClass, event_class, survived
from holdfast_collector.core.survival import tested_at as when_tested
from holdfast_collector.core.witness_facts import witness_facts
from holdfast_wire import ChainHead, ChainReport, Machine, ReadCause
from tests.collector.fleet import Agent
from tests.collector.test_comparison import head, identity, known, report


@pytest.mark.parametrize(
    ("read", "seq", "answer"),
    [
        (report(100), 100, Found.SAME),
        (report(100), 64, Found.SAME),
        (report(100), 90, Found.SAME),
        (report(100), 101, Found.BEYOND),
        (report(0), 1, Found.BEYOND),
        (report(100, line="b", common=99), 100, Found.OTHER),
        (report(100, broken=[20]), 20, Found.ABSENT),
        (report(100), 20, Found.UNKNOWN),
        (report(100, hashes=[]), 99, Found.UNKNOWN),
        (report(100, hashes=[head(98)]), 99, Found.ABSENT),
        (report(3000, oldest_seq=953), 900, Found.UNKNOWN),
    ],
)
def test_what_a_read_says_of_one_record(read: ChainReport, seq: int, answer: Found) -> None:
    """Not listed is absent only where the list is complete; elsewhere it is unknown."""
    assert found(read, head(seq)) is answer


def test_a_sparse_record_that_is_not_listed_is_absent() -> None:
    """Every 64th is always named while the ring holds it."""
    read = report(200)
    without = structs.replace(read, hashes=[one for one in read.hashes if one.seq != 64])

    assert found(without, head(64)) is Found.ABSENT


@given(st.lists(st.integers(1, 10_000), max_size=300))
def test_marks_keep_the_newest_and_every_64th_of_a_ring(numbers: list[int]) -> None:
    marks = with_marks((), [ChainHead(seq, f"{seq:064x}") for seq in numbers])

    kept = [mark.seq for mark in marks]
    known_ = sorted(set(numbers))
    sparse = [seq for seq in known_[:-64] if seq % 64 == 0 and seq > known_[-1] - 2048]
    assert kept == [*sparse, *known_[-64:]]
    assert all(len(mark.hash) == 16 for mark in marks)


def breach(number: int, acknowledged_at: float = 0.0) -> Breach:
    return Breach(kind=BreachKind.TORN, at=float(number), evidence="", acknowledged_at=acknowledged_at)


def test_settled_breaches_make_room_first() -> None:
    """However often a disk fails: what nobody took note of is not pushed out by what somebody did."""
    record = with_breach(known(), breach(0))
    record = with_breach(record, breach(1, acknowledged_at=2.0))
    for number in range(2, BREACHES_MAX + 1):
        record = with_breach(record, breach(number))

    assert [one.at for one in record.breaches] == [0, *range(2, BREACHES_MAX + 1)]


def on(host: str, instance: str = "vm-1") -> Machine:
    return Machine(instance_id=instance, host=host)


@pytest.mark.parametrize(
    ("read", "event"),
    [
        (report(previous_boot="dirty"), EventClass.GUEST_CRASH),
        (report(previous_boot="clean"), EventClass.CLEAN_REBOOT),
        (report(previous_boot="unknown"), EventClass.CLEAN_REBOOT),
        (report(machine=Machine(instance_id="vm-2")), EventClass.HOST_MOVE),
        (report(machine=Machine()), EventClass.GUEST_CRASH),
        (report(previous_boot="dirty", machine=on("host-1")), EventClass.GUEST_CRASH),
        (report(previous_boot="clean", machine=on("host-1")), EventClass.CLEAN_REBOOT),
        (report(previous_boot="dirty", machine=on("host-2")), EventClass.HOST_CRASH),
        (report(previous_boot="clean", machine=on("host-2")), EventClass.HOST_MOVE),
        (report(previous_boot="unknown", machine=on("host-2")), EventClass.HOST_MOVE),
        (report(previous_boot="dirty", machine=on("")), EventClass.GUEST_CRASH),
        (report(previous_boot="dirty", machine=on("host-2", "vm-2")), EventClass.HOST_MOVE),
        (
            report(boot_id="boot-1", epoch=1, cause=ReadCause.RESUME, machine=on("host-2")),
            EventClass.HOST_MOVE,
        ),
        (
            report(
                boot_id="boot-1",
                epoch=1,
                cause=ReadCause.RESUME,
                identity=identity(mount_id=7),
                machine=on("host-1"),
            ),
            None,
        ),
        (
            report(
                boot_id="boot-1",
                epoch=1,
                cause=ReadCause.RESUME,
                identity=identity(mount_id=7),
                machine=on(""),
            ),
            None,
        ),
        (report(boot_id="boot-1", epoch=2, identity=identity(mount_id=7)), EventClass.AGENT_RESTART),
        (report(boot_id="boot-1", epoch=1, identity=identity(mount_id=8)), EventClass.REMOUNT),
        (report(boot_id="boot-1", epoch=1, cause=ReadCause.MOUNT), EventClass.REMOUNT),
        (report(boot_id="boot-1", epoch=1, cause=ReadCause.DAILY, identity=identity(mount_id=7)), None),
    ],
)
def test_what_was_survived_is_named_by_what_is_known_of_it(
    read: ChainReport, event: EventClass | None
) -> None:
    """A crash that nobody saw tests nothing: not known is taken for the weaker event."""
    record = known()
    record = structs.replace(record, writer=structs.replace(record.writer, host="host-1"))

    assert event_class(record, read) is event


def test_survivals_are_counted_by_class_and_only_crashes_test_a_volume() -> None:
    record = survived(survived(known(), "clean_reboot", 10.0), "clean_reboot", 20.0)
    assert (record.survived["clean_reboot"].count, when_tested(record)) == (2, 0.0)

    record = survived(survived(record, "guest_crash", 30.0), "", 40.0)

    assert (list(record.survived), when_tested(record)) == (["clean_reboot", "guest_crash"], 30.0)


def test_untested_time_runs_from_the_beginning_until_a_crash_was_survived() -> None:
    """Never tested is not the same as good."""
    day = 86_400.0
    record = known(began_at=1000.0)
    later = survived(record, "guest_crash", 1000.0 + 2 * day)

    untested = [
        witness_facts("/srv", [one], 1000.0 + 3 * day + 100.0)["durability_untested_seconds"]
        for one in (record, later)
    ]

    assert untested == [3 * day, day]


def lives_of(*messages: tuple[str, float, float]) -> Lives:
    """(boot, mono, received at) of live reports, in order."""
    lives: Lives = {}
    for boot, mono, at in messages:
        heard(lives, Agent(boot=boot).report(mono=mono), at)
    return lives


@pytest.mark.parametrize(
    ("messages", "two"),
    [
        ([("a", 100, 1000), ("b", 1, 1060)], False),
        ([("a", 100, 1000), ("b", 1, 1060), ("a", 101, 1090)], False),
        ([("a", 100, 1000), ("b", 1, 1060), ("a", 170, 1070), ("b", 12, 1071)], True),
        ([("a", 100, 1000), ("b", 1, 1060), ("a", 163, 1063)], False),
    ],
    ids=["a reboot", "a late report", "a clone", "within the slack"],
)
def test_two_boots_that_lived_at_once_are_two_machines(
    messages: list[tuple[str, float, float]], two: bool
) -> None:
    """By each boot's own clock, laid on the collector's by its quickest delivery."""
    lives = lives_of(*messages)

    assert together(lives[("install-1", "a")], lives[("install-1", "b")]) is two


def test_boots_known_by_spooled_messages_only_accuse_nobody() -> None:
    """An event may have been under way for days, and then says nothing of when its boot began."""
    lives: Lives = {}
    first, second = Agent(boot="a"), Agent(boot="b")
    for agent, at in ((first, 1000.0), (second, 1060.0), (first, 1070.0), (second, 1080.0)):
        heard(lives, agent.event(), at)

    assert together(lives[("install-1", "a")], lives[("install-1", "b")]) is False


PASSAGE = Passage(
    boot_id="b2", previous_boot_id="b1", since=0.0, stop="dirty", told=True, chains={"c": "/srv", "d": "/"}
)


@pytest.mark.parametrize(
    ("outcomes", "kind"),
    [
        ((Conclusion.SURVIVED, Conclusion.SURVIVED), "crash"),
        ((Conclusion.SURVIVED, Conclusion.LOST_TAIL), "crash"),
        ((Conclusion.SURVIVED, Conclusion.TORN), "crash"),
        ((Conclusion.ROLLED_BACK, Conclusion.SURVIVED), "rollback"),
        ((Conclusion.ROLLED_BACK, Conclusion.RESTORED), "restored"),
        ((Conclusion.FORK, Conclusion.RESTORED), "clone"),
        ((Conclusion.MEMORY_ROLLBACK, Conclusion.ROLLED_BACK), "memory_fork"),
        ((Conclusion.REFORMATTED, Conclusion.SURVIVED), "reimaged"),
        ((Conclusion.SWAPPED, Conclusion.SWAPPED), "disk_swap"),
        ((Conclusion.WRONG_DISK, Conclusion.SURVIVED), "disk_swap"),
    ],
)
def test_the_worst_outcome_names_the_fate_of_a_boot(
    outcomes: tuple[Conclusion, Conclusion], kind: str
) -> None:
    """One event for the machine, not one for each disk: it explains them."""
    passage = noted(noted(PASSAGE, "c", outcomes[0], "/srv …"), "d", outcomes[1], "/ …")

    said = fate(passage)

    assert (said.kind, said.fields["fate"], kind in KINDS) == (kind, kind, True)
    assert said.summary.startswith(kind.replace("_", " "))


@pytest.mark.parametrize(
    ("stop", "kind"), [("clean", "clean_reboot"), ("dirty", "crash"), ("unknown", "unknown")]
)
def test_a_boot_without_volumes_to_read_is_told_by_how_the_run_before_ended(stop: str, kind: str) -> None:
    assert fate(structs.replace(PASSAGE, stop=stop, chains={})).kind == kind


def test_a_passage_waits_for_every_chain_and_for_two_minutes_at_most() -> None:
    half = noted(PASSAGE, "c", Conclusion.SURVIVED, "")
    whole = noted(half, "d", Conclusion.SURVIVED, "")

    assert [complete(half, 119.0), complete(half, 120.0), complete(whole, 1.0)] == [False, True, True]
    assert complete(structs.replace(whole, told=False), 1.0) is False
