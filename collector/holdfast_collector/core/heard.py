"""What a chain remembers after a message, and how a suspicion becomes a breach."""

from msgspec import Struct, structs

from holdfast_collector.core.chain import (
    Breach,
    BreachKind,
    ChainRecord,
    ChainState,
    Suspicion,
    with_breach,
)
from holdfast_collector.core.comparison import Conclusion


class Heard(Struct, frozen=True, kw_only=True):
    """What a chain remembers now, and what is new about it."""

    record: ChainRecord
    breaches: tuple[Breach, ...] = ()
    """Established by this message."""
    conclusion: Conclusion | None = None
    """What the read means, once that is settled; None while it is suspected only."""
    words: str = ""
    answer: bool = False
    """The agent shall be told what is expected, although it did not ask."""
    early: bool = False
    """The message contradicts what is known, and the read that may explain it is still under way: it must come again."""


def breach_of(held: Suspicion, at: float, announced: str, volume: str) -> Breach:
    """A suspicion that a second read confirmed."""
    announced = held.announced or announced
    metadata = held.kind is BreachKind.METADATA
    records = 0 if metadata else max(0, held.target.seq - held.survived_seq)
    seconds = 0.0
    if held.survived_written_at and not metadata:
        seconds = max(0.0, held.target_written_at - held.survived_written_at)
    words = f"{volume}: " + (
        f"record {held.target.seq} was confirmed and is gone, {held.survived_seq} is the newest that survived"
        f" ({records} records, {seconds:.0f} s); {held.evidence}"
        if not metadata
        else f"a renamed file is gone although the records survived; {held.evidence}"
    )
    return Breach(
        kind=held.kind,
        at=at,
        records=records,
        seconds=seconds,
        evidence=words,
        acknowledged_at=at if announced else 0.0,
        reason=f"announced: {announced}" if announced else "",
        announced=bool(announced),
    )


def forked(record: ChainRecord, words: str, at: float) -> Heard:
    """Two machines wrote the chain: it is evidence now, and both begin anew."""
    breach = Breach(kind=BreachKind.FORK, at=at, evidence=f"{record.volume}: {words}")
    frozen = structs.replace(record, state=ChainState.FROZEN, suspicion=None)
    return Heard(
        record=with_breach(frozen, breach),
        breaches=(breach,),
        conclusion=Conclusion.FORK,
        words=breach.evidence,
        answer=True,
    )
