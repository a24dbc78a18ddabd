"""Disks that keep their word and disks that do not, by the hundred. `python -m tests.sim ordeal SEED` replays one."""

import os
import random
from collections.abc import Callable

import pytest
from msgspec import structs

from holdfast_collector.core import reading
from holdfast_collector.core.chain import Breach, BreachKind, ChainRecord, with_breach
from holdfast_collector.core.comparison import Case, Row
from holdfast_collector.core.heard import Heard
from holdfast_collector.core.standing import Standing
from holdfast_wire import ChainReport
from tests.sim.ordeal import LAST, Incident, Ordeal
from tests.sim.test_fleet import AcknowledgesTooEarly

SEEDS = int(os.environ.get("HOLDFAST_ORDEAL_SEEDS", "200"))
BATCHES = 8


def undergo(seed: int, world_type: type[Ordeal] = Ordeal) -> Ordeal:
    """One to three chapters; two machines from one copy only in the last."""
    plan = random.Random(seed)
    try:
        world = world_type(seed)
        chapters = plan.randint(1, 2)
        for chapter in range(chapters):
            last = chapter == chapters - 1
            choice = [one for one in Incident if last or one not in LAST]
            outcomes = world.chapter(
                [plan.choice(choice) for _ in world.guests], restore_collector=plan.random() < 0.15
            )
            world.reckoning.judge(outcomes)
            if plan.random() < 0.5:
                world.acknowledge_all()
    except AssertionError as broken:
        raise AssertionError(
            f"ordeal {seed}: {broken}; replay: python -m tests.sim ordeal {seed}"
        ) from broken
    return world


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_volume_is_accused_wrongly_and_none_gets_away(batch: int) -> None:
    """Whatever the weather: what was kept is never called lost, what was lost is, and by its right name."""
    seeds = range(batch, SEEDS, BATCHES)

    worlds = [undergo(seed) for seed in seeds]

    assert any(world.reckoning.known for world in worlds), "nobody lost anything: it proves nothing"


# ---- judging the judge -------------------------------------------------------------------------------------------


def convicts_on_one_read(patch: pytest.MonkeyPatch) -> None:
    compared = reading._compared

    def hasty(case: Case, row: Row, at: float, announced: str) -> Heard:
        heard = compared(case, row, at, announced)
        if heard.record.suspicion is None or heard.breaches:
            return heard
        breach = Breach(kind=heard.record.suspicion.kind, at=at, evidence="one read")
        record = structs.replace(with_breach(heard.record, breach), suspicion=None)
        return structs.replace(heard, record=record, breaches=(breach,))

    patch.setattr(reading, "_compared", hasty)


def takes_less_than_was_promised(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Case, "short", property(lambda case: False))


def tells_damage_beside_the_loss(patch: pytest.MonkeyPatch) -> None:
    damage = reading._damage

    def alone(
        record: ChainRecord, heard: Heard, report: ChainReport, at: float
    ) -> tuple[tuple[Breach, ...], tuple[int, ...]]:
        return damage(record, structs.replace(heard, breaches=()), report, at)

    patch.setattr(reading, "_damage", alone)


def calls_every_loss_a_crash(patch: pytest.MonkeyPatch) -> None:
    suspected = reading._suspected

    def careless(case: Case, kind: BreachKind, at: float, announced: str) -> ChainRecord:
        return suspected(case, BreachKind.LOST_TAIL, at, announced)

    patch.setattr(reading, "_suspected", careless)


def hides_the_second_machine(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Standing, "_claimants", lambda standing, node, at: 1)


def forgets_what_it_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Case, "behind", property(lambda case: case.report.acknowledged_seq > 0))


def commits_too_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ordeal, "core", AcknowledgesTooEarly)


@pytest.mark.parametrize(
    "plant",
    [
        convicts_on_one_read,
        takes_less_than_was_promised,
        tells_damage_beside_the_loss,
        calls_every_loss_a_crash,
        hides_the_second_machine,
        forgets_what_it_told,
        commits_too_late,
    ],
)
def test_the_ordeal_finds_a_planted_bug(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge that acquits everybody is worth nothing."""
    plant(monkeypatch)

    def found(seed: int) -> bool:
        try:
            undergo(seed)
        except AssertionError:
            return True
        return False

    assert any(found(seed) for seed in range(60)), f"{plant.__name__} survived 60 seeds"
