"""The survival timeline of a node's volumes, for a person: what was tested, what was never, what was lost."""

from msgspec import Struct

from holdfast_collector.core.node import Node
from holdfast_collector.web.witness_shape import BreachShape, WitnessShape, witness_shapes
from holdfast_collector.web.words import NEVER, Moment, counted, moment, plain, span

BREACHES_SHOWN = 20
EVENT_WORDS = {
    "agent_restart": "agent restart",
    "remount": "remount",
    "clean_reboot": "clean reboot",
    "guest_crash": "guest crash",
    "host_move": "move to another host",
    "host_crash": "host crash",
}


class SurvivalView(Struct, frozen=True, kw_only=True):
    """One class of event."""

    words: str
    when: Moment
    """Never: not tested."""
    count: str


class LossView(Struct, frozen=True, kw_only=True):
    """One broken promise."""

    words: str
    evidence: str
    when: Moment
    tone: str
    outcome: str
    """What an operator said of it; empty: nobody has taken note."""


class WitnessView(Struct, frozen=True, kw_only=True):
    """One volume."""

    volume: str
    words: str
    tone: str
    seq: str
    confirmed: Moment
    read: Moment
    read_mode: str
    fsync: str
    survived: list[SurvivalView]
    losses: list[LossView]


def witness_views(node: Node, now: float) -> list[WitnessView]:
    """A node's witnessed volumes, those with an open loss first."""
    shown = [_view(shape, now) for shape in witness_shapes(node, now)]
    return sorted(shown, key=lambda row: (row.tone != "bad", row.volume))


def _view(shape: WitnessShape, now: float) -> WitnessView:
    open_ = [breach for breach in shape.breaches if breach.acknowledged_at is None]
    return WitnessView(
        volume=plain(shape.volume),
        words=_words(shape, open_),
        tone="bad" if open_ or shape.state in {"missing", "frozen"} else _TONES.get(shape.state, "good"),
        seq=f"record {shape.seq}" if shape.seq is not None else "no record yet",
        confirmed=moment(shape.confirmed_at, now) if shape.confirmed_at else NEVER,
        read=moment(shape.read_at, now) if shape.read_at else NEVER,
        read_mode={"direct": "from the medium", "buffered": "past the cache by advice only"}.get(
            shape.read_mode, ""
        ),
        fsync=_fsync(shape),
        survived=[
            SurvivalView(
                words=EVENT_WORDS[one.event],
                when=moment(one.at, now) if one.at else NEVER,
                count=counted(one.count, "time"),
            )
            for one in shape.survived
        ],
        losses=[_loss(breach, now) for breach in shape.breaches[:BREACHES_SHOWN]],
    )


_TONES = {"suspected": "unknown", "none": "unknown"}


def _words(shape: WitnessShape, open_: list[BreachShape]) -> str:
    if any(breach.loss for breach in open_):
        return "lost what it had confirmed"
    match shape.state:
        case "suspected":
            return "one read fell short; a second one is awaited"
        case "missing":
            return "its chain is not where it was"
        case "frozen":
            return "its chain is closed: it is evidence"
        case "none":
            return "no chain is written"
        case _:
            return "kept everything so far" if not shape.breaches else "keeps what it confirms since"


def _fsync(shape: WitnessShape) -> str:
    if shape.fsync_p50_seconds is None or shape.fsync_p99_seconds is None:
        return ""
    return (
        f"{shape.fsync_p50_seconds * 1000:.1f} ms, one in a hundred {shape.fsync_p99_seconds * 1000:.1f} ms"
    )


def _loss(breach: BreachShape, now: float) -> LossView:
    lost = f": {counted(breach.records, 'record')}, {span(breach.seconds)}" if breach.records else ""
    return LossView(
        words=f"{breach.kind.value.replace('_', ' ')}{lost}",
        evidence=plain(breach.evidence),
        when=moment(breach.at, now),
        tone="bad" if breach.acknowledged_at is None else "plain",
        outcome=plain(breach.reason),
    )
