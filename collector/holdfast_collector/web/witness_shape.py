"""What the API says of a node's witnesses: per volume the newest promise, what was survived, and what was lost."""

from msgspec import Struct, field

from holdfast_collector.core.chain import LOSSES, Breach, BreachKind, ChainRecord, ChainState
from holdfast_collector.core.node import Node
from holdfast_collector.core.survival import EventClass
from holdfast_collector.core.witness_facts import current, volumes_of


class BreachShape(Struct, frozen=True, kw_only=True):
    """One promise a volume broke."""

    kind: BreachKind
    at: float
    records: int
    seconds: float
    """The time the records span, by the clock of the machine that wrote them."""
    evidence: str
    loss: bool
    """Data that was promised is gone."""
    announced: bool
    acknowledged_at: float | None
    reason: str
    """Of the operator, or of the announcement."""


class SurvivedShape(Struct, frozen=True, kw_only=True):
    """How a volume did with one class of event."""

    event: EventClass
    at: float | None
    """When it last came whole through one; null: never tested."""
    count: int


class WitnessShape(Struct, frozen=True, kw_only=True):
    """One volume and its chains."""

    volume: str
    chain_id: str | None
    """Of the chain in use; null: none is."""
    state: str
    """open, suspected, frozen, missing or none."""
    seq: int | None
    """The newest record that is promised."""
    confirmed_at: float | None
    """When its witness was received."""
    lag_seconds: float | None
    read_mode: str
    """direct or buffered; empty: not read back yet."""
    read_at: float | None
    """When the medium was last read back."""
    suspicion: str
    """What one read found, until a second one agrees or not."""
    fsync_p50_seconds: float | None
    fsync_p99_seconds: float | None
    """Of the last hour, as the agent reports them."""
    survived: list[SurvivedShape] = field(default_factory=list)
    """Every class of event, the weakest first."""
    breaches: list[BreachShape] = field(default_factory=list)
    """Newest first."""
    chains: int = 0
    """How many chains are known of it, closed ones included."""


def witness_shapes(node: Node, now: float) -> list[WitnessShape]:
    """A node's volumes that were ever witnessed, by name."""
    return [
        _shape(node, volume, [record for record in records if record.volume == volume], now)
        for volume, records in sorted(volumes_of(node.chains).items())
        if any(record.volume == volume for record in records)
    ]


def _shape(node: Node, volume: str, records: list[ChainRecord], now: float) -> WitnessShape:
    newest = current(records)
    facts = node.resources.get(("volume", volume), {})
    breaches = sorted((b for record in records for b in record.breaches), key=lambda b: -b.at)
    promised = newest.promised if newest else None
    return WitnessShape(
        volume=volume,
        chain_id=newest.chain_id if newest else None,
        state=_state(newest, records),
        seq=promised.seq if promised else None,
        confirmed_at=newest.head_at if newest and newest.head_at else None,
        lag_seconds=max(0.0, now - newest.head_at) if newest and newest.head_at else None,
        read_mode=newest.read_mode if newest else "",
        read_at=newest.reads[-1].at if newest and newest.reads else None,
        suspicion=newest.suspicion.evidence if newest and newest.suspicion else "",
        fsync_p50_seconds=_number(facts.get("witness_fsync_p50_seconds")),
        fsync_p99_seconds=_number(facts.get("witness_fsync_p99_seconds")),
        survived=[_survived(event, records) for event in EventClass],
        breaches=[_breach(breach) for breach in breaches],
        chains=len(records),
    )


def _state(newest: ChainRecord | None, records: list[ChainRecord]) -> str:
    if newest is None:
        return "frozen" if any(record.state is ChainState.FROZEN for record in records) else "none"
    if newest.missing:
        return "missing"
    return "suspected" if newest.suspicion else "open"


def _survived(event: EventClass, records: list[ChainRecord]) -> SurvivedShape:
    credits = [record.survived[event] for record in records if event in record.survived]
    return SurvivedShape(
        event=event,
        at=max((credit.at for credit in credits), default=None),
        count=sum(credit.count for credit in credits),
    )


def _breach(breach: Breach) -> BreachShape:
    return BreachShape(
        kind=breach.kind,
        at=breach.at,
        records=breach.records,
        seconds=breach.seconds,
        evidence=breach.evidence,
        loss=breach.kind in LOSSES,
        announced=breach.announced,
        acknowledged_at=breach.acknowledged_at or None,
        reason=breach.reason,
    )


def _number(value: bool | float | str | None) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
