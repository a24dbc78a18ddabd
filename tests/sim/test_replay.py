"""The record of a fleet in bad weather, replayed: the same alerts at the same times as the core gave on the day."""

import pytest

from holdfast_collector.core.effect import Commit, Effect
from holdfast_collector.core.event import BrokerChanged, CoreEvent, Ticked
from holdfast_collector.core.keyframe import keyframe
from holdfast_collector.replay import Episode, Replay
from holdfast_collector.samples.slice import HEADER, Known, Recorded, Slice, pack, recordable, unpack
from tests.sim.scene import Weather
from tests.sim.world import World

Told = tuple[str, str, str, int]
"""(node and resource, alert, status, when)"""


class RecordedWorld(World):
    """A world that notes what its collector takes, and which notices it makes."""

    def __init__(self, seed: int) -> None:
        self.recorded: list[Recorded] = []
        self.told: list[Told] = []
        self.keyed: set[str] = set()
        # A restart is a gap in the record, after which a replay knows more than the collector did.
        super().__init__(seed, Weather(collector_crash=0.0))
        self.recorded.insert(0, BrokerChanged(self.now, connected=True))

    def feed(self, event: CoreEvent) -> None:
        kept = recordable(event)
        if kept is not None:
            self.recorded.append(kept)
        super().feed(event)
        if isinstance(event, Ticked):
            for name in self.collector.nodes.keys() - self.keyed:
                self.recorded.append(Known(event.at, keyframe(self.collector.nodes[name])))
                self.keyed.add(name)

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Commit):
                for notice in effect.notices:
                    alert = notice.alert
                    place = f"{alert.node}/{alert.resource}"
                    self.told.append((place, alert.alertname, notice.status, round(self.now)))
        super().perform(effects)

    def slices(self) -> list[Slice]:
        """As they come from the disk."""
        events = self.recorded
        whole = Slice(number=0, began_at=events[0].at, ended_at=self.now, connected=True, events=events)
        frame = pack(whole)
        return [unpack(frame[: HEADER.size], frame[HEADER.size :])]


@pytest.mark.parametrize("seed", [5, 6, 8, 9, 11])
def test_replay_of_bad_weather_tells_what_the_day_told(seed: int) -> None:
    """Loss, duplicates, reordering, torn messages, reboots and refusals included."""
    world = RecordedWorld(seed)
    begun = world.now
    world.run(1500.0)
    replay = Replay([world.rules], wanted=lambda node: True)

    replay.play(world.slices(), world.now)

    # What happened before a node's first keyframe is not on record, and `delta` looks back ten minutes.
    known = begun + 700.0
    told = [(*place, "firing", round(row.fired_at)) for row, place in _told(replay)]
    told += [(*place, "resolved", round(row.resolved_at)) for row, place in _told(replay) if row.resolved_at]
    replayed, lived = (sorted(row for row in rows if row[-1] > known) for rows in (told, world.told))
    assert [row[:3] for row in replayed] == [row[:3] for row in lived]
    assert all(abs(row[3] - other[3]) <= 1 for row, other in zip(replayed, lived, strict=True))


def _told(replay: Replay) -> list[tuple[Episode, tuple[str, str]]]:
    (episodes,) = replay.episodes
    return [(row, (f"{row.node}/{row.resource}", row.alert)) for row in episodes if row.told_at]
