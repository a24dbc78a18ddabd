"""Chains: what is written is read again, what is damaged is seen, and nothing a crash may leave looks like a loss."""

import itertools

import pytest
from msgspec import structs

from holdfast_agent.core.chain import (
    SLOT_BYTES,
    ZEROS,
    Record,
    decode_header,
    decode_record,
    encode_header,
    encode_record,
    slot_hash,
)
from holdfast_agent.core.chain_reading import ChainReading
from holdfast_agent.core.chain_writer import AGAIN_MAX, AGAIN_RECORDS
from holdfast_wire import ChainHead, Expected
from tests.agent.core.ring import CHAIN_ID, HEADER, SLOTS, Ring, convicts

RECORD = Record(
    chain_id=CHAIN_ID,
    epoch=4,
    seq=4_711,
    boot_id="74c03f3e-df88-4cf8-ae83-4538bd0bd963",
    instance=b"i" * 32,
    mount_id=2**40,
    wall_ns=1_700_000_000_123_456_789,
    boottime_ns=987_654_321,
    previous_seq=4_709,
    previous_hash=b"p" * 32,
    acknowledged_seq=4_700,
    previous_fsync_us=1_250,
    metadata_seq=12,
    clean_stop=True,
)


def test_record_is_one_slot_and_says_the_same_again() -> None:
    slot = encode_record(RECORD)
    whole = decode_record(slot)

    assert len(slot) == SLOT_BYTES
    assert whole is not None
    assert (whole.record, whole.hash) == (RECORD, slot_hash(slot))


def test_header_is_one_slot_and_says_the_same_again() -> None:
    slot = encode_header(structs.replace(HEADER, began_on="/srv/ä"))

    assert (len(slot), decode_header(slot)) == (SLOT_BYTES, structs.replace(HEADER, began_on="/srv/ä"))


def test_names_of_any_length_leave_the_header_whole() -> None:
    """A mountpoint may have 4,096 bytes."""
    header = decode_header(encode_header(structs.replace(HEADER, began_on="/" + "ö" * 3000)))

    assert header is not None
    assert header.began_on.startswith("/öö")


@pytest.mark.parametrize("byte", [0, 9, 13, 40, 300, 2_000, SLOT_BYTES - 33, SLOT_BYTES - 32, SLOT_BYTES - 1])
def test_one_flipped_bit_anywhere_makes_a_slot_unwhole(byte: int) -> None:
    record, header = bytearray(encode_record(RECORD)), bytearray(encode_header(HEADER))
    record[byte] ^= 4
    header[byte] ^= 4

    assert (decode_record(bytes(record)), decode_header(bytes(header))) == (None, None)


def test_a_record_is_no_header_and_a_header_no_record() -> None:
    assert (decode_header(encode_record(RECORD)), decode_record(encode_header(HEADER))) == (None, None)


def test_records_of_one_content_share_no_bytes_a_disk_could_save() -> None:
    """A device that compresses or stores equal blocks once would otherwise never be asked to write."""
    first, second = encode_record(RECORD), encode_record(structs.replace(RECORD, seq=RECORD.seq + 1))
    equal = sum(a == b for a, b in zip(first[400:], second[400:], strict=True))

    assert equal < (SLOT_BYTES - 400) / 64


# Reading


def test_fresh_ring_has_no_head_and_nothing_broken() -> None:
    found = Ring().found()

    assert (found.chain_id, found.head, found.broken, found.torn_seq) == (CHAIN_ID, None, [], 0)


@pytest.mark.parametrize("records", [1, 5, SLOTS, SLOTS + 1, 3 * SLOTS + 2])
def test_whole_ring_shows_its_newest_records_and_no_fault(records: int) -> None:
    ring = Ring()
    ring.write(records)
    found = ring.found()
    oldest = max(1, records - SLOTS + 1)

    assert found.chain_head == ring.told[-1].head
    assert (found.oldest_seq, sorted(found.hashes)) == (oldest, list(range(oldest, records + 1)))
    assert (found.broken, found.torn_seq, convicts(found, ring.told)) == ([], 0, False)


@pytest.mark.parametrize("records", [6, 3 * SLOTS + 2])
@pytest.mark.parametrize("back", range(1, 6))
def test_rotten_record_is_named_and_no_other(records: int, back: int) -> None:
    ring = Ring()
    ring.write(records)
    ring.flip(ring.told[-1 - back].slot)
    found = ring.found()

    assert (found.head.seq if found.head else 0, found.broken) == (records, [records - back])


def test_lost_tail_shows_as_an_older_head() -> None:
    """The slots still hold the records of the lap before: a device that dropped writes left them there."""
    ring = Ring()
    ring.write(2 * SLOTS)
    before = list(ring.slots)
    ring.write(3)
    ring.slots = before
    found = ring.found()

    assert found.chain_head == ring.told[-4].head
    assert (found.broken, found.torn_seq, convicts(found, ring.told)) == ([], 0, True)


