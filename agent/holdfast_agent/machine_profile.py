"""What a birth tells of the machine: its system, what it is known by, how its previous run ended."""

import platform
import sys
import time
from typing import Literal

from holdfast_agent import agent_version
from holdfast_agent.config import AgentConfig
from holdfast_agent.core.happening import Happening
from holdfast_agent.core.session import Profile
from holdfast_agent.identity import Standing
from holdfast_agent.registry import ProbeKind
from holdfast_agent.witness import survey
from holdfast_agent.witness.identity_linux import machine
from holdfast_wire import Capability, Machine, Section
from holdfast_wire.fact import ResourceKind

HOST_PROBE = "host"
EVENTS = ("session_taken_over",)
"""What the agent tells of itself, without a probe."""


def this_machine() -> Machine:
    """What it is known by beyond its agent; empty on systems whose places we do not know."""
    return machine() if sys.platform == "linux" else Machine()


class PreviousBoot:
    """How the machine's previous run ended, as far as the probe of the host has said."""

    def __init__(self) -> None:
        self.ended: Literal["clean", "dirty", "unknown"] = "unknown"
        self.evidence = ""

    def learn(self, section: Section) -> None:
        """From every section that comes; those of other probes say nothing of it."""
        if section.probe != HOST_PROBE:
            return
        for resource in section.resources:
            dirty = resource.facts.get("boot_dirty")
            if isinstance(dirty, bool):
                self.ended = "dirty" if dirty else "clean"
                self.evidence = str(resource.facts.get("boot_dirty_evidence", ""))


def profile(standing: Standing, known_by: Machine, previous: PreviousBoot) -> Profile:
    """For the birth."""
    return Profile(
        agent_version=agent_version(),
        os="windows" if sys.platform == "win32" else sys.platform,
        os_name=_os_name(),
        kernel=platform.release(),
        previous_stop=standing.previous_stop,
        machine=known_by,
        previous_boot=previous.ended,
        previous_boot_evidence=previous.evidence,
    )


def configured(config: AgentConfig, kinds: dict[str, ProbeKind]) -> list[Capability]:
    """What the configuration forbids, with what that costs; and the witness, where it keeps records. On which volumes and
    how, its section says."""
    costs = {name: kinds[name].cost for name, probe in config.probes.items() if not probe.enabled}
    if not config.witness.enabled:
        costs[survey.SECTION] = survey.COST
    reason = "disabled in the configuration"
    said = [Capability(name=name, available=False, reason=reason, cost=cost) for name, cost in costs.items()]
    if config.witness.enabled and sys.platform == "linux":
        said.append(Capability(name=survey.SECTION, available=True))
    return said


def session_taken_over(node: str, connection: int) -> Happening:
    """The event that another client speaks under this node's name."""
    return Happening(
        type="session_taken_over",
        resource_kind=ResourceKind.NODE,
        resource=node,
        at=time.time(),
        summary="the broker gave this agent's session to another client of the same name: is there a clone?",
        fields={"connection": connection},
    )


def _os_name() -> str:
    """As the system calls itself (os-release(5))."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return f"{platform.system()} {platform.version()}".strip()
