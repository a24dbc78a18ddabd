"""Recorded events once more through the core, under several rule sets at once: what each of them would have told people.

    slices ─▶ events, and a tick for every second between ─▶ one core per rule set ─▶ episodes

The cores are the real ones, in virtual time. Where something is missing (the collector was off, a slice is damaged) they
hear nobody and know it: nobody is called silent for that, as after any start.
"""

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from holdfast_collector.core.effect import Commit, Transitioned
from holdfast_collector.core.event import (
    BrokerChanged,
    CoreEvent,
    GroupsReplaced,
    NodeForgotten,
    Received,
    Ticked,
)
from holdfast_collector.core.groups import DeclaredGroup
from holdfast_collector.core.keyframe import KEYFRAME_SECONDS, ReplayedCollector
from holdfast_collector.core.record import Receiver, State
from holdfast_collector.samples.slice import Known, Recorded, Slice
from holdfast_rules import RuleSet, Transition
from holdfast_wire import Birth, decode_up

WARM_UP_SECONDS = KEYFRAME_SECONDS + 900.0
"""Before the time that is asked about, so that every node is known by its beginning."""
EVERYBODY = Receiver(name="replay")


class Episode(Struct, kw_only=True):
    """One firing stretch of an alert."""

    rule_id: str
    alert: str
    severity: str
    node: str
    kind: str
    resource: str
    fired_at: float
    resolved_at: float | None = None
    """None: it fired on at the end."""
    told_at: float | None = None
    """When people were told; None: another alert explained it all the time."""
    explained_by: str = ""
    summary: str = ""


class Gap(Struct, frozen=True):
    """A time of which nothing is recorded."""

    since: float
    until: float


class _Run:
    """One rule set's core."""

    def __init__(self, rules: RuleSet, groups: tuple[DeclaredGroup, ...], at: float) -> None:
        self.core = ReplayedCollector(State(), rules=rules, receivers=[EVERYBODY], started_at=at)
        self.episodes: list[Episode] = []
        self._open: dict[str, Episode] = {}
        """By the alert's key."""
        self.take(GroupsReplaced(at, groups))

    def take(self, event: CoreEvent | Known) -> None:
        """Let it happen."""
        effects = (
            self.core.adopt(event.keyframe, event.at) if isinstance(event, Known) else self.core.handle(event)
        )
        for effect in effects:
            if isinstance(effect, Transitioned):
                self._turned(effect, event.at)
        for effect in effects:
            if isinstance(effect, Commit):
                self._told(effect, event.at)

    def _turned(self, effect: Transitioned, at: float) -> None:
        tracked = effect.tracked
        if effect.transition is Transition.RESOLVED:
            ended = self._open.pop(tracked.key, None)
            if ended is not None:
                ended.resolved_at = at
        elif effect.transition is Transition.FIRED:
            self._begin(tracked.key, effect, at)

    def _begin(self, key: str, effect: Transitioned, at: float) -> None:
        alert = effect.tracked.alert
        episode = self._open[key] = Episode(
            rule_id=alert.rule_id,
            alert=alert.alertname,
            severity=alert.severity,
            node=alert.node,
            kind=alert.kind,
            resource=alert.resource,
            fired_at=at,
            explained_by=effect.tracked.inhibited_by,
            summary=alert.annotations.get("summary", ""),
        )
        self.episodes.append(episode)

    def _told(self, commit: Commit, at: float) -> None:
        for notice in commit.notices:
            episode = self._open.get(notice.key)
            if notice.status == "firing" and episode is not None and episode.told_at is None:
                episode.told_at = at
            self.core.outbox.pop(notice.id, None)


class Replay:
    """Rule sets over one recording."""

    def __init__(
        self,
        rules: Sequence[RuleSet],
        groups: tuple[DeclaredGroup, ...] = (),
        *,
        wanted: Callable[[str], bool],
    ) -> None:
        """`wanted` says of a node's name whether it takes part."""
        self._rules = rules
        self._groups = groups
        self._wanted = wanted
        self._runs: list[_Run] = []
        self._known: set[str] = set()
        """Nodes whose messages make sense: they were adopted, or met at their birth."""
        self.at = 0.0
        """How far it was played."""
        self._ticked_at = 0.0
        self._number: int | None = None
        self.gaps: list[Gap] = []
        self.messages = 0

    @property
    def episodes(self) -> list[list[Episode]]:
        """Of each rule set, in the order they began."""
        return [run.episodes for run in self._runs]

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes that took part."""
        return frozenset(self._known)

    def play(self, slices: Iterable[Slice], until: float) -> None:
        """Let it all happen, up to `until`, or to the record's end: what came after that, nobody knows."""
        for piece in slices:
            if not self._runs:
                self._runs = [_Run(rules, self._groups, piece.began_at) for rules in self._rules]
                self._ticked_at = piece.began_at
            if self._number is None or piece.number != self._number + 1:
                self._resume(piece)
            self._number = piece.number
            for event in piece.events:
                if event.at > until:
                    break
                self._pass(event.at)
                self._take(event)
            self.at = min(piece.ended_at, until)
            self._pass(self.at)

    def _resume(self, piece: Slice) -> None:
        """Something is missing before this slice."""
        if self._number is not None:
            self.gaps.append(Gap(self.at, piece.began_at))
        self.at = self._ticked_at = max(self._ticked_at, piece.began_at)
        for run in self._runs:
            run.core.started_anew(self.at)
        self._everybody(BrokerChanged(self.at, connected=piece.connected))

    def _pass(self, until: float) -> None:
        """The seconds until then."""
        while self._ticked_at + 1.0 <= until:
            self._ticked_at += 1.0
            self._everybody(Ticked(self._ticked_at))

    def _take(self, event: Recorded) -> None:
        match event:
            case Known():
                if not self._wanted(event.keyframe.record.node):
                    return
                self._known.add(event.keyframe.record.node)
            case Received():
                if event.node not in self._known and not self._met(event):
                    return
                self.messages += 1
            case NodeForgotten():
                self._known.discard(event.node)
            case _:
                pass
        self._everybody(event)

    def _met(self, event: Received) -> bool:
        """Whether a message is a node's first: then nothing of what it builds on is missing."""
        message = decode_up(event.node, event.payload) if self._wanted(event.node) else None
        if not isinstance(message, Birth) or message.previous_stop != "first":
            return False
        self._known.add(event.node)
        return True

    def _everybody(self, event: CoreEvent | Known) -> None:
        for run in self._runs:
            run.take(event)


def during(episodes: Iterable[Episode], since: float, until: float) -> list[Episode]:
    """Those that fired at some time between."""
    return [
        episode
        for episode in episodes
        if episode.fired_at <= until and (episode.resolved_at is None or episode.resolved_at >= since)
    ]
