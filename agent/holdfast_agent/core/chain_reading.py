"""What the bytes of a ring say, read slot by slot.

Which records must be there follows from the records that are. The newest whole one is the head. It names the
confirmed record before it, that one the one before, and so on to the end that the ring has overwritten. A record that
is named and not whole is broken; a number that nobody names failed when it was written, and was promised to nobody.

What a crash may leave is no loss: the slot after the head may hold half a record. When the disk failed before the
crash, several slots after the head may, each a record whose write failed, with untouched ones between them. Each lies
where a record of the lap before did. So a slot that is not whole among those that `burnt_slots` says may be burnt is
taken for such, and records as old are not missed: what rots exactly there would have been overwritten next anyway.

A header that is not whole is told as record 0 being broken.
"""

from msgspec import Struct

from holdfast_agent.core.chain import (
    SLOT_BYTES,
    ChainHeader,
    Record,
    burnt_slots,
    decode_header,
    decode_record,
    slot_of,
)
from holdfast_wire.message import RECENT_RECORDS, SPARSE_RECORDS, ChainHead

BROKEN_LISTED_MAX = 4096
"""`codec.RECORDS_MAX`: a larger ring that is all broken lists its newest."""


class ChainFound(Struct, frozen=True, kw_only=True):
    """What was found of one chain."""

    chain_id: str
    """Empty: nothing whole says which chain this is."""
    header: ChainHeader | None
    slots: int
    head: Record | None
    """The newest whole record."""
    head_hash: bytes = b""
    hashes: dict[int, bytes]
    """Every whole record that the ring is meant to hold: number → hash."""
    oldest_seq: int = 0
    broken: list[int]
    torn_seq: int = 0
    burnt_after_head: int = 0
    """How many slots after the head the farthest one lies that was touched and is not whole, as failed writes leave it."""
    acknowledged_seq: int = 0

    @property
    def listed(self) -> list[ChainHead]:
        """The hashes a report carries: the newest, and the ones both sides always keep."""
        newest = (self.head.seq if self.head else 0) - RECENT_RECORDS
        return [
            ChainHead(seq, digest.hex()[:16])
            for seq, digest in sorted(self.hashes.items())
            if seq > newest or seq % SPARSE_RECORDS == 0
        ]

    @property
    def chain_head(self) -> ChainHead | None:
        return ChainHead(self.head.seq, self.head_hash.hex()) if self.head else None


class _Whole(Struct, frozen=True):
    previous_seq: int
    hash: bytes


class ChainReading:
    """Takes a ring's slots in any order and says at the end what they hold. No slot's bytes are kept."""

    def __init__(self, slots: int, chain_id: str = "") -> None:
        """`slots`: by the file's size. `chain_id`: by what is remembered, where no header says it."""
        self._slots = slots
        self._remembered = chain_id
        self._header: ChainHeader | None = None
        self._header_seen = False
        self._chains: dict[str, dict[int, _Whole]] = {}
        self._heads: dict[str, tuple[Record, bytes]] = {}
        self._acknowledged: dict[str, int] = {}
        self._touched: set[int] = set()
        """Slots that hold something which is no record where it belongs."""

    def take(self, slot: int, content: bytes | None) -> None:
        """One slot's bytes; None when they cannot be read."""
        if slot == 0:
            self._header_seen = True
            self._header = decode_header(content) if content is not None else None
            return
        if content is not None and not content.strip(b"\0"):
            return
        whole = decode_record(content) if content is not None and len(content) == SLOT_BYTES else None
        if whole is None or slot_of(whole.record.seq, self._slots) != slot:
            self._touched.add(slot)
            return
        record = whole.record
        chain_id = record.chain_id
        self._chains.setdefault(chain_id, {})[record.seq] = _Whole(record.previous_seq, whole.hash)
        known = self._heads.get(chain_id)
        if known is None or known[0].seq < record.seq:
            self._heads[chain_id] = record, whole.hash
        self._acknowledged[chain_id] = max(self._acknowledged.get(chain_id, 0), record.acknowledged_seq)

    def found(self) -> ChainFound:
        """What the ring holds, once every slot was taken."""
        chain_id = self._chain_id()
        whole = self._chains.get(chain_id, {})
        head, head_hash = self._heads.get(chain_id, (None, b""))
        if head is None:
            return ChainFound(
                chain_id=chain_id,
                header=self._header,
                slots=self._slots,
                head=None,
                hashes={},
                broken=[] if self._header is not None else [0],
                torn_seq=1 if 1 in self._touched else 0,
                burnt_after_head=self._burnt_after(0),
            )
        burnt = self._burnt_after(head.seq)
        oldest = max(1, head.seq + burnt - self._slots + 1)
        broken = self._broken(head, whole, oldest)
        if self._header is None:
            broken.insert(0, 0)
        return ChainFound(
            chain_id=chain_id,
            header=self._header,
            slots=self._slots,
            head=head,
            head_hash=head_hash,
            hashes={seq: each.hash for seq, each in whole.items() if seq >= oldest},
            oldest_seq=oldest,
            broken=broken[-BROKEN_LISTED_MAX:],
            torn_seq=head.seq + 1 if slot_of(head.seq + 1, self._slots) in self._touched else 0,
            burnt_after_head=burnt,
            acknowledged_seq=self._acknowledged[chain_id],
        )

    def _chain_id(self) -> str:
        """By the header, else by what is remembered, else by the newest record."""
        if self._header is not None:
            return self._header.chain_id
        if self._remembered:
            return self._remembered
        newest = max(self._heads.values(), key=lambda found: found[0].wall_ns, default=None)
        return newest[0].chain_id if newest else ""

    def _burnt_after(self, head: int) -> int:
        after = range(burnt_slots(self._slots), 0, -1)
        return next((each for each in after if slot_of(head + each, self._slots) in self._touched), 0)

    def _broken(self, head: Record, whole: dict[int, _Whole], oldest: int) -> list[int]:
        """Down the links; where one is missing, everything down to the next whole record is."""
        broken: list[int] = []
        below = sorted((seq for seq in whole if oldest <= seq < head.seq), reverse=True)
        place = 0
        expected = head.previous_seq
        while expected >= oldest:
            while place < len(below) and below[place] > expected:
                place += (
                    1  # whole, and promised to nobody: its fdatasync failed, or the agent ended before it
                )
            next_whole = below[place] if place < len(below) else oldest - 1
            if next_whole == expected:
                expected = whole[expected].previous_seq
                continue
            broken += range(expected, next_whole, -1)
            expected = next_whole
        return broken[::-1]
