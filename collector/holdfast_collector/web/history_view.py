"""A node's past for a person: the newest few things, in words."""

from collections.abc import Iterable

from msgspec import Struct

from holdfast_collector.web.history import HistoryShape
from holdfast_collector.web.words import Moment, moment, plain
from holdfast_rules.verdict import Verdict

SHOWN = 12
ASKED = 200
"""Asked of the store, for what was merely met for the first time is left out."""
_BAD = frozenset({Verdict.AT_RISK, Verdict.NOT_DURABLE, Verdict.LOST})
_KINDS = {"node": "the node", "state_path": "state path"}


class HappenedView(Struct, frozen=True, kw_only=True):
    """One line."""

    when: Moment
    where: str
    words: str
    tone: str


def history_views(rows: Iterable[HistoryShape], now: float) -> list[HappenedView]:
    """The newest lines first."""
    telling = [row for row in rows if not (row.what == "verdict" and row.before is None)]
    return [_view(row, now) for row in telling[:SHOWN]]


def _view(row: HistoryShape, now: float) -> HappenedView:
    kind = _KINDS.get(row.resource_kind, row.resource_kind)
    return HappenedView(
        when=moment(row.at, now),
        where=plain(kind if row.resource_kind == "node" else f"{kind} {row.resource}"),
        words=plain(row.summary),
        tone=_tone(row),
    )


def _tone(row: HistoryShape) -> str:
    match row.what:
        case "verdict" if row.after in _BAD:
            return "bad"
        case "verdict" if row.after is Verdict.UNKNOWN:
            return "unknown"
        case "verdict" if row.after is Verdict.DURABLE:
            return "good"
        case "survived":
            return "good"
        case "broken":
            return "bad"
        case _:
            return "plain"