def test_lost_record_among_kept_ones_is_broken() -> None:
    """A device may drop one write and keep the later ones."""
    ring = Ring()
    ring.write(2 * SLOTS + 1)
    kept = ring.slots[ring.told[-1].slot % SLOTS + 1]
    ring.write(3)
    ring.slots[ring.told[-3].slot] = kept
    found = ring.found()

    assert found.broken == [ring.told[-3].record.seq]


def test_all_that_is_gone_below_a_broken_record_is_broken() -> None:
    ring = Ring()
    ring.write(SLOTS)
    for attempt in ring.told[2:5]:
        ring.slots[attempt.slot] = ZEROS

    assert ring.found().broken == [3, 4, 5]


def test_slot_that_holds_a_record_of_another_place_is_not_whole() -> None:
    """A misdirected write is as bad as a lost one."""
    ring = Ring()
    ring.write(6)
    ring.slots[ring.told[2].slot] = ring.told[4].content

    assert ring.found().broken == [3]


def test_unreadable_slot_is_broken() -> None:
    ring = Ring()
    ring.write(6)
    reading = ChainReading(SLOTS)
    for slot, content in enumerate(ring.slots):
        reading.take(slot, None if slot == 3 else content)

    assert reading.found().broken == [3]


def test_damaged_header_is_record_0_and_the_records_still_say_which_chain() -> None:
    ring = Ring()
    ring.write(3)
    ring.flip(0, 20)
    found = ring.found()

    assert (found.chain_id, found.broken, found.chain_head) == (CHAIN_ID, [0], ring.told[-1].head)


def test_chain_of_which_nothing_is_whole_is_known_by_what_is_remembered() -> None:
    ring = Ring()
    ring.slots = [b"\xff" * SLOT_BYTES] * (SLOTS + 1)

    assert (ring.found().chain_id, ring.found(CHAIN_ID).chain_id, ring.found().head) == ("", CHAIN_ID, None)


# Failures and crashes


@pytest.mark.parametrize("fate", ["whole", "torn", "absent"])
def test_failed_record_is_skipped_and_never_broken(fate: str) -> None:
    """Whatever its slot holds: nobody was told of it."""
    ring = Ring()
    ring.write(SLOTS + 3)
    failed = ring.attempt()
    if fate == "whole":
        ring.slots[failed.slot] = failed.content
    elif fate == "torn":
        ring.tear(failed)
    ring.write(2)
    found = ring.found()

    assert ring.told[-1].previous.seq == failed.record.seq + 1
    assert ring.told[-2].previous == ring.told[-3].head
    assert (found.broken, convicts(found, ring.told)) == ([], False)


FATES = ("whole", "torn at 512", "torn at 3584", "absent")


@pytest.mark.parametrize("before", [0, 1, SLOTS - 1, SLOTS, SLOTS + 3])
@pytest.mark.parametrize("fates", list(itertools.product(FATES, repeat=3)))
def test_no_crash_after_any_row_of_failures_looks_like_a_loss(before: int, fates: tuple[str, ...]) -> None:
    """Every way three appends may end without being confirmed, then a crash, then an agent that goes on."""
    ring = Ring()
    ring.write(before)
    for fate in fates:
        attempt = ring.attempt()
        if fate == "whole":
            ring.slots[attempt.slot] = attempt.content
        elif fate.startswith("torn"):
            ring.tear(attempt, int(fate.rpartition(" ")[2]))
    at_restart = ring.restart()
    ring.write(2)
    afterwards = ring.found()

    assert not convicts(at_restart, ring.told[:-2])
    assert not convicts(afterwards, ring.told)


