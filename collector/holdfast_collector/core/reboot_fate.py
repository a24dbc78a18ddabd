"""What became of a machine over a boot, said once: from how its previous run ended and what its chains came back as.

A boot opens a passage. Each known chain's comparison is noted in it; when all have been read, or after two minutes
without, the passage closes with one event on the node.
"""

from msgspec import Struct, field, structs

from holdfast_collector.core.comparison import Conclusion
from holdfast_wire.message import Value

SHOWN_MAX = 10
"""Volumes that a summary names; the rest is in the fields."""
PATIENCE_SECONDS = 120.0
"""A chain's second read comes half a minute after the first; an agent that starts late is given some more."""


class Passage(Struct, frozen=True, kw_only=True):
    """A machine between two boots, as far as it is known."""

    boot_id: str
    previous_boot_id: str
    since: float
    stop: str = "unknown"
    """How the previous run ended: clean, dirty or unknown."""
    stop_evidence: str = ""
    identity: str = ""
    """What changed of the machine's identity, in words."""
    told: bool = False
    """The agent said how the previous run ended."""
    chains: dict[str, str] = field(default_factory=dict)
    """chain_id → volume, of the chains that were open."""
    outcomes: dict[str, str] = field(default_factory=dict)
    """chain_id → conclusion, of those that were read."""
    words: dict[str, str] = field(default_factory=dict)
    """chain_id → what was found, in words."""
    promised: dict[str, int] = field(default_factory=dict)
    """chain_id → the newest record that was promised before the boot."""
    found: dict[str, int] = field(default_factory=dict)
    """chain_id → the newest whole record that was read after it."""


class VolumeFate(Struct, frozen=True, kw_only=True):
    """What one volume came back as."""

    volume: str
    chain_id: str
    conclusion: str
    """One of `comparison.Conclusion`; empty: it was not read."""
    promised_seq: int | None
    """The newest record it had promised; null: none."""
    found_seq: int | None
    """The newest whole one that was read back; null: it was not read, or none is whole."""
    evidence: str


class Fate(Struct, frozen=True, kw_only=True):
    """What a boot turned out to be, with what shows it."""

    kind: str
    """One of `KINDS`."""
    summary: str
    since: float
    """When the machine was first heard after it, collector's clock."""
    boot_id: str
    previous_boot_id: str
    previous_stop: str
    """clean, dirty or unknown."""
    previous_stop_evidence: str
    identity: str
    """What changed of the machine's identity, in words."""
    volumes: tuple[VolumeFate, ...]

    @property
    def fields(self) -> dict[str, Value]:
        """Of the event."""
        return {
            "fate": self.kind,
            "previous_stop": self.previous_stop,
            "previous_stop_evidence": self.previous_stop_evidence,
            "boot_id": self.boot_id,
            "previous_boot_id": self.previous_boot_id,
            "identity": self.identity,
            "survived": ", ".join(one.volume for one in self.volumes if one.conclusion == "survived"),
            "harmed": "; ".join(sorted(one.evidence for one in self.volumes if _unlike(one)))[:1000],
            "unread": ", ".join(one.volume for one in self.volumes if not one.conclusion),
        }


def _unlike(one: VolumeFate) -> bool:
    """Whether a volume was read and came back as something else than whole."""
    return one.conclusion not in ("", Conclusion.SURVIVED.value)


def _named(one: VolumeFate) -> str:
    return f"{one.volume} ({one.conclusion.replace('_', ' ')})"


