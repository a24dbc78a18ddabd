"""`holdfast-agent record PROBE`: what a probe reads here, for its tests."""

import sys
import time
from typing import Any

import msgspec

from holdfast_agent import agent_version
from holdfast_agent.config import AgentConfig
from holdfast_agent.errors import ProbeStop
from holdfast_agent.probe import Poll, ProbeContext
from holdfast_agent.recording import Recording
from holdfast_agent.registry import probe_kinds
from holdfast_wire.configuring import nearest


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
