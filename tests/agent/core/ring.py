"""A ring in memory, to be written as a disk would keep it: whole slots, halves, or nothing."""

from holdfast_agent.core.chain import SLOT_BYTES, ZEROS, ChainHeader, encode_header
from holdfast_agent.core.chain_reading import ChainFound, ChainReading
from holdfast_agent.core.chain_writer import Attempt, ChainWriter, Moment

CHAIN_ID = "5f" * 16
SLOTS = 16
"""Small, so that a test soon laps it."""
MOMENT = Moment(
    epoch=3,
    boot_id="b" * 36,
    instance=bytes(32),
    mount_id=7,
    wall_ns=1_700_000_000_000_000_000,
    boottime_ns=5,
)
HEADER = ChainHeader(
    chain_id=CHAIN_ID, owner="install", began_on="/srv", filesystem_id="uuid", slots=SLOTS, created_at=1.5
)


class Ring:
    """The slots, and the writer that fills them."""

    def __init__(self) -> None:
        self.slots = [encode_header(HEADER), *[ZEROS] * SLOTS]
        self.writer = ChainWriter(CHAIN_ID, SLOTS)
        self.told: list[Attempt] = []
        """What was confirmed, and so promised to the collector."""

    def attempt(self) -> Attempt:
        return self.writer.attempt(MOMENT, metadata_seq=0)

    def write(self, count: int = 1) -> None:
        """So many records that reach the medium and are told."""
        for _ in range(count):
            attempt = self.attempt()
            self.slots[attempt.slot] = attempt.content
            self.writer.confirmed(attempt, 0.001)
            self.told.append(attempt)

    def tear(self, attempt: Attempt, at: int = 512) -> None:
        """Only the first sectors of it reach the medium."""
        self.slots[attempt.slot] = attempt.content[:at] + self.slots[attempt.slot][at:]

    def flip(self, slot: int, byte: int = 700) -> None:
        content = bytearray(self.slots[slot])
        content[byte] ^= 1
        self.slots[slot] = bytes(content)

    def found(self, remembered: str = "") -> ChainFound:
        reading = ChainReading(SLOTS, remembered)
        for slot, content in enumerate(self.slots):
            assert len(content) == SLOT_BYTES
            reading.take(slot, content)
        return reading.found()

    def restart(self) -> ChainFound:
        """As an agent that knows nothing but what it reads."""
        found = self.found()
        self.writer = ChainWriter(CHAIN_ID, SLOTS, found)
        return found


def convicts(found: ChainFound, told: list[Attempt]) -> bool:
    """Whether a collector that was told of these records would call one of them lost or damaged."""
    newest = told[-1].record.seq if told else 0
    head = found.head.seq if found.head else 0
    hashes = {attempt.record.seq: attempt.head.hash for attempt in told}
    differs = any(
        digest.hex() != hashes[seq] for seq, digest in found.hashes.items() if seq in hashes and seq <= newest
    )
    return head < newest or differs or any(seq <= newest for seq in found.broken)
