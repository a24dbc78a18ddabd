"""Recordings: what a probe read on some machine, kept as JSON, so that any machine becomes a test."""

from typing import TypeVar

import msgspec
from msgspec import Struct

from holdfast_agent.probe import Poll

Raw = TypeVar("Raw")


class Recording(Struct, frozen=True, kw_only=True):
    """The envelope around the raw data; written by `holdfast-agent record`."""

    probe: str
    platform: str
    recorded_at: float
    agent_version: str
    raw: msgspec.Raw


def replay(poll: type[Poll[Raw]], text: bytes | str) -> Raw:
    """The raw data in a recording, as the poll's `interpret` takes it. Raises msgspec.DecodeError."""
    recording = msgspec.json.decode(text, type=Recording)
    raw: Raw = msgspec.json.decode(recording.raw, type=poll.raw_type)
    return raw
