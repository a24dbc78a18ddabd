"""A chain on a volume: its header and its records, as bytes.

    slot 0        header: which chain this is, whose, begun where; never written again
    slots 1 … N   records; record `seq` lies in slot 1 + (seq - 1) mod N, over the one written N records before

A slot has 4,096 bytes, so none straddles a sector that can be written torn, and ends in the SHA-256 of all before it:
a slot is whole, or it is not. A record names the newest record before it that was confirmed (`previous`), by number
and hash. So one whole record vouches for all before it, and a number that was skipped because its write failed is told
from a record that is gone. What pads a record differs from record to record: nothing can store it for free.
"""

import hashlib
import struct
from typing import Final

import msgspec
from msgspec import Struct

SLOT_BYTES: Final = 4096
SLOTS: Final = 2048
"""Records in a ring: 34 hours at one a minute, 8 MiB."""
SLOTS_MIN: Final = 128
"""Twice what the newest records listed in a report are."""
SLOTS_MAX: Final = 1 << 16
"""What a header may claim: a damaged one must not make us read for hours."""

_HEADER_MAGIC: Final = b"HOLDCHAN"
_RECORD_MAGIC: Final = b"HOLDRECO"
_VERSION: Final = 1
_DIGEST_BYTES: Final = 32
_BODY_BYTES: Final = SLOT_BYTES - _DIGEST_BYTES
_HEADER: Final = struct.Struct("<8sHH")
# magic, version, flags | chain_id, epoch, seq | boot_id, instance, mount_id | wall, boottime |
# previous seq and hash | acknowledged, previous fsync, metadata count
_RECORD: Final = struct.Struct("<8sHH16sQQ64s32sQqq Q32s QQQ")
_CLEAN_STOP: Final = 1
_TEXT_BYTES_MAX: Final = 1024
ZEROS: Final = bytes(SLOT_BYTES)
NO_HASH: Final = bytes(_DIGEST_BYTES)


class ChainHeader(Struct, frozen=True, kw_only=True):
    """What a chain says of itself, once."""

    chain_id: str
    """32 hexadecimal digits, random."""
    owner: str
    """The install_id it was begun by."""
    began_on: str
    """The mountpoint it was begun on."""
    filesystem_id: str
    slots: int
    slot_bytes: int = SLOT_BYTES
    created_at: float
    """Wall clock, Unix seconds UTC."""


class Record(Struct, frozen=True, kw_only=True):
    """One record of a chain. `hash` is its identity: the SHA-256 its slot ends with."""

    chain_id: str
    epoch: int
    seq: int
    boot_id: str
    instance: bytes
    """`instance_digest` of the machine that wrote it."""
    mount_id: int
    wall_ns: int
    boottime_ns: int
    previous_seq: int
    """The newest confirmed record before it; 0: it is the first."""
    previous_hash: bytes
    acknowledged_seq: int
    """The newest record of this chain that the collector is known to hold."""
    previous_fsync_us: int
    metadata_seq: int
    clean_stop: bool = False


class WholeSlot(Struct, frozen=True):
    """A record as it was read, with its hash."""

    record: Record
    hash: bytes


def slot_of(seq: int, slots: int) -> int:
    """The slot that record `seq` lies in, in a ring of so many records."""
    return 1 + (seq - 1) % slots


def burnt_slots(slots: int) -> int:
    """How many slots after its newest confirmed record a chain may spoil with writes that fail."""
    return min(64, slots // 2)


def ring_bytes(slots: int) -> int:
    """The size of a chain's file."""
    return (slots + 1) * SLOT_BYTES


def instance_digest(instance_id: str) -> bytes:
    """Of a machine's instance id; all zeros where it has none."""
    return hashlib.sha256(instance_id.encode()).digest() if instance_id else NO_HASH


def encode_header(header: ChainHeader) -> bytes:
    """One slot."""
    shown = msgspec.structs.replace(
        header, began_on=_cut(header.began_on), filesystem_id=_cut(header.filesystem_id)
    )
    text = msgspec.json.encode(shown)
    return _sealed(_HEADER.pack(_HEADER_MAGIC, _VERSION, len(text)) + text)


def decode_header(slot: bytes) -> ChainHeader | None:
    """The header in slot 0; None when the slot is not whole or is no header."""
    if not _is_sealed(slot):
        return None
    magic, version, length = _HEADER.unpack_from(slot)
    if magic != _HEADER_MAGIC or version != _VERSION:
        return None
    try:
        header = msgspec.json.decode(slot[_HEADER.size : _HEADER.size + length], type=ChainHeader)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return header if header.slots >= 1 and header.slot_bytes == SLOT_BYTES else None


def encode_record(record: Record) -> bytes:
    """One slot. Its hash is its last 32 bytes: `slot_hash`."""
    chain_id = bytes.fromhex(record.chain_id)
    body = _RECORD.pack(
        _RECORD_MAGIC,
        _VERSION,
        _CLEAN_STOP if record.clean_stop else 0,
        chain_id,
        record.epoch,
        record.seq,
        record.boot_id.encode()[:64],
        record.instance,
        record.mount_id,
        record.wall_ns,
        record.boottime_ns,
        record.previous_seq,
        record.previous_hash,
        record.acknowledged_seq,
        record.previous_fsync_us,
        record.metadata_seq,
    )
    seed = chain_id + record.seq.to_bytes(8, "little")
    return _sealed(body + hashlib.shake_128(seed).digest(_BODY_BYTES - len(body)))


def decode_record(slot: bytes) -> WholeSlot | None:
    """The record in a slot; None when the slot is not whole or is no record."""
    # The cheap test first: most slots of a young ring are empty.
    if slot[: len(_RECORD_MAGIC)] != _RECORD_MAGIC or not _is_sealed(slot):
        return None
    (_, version, flags, chain_id, epoch, seq, boot_id, instance, mount_id, wall, boottime, *rest) = (
        _RECORD.unpack_from(slot)
    )
    if version != _VERSION or seq < 1:
        return None
    previous_seq, previous_hash, acknowledged, fsync_us, metadata_seq = rest
    record = Record(
        chain_id=chain_id.hex(),
        epoch=epoch,
        seq=seq,
        boot_id=boot_id.rstrip(b"\0").decode("utf-8", "replace"),
        instance=instance,
        mount_id=mount_id,
        wall_ns=wall,
        boottime_ns=boottime,
        previous_seq=previous_seq,
        previous_hash=previous_hash,
        acknowledged_seq=acknowledged,
        previous_fsync_us=fsync_us,
        metadata_seq=metadata_seq,
        clean_stop=bool(flags & _CLEAN_STOP),
    )
    return WholeSlot(record, slot_hash(slot))


def slot_hash(slot: bytes) -> bytes:
    """What a sealed slot ends with."""
    return bytes(slot[_BODY_BYTES:SLOT_BYTES])


def _sealed(body: bytes) -> bytes:
    padded = body.ljust(_BODY_BYTES, b"\0")
    return padded + hashlib.sha256(padded).digest()


def _is_sealed(slot: bytes) -> bool:
    return len(slot) == SLOT_BYTES and hashlib.sha256(slot[:_BODY_BYTES]).digest() == slot_hash(slot)


def _cut(text: str) -> str:
    return text.encode()[:_TEXT_BYTES_MAX].decode("utf-8", "ignore")
