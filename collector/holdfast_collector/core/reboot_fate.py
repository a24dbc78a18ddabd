"""What became of a machine over a boot, said once: from how its previous run ended and what its chains came back as.

A boot opens a passage. Each known chain's comparison is noted in it; when all have been read, or after two minutes
without, the passage closes with one event on the node.
"""

from msgspec import Struct, field, structs

from holdfast_collector.core.comparison import Conclusion
from holdfast_wire.message import Value

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


class Fate(Struct, frozen=True, kw_only=True):
    """What a boot turned out to be."""

    kind: str
    """One of `KINDS`."""
    summary: str
    fields: dict[str, Value]


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
KINDS = (*(kind for kind, _, _ in _BY_OUTCOME), "clean_reboot", "unknown")


def noted(passage: Passage, chain_id: str, conclusion: Conclusion, words: str) -> Passage:
    """The passage with what one chain came back as. The last word on a chain counts."""
    return structs.replace(
        passage,
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
    survived = sorted(passage.chains.get(c, "") for c in _with(passage, Conclusion.SURVIVED))
    unread = sorted(volume for chain, volume in passage.chains.items() if chain not in passage.outcomes)
    harmed = sorted(
        words for chain, words in passage.words.items() if chain not in _with(passage, Conclusion.SURVIVED)
    )
    parts = [story]
    if passage.identity:
        parts.append(passage.identity)
    parts.extend(harmed)
    if survived:
        parts.append(f"came back whole: {', '.join(survived)}")
    if unread:
        parts.append(f"not read: {', '.join(unread)}")
    return Fate(
        kind=kind,
        summary=f"{kind.replace('_', ' ')}: {'; '.join(parts)}"[:1000],
        fields={
            "fate": kind,
            "previous_stop": passage.stop,
            "previous_stop_evidence": passage.stop_evidence,
            "boot_id": passage.boot_id,
            "previous_boot_id": passage.previous_boot_id,
            "identity": passage.identity,
            "survived": ", ".join(survived),
            "harmed": "; ".join(harmed)[:1000],
            "unread": ", ".join(unread),
        },
    )


def _with(passage: Passage, conclusion: Conclusion) -> list[str]:
    return [chain for chain, outcome in passage.outcomes.items() if outcome == conclusion.value]


def _by_stop(passage: Passage) -> tuple[str, str]:
    match passage.stop:
        case "clean":
            return "clean_reboot", "it was shut down in order and booted"
        case "dirty":
            return "crash", "it stopped without a shutdown and booted"
        case _:
            return "unknown", "it booted, and nothing says how its previous run ended"
