"""A stretch of recorded events as bytes, and back.

Rows are sorted by node: messages of one node are nearly the same, and what is near is what zlib finds. About 90 bytes
are left of a report of 1.3 KB (`tests/bench/samples_bench.py`).
"""

import struct
import zlib
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from holdfast_collector.core.event import (
    Acknowledged,
    BrokerChanged,
    CoreEvent,
    NodeForgotten,
    Received,
    RestoreAnnounced,
)
from holdfast_collector.core.keyframe import Keyframe

VERSION = 1
FAST, SMALL = 1, 6
"""zlib's levels. The smaller leaves a quarter less and takes more than twice as long, on a core that the ingest shares."""
FAST_BYTES = 2 * 1024 * 1024
"""Of rows in a slice. A fleet that says more in a minute has the room for it and not the time."""
UNPACKED_BYTES_MAX = 256 * 1024 * 1024
"""Beyond what any slice unpacks to: a damaged one must not take the memory."""
MAGIC = b"hfs1"
HEADER = struct.Struct("<4sIIdd")
"""Magic, length of the packed rows, CRC-32 of what follows it, and from when to when."""

Kind = Literal["up", "broker", "ack", "forget", "restore", "keyframe"]


class Known(Struct, frozen=True):
    """A node as it was."""

    at: float
    keyframe: Keyframe


Recorded = Received | BrokerChanged | Acknowledged | NodeForgotten | RestoreAnnounced | Known
"""What is kept. Time passes between them by itself; what receivers took matters to no rule."""


class Row(Struct, frozen=True, array_like=True):
    """One recorded event."""

    order: int
    """Its place among the slice's events."""
    after_ms: int
    """Since the slice began."""
    kind: Kind
    node: str
    """Of `ack`: the alert's key."""
    body: bytes


class Slice(Struct, frozen=True, kw_only=True):
    """Events in the order they took effect."""

    number: int
    """Counts a collector's slices from 0. A number that does not follow the one before: something is missing there."""
    began_at: float
    ended_at: float
    """Up to here it is known that nothing else happened."""
    connected: bool
    """Whether there was a broker when it began."""
    events: Sequence[Recorded]


class _Packed(Struct, frozen=True, array_like=True):
    version: int
    number: int
    connected: bool
    rows: list[Row]


class SliceUnusable(Exception):
    """The bytes are no slice; the message says why."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode
_keyframe = msgspec.msgpack.Decoder(Keyframe).decode
_restore = msgspec.msgpack.Decoder(tuple[float, str]).decode


def recordable(event: CoreEvent) -> Recorded | None:
    """The event when it is one that is kept."""
    match event:
        case Received() | BrokerChanged() | Acknowledged() | NodeForgotten() | RestoreAnnounced():
            return event
        case _:
            return None


def pack(piece: Slice) -> bytes:
    """A frame: header and compressed rows."""
    rows = [_row(number, event, piece.began_at) for number, event in enumerate(piece.events)]
    rows.sort(key=lambda row: row.node)
    encoded = _encode(_Packed(VERSION, piece.number, piece.connected, rows))
    packed = zlib.compress(encoded, FAST if len(encoded) > FAST_BYTES else SMALL)
    return framed(packed, piece.began_at, piece.ended_at)


def framed(packed: bytes, began_at: float, ended_at: float) -> bytes:
    """The packed rows behind their header."""
    blank = HEADER.pack(MAGIC, len(packed), 0, began_at, ended_at)
    return HEADER.pack(MAGIC, len(packed), _checksum(blank, packed), began_at, ended_at) + packed


def unpack(header: bytes, packed: bytes) -> Slice:
    """The slice of a frame. Raises SliceUnusable."""
    magic, length, checksum, began_at, ended_at = HEADER.unpack(header)
    if magic != MAGIC or length != len(packed):
        raise SliceUnusable("no slice begins here")
    if checksum != _checksum(HEADER.pack(magic, length, 0, began_at, ended_at), packed):
        raise SliceUnusable("its checksum does not fit")
    try:
        unpacking = zlib.decompressobj()
        held = _decode(unpacking.decompress(packed, UNPACKED_BYTES_MAX))
    except (zlib.error, msgspec.DecodeError) as error:
        raise SliceUnusable(f"a newer release wrote it, or it is damaged: {error}") from error
    if held.version != VERSION:
        raise SliceUnusable(f"it is of version {held.version}, this release reads {VERSION}")
    held.rows.sort(key=lambda row: row.order)
    try:
        events = [_event(row, began_at) for row in held.rows]
    except msgspec.DecodeError as error:
        raise SliceUnusable(f"another release wrote it: {error}") from error
    return Slice(
        number=held.number, began_at=began_at, ended_at=ended_at, connected=held.connected, events=events
    )


def _checksum(header: bytes, packed: bytes) -> int:
    return zlib.crc32(packed, zlib.crc32(header))


def _row(order: int, event: Recorded, began_at: float) -> Row:
    after = max(0, int(1000.0 * (event.at - began_at)))  # never beyond the slice's end
    match event:
        case Received():
            return Row(order, after, "up", event.node, event.payload)
        case BrokerChanged():
            return Row(order, after, "broker", "", b"1" if event.connected else b"")
        case Acknowledged():
            return Row(order, after, "ack", event.key, event.reason.encode())
        case NodeForgotten():
            return Row(order, after, "forget", event.node, b"")
        case RestoreAnnounced():
            return Row(order, after, "restore", event.node, _encode((event.until, event.reason)))
        case Known():
            return Row(order, after, "keyframe", event.keyframe.record.node, _encode(event.keyframe))


def _event(row: Row, began_at: float) -> Recorded:
    at = began_at + row.after_ms / 1000.0
    match row.kind:
        case "up":
            return Received(at, row.node, row.body)
        case "broker":
            return BrokerChanged(at, bool(row.body))
        case "ack":
            return Acknowledged(at, row.node, row.body.decode(errors="replace"))
        case "forget":
            return NodeForgotten(at, row.node)
        case "restore":
            until, reason = _restore(row.body)
            return RestoreAnnounced(at, row.node, until, reason)
        case "keyframe":
            return Known(at, _keyframe(row.body))