_BY_OUTCOME: tuple[tuple[str, frozenset[Conclusion], str], ...] = (
    ("clone", frozenset({Conclusion.FORK}), "a second machine runs from a copy of this one"),
    ("memory_fork", frozenset({Conclusion.MEMORY_ROLLBACK}), "it goes on from a snapshot of its memory"),
    ("restored", frozenset({Conclusion.RESTORED}), "it was made anew from a copy"),
    ("rollback", frozenset({Conclusion.ROLLED_BACK}), "its disks were set back to an earlier state"),
    ("reimaged", frozenset({Conclusion.REFORMATTED}), "a volume was formatted anew"),
    (
        "disk_swap",
        frozenset({Conclusion.SWAPPED, Conclusion.WRONG_DISK}),
        "its disks are not where they were",
    ),
    ("crash", frozenset({Conclusion.LOST_TAIL, Conclusion.TORN}), "it crashed, and flushed data is gone"),
)
"""The worst first: what explains the others."""
_HARMLESS = frozenset(
    {
        Conclusion.ADOPTED,
        Conclusion.NEW,
        Conclusion.CLOSED,
        Conclusion.RESET,
        Conclusion.LEFT_BEHIND,
        Conclusion.BEHIND,
    }
)
"""Of a volume that neither came back whole nor lost anything that it had promised."""
KINDS = (*(kind for kind, _, _ in _BY_OUTCOME), "clean_reboot", "unknown")


def noted(passage: Passage, chain_id: str, conclusion: Conclusion, words: str, found: int = 0) -> Passage:
    """The passage with what one chain came back as. The last word on a chain counts. `found`: the newest whole record;
    0: none."""
    return structs.replace(
        passage,
        found={**passage.found, chain_id: found},
        outcomes={**passage.outcomes, chain_id: conclusion.value},
        words={**passage.words, chain_id: words},
    )


def complete(passage: Passage, at: float) -> bool:
    """Whether nothing more is to be waited for."""
    read = passage.told and passage.chains.keys() <= passage.outcomes.keys()
    return read or at - passage.since >= PATIENCE_SECONDS


def fate(passage: Passage) -> Fate:
    """What the boot was, and what came through it."""
    seen = {Conclusion(outcome) for outcome in passage.outcomes.values()}
    kind, story = next(
        ((kind, story) for kind, outcomes, story in _BY_OUTCOME if seen & outcomes), _by_stop(passage)
    )
    volumes = tuple(
        sorted(
            (_volume(passage, chain) for chain in passage.chains), key=lambda one: (one.volume, one.chain_id)
        )
    )
    parts = [story]
    if passage.identity:
        parts.append(passage.identity)
    for words, names in (
        ("harmed", [_named(one) for one in volumes if _unlike(one) and one.conclusion not in _HARMLESS]),
        ("came back whole", [one.volume for one in volumes if one.conclusion == Conclusion.SURVIVED.value]),
        ("besides", [_named(one) for one in volumes if _unlike(one) and one.conclusion in _HARMLESS]),
        ("not read", [one.volume for one in volumes if not one.conclusion]),
    ):
        if names:
            parts.append(f"{words}: {_listed(names)}")
    return Fate(
        kind=kind,
        summary=f"{kind.replace('_', ' ')}: {'; '.join(parts)}"[:1000],
        since=passage.since,
        boot_id=passage.boot_id,
        previous_boot_id=passage.previous_boot_id,
        previous_stop=passage.stop,
        previous_stop_evidence=passage.stop_evidence,
        identity=passage.identity,
        volumes=volumes,
    )


def _volume(passage: Passage, chain: str) -> VolumeFate:
    return VolumeFate(
        volume=passage.chains[chain],
        chain_id=chain,
        conclusion=passage.outcomes.get(chain, ""),
        promised_seq=passage.promised.get(chain) or None,
        found_seq=passage.found.get(chain) or None,
        evidence=passage.words.get(chain, ""),
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN_MAX])
    return f"{shown} and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else shown


def _by_stop(passage: Passage) -> tuple[str, str]:
    match passage.stop:
        case "clean":
            return "clean_reboot", "it was shut down in order and booted"
        case "dirty":
            return "crash", "it stopped without a shutdown and booted"
        case _:
            return "unknown", "it booted, and nothing says how its previous run ended"
