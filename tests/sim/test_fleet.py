"""Histories nobody would think of, by the hundred. A failure names its seed; `python -m tests.sim SEED` replays it."""

import os

import pytest

from holdfast_collector.core.collector import Collector
from holdfast_collector.core.effect import Commit, Effect, Publish
from holdfast_collector.core.event import CoreEvent, Received
from holdfast_collector.core.record import Receiver, State
from holdfast_rules import RuleSet
from tests.sim.scene import CALM
from tests.sim.world import World

SEEDS = int(os.environ.get("HOLDFAST_SIM_SEEDS", "240"))
"""Eight batches; a nightly run sets thousands."""
BATCHES = 8


def simulate(seed: int, world_type: type[World] = World) -> World:
    """Ten virtual minutes of bad weather, then calm, then the reckoning."""
    world = world_type(seed)
    try:
        world.run(600.0)
        world.heal()
        world.invariants.healed()
    except AssertionError as broken:
        raise AssertionError(f"seed {seed}: {broken}; replay: python -m tests.sim {seed}") from broken
    return world


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_weather_loses_invents_or_repeats_anything(batch: int) -> None:
    """Loss, duplication, reordering, truncation, reboots and crashes: every invariant holds for every seed."""
    seeds = range(batch, SEEDS, BATCHES)

    events = sum(len(simulate(seed).disk.events) for seed in seeds)

    assert events > 10 * len(seeds), "the weather was too good to mean anything"


def test_a_crash_at_any_commit_boundary_changes_nothing_in_the_end() -> None:
    """Before the commit, after it, and between the answers: enumerated, not left to chance."""

    def world(crash_at: tuple[int, str] | None) -> World:
        made = World(4_711, CALM)
        made.crash_at = crash_at
        made.machines[0].flip("s1.service", made.now)
        made.run(60.0)
        made.machines[0].flip("s1.service", made.now)
        made.heal()
        made.invariants.healed()
        return made

    undisturbed = world(None)
    assert undisturbed.commits > 10

    for number in range(1, undisturbed.commits + 1):
        for place in ("before", "after", "between"):
            crashed = world((number, place))
            assert sorted(crashed.disk.events) == sorted(undisturbed.disk.events), (number, place)
            assert crashed.disk.turns_of() == undisturbed.disk.turns_of(), (number, place)


def test_the_same_seed_is_the_same_history() -> None:
    """Otherwise a seed in a bug report would be worth nothing."""
    first, second = simulate(7), simulate(7)

    assert (first.disk.events, first.delivered) == (second.disk.events, second.delivered)


class AcknowledgesTooEarly(Collector):
    """Planted: answers duplicates and new messages alike, but forgets to commit every third."""

    taken = 0

    def handle(self, event: CoreEvent) -> list[Effect]:
        effects = super().handle(event)
        if isinstance(event, Received) and any(isinstance(effect, Publish) for effect in effects):
            AcknowledgesTooEarly.taken += 1
            if AcknowledgesTooEarly.taken % 3 == 0:
                return [effect for effect in effects if not isinstance(effect, Commit)]
        return effects


class ForgetsItsAlerts(Collector):
    """Planted: starts without the alerts that were firing."""

    def __init__(self, state: State, *, rules: RuleSet, receivers: list[Receiver], started_at: float) -> None:
        state.alerts = []
        super().__init__(state, rules=rules, receivers=receivers, started_at=started_at)


class ForgetsWhatItSaw(Collector):
    """Planted: starts without the identities of the messages it took."""

    def __init__(self, state: State, *, rules: RuleSet, receivers: list[Receiver], started_at: float) -> None:
        state.seen = []
        super().__init__(state, rules=rules, receivers=receivers, started_at=started_at)


class TellsSeparately(Collector):
    """Planted: state and outbox as two effects, with room for a crash between them."""

    def handle(self, event: CoreEvent) -> list[Effect]:
        effects = super().handle(event)
        for index, effect in enumerate(effects):
            if isinstance(effect, Commit) and effect.notices:
                notices, effect.notices = effect.notices, []
                return [*effects[: index + 1], Commit(notices=notices), *effects[index + 1 :]]
        return effects


@pytest.mark.parametrize(
    "broken", [AcknowledgesTooEarly, ForgetsItsAlerts, ForgetsWhatItSaw, TellsSeparately]
)
def test_the_simulator_finds_a_planted_bug(broken: type[Collector]) -> None:
    """A judge that acquits everybody is worth nothing."""

    class BrokenWorld(World):
        core = broken

    def convicted(seed: int) -> bool:
        try:
            simulate(seed, BrokenWorld)
        except AssertionError:
            return True
        return False

    assert any(convicted(seed) for seed in range(60)), f"{broken.__name__} survived 60 seeds"
