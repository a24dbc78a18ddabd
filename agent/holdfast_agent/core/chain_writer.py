"""How a chain goes on: which record comes next, what may be said of it, and what the collector's answer changes.

    read back ──▶ report ──▶ attempt ──both calls gave 0──▶ confirmed: said, and named by the next
                    ▲            └────any error──▶ failed: its number is burnt, the next slot is tried
                    └── again, 30 s after the collector held more than was found

A record is named `previous` only when it was confirmed, or found whole on the medium by an agent that did not write
it. The next number is above all that were ever tried here and all that the collector was told of, so that no number
ever stands for two records: of the two, one would look like another machine's.
"""

from typing import Literal

from msgspec import Struct

from holdfast_agent.core.chain import NO_HASH, Record, burnt_slots, encode_record, slot_hash, slot_of
from holdfast_agent.core.chain_reading import ChainFound
from holdfast_wire.message import ChainHead, Expected

AGAIN_MAX = 3
"""Second reads of one finding, one right after another: a report may reach the collector too late to count as one."""
AGAIN_RECORDS = 15
"""So many records after that the collector may ask once more: a doubt must not wait for the next day's read."""

Answer = Literal["nothing", "again", "begin_anew"]
"""What the collector's answer asks for."""


class Moment(Struct, frozen=True, kw_only=True):
    """When, and by which run of which machine, a record is written."""

    epoch: int
    boot_id: str
    instance: bytes
    mount_id: int
    wall_ns: int
    boottime_ns: int


class Attempt(Struct, frozen=True, kw_only=True):
    """A record to be written, and where."""

    slot: int
    content: bytes
    record: Record

    @property
    def head(self) -> ChainHead:
        return ChainHead(self.record.seq, slot_hash(self.content).hex())

    @property
    def previous(self) -> ChainHead:
        """Seq 0 and an empty hash for the first of a chain."""
        named = self.record.previous_seq
        return ChainHead(named, self.record.previous_hash.hex() if named else "")