@pytest.mark.parametrize("failures", [1, SLOTS // 2, SLOTS // 2 + 1, SLOTS, 5 * SLOTS])
@pytest.mark.parametrize("restarts_every", [1, 3, 1000])
def test_disk_that_fails_for_long_spoils_no_more_than_it_may(failures: int, restarts_every: int) -> None:
    """Each failed write destroys a record of the lap before. It is never missed, however often the agent restarts."""
    ring = Ring()
    ring.write(2 * SLOTS + 3)
    for failure in range(1, failures + 1):
        ring.tear(ring.attempt())
        assert not convicts(ring.found(), ring.told)
        if failure % restarts_every == 0:
            ring.restart()
    ring.write(3)

    assert not convicts(ring.found(), ring.told)
    assert ring.restart().chain_head == ring.told[-1].head


def test_number_is_never_given_to_two_records() -> None:
    """Not after a crash, and not to one the collector was told of and the volume forgot."""
    ring = Ring()
    ring.write(5)
    torn = ring.attempt()
    ring.tear(torn)
    ring.restart()
    after_crash = ring.attempt()
    ring.writer.expected(Expected(volume="/srv", chain_id=CHAIN_ID, head=ChainHead(40, "ab" * 32)))
    after_answer = ring.attempt()

    assert (torn.record.seq, after_crash.record.seq, after_answer.record.seq) == (6, 7, 41)
    assert after_answer.previous == ring.told[-1].head


def test_acknowledged_record_is_written_into_the_next_and_found_again() -> None:
    """Witness against a collector that was restored from a backup."""
    ring = Ring()
    ring.write(4)
    ring.writer.acknowledged(3)
    ring.writer.acknowledged(2)
    ring.write(1)

    assert ring.found().acknowledged_seq == 3
    assert ring.restart().acknowledged_seq == ring.writer.acknowledged_seq == 3


# The collector's answer


def answer(ring: Ring, seq: int, digest: str, *, frozen: bool = False) -> str:
    expected = Expected(volume="/srv", chain_id=CHAIN_ID, head=ChainHead(seq, digest), frozen=frozen)
    return ring.writer.expected(expected)


def restarted(records: int) -> Ring:
    ring = Ring()
    ring.write(records)
    ring.restart()
    return ring


def test_collector_that_holds_what_was_read_asks_for_nothing_and_counts_as_acknowledgement() -> None:
    ring = restarted(5)

    assert answer(ring, 5, ring.told[-1].head.hash) == "nothing"
    assert ring.writer.acknowledged_seq == 5


def test_collector_that_holds_less_asks_for_nothing() -> None:
    ring = restarted(5)

    assert answer(ring, 3, ring.told[2].head.hash) == "nothing"
    assert ring.writer.expected(Expected(volume="/srv", chain_id=CHAIN_ID, head=None)) == "nothing"


def test_collector_that_holds_more_has_the_chain_read_again_a_few_times() -> None:
    """Once per question; and not for ever, should the collector never be content."""
    ring = restarted(5)
    first, repeated = answer(ring, 7, "ab" * 32), answer(ring, 7, "ab" * 32)
    for _ in range(AGAIN_MAX):
        ring.writer.read_again(ring.found(), second=True)
    at_last = answer(ring, 7, "ab" * 32)
    ring.writer.read_again(ring.found(), second=False)

    assert (first, repeated, at_last, answer(ring, 7, "ab" * 32)) == ("again", "nothing", "nothing", "again")


def test_collector_that_is_still_in_doubt_some_records_later_has_the_chain_read_once_more() -> None:
    """Three second reads were lost in a storm; the records are gone, and the next read of all was a day away."""
    ring = restarted(5)
    answer(ring, 7, "ab" * 32)
    for _ in range(AGAIN_MAX):
        ring.writer.read_again(ring.found(), second=True)
    answers = []
    for _ in range(AGAIN_RECORDS):
        answers.append(answer(ring, 7, "ab" * 32))
        ring.write(1)

    assert answers == ["nothing"] * AGAIN_RECORDS
    assert [answer(ring, 7, "ab" * 32) for _ in range(2)] == ["again", "nothing"]


def test_doubted_chain_is_read_again_although_nothing_of_it_is_missed() -> None:
    """What the collector doubts need not be a record."""
    ring = restarted(5)
    held = Expected(volume="/srv", chain_id=CHAIN_ID, head=ring.told[-1].head, doubted=True)

    assert ring.writer.expected(held) == "again"


def test_another_chain_that_the_collector_misses_here_has_the_volume_read_again() -> None:
    """A volume that was formatted anew: that the chain is gone needs a second read, too."""
    ring = restarted(5)
    missed = Expected(volume="/srv", chain_id="99" * 16, head=ChainHead(7, "ab" * 32))
    frozen = structs.replace(missed, frozen=True)
    nothing = structs.replace(missed, head=None)

    answers = [ring.writer.expected(one) for one in (frozen, nothing, missed, missed)]

    assert answers == ["nothing", "nothing", "again", "nothing"]


def test_other_hash_at_the_same_number_has_the_chain_read_again() -> None:
    ring = restarted(5)

    assert answer(ring, 4, "ab" * 32) == "again"
    assert ring.writer.acknowledged_seq == 0


def test_broken_record_that_the_collector_holds_has_the_chain_read_again() -> None:
    ring = Ring()
    ring.write(5)
    ring.flip(ring.told[1].slot)
    ring.restart()

    assert answer(ring, 5, ring.told[-1].head.hash) == "again"


def test_late_answer_about_records_written_since_is_no_finding() -> None:
    """The network was away when the report was made; by now the collector holds what followed it."""
    ring = restarted(5)
    ring.write(2)

    assert answer(ring, 7, ring.told[-1].head.hash) == "nothing"


def test_frozen_chain_is_to_be_begun_anew() -> None:
    ring = restarted(5)

    assert answer(ring, 5, ring.told[-1].head.hash, frozen=True) == "begin_anew"


def test_answer_about_another_chain_changes_nothing() -> None:
    ring = restarted(5)
    other = Expected(volume="/srv", chain_id="00" * 16, head=ChainHead(99, "ab" * 32), frozen=True)

    assert (ring.writer.expected(other), ring.writer.next_seq) == ("nothing", 6)


def test_chain_is_not_continued_from_records_that_are_gone() -> None:
    """A volume that was rolled back under a running agent: the links follow what is there."""
    ring = Ring()
    ring.write(4)
    before = list(ring.slots)
    ring.write(3)
    ring.slots = before
    ring.writer.read_again(ring.found(), second=False)
    ring.write(1)

    assert (ring.told[-1].record.seq, ring.told[-1].previous) == (8, ring.told[3].head)
