"""What a volume's chains add to its facts, by the names of `holdfast_wire.fact`."""

from collections.abc import Mapping, Sequence

from holdfast_collector.core.chain import LOSSES, Breach, BreachKind, ChainRecord, ChainState
from holdfast_collector.core.survival import tested_at
from holdfast_wire.message import Value

UNTESTED_STEP_SECONDS = 3600.0
"""How finely the time without a test is told: it matters in days, and each step is a change of facts."""

EXCUSED_BY: Mapping[str, frozenset[BreachKind]] = {
    "witness_lost": LOSSES,
    "witness_forked": frozenset({BreachKind.FORK}),
    "witness_corrupt": frozenset({BreachKind.CORRUPT}),
    "witness_missing": frozenset({BreachKind.DELETED, BreachKind.REFORMATTED}),
}
"""Fact → the breaches that an operator takes note of with an alert whose rule reads it."""


def volumes_of(chains: Mapping[str, ChainRecord]) -> dict[str, list[ChainRecord]]:
    """Volume → its chains, those that were found there in another's place included."""
    by_volume: dict[str, list[ChainRecord]] = {}
    for record in chains.values():
        for volume in {record.volume, record.found_on} - {""}:
            by_volume.setdefault(volume, []).append(record)
    return by_volume


def current(chains: Sequence[ChainRecord]) -> ChainRecord | None:
    """The chain that a volume's newest records are in; None when none is open."""
    open_ = [record for record in chains if record.state is ChainState.OPEN]
    return max(open_, key=lambda record: (record.head_at, record.began_at), default=None)


def witness_facts(volume: str, chains: Sequence[ChainRecord], at: float) -> dict[str, Value]:
    """The facts of one volume. Empty when nothing is open there: no chain, no broken promise."""
    own = [record for record in chains if record.volume == volume]
    breaches = [breach for record in own for breach in record.breaches]
    newest = current(own)
    if newest is None and not any(breach.open for breach in breaches) and not _foreign(own):
        return {}
    missing = _missing_reason(own)
    facts: dict[str, Value] = {
        "witness_lost": any(breach.open and breach.kind in LOSSES for breach in breaches),
        "witness_suspected": any(record.suspicion is not None for record in own),
        "witness_forked": _is_open(breaches, BreachKind.FORK),
        "witness_corrupt": _is_open(breaches, BreachKind.CORRUPT),
        "witness_cache_differs": newest is not None and newest.cache_differs,
        "witness_missing": bool(missing),
        "witness_missing_reason": missing,
        "witness_swapped": any(record.found_on for record in chains),
        "witness_foreign": _foreign(own),
        **_newest_loss(breaches),
    }
    if newest is not None:
        if newest.promised is not None:
            facts["witness_seq"] = newest.promised.seq
        untested = max(0.0, at - (tested_at(newest) or newest.began_at))
        facts["durability_untested_seconds"] = untested - untested % UNTESTED_STEP_SECONDS
    return facts


def observed_at(chains: Sequence[ChainRecord]) -> float:
    """When a volume's chains were last heard of."""
    return max(max(record.head_at, record.began_at, *(read.at for read in record.reads)) for record in chains)


def _is_open(breaches: Sequence[Breach], kind: BreachKind) -> bool:
    return any(breach.open and breach.kind is kind for breach in breaches)


def _foreign(chains: Sequence[ChainRecord]) -> bool:
    return any(record.foreign and record.state is ChainState.FROZEN for record in chains)


def _missing_reason(chains: Sequence[ChainRecord]) -> str:
    """The gravest first."""
    breaches = [breach for record in chains for breach in record.breaches]
    suspected = {record.suspicion.kind for record in chains if record.suspicion is not None}
    if BreachKind.REFORMATTED in suspected or _is_open(breaches, BreachKind.REFORMATTED):
        return "reformatted"
    reasons = {
        record.missing
        for record in chains
        if record.state is ChainState.OPEN and record.missing != record.excused
    }
    for reason in ("mount_missing", "wrong_disk"):
        if reason in reasons:
            return reason
    return "deleted" if _is_open(breaches, BreachKind.DELETED) else ""


def _newest_loss(breaches: Sequence[Breach]) -> dict[str, Value]:
    """Of the losses nobody took note of, else of those that are on record."""
    losses = [breach for breach in breaches if breach.kind in LOSSES]
    loss = max(losses, key=lambda breach: (breach.open, breach.at), default=None)
    return {
        "witness_loss": loss.kind.value if loss else "",
        "witness_loss_records": loss.records if loss else 0,
        "witness_loss_seconds": loss.seconds if loss else 0.0,
        "witness_loss_evidence": loss.evidence if loss else "",
    }
