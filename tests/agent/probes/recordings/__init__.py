"""Recorded machines: what a probe read there, in the envelope of `holdfast-agent record`: `<probe>/<machine>.json`.

`about`, which the envelope does not need, says where it comes from: recorded on a real machine, or constructed, and
after what.
"""

from pathlib import Path
from typing import TypeVar

from holdfast_agent.probe import Poll
from holdfast_agent.recording import replay

Raw = TypeVar("Raw")


def recorded(poll: type[Poll[Raw]], machine: str) -> Raw:
    """What `poll` read on that machine."""
    return replay(poll, (Path(__file__).parent / poll.name / f"{machine}.json").read_bytes())


def machines(poll: type[Poll[Raw]]) -> list[str]:
    """All machines recorded for it."""
    return sorted(path.stem for path in (Path(__file__).parent / poll.name).glob("*.json"))
