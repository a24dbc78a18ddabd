"""What two rule sets said of the same time, side by side."""

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct

from holdfast_collector.replay import Episode

TOLERANCE_SECONDS = 1.5
"""Both were ticked in the same seconds; a rule that is judged at another occasion may still be a tick apart."""


class Changed(Struct, frozen=True, kw_only=True):
    """An episode that both had, and not alike."""

    before: Episode
    after: Episode
    how: tuple[str, ...]
    """Some of `fired`, `resolved`, `severity`, `told`."""


class RuleCount(Struct, frozen=True, kw_only=True):
    """How often people were told by one rule."""

    alert: str
    severity: str
    """With the rules after, or before where they have no such rule any more."""
    before: int
    after: int


class Difference(Struct, frozen=True, kw_only=True):
    """All of it, each in order of time."""

    only_before: list[Episode]
    only_after: list[Episode]
    changed: list[Changed]
    same: int
    told_before: dict[str, int]
    """Severity → how often people were told."""
    told_after: dict[str, int]
    rules: list[RuleCount]
    """Of the rules that told anybody."""

    @property
    def empty(self) -> bool:
        """Nothing would have been different."""
        return not (self.only_before or self.only_after or self.changed)


def difference(before: Sequence[Episode], after: Sequence[Episode]) -> Difference:
    """Compare episodes place by place: those of one alert on one resource that overlap in time belong together."""
    waiting: dict[tuple[str, str, str, str], list[Episode]] = {}
    for episode in after:
        waiting.setdefault(_place(episode), []).append(episode)
    only_before: list[Episode] = []
    changed: list[Changed] = []
    same = 0
    for one in before:
        others = waiting.get(_place(one), [])
        other = next((other for other in others if _overlap(one, other)), None)
        if other is None:
            only_before.append(one)
            continue
        others.remove(other)
        how = _how(one, other)
        if how:
            changed.append(Changed(before=one, after=other, how=how))
        else:
            same += 1
    only_after = sorted(
        (episode for rest in waiting.values() for episode in rest), key=lambda row: row.fired_at
    )
    return Difference(
        only_before=only_before,
        only_after=only_after,
        changed=changed,
        same=same,
        told_before=told_by_severity(before),
        told_after=told_by_severity(after),
        rules=_by_rule(before, after),
    )


def told_by_severity(episodes: Iterable[Episode]) -> dict[str, int]:
    """How often people were told: severity → episodes."""
    return dict(Counter(episode.severity for episode in episodes if episode.told_at is not None))


def _place(episode: Episode) -> tuple[str, str, str, str]:
    return episode.alert, episode.node, episode.kind, episode.resource


def _overlap(one: Episode, other: Episode) -> bool:
    return _begins_in(one, other) or _begins_in(other, one)


def _begins_in(one: Episode, other: Episode) -> bool:
    return other.fired_at <= one.fired_at and (other.resolved_at is None or one.fired_at <= other.resolved_at)


def _how(one: Episode, other: Episode) -> tuple[str, ...]:
    found = {
        "fired": _apart(one.fired_at, other.fired_at),
        "resolved": _apart(one.resolved_at, other.resolved_at),
        "severity": one.severity != other.severity,
        "told": (one.told_at is None) is not (other.told_at is None),
    }
    return tuple(name for name, differs in found.items() if differs)


def _apart(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is not other
    return abs(one - other) > TOLERANCE_SECONDS


def _by_rule(before: Iterable[Episode], after: Iterable[Episode]) -> list[RuleCount]:
    counts: dict[str, list[int]] = {}
    severity: dict[str, str] = {}
    for side, episodes in enumerate((before, after)):
        for episode in episodes:
            if episode.told_at is not None:
                severity[episode.alert] = episode.severity
                counts.setdefault(episode.alert, [0, 0])[side] += 1
    rows = [
        RuleCount(alert=alert, severity=severity[alert], before=number[0], after=number[1])
        for alert, number in counts.items()
    ]
    return sorted(rows, key=lambda row: (-abs(row.after - row.before), row.alert))
