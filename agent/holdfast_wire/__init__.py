"""The wire contract, version 1: what agents and collectors say to each other over MQTT.

The agent is deployed widest and upgraded slowest, so it owns this published language and everything else adapts.
The package is a leaf: it knows msgspec and the standard library, and no clock, socket, file or logger.

`message`  what can be said        `topic`  where it is said
`fact`     the vocabulary          `codec`  bytes ↔ message, and why bytes are refused
"""

from holdfast_wire.codec import (
    Refusal,
    RefusalReason,
    content_digest,
    decode_down,
    decode_up,
    encode,
    section_digest,
)
from holdfast_wire.message import (
    VERSION,
    Ack,
    Acknowledgement,
    Birth,
    Capability,
    ChainHead,
    ChainReport,
    Death,
    DeathReason,
    DownMessage,
    DurableMessage,
    Event,
    Expect,
    Expected,
    Machine,
    Mark,
    Position,
    ReadCause,
    Report,
    Resend,
    Resource,
    Section,
    SectionStatus,
    SpoolState,
    UpMessage,
    VolumeIdentity,
    Witness,
)

__all__ = [
    "VERSION",
    "Ack",
    "Acknowledgement",
    "Birth",
    "Capability",
    "ChainHead",
    "ChainReport",
    "Death",
    "DeathReason",
    "DownMessage",
    "DurableMessage",
    "Event",
    "Expect",
    "Expected",
    "Machine",
    "Mark",
    "Position",
    "ReadCause",
    "Refusal",
    "RefusalReason",
    "Report",
    "Resend",
    "Resource",
    "Section",
    "SectionStatus",
    "SpoolState",
    "UpMessage",
    "VolumeIdentity",
    "Witness",
    "content_digest",
    "decode_down",
    "decode_up",
    "encode",
    "section_digest",
]
