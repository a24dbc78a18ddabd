"""A replay tells what the day told, under the same rules; and what it would have told, under others."""

from msgspec import structs

from holdfast_collector.core.collector import WARM_UP_SECONDS_MIN
from holdfast_collector.replay import Episode, Replay, during
from holdfast_collector.samples.slice import Slice
from holdfast_rules import load
from holdfast_wire import Section, UpMessage
from holdfast_wire.message import Value
from tests.collector.fleet import RULES, T0, Agent, section
from tests.collector.recording import Recording

LATER = RULES.replace("when: not up, for: 0s", "when: not up, for: 60s")


def everybody(node: str) -> bool:
    return True


def said(episodes: list[Episode]) -> list[tuple[str, float, float | None, bool]]:
    """Without the Watchdog, which always fires."""
    return [
        (row.alert, row.fired_at - T0, row.resolved_at and row.resolved_at - T0, row.told_at is not None)
        for row in episodes
        if row.alert != "Watchdog"
    ]


class Life:
    """A node with one service: up, down for a while, failing, silent, and back."""

    def __init__(self) -> None:
        self.agent = Agent()
        self.facts: dict[str, Value] = {"up": True, "restart_looping": False}
        self.recording = Recording(load({"own.yaml": RULES}))
        self._held: Section | None = None

    def beat(self, mono: float) -> list[UpMessage]:
        """A report: with the section when it says something new."""
        new = section({"a.service": dict(self.facts)}, mono=mono)
        if self._held is not None and self._held.resources == new.resources:
            self._held = structs.replace(self._held, mono=mono)
            return [self.agent.report(held=(self._held,), mono=mono)]
        self._held = new
        return [self.agent.report(new, mono=mono)]

    def all(self) -> Recording:
        """All of it."""
        recording = self.recording
        recording.hear(self.agent.birth())
        recording.live(100, self.beat)
        self.facts["up"] = False
        recording.live(45, self.beat)
        self.facts["up"] = True
        recording.live(55, self.beat)
        recording.keyframes()
        recording.hear(self.agent.event())
        self.facts["restart_looping"] = True
        recording.live(60, self.beat)
        self.facts["up"] = False
        recording.live(120, self.beat)
        recording.live(120)
        self.facts.update(up=True, restart_looping=False)
        recording.live(100, self.beat)
        recording.live(700, self.beat)
        return recording


def test_same_rules_tell_what_the_day_told() -> None:
    """Pending times, evidence that goes stale, silence, events and explanations come out as they were."""
    recording = Life().all()
    replay = Replay([load({"own.yaml": RULES})], wanted=everybody)

    replay.play(recording.slices(), recording.now)

    (episodes,) = replay.episodes
    told = [(at, alert, turn) for at, alert, turn in recording.told if turn in {"fired", "resolved"}]
    fired = [(row.fired_at, row.alert, "fired") for row in episodes]
    resolved = [(row.resolved_at, row.alert, "resolved") for row in episodes if row.resolved_at]
    assert sorted(fired + resolved) == sorted(told)
    assert {row.alert for row in episodes} == {
        "Watchdog", "ServiceDown", "ServiceSlow", "ServiceCrashed", "NodeSilent",
    }  # fmt: skip


def test_replay_from_the_middle_begins_with_what_was_held_there() -> None:
    """A report says what changed: without the keyframe nobody would know that the service exists."""
    recording = Life().all()
    replay = Replay([load({"own.yaml": RULES})], wanted=everybody)

    replay.play(recording.slices(since=T0 + 150.0), recording.now)

    live = Replay([load({"own.yaml": RULES})], wanted=everybody)
    live.play(recording.slices(), recording.now)
    assert said(during(replay.episodes[0], T0 + 200.0, recording.now)) == said(
        during(live.episodes[0], T0 + 200.0, recording.now)
    )


def test_longer_patience_drops_the_short_outage_and_delays_the_long_one() -> None:
    recording = Life().all()
    replay = Replay([load({"own.yaml": RULES}), load({"own.yaml": LATER})], wanted=everybody)

    replay.play(recording.slices(), recording.now)

    downs = [[row for row in said(found) if row[0] == "ServiceDown"] for found in replay.episodes]
    assert [row[1] for row in downs[0]] == [110.0, 270.0]
    assert [row[1] for row in downs[1]] == [330.0]


def test_gap_in_the_record_makes_nobody_silent() -> None:
    """The collector was off for ten minutes, or a slice is damaged: nothing is known of that time."""
    life = Life()
    recording = life.recording
    recording.hear(life.agent.birth())
    recording.live(1200, life.beat)
    slices = recording.slices()
    replay = Replay([load({"own.yaml": RULES})], wanted=everybody)

    replay.play(slices[:5] + slices[15:], recording.now)

    assert said(replay.episodes[0]) == []
    assert [(gap.since, gap.until) for gap in replay.gaps] == [
        (slices[4].ended_at, slices[15].began_at),
    ]


def test_record_that_ends_makes_nobody_silent_and_one_that_goes_on_without_them_does() -> None:
    """What a running collector has not written yet is unknown; minutes in which it heard nobody are known."""
    life = Life()
    recording = life.recording
    recording.hear(life.agent.birth())
    recording.live(300, life.beat)
    heard = recording.slices()
    deaf = Slice(
        number=len(heard),
        began_at=heard[-1].ended_at,
        ended_at=recording.now + 120.0,
        connected=True,
        events=[],
    )
    short, long = (Replay([load({"own.yaml": RULES})], wanted=everybody) for _ in range(2))

    short.play(heard, recording.now + 3600.0)
    long.play([*heard, deaf], recording.now + 3600.0)

    assert (said(short.episodes[0]), short.at) == ([], recording.now)
    assert [row[0] for row in said(long.episodes[0])] == ["NodeSilent"]


def test_after_a_gap_nothing_resolves_until_it_was_watched_again() -> None:
    """As after any start of the collector: what clears an alert may be an old report."""
    life = Life()
    recording = life.recording
    recording.hear(life.agent.birth())
    recording.live(100, life.beat)
    life.facts["up"] = False
    recording.live(200, life.beat)
    life.facts["up"] = True
    recording.live(300, life.beat)
    slices = recording.slices()
    replay = Replay([load({"own.yaml": RULES})], wanted=everybody)

    replay.play(slices[:4] + slices[5:], recording.now)

    (down,) = said(replay.episodes[0])
    assert down == ("ServiceDown", 110.0, slices[5].began_at - T0 + WARM_UP_SECONDS_MIN, True)


def test_node_that_is_not_wanted_takes_no_part() -> None:
    recording = Life().all()
    replay = Replay([load({"own.yaml": RULES})], wanted=lambda node: node == "other")

    replay.play(recording.slices(), recording.now)

    assert (replay.messages, said(replay.episodes[0])) == (0, [])
