"""A glance as a Nagios plugin's answer (Monitoring Plugins Development Guidelines: one line, exit codes 0 to 3).

Only what a single look can tell, by fixed limits: the rules with history live in the collector.
"""

from msgspec import Struct

from holdfast_agent.command.glance import Glance
from holdfast_agent.command.glance_table import service_trouble, volume_state
from holdfast_wire import Resource, SectionStatus
from holdfast_wire.message import Value

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
_WORDS = {OK: "OK", WARNING: "WARNING", CRITICAL: "CRITICAL", UNKNOWN: "UNKNOWN"}

LOW_RATIO, VERY_LOW_RATIO = 0.10, 0.03
"""Of space or inodes. What Monitoring Plugins' own check_disk examples use is 10 % and 5 %; disks have grown since."""


class Answer(Struct, frozen=True):
    """The exit code and the one line."""

    code: int
    line: str


def judge(glance: Glance) -> Answer:
    """The worst that is seen. A probe that fails makes it unknown unless something worse is known."""
    found: list[tuple[int, str]] = []
    found += [
        (UNKNOWN, f"probe {section.probe}: {section.detail}")
        for section in glance.sections
        if section.status in (SectionStatus.TIMEOUT, SectionStatus.ERROR)
    ]
    resources = glance.resources()
    for resource in resources:
        found += _troubles(resource)
    counted = len(resources)
    if not counted and not found:
        found.append((UNKNOWN, "no probe gave any facts"))
    code = max((code for code, _ in found), key=_rank, default=OK)
    said = "; ".join(text for _, text in sorted(found, key=lambda each: -_rank(each[0])))
    return Answer(code, f"HOLDFAST {_WORDS[code]}: {said or f'{counted} resources in order'}")


def _rank(code: int) -> int:
    return {OK: 0, UNKNOWN: 1, WARNING: 2, CRITICAL: 3}[code]


def _troubles(resource: Resource) -> list[tuple[int, str]]:
    facts = resource.facts
    if resource.kind == "volume":
        return _volume(str(facts.get("mountpoint", resource.name)), facts)
    if resource.kind == "service":
        trouble = service_trouble(facts)
        return [(CRITICAL, f"{resource.name} {trouble}")] if trouble else []
    if resource.kind == "node" and facts.get("boot_dirty"):
        return [(WARNING, "the machine's previous run did not end in order")]
    return []


def _volume(name: str, facts: dict[str, Value]) -> list[tuple[int, str]]:
    state = volume_state(facts)
    if state not in ("writable", "volatile", "read-only", "unknown"):
        return [(CRITICAL, f"{name} {state}")]
    if state == "read-only":
        return []
    found = []
    for fact, what in (("free_ratio", "space"), ("inodes_free_ratio", "inodes")):
        ratio = facts.get(fact)
        if isinstance(ratio, int | float) and ratio < LOW_RATIO:
            found.append(
                (
                    CRITICAL if ratio < VERY_LOW_RATIO else WARNING,
                    f"{name} has {ratio:.1%} of its {what} left",
                )
            )
    return found
