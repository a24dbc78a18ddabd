"""`holdfast-agent doctor`: what works here, what does not, how to mend it and what that would tell."""

import os
import sys
import textwrap
from pathlib import Path

from holdfast_agent.command.glance import Glance, glance
from holdfast_agent.command.glance_table import witness_state
from holdfast_agent.config import AgentConfig
from holdfast_agent.detection import Detection, Subject, detections, sentences, subjects
from holdfast_agent.registry import ProbeKind, probe_kinds
from holdfast_agent.witness.host_linux import NOT_TOLD, host_digest
from holdfast_agent.witness.lateness import SUBJECTS, witness_detections
from holdfast_agent.witness.survey import COST as WITNESS_COST
from holdfast_agent.witness.survey import SECTION as WITNESS
from holdfast_wire import Section, SectionStatus

WIDTH = 100
INDENT = " " * 20
_WORKS = (SectionStatus.OK, SectionStatus.NO_DATA)


def run(config: AgentConfig, kinds: dict[str, ProbeKind] | None = None) -> int:
    """Print one verdict per part; 1 when something does not work that could."""
    known = probe_kinds() if kinds is None else kinds
    seen = glance(config, known)
    sections = {section.probe: section for section in seen.sections}
    wrong = 0
    for name, kind in known.items():
        section = sections.get(name)
        if section is None:
            _say(name, "disabled", "in the configuration", kind.cost)
            continue
        _verdict(section, kind)
        period = config.probes[name].period or kind.timing(config.interval)[0]
        _lateness(detections(kind, period), subjects(kind))
        wrong += section.status not in (*_WORKS, SectionStatus.UNSUPPORTED) or bool(section.missing)
    wrong += _witness(seen, config)
    trouble = state_folder_trouble(Path(config.state_dir))
    _say("state folder", "in trouble" if trouble else "works", trouble or config.state_dir)
    if warning := _other_owner(Path(config.state_dir)):
        _say("user", "beware", warning)
    return 1 if wrong or trouble else 0


def state_folder_trouble(folder: Path) -> str:
    """Why the agent, run by this user, could not keep its state; empty when it could."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(existing, os.W_OK | os.X_OK):
        return ""
    user = f"user id {os.geteuid()}" if hasattr(os, "geteuid") else "this user"
    what = "is not writable" if existing == folder else f"cannot be made in {existing}"
    return f"{folder} {what} by {user}: run the doctor as the agent's user, or set state_dir"


def _witness(seen: Glance, config: AgentConfig) -> bool:
    """Volume by volume: witnessed or not, why and with which cure, and what it costs. Whether something can be mended."""
    section, wanted = seen.witness, config.witness.enabled
    if section is None:
        said = "a volume did not answer in time" if wanted else "in the configuration"
        _say(WITNESS, "timeout" if wanted else "disabled", said, WITNESS_COST)
        return wanted
    if section.status in (*_WORKS, SectionStatus.UNSUPPORTED):
        word = "partly" if section.missing else section.status.value
        kept = sum(bool(each.facts.get("witness_enabled")) for each in section.resources)
        said = f"{kept} of {len(section.resources)} volumes" if section.resources else section.detail
        _say(WITNESS, "works" if word in ("ok", "no_data") else word, said)
    else:
        _say(WITNESS, section.status.value, "no volume can be witnessed", WITNESS_COST)
    if section.resources:
        _lateness(witness_detections(config.witness.interval, config.interval), SUBJECTS)
    for each in section.resources:
        state = (
            witness_state(each.facts)
            if each.facts.get("witness_enabled")
            else f"no: {each.facts['witness_reason']}"
        )
        cost = f"; {seen.costs[each.name]}" if each.facts.get("witness_enabled") else ""
        _line(f"{each.name} {state}{cost}")
    if section.status is SectionStatus.OK and not host_digest():
        print(textwrap.fill(NOT_TOLD, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT))
    return bool(section.missing)


def _verdict(section: Section, kind: ProbeKind) -> None:
    took = f"{section.duration_seconds * 1000:.1f} ms"
    if section.status is SectionStatus.OK:
        word = "partly" if section.missing else "works"
        _say(section.probe, word, f"{_seen(section)} in {took}")
    elif section.status is SectionStatus.NO_DATA:
        _say(section.probe, "works", f"nothing of its kind here; {section.detail}".rstrip("; "))
    else:
        _say(section.probe, section.status.value, section.detail, kind.cost)
    for subject, reason in sorted(section.missing.items()):
        said = f"{subject} is missing: {reason}"
        print(textwrap.fill(said, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT))
    if section.resources and (unknown := unstated(section, kind)):
        said = f"stays unknown here: {', '.join(unknown)}"
        print(textwrap.fill(said, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT))


def unstated(section: Section, kind: ProbeKind) -> list[str]:
    """The facts that the probe knows and no resource here has: nothing of the kind, or nothing that tells."""
    stated = {(resource.kind, fact) for resource in section.resources for fact in resource.facts}
    missing = {subject.rpartition(".")[2] for subject in section.missing}
    declared = {pair for class_ in kind.classes for pair in class_.emits}
    return sorted(fact for _, fact in declared - stated if fact not in missing)


def _lateness(found: list[Detection], every: tuple[Subject, ...]) -> None:
    for said in sentences(found, every):
        _line(said)


def _line(said: str) -> None:
    print(textwrap.fill(said, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT + "  "))


def _seen(section: Section) -> str:
    """A probe of events alone lists nothing, and still works."""
    count = len(section.resources)
    return f"sees {count} resource{'s' if count > 1 else ''}" if count else "looked"


def _other_owner(folder: Path) -> str:
    """A warning for root, who may read more than the agent's own user."""
    if sys.platform == "win32" or os.geteuid() != 0 or not folder.exists() or folder.stat().st_uid == 0:
        return ""
    return f"this is what root sees; the agent runs as user id {folder.stat().st_uid} and may see less"


def _say(name: str, verdict: str, detail: str, cost: str = "") -> None:
    head = f"{name:<18}  {verdict:<12}"
    print(textwrap.fill(f"{head} {detail}", WIDTH, subsequent_indent=INDENT))
    if cost:
        print(textwrap.fill(f"without it, {cost}", WIDTH, initial_indent=INDENT, subsequent_indent=INDENT))
