"""A life of one node, recorded in virtual time: what the core was told, and what came of it."""

from collections.abc import Callable, Sequence

from holdfast_collector.core.collector import Collector
from holdfast_collector.core.effect import Transitioned
from holdfast_collector.core.event import BrokerChanged, CoreEvent, Received, Ticked
from holdfast_collector.core.keyframe import keyframe
from holdfast_collector.core.record import State
from holdfast_collector.samples.slice import Known, Recorded, Slice, recordable
from holdfast_rules import RuleSet
from holdfast_wire import UpMessage, encode
from tests.collector.fleet import T0


class Recording:
    """A collector that lives through seconds, and the record of it."""

    def __init__(self, rules: RuleSet) -> None:
        self.now = T0
        self.collector = Collector(State(), rules=rules, started_at=T0)
        self.events: list[Recorded] = []
        self.told: list[tuple[float, str, str]] = []
        """(when, alert, transition)"""
        self.take(BrokerChanged(T0, connected=True))

    def take(self, event: CoreEvent) -> None:
        kept = recordable(event)
        if kept is not None:
            self.events.append(kept)
        for effect in self.collector.handle(event):
            if isinstance(effect, Transitioned):
                self.told.append((event.at, effect.tracked.alert.alertname, effect.transition.value))

    def hear(self, message: UpMessage) -> None:
        self.take(Received(self.now, message.node, encode(message)))

    def keyframes(self) -> None:
        """Every node, as the recorder does it."""
        self.events += [Known(self.now, keyframe(node)) for node in self.collector.nodes.values()]

    def live(self, seconds: int, beat: Callable[[float], Sequence[UpMessage]] = lambda mono: ()) -> None:
        """Let time pass; every ten seconds something is said."""
        for _ in range(seconds):
            self.now += 1.0
            self.take(Ticked(self.now))
            if (self.now - T0) % 10 == 0:
                for message in beat(self.now - T0):
                    self.hear(message)

    def slices(self, seconds: float = 60.0, since: float = 0.0) -> list[Slice]:
        """What was recorded, in pieces."""
        pieces: list[list[Recorded]] = [[]]
        for event in self.events:
            if event.at < since:
                continue
            if pieces[-1] and event.at - pieces[-1][0].at >= seconds:
                pieces.append([])
            pieces[-1].append(event)
        return [
            Slice(number=number, began_at=events[0].at, ended_at=events[-1].at, connected=True, events=events)
            for number, events in enumerate(pieces)
        ]
