"""Verdicts for a person: the worst first, each with what to mend first."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from holdfast_collector.core.node import ResourceKey
from holdfast_collector.core.ruled import Ruled
from holdfast_collector.web.evidence import Evidence, Grounds
from holdfast_collector.web.words import Moment, moment, plain
from holdfast_rules.verdict import Ruling, Verdict

REASONS_SHOWN = 3
_KINDS = {"node": "the node", "service": "service", "state_path": "state path", "volume": "volume"}
"""What has a line; devices speak through what rests on them."""
TONES = {
    Verdict.LOST: "bad",
    Verdict.NOT_DURABLE: "bad",
    Verdict.AT_RISK: "bad",
    Verdict.UNKNOWN: "unknown",
    Verdict.DURABLE: "good",
}
_CLAIMS = {1: "it claims no more than to outlive a reboot: it goes with the host"}
"""What keeps `durable` from being misread of a volume that keeps its promise only because it promises little."""
WORDS = {
    Verdict.LOST: "lost",
    Verdict.NOT_DURABLE: "not durable",
    Verdict.AT_RISK: "at risk",
    Verdict.UNKNOWN: "unknown",
    Verdict.DURABLE: "durable",
}


class VerdictView(Struct, frozen=True, kw_only=True):
    """One resource and what is said of it."""

    kind: str
    name: str
    words: str
    tone: str
    classes: str
    """Its durability class, and what it would need where that is known."""
    flush: str
    integrity: str
    """Empty: nobody has checked."""
    reasons: list[str]
    more: int
    """Reasons that are not shown."""
    lacks: list[str]
    """Of what is unknown: what nobody can say at present, and why."""
    since: Moment


def verdict_views(
    rulings: Mapping[ResourceKey, Ruled], grounds: Grounds, now: float, most: int
) -> list[VerdictView]:
    """The verdicts of a node, `most` at most, the worst first, of equally bad ones the one that rests on the others."""
    verdicts, kinds = list(WORDS), list(_KINDS)
    shown = sorted(
        (ruled for (kind, _), ruled in rulings.items() if kind in _KINDS),
        key=lambda ruled: (
            verdicts.index(ruled.ruling.verdict),
            kinds.index(ruled.ruling.kind),
            ruled.ruling.resource,
        ),
    )
    return [_view(ruled, grounds, now) for ruled in shown[:most]]


def _view(ruled: Ruled, grounds: Grounds, now: float) -> VerdictView:
    ruling = ruled.ruling
    reasons = [
        plain(f"{_place(reason.kind, reason.resource, ruled)}{reason.text}") for reason in ruling.reasons
    ]
    if ruling.last is not None:
        reasons.append(f"when it was last known, it was {WORDS[ruling.last]}")
    if ruling.verdict is Verdict.DURABLE and ruling.kind == "volume" and ruling.durability_class in _CLAIMS:
        reasons.append(_CLAIMS[ruling.durability_class])
    return VerdictView(
        kind=_KINDS[ruling.kind],
        name=plain(ruling.resource),
        words=WORDS[ruling.verdict],
        tone=TONES[ruling.verdict],
        classes=_classes(ruling.durability_class, ruling.required_class),
        flush={
            "honest": "kept what it confirmed",
            "lying": "lost what it confirmed",
            "unknown": "never tested",
        }[ruling.flush],
        integrity={"checked": "checked", "corrupt": "damaged", "unchecked": ""}[ruling.integrity],
        reasons=reasons[:REASONS_SHOWN],
        more=max(0, len(reasons) - REASONS_SHOWN),
        lacks=_lacks(grounds.evidence(ruling), ruling) if ruling.verdict is Verdict.UNKNOWN else [],
        since=moment(ruled.since, now),
    )


def _lacks(evidence: Iterable[Evidence], ruling: Ruling) -> list[str]:
    """`writable, free_ratio: volumes denied: …`: what is lacking for the same reason is one line, and none where the verdict's
    own reasons say it."""
    said = " ".join(reason.text for reason in ruling.reasons)
    facts: dict[str, list[str]] = {}
    for row in evidence:
        if row.problem and (row.problem.partition(": ")[2] or row.problem) not in said:
            facts.setdefault(row.problem, []).append(row.fact)
    lines = [f"{', '.join(dict.fromkeys(names))}: {problem}" for problem, names in facts.items()]
    return [plain(line) for line in lines[:REASONS_SHOWN]]


def _place(kind: str, resource: str, ruled: Ruled) -> str:
    """Where a reason lies, unless it is the resource itself."""
    own = (kind, resource) == (ruled.ruling.kind, ruled.ruling.resource)
    return "" if own else f"{_KINDS.get(kind, kind)} {resource}: "


def _classes(have: int | None, need: int | None) -> str:
    shown = "unknown" if have is None else f"D{have}"
    return f"{shown}, needs D{need}" if need is not None else shown
