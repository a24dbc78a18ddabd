"""Bytes ↔ messages. Tolerant of what a newer peer adds, strict on the rest, always with a reason.

Unknown fields, unknown kinds of resource, unknown facts and unknown event types pass: a newer agent may speak to an
older collector. A missing field, a wrong type, a foreign node or a size beyond the limits is refused whole: half a
message is worse than none, and the report that follows heals the loss.
"""

import hashlib
import re
from enum import StrEnum
from functools import lru_cache

import msgspec
from msgspec import Struct

from holdfast_wire import fact
from holdfast_wire.message import (
    Birth,
    ChainReport,
    Death,
    DownMessage,
    Event,
    Report,
    Resource,
    Section,
    UpMessage,
    Witness,
)

MESSAGE_BYTES_MAX = 256 * 1024
"""Every broker in use takes this much by default; AWS IoT's 128 KiB is the exception, and agents stay far below."""
RESOURCES_MAX = 4096
"""Per section. 200 mounts and 300 services are an unusually large machine."""
FACTS_MAX = 128
"""Per resource; the vocabulary has fewer for every kind."""
NAME_LENGTH_MAX = 512
"""PATH_MAX is 4096, but a mountpoint that long cannot be a label anybody reads."""
TEXT_LENGTH_MAX = 4096
COUNTER_MAX = 2**53
"""The largest whole number every JSON reader keeps exactly."""
RECORDS_MAX = 4096
"""Listed in one chain report; a ring has 2,048."""
_CHAIN_ID = re.compile(r"[0-9a-f]{32}")
_HASH = re.compile(r"[0-9a-f]{64}")


class RefusalReason(StrEnum):
    """Why bytes were not taken. The values are metric labels."""

    MALFORMED = "malformed"
    """Not JSON, a field missing or of the wrong type."""
    OVERSIZE = "oversize"
    UNSUPPORTED_VERSION = "unsupported_version"
    UNKNOWN_KIND = "unknown_kind"
    FOREIGN_NODE = "foreign_node"
    """The payload names another node than the topic."""
    OUT_OF_BOUNDS = "out_of_bounds"
    """A name, text, count or number beyond the limits above."""
    BAD_FACT = "bad_fact"
    """A known fact with a value of another type than declared."""


class Refusal(Struct, frozen=True):
    """Bytes that are no message, and why."""

    reason: RefusalReason
    detail: str


class _Preamble(Struct):
    """As much of a message as tells whether it is one of ours."""

    v: int
    kind: str


# Facts are the bulk of every message, so their check is one lookup each; `bool` is no `int` here.
_TYPES = {
    kind: {name: declared.type.python_types for name, declared in facts.items()}
    for kind, facts in fact.FACTS_OF.items()
}
_encoder = msgspec.json.Encoder()
_preamble_decoder = msgspec.json.Decoder(_Preamble)
# A union's decoder is typed as Any by msgspec's stubs; the annotation says what it gives.
_up_decoder: msgspec.json.Decoder[UpMessage] = msgspec.json.Decoder(UpMessage)
_down_decoder: msgspec.json.Decoder[DownMessage] = msgspec.json.Decoder(DownMessage)
_UP_KINDS = frozenset({"birth", "report", "event", "witness", "chain_report", "death"})
_DOWN_KINDS = frozenset({"ack", "resend", "expect"})


def encode(message: UpMessage | DownMessage) -> bytes:
    """The message as compact UTF-8 JSON. The same message always gives the same bytes."""
    return _encoder.encode(message)


def content_digest(payload: bytes) -> str:
    """The identity of a durable message's bytes: 16 hexadecimal digits."""
    return hashlib.blake2b(payload, digest_size=8).hexdigest()


def section_digest(section: Section) -> str:
    """The identity of what a section says, whenever it was observed and however long that took."""
    said = (
        section.probe,
        section.status,
        section.period_seconds,
        section.detail,
        section.missing,
        section.resources,
    )
    return hashlib.blake2b(msgspec.json.encode(said, order="deterministic"), digest_size=8).hexdigest()


