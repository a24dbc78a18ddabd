"""One look with every probe, for a person: nothing is sent, nothing is remembered."""

import asyncio
import random
import time

from msgspec import Struct, structs

from holdfast_agent.background import BackgroundThreads
from holdfast_agent.config import AgentConfig
from holdfast_agent.core.happening import Happening
from holdfast_agent.probe import ProbeContext
from holdfast_agent.registry import ProbeKind, probe_kinds
from holdfast_agent.runner import Runner, probe_run
from holdfast_wire import Resource, Section


class Glance(Struct, frozen=True, kw_only=True):
    """What one look at this machine gave."""

    sections: list[Section]
    """By probe name."""
    happenings: list[Happening]
    """What polls found to have happened; watches are not run."""

    def resources(self) -> list[Resource]:
        """Each resource once, with the facts that all probes state of it."""
        found: dict[tuple[str, str], Resource] = {}
        for section in self.sections:
            for resource in section.resources:
                known = found.get((resource.kind, resource.name))
                facts = {**known.facts, **resource.facts} if known else resource.facts
                found[resource.kind, resource.name] = structs.replace(resource, facts=facts)
        return list(found.values())


class _Collector:
    """The runner's user: keeps what it is told."""

    def __init__(self) -> None:
        self.sections: dict[str, Section] = {}
        self.happenings: list[Happening] = []

    def section(self, section: Section, *, urgent: bool) -> None:
        self.sections[section.probe] = section

    async def happened(self, happening: Happening) -> None:
        self.happenings.append(happening)

    def watch_failed(self, probe: str, reason: str, pause_seconds: float) -> None:
        """A glance runs no watches."""


def glance(config: AgentConfig, kinds: dict[str, ProbeKind] | None = None) -> Glance:
    """Ask every enabled probe once, all at the same time. Takes as long as the slowest, at most its time-out."""
    known = probe_kinds() if kinds is None else kinds

    async def look() -> Glance:
        asyncio.get_running_loop().set_default_executor(BackgroundThreads())
        collector = _Collector()
        runner = Runner(collector, random.random, config.interval, time.time)
        runs = [
            probe_run(
                kind,
                ProbeContext(node=config.node, settings=config.probes[name].settings),
                config.interval,
                config.probes[name].period,
                config.probes[name].timeout,
            )
            for name, kind in known.items()
            if config.probes[name].enabled
        ]
        await asyncio.gather(*(runner.look(run) for run in runs))
        await asyncio.gather(*(task for run in runs for task in run.tasks))
        sections = [collector.sections[name] for name in sorted(collector.sections)]
        return Glance(sections=sections, happenings=collector.happenings)

    return asyncio.run(look())
