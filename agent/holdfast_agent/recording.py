"""Recordings: what a probe read on some machine, kept as JSON, so that any machine becomes a test."""

import sys
import time
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from holdfast_agent import agent_version
from holdfast_agent.config import AgentConfig
from holdfast_agent.errors import ProbeStop
from holdfast_agent.probe import Poll, ProbeContext
from holdfast_agent.registry import probe_kinds
from holdfast_wire.configuring import nearest

Raw = TypeVar("Raw")


class Recording(Struct, frozen=True, kw_only=True):
    """The envelope around the raw data."""

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


def run(config: AgentConfig, name: str) -> int:
    """Print a recording of one probe; 1 when it cannot read here, 2 when there is no such probe."""
    kinds = probe_kinds()
    if name not in kinds:
        print(f"no probe {name!r}{nearest(name, kinds)}; there are {', '.join(kinds)}", file=sys.stderr)
        return 2
    poll_class = next((each for each in kinds[name].classes if issubclass(each, Poll)), None)
    if poll_class is None:
        print(f"{name} only watches; there is nothing to record", file=sys.stderr)
        return 2
    poll: Poll[Any] = poll_class(ProbeContext(node=config.node, settings=config.probes[name].settings))
    try:
        raw = poll.read()
    except ProbeStop as stop:
        print(f"{name}: {stop.reason}", file=sys.stderr)
        return 1
    recording = Recording(
        probe=name,
        platform=sys.platform,
        recorded_at=time.time(),
        agent_version=agent_version(),
        raw=msgspec.Raw(msgspec.json.encode(raw)),
    )
    print(msgspec.json.format(msgspec.json.encode(recording)).decode())
    return 0
