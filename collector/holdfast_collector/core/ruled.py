"""A verdict that stands: the nouns that nodes' and groups' verdicts share."""

from collections.abc import Hashable, Iterator, Mapping
from typing import TypeVar

from msgspec import Struct

from holdfast_collector.core.effect import Turned
from holdfast_collector.core.record import HeldVerdict
from holdfast_rules.verdict import Ruling

Place = TypeVar("Place", bound=Hashable)


class Ruled(Struct, frozen=True, kw_only=True):
    """A ruling and since when it stands."""

    ruling: Ruling
    since: float
    """When the verdict became what it is, by the collector's clock, restarts notwithstanding. Of one that awaits its
    evidence after a restart: since when what was said last had been so."""


def anew(stood: Ruled | None, ruling: Ruling, at: float) -> Ruled:
    """`ruling`, since it became so: what did not turn goes on."""
    stands = stood is not None and stood.ruling.verdict is ruling.verdict
    return Ruled(ruling=ruling, since=stood.since if stood and stands else at)


def turned(
    node: str, before: Mapping[Place, Ruled], after: Mapping[Place, Ruled], at: float
) -> Iterator[tuple[Place, Turned]]:
    """What changed between the two, by place."""
    for place in sorted(before.keys() | after.keys(), key=str):
        was, now = before.get(place), after.get(place)
        one = now or was
        assert one is not None, "a place is in one of the two"
        if was is not None and now is not None and was.ruling.verdict is now.ruling.verdict:
            continue
        cause = now.ruling.cause if now else None
        yield (
            place,
            Turned(
                node=node,
                kind=one.ruling.kind,
                resource=one.ruling.resource,
                at=at,
                before=was.ruling.verdict if was else None,
                after=now.ruling.verdict if now else None,
                reason=cause.text if cause else "",
            ),
        )


def kept(node: str, ruled: Ruled | None) -> HeldVerdict | None:
    """What to keep of it for the next start; None when it is judged no more."""
    if ruled is None:
        return None
    ruling = ruled.ruling
    return HeldVerdict(
        node=node,
        kind=ruling.kind,
        resource=ruling.resource,
        verdict=ruling.verdict,
        since=ruled.since,
        last=ruling.last,
    )