class _Digests:
    """The first 8 bytes of each record's hash, of as many as the ring holds: 16 KiB instead of half a megabyte."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._bytes = bytearray(8 * slots)
        self._newest = 0

    def put(self, seq: int, digest: bytes) -> None:
        """Numbers only grow; those passed over are taken for absent."""
        for passed in range(max(self._newest + 1, seq - self._slots + 1), seq):
            self._store(passed, bytes(8))
        self._store(seq, digest[:8])
        self._newest = max(self._newest, seq)

    def get(self, seq: int) -> str | None:
        """16 hexadecimal digits; None: no whole or confirmed record of this number."""
        if not self._newest - self._slots < seq <= self._newest or seq < 1:
            return None
        place = 8 * ((seq - 1) % self._slots)
        found = self._bytes[place : place + 8]
        return found.hex() if any(found) else None

    def _store(self, seq: int, digest: bytes) -> None:
        place = 8 * ((seq - 1) % self._slots)
        self._bytes[place : place + 8] = digest


class ChainWriter:
    """One chain as it is continued by this agent. Pure: the caller reads and writes."""

    def __init__(self, chain_id: str, slots: int, found: ChainFound | None = None) -> None:
        """`found`: what was read back of it; None for one that has just been begun."""
        self.chain_id = chain_id
        self.slots = slots
        self.acknowledged_seq = 0
        """The newest record that the collector is known to hold."""
        self._previous = (0, NO_HASH)
        self._tried = 0
        self._burnt = 0
        """Slots used since the newest confirmed record."""
        self._fsync_us = 0
        self._asked_again = False
        self._second_reads = 0
        """Since the newest first one."""
        self._records_since = 0
        """Confirmed since the newest read."""
        self._digests = _Digests(slots)
        self._broken: list[int] = []
        self._oldest = 1
        if found is not None:
            self.read_again(found, second=False)

    @property
    def next_seq(self) -> int:
        return self._tried + 1

    @property
    def head_seq(self) -> int:
        """The newest record that is confirmed; 0: none."""
        return self._previous[0]

    def read_again(self, found: ChainFound, *, second: bool) -> None:
        """The chain was read back. `second`: because the collector held more than the first read found.

        What this agent confirmed and no longer finds is not built upon: the chain goes on from what is there.
        """
        self.acknowledged_seq = max(self.acknowledged_seq, found.acknowledged_seq)
        self._asked_again = False
        self._records_since = 0
        self._second_reads = self._second_reads + 1 if second else 0
        self._broken, self._oldest = found.broken, found.oldest_seq
        self._digests = _Digests(self.slots)
        for seq, digest in sorted(found.hashes.items()):
            self._digests.put(seq, digest)
        head = found.head
        self._tried = max(self._tried, (head.seq if head else 0) + found.burnt_after_head)
        self._burnt = found.burnt_after_head
        seq, digest = self._previous
        if seq == 0 or found.hashes.get(seq) != digest:
            self._previous = (head.seq, found.head_hash) if head else (0, NO_HASH)

    def attempt(self, moment: Moment, *, metadata_seq: int, clean_stop: bool = False) -> Attempt:
        """The next record. If it is written and synchronised, each without error, `confirmed` must follow."""
        if self._burnt >= burnt_slots(self.slots):
            self._tried += self.slots - self._burnt
            self._burnt = 0
        self._tried += 1
        self._burnt += 1
        previous_seq, previous_hash = self._previous
        record = Record(
            chain_id=self.chain_id,
            epoch=moment.epoch,
            seq=self._tried,
            boot_id=moment.boot_id,
            instance=moment.instance,
            mount_id=moment.mount_id,
            wall_ns=moment.wall_ns,
            boottime_ns=moment.boottime_ns,
            previous_seq=previous_seq,
            previous_hash=previous_hash,
            acknowledged_seq=self.acknowledged_seq,
            previous_fsync_us=self._fsync_us,
            metadata_seq=metadata_seq,
            clean_stop=clean_stop,
        )
        return Attempt(slot=slot_of(self._tried, self.slots), content=encode_record(record), record=record)

    def confirmed(self, attempt: Attempt, fsync_seconds: float) -> None:
        """It may be said now, and named by the next. One that failed is simply never confirmed."""
        self._previous = attempt.record.seq, slot_hash(attempt.content)
        self._burnt = 0
        self._records_since += 1
        self._digests.put(*self._previous)
        self._fsync_us = round(fsync_seconds * 1e6)

    def acknowledged(self, seq: int) -> None:
        """The collector committed the witness of this record."""
        self.acknowledged_seq = max(self.acknowledged_seq, seq)

    def expected(self, expected: Expected) -> Answer:
        """What the collector's answer to the newest report asks for."""
        if expected.chain_id != self.chain_id:
            return self._missed(expected)
        if expected.frozen:
            return "begin_anew"
        held = expected.head
        if held is not None:
            self._tried = max(self._tried, held.seq)
        if expected.doubted or (held is not None and self._short_of(held)):
            return self._again()
        if held is not None:
            self.acknowledged(held.seq)
        return "nothing"

    def _missed(self, expected: Expected) -> Answer:
        """The collector knows another chain of this volume, and this one was found or begun in its place."""
        return "nothing" if expected.head is None or expected.frozen else self._again()

    def _again(self) -> Answer:
        rests = self._second_reads >= AGAIN_MAX and self._records_since < AGAIN_RECORDS
        if self._asked_again or rests:
            return "nothing"
        self._asked_again = True
        return "again"

    def _short_of(self, held: ChainHead) -> bool:
        """Whether what was read back, and confirmed since, lacks something of what the collector holds."""
        if any(seq <= held.seq for seq in self._broken):
            return True
        if held.seq < self._oldest:
            return False  # overwritten since: nothing to compare
        digest = self._digests.get(held.seq)
        return digest is None or not held.hash.startswith(digest)