def decode_up(node: str, payload: bytes) -> UpMessage | Refusal:
    """The message that `node`, as named by its topic, sent; or why it is refused."""
    if len(payload) > MESSAGE_BYTES_MAX:
        return Refusal(RefusalReason.OVERSIZE, f"{len(payload)} bytes; at most {MESSAGE_BYTES_MAX} are taken")
    try:
        message = _up_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _why(payload, _UP_KINDS, error)
    except RecursionError:
        return Refusal(RefusalReason.MALFORMED, "nested deeper than any message")
    if message.node != node:
        return Refusal(
            RefusalReason.FOREIGN_NODE, f"the topic is of {node}, the message names {message.node[:64]!r}"
        )
    return _check(message, len(payload)) or message


def decode_down(payload: bytes) -> DownMessage | Refusal:
    """The message that a collector sent, or why it is refused."""
    if len(payload) > MESSAGE_BYTES_MAX:
        return Refusal(RefusalReason.OVERSIZE, f"{len(payload)} bytes; at most {MESSAGE_BYTES_MAX} are taken")
    try:
        return _down_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _why(payload, _DOWN_KINDS, error)
    except RecursionError:
        return Refusal(RefusalReason.MALFORMED, "nested deeper than any message")


def _why(payload: bytes, kinds: frozenset[str], error: Exception) -> Refusal:
    """Tell a message of another version or kind, which is a peer's right, from one that is broken."""
    try:
        preamble = _preamble_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Refusal(RefusalReason.MALFORMED, str(error))
    if preamble.v != 1:
        return Refusal(RefusalReason.UNSUPPORTED_VERSION, f"version {preamble.v}; this peer speaks version 1")
    if preamble.kind not in kinds:
        return Refusal(RefusalReason.UNKNOWN_KIND, f"kind {preamble.kind[:64]!r} is not known here")
    return Refusal(RefusalReason.MALFORMED, str(error))


def _check(message: UpMessage, size: int) -> Refusal | None:
    if not (0 < message.epoch < COUNTER_MAX and 0 <= message.seq < COUNTER_MAX):
        return Refusal(RefusalReason.OUT_OF_BOUNDS, f"position {message.epoch}.{message.seq}")
    if not (0 < len(message.install_id) <= 64 and 0 < len(message.boot_id) <= 64):
        return Refusal(RefusalReason.OUT_OF_BOUNDS, "install_id and boot_id have 1 to 64 characters")
    match message:
        case Report():
            if not 0 < message.interval_seconds <= 86_400:
                return Refusal(RefusalReason.OUT_OF_BOUNDS, f"interval_seconds {message.interval_seconds}")
            # A text cannot be longer than the message it is in.
            texts = size > TEXT_LENGTH_MAX
            for section in message.sections:
                if refusal := _check_section(section, texts):
                    return refusal
            return None
        case Event():
            return _check_event(message)
        case Witness():
            return _check_witness(message)
        case ChainReport():
            return _check_chain_report(message)
        case Birth():
            if not 0 < message.interval_seconds <= 86_400:
                return Refusal(RefusalReason.OUT_OF_BOUNDS, f"interval_seconds {message.interval_seconds}")
            return None
        case Death():
            return None


def _check_event(event: Event) -> Refusal | None:
    if not 0 < len(event.resource) <= NAME_LENGTH_MAX:
        return Refusal(RefusalReason.OUT_OF_BOUNDS, f"resource name of {len(event.resource)} characters")
    if len(event.summary) > TEXT_LENGTH_MAX or len(event.fields) > FACTS_MAX:
        return Refusal(RefusalReason.OUT_OF_BOUNDS, "summary or fields too long")
    declared = fact.EVENT_TYPES.get(event.type)
    if declared and event.resource_kind != declared.resource.value:
        detail = (
            f"event {event.type} happens to a {declared.resource.value}, not to a {event.resource_kind[:64]}"
        )
        return Refusal(RefusalReason.BAD_FACT, detail)
    if declared and declared.origin is fact.Origin.COLLECTOR:
        return Refusal(RefusalReason.BAD_FACT, f"event {event.type} is the collector's to state")
    return None


