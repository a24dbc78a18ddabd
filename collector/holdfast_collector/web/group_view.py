"""Groups for a person: the worst first, each with its copies."""

from collections.abc import Iterable

from msgspec import Struct

from holdfast_collector.web.group_shape import GroupShape, MemberShape
from holdfast_collector.web.verdict_view import TONES, WORDS
from holdfast_collector.web.words import Moment, moment, plain

SHOWN = 200


class CopyView(Struct, frozen=True):
    """One copy."""

    node: str
    service: str
    words: str
    tone: str
    fault_domain: str


class GroupView(Struct, frozen=True, kw_only=True):
    """One group."""

    name: str
    words: str
    tone: str
    why: str
    wants: str
    since: Moment
    copies: list[CopyView]


def group_views(shapes: Iterable[GroupShape], now: float) -> list[GroupView]:
    """The worst first."""
    order = [*WORDS, None]
    rows = sorted(shapes, key=lambda shape: (order.index(shape.verdict), shape.name))
    return [_view(shape, now) for shape in rows[:SHOWN]]


def _view(shape: GroupShape, now: float) -> GroupView:
    return GroupView(
        name=plain(shape.name),
        words=WORDS[shape.verdict] if shape.verdict else "not judged yet",
        tone=TONES[shape.verdict] if shape.verdict else "unknown",
        why=plain(shape.reasons[0].text) if shape.reasons else "",
        wants=f"{shape.copies_required} of {len(shape.members)} copies, quorum {shape.quorum}",
        since=moment(shape.since, now),
        copies=[_copy(member) for member in shape.members],
    )


def _copy(member: MemberShape) -> CopyView:
    return CopyView(
        node=member.node,
        service=plain(member.service),
        words=WORDS[member.verdict] if member.verdict else "unknown",
        tone=TONES[member.verdict] if member.verdict else "unknown",
        fault_domain=plain(member.fault_domain),
    )
