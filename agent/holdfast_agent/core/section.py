"""What the probes say, by name, and how it is cut into reports that fit through every broker.

A section is complete in itself, so it is never cut: a machine with more resources than one message carries gets a
section that says so, with as many of them as fit.
"""

import msgspec
from msgspec import Struct, structs

from holdfast_wire import (
    Mark,
    Position,
    Refusal,
    Report,
    Resource,
    Section,
    SectionStatus,
    SpoolState,
    decode_up,
    encode,
    section_digest,
)

REPORT_BYTES_MAX = 200 * 1024
"""Below the contract's 256 KiB, with room for the envelope and the marks."""
ENVELOPE_BYTES = 2048
"""What a report weighs besides sections and marks: the header and a spool state with a long detail."""
MARK_BYTES = 160
"""One mark with the longest probe name."""


class Held(Struct, frozen=True):
    """A section with what is asked of it again and again."""

    section: Section
    digest: str
    size: int


def sound(section: Section) -> Section:
    """The section, or one of status `error` in its place when a collector would refuse it.

    A collector refuses a message whole; one probe's mistake must not silence the node.
    """
    refusal = _refusal(section)
    if refusal is None:
        return section
    detail = f"the probe said what no collector accepts ({refusal.reason.value}): {refusal.detail}"
    return structs.replace(
        section, status=SectionStatus.ERROR, detail=detail[:4000], missing={}, resources=[]
    )


def _refusal(section: Section) -> Refusal | None:
    message = Report(
        node="n", install_id="i", boot_id="b", epoch=1, seq=1, sent_at=0.0, mono=0.0, connection=1,
        interval_seconds=1.0, floor=Position(1, 1), sections=[structs.replace(section, resources=[])],
        spool=SpoolState(messages=0, bytes=0, dropped_total=0, in_memory=False),
    )  # fmt: skip
    # The resources are checked in slices: their number together may be more than a message carries, which is
    # no mistake of the probe's; `fitting` deals with it.
    slices = [section.resources[start : start + 256] for start in range(0, len(section.resources), 256)]
    for resources in slices or [[]]:
        part = structs.replace(section, resources=resources)
        answer = decode_up("n", encode(structs.replace(message, sections=[part])))
        if isinstance(answer, Refusal):
            return answer
    return None


def fitting(section: Section, bytes_max: int) -> Section:
    """The section, or as much of it as `bytes_max` takes, with status `error` and a detail that says what is left out."""
    size = len(msgspec.json.encode(section))
    if size <= bytes_max:
        return section
    kept: list[Resource] = []
    room = bytes_max - len(msgspec.json.encode(structs.replace(section, resources=[]))) - 512
    for resource in section.resources:
        room -= len(msgspec.json.encode(resource)) + 1
        if room < 0:
            break
        kept.append(resource)
    detail = (
        f"too much for one message: {len(kept)} of {len(section.resources)} resources are reported; "
        "narrow the probe in the agent's configuration"
    )
    return structs.replace(section, status=SectionStatus.ERROR, detail=detail, resources=kept)


class Sections:
    """The newest section of every probe."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}

    def put(self, section: Section) -> bool:
        """Take a section in the place of its probe's last; whether it says anything new."""
        digest = section_digest(section)
        known = self._held.get(section.probe)
        if known is not None and known.digest == digest:
            self._held[section.probe] = Held(section, digest, known.size)
            return False
        section = sound(section)
        digest = section_digest(section)
        changed = known is None or known.digest != digest
        self._held[section.probe] = Held(section, digest, len(msgspec.json.encode(section)))
        return changed

    def remove(self, probe: str) -> bool:
        """Forget a probe that is no longer run; whether there was one."""
        return self._held.pop(probe, None) is not None

    def names(self) -> set[str]:
        return set(self._held)

    def marks(self) -> dict[str, Mark]:
        """What every report says of every section."""
        return {
            name: Mark(
                digest=held.digest, mono=held.section.mono, duration_seconds=held.section.duration_seconds
            )
            for name, held in sorted(self._held.items())
        }

    def parts(self, published: dict[str, str], bytes_max: int) -> list[list[Held]]:
        """The sections whose digest is not in `published`, in groups of which each fits one report of `bytes_max`.

        At least one group, possibly empty: a report without news still says that all stands as it did.
        """
        room = bytes_max - ENVELOPE_BYTES - MARK_BYTES * len(self._held)
        groups: list[list[Held]] = [[]]
        used = 0
        for name, held in sorted(self._held.items()):
            if published.get(name) == held.digest:
                continue
            if held.size > room:
                held = self._narrow(name, held, room)
                if published.get(name) == held.digest:
                    continue
            if groups[-1] and used + held.size > room:
                groups.append([])
                used = 0
            groups[-1].append(held)
            used += held.size
        return groups

    def _narrow(self, name: str, held: Held, room: int) -> Held:
        """Hold the fitting form from now on, so that marks carry the digest of what was sent."""
        section = fitting(held.section, room)
        narrowed = Held(section, section_digest(section), len(msgspec.json.encode(section)))
        self._held[name] = narrowed
        return narrowed