def _check_witness(witness: Witness) -> Refusal | None:
    numbers = (witness.head.seq, witness.previous.seq, witness.metadata_seq, witness.acknowledged_seq)
    if not (0 < len(witness.volume) <= NAME_LENGTH_MAX and all(0 <= n < COUNTER_MAX for n in numbers)):
        return Refusal(RefusalReason.OUT_OF_BOUNDS, f"witness of {witness.volume[:64]!r}, numbers {numbers}")
    if not witness.previous.seq < witness.head.seq:
        return Refusal(
            RefusalReason.OUT_OF_BOUNDS, f"record {witness.head.seq} follows {witness.previous.seq}"
        )
    if not (_CHAIN_ID.fullmatch(witness.chain_id) and _HASH.fullmatch(witness.head.hash)):
        return Refusal(RefusalReason.OUT_OF_BOUNDS, "a chain_id has 32 hexadecimal digits, a hash 64")
    return None


def _check_chain_report(report: ChainReport) -> Refusal | None:
    if not 0 < len(report.identity.volume) <= NAME_LENGTH_MAX:
        return Refusal(
            RefusalReason.OUT_OF_BOUNDS, f"volume name of {len(report.identity.volume)} characters"
        )
    if report.chain_id and not _CHAIN_ID.fullmatch(report.chain_id):
        return Refusal(RefusalReason.OUT_OF_BOUNDS, "a chain_id has 32 hexadecimal digits")
    head = report.head
    if head is not None and not (0 < head.seq < COUNTER_MAX and _HASH.fullmatch(head.hash)):
        return Refusal(RefusalReason.OUT_OF_BOUNDS, f"head {head.seq} with a hash of {len(head.hash)} digits")
    if len(report.hashes) > RECORDS_MAX or len(report.broken) > RECORDS_MAX:
        return Refusal(
            RefusalReason.OUT_OF_BOUNDS, f"{len(report.hashes)} hashes, {len(report.broken)} broken"
        )
    return None


def _check_section(section: Section, texts: bool) -> Refusal | None:
    if not 0 < len(section.probe) <= 64 or not 0 < section.period_seconds <= 604_800:
        return Refusal(
            RefusalReason.OUT_OF_BOUNDS, f"probe {section.probe[:64]!r}, period {section.period_seconds}"
        )
    if len(section.resources) > RESOURCES_MAX:
        return Refusal(RefusalReason.OUT_OF_BOUNDS, f"{len(section.resources)} resources in {section.probe}")
    for resource in section.resources:
        if refusal := _check_resource(resource, texts):
            return refusal
    return None


def _check_resource(resource: Resource, texts: bool) -> Refusal | None:
    if not 0 < len(resource.name) <= NAME_LENGTH_MAX:
        return Refusal(RefusalReason.OUT_OF_BOUNDS, f"resource name of {len(resource.name)} characters")
    if len(resource.facts) > FACTS_MAX:
        return Refusal(
            RefusalReason.OUT_OF_BOUNDS, f"{len(resource.facts)} facts on {resource.kind} {resource.name}"
        )
    types = _TYPES.get(resource.kind)
    if types is None:
        return None
    facts = resource.facts
    # An agent states the same facts all its life. What is remembered must have bounds: the message's, or the vocabulary's.
    bounded = not texts or facts.keys() <= types.keys()
    check = _wrong_fact if bounded else _wrong_fact.__wrapped__
    wrong = check(resource.kind, tuple(facts), tuple(map(type, facts.values())))
    if wrong is not None:
        declared = fact.FACTS_OF[resource.kind][wrong].type.value
        said = f"{resource.kind}.{wrong} is {facts[wrong]!r:.64}, declared as {declared}"
        return Refusal(RefusalReason.BAD_FACT, said)
    for name, value in facts.items() if texts else ():
        if type(value) is str and len(value) > TEXT_LENGTH_MAX:
            return Refusal(RefusalReason.OUT_OF_BOUNDS, f"{resource.kind}.{name} has {len(value)} characters")
    return None


@lru_cache(maxsize=1024)
def _wrong_fact(kind: str, names: tuple[str, ...], types: tuple[type, ...]) -> str | None:
    """The first fact whose value has another type than declared."""
    declared = _TYPES[kind]
    for name, type_ in zip(names, types, strict=True):
        allowed = declared.get(name)
        if allowed is not None and type_ not in allowed:
            return name
    return None
