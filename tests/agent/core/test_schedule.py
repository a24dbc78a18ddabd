"""When probes look: on one grid, never twice at once, and at once when asked."""

import math

import pytest

from holdfast_agent.core.schedule import SETTLE_SECONDS, Schedule, jittered_seconds, pause_seconds


def looked_once(*, phase: float = 3.0, period: float = 10.0) -> Schedule:
    """A schedule whose probe `p` finished its first look at second 100."""
    schedule = Schedule(phase)
    schedule.begin("p", period, now=100.0)
    schedule.finished("p", now=100.5)
    return schedule


def test_after_the_first_look_a_probe_waits_for_its_slot() -> None:
    schedule = looked_once()

    assert (schedule.due(102.9), schedule.wake_at(), schedule.due(103.0)) == ([], 103.0, ["p"])


def test_probes_of_one_period_share_their_slots_so_that_one_report_carries_them() -> None:
    schedule = Schedule(3.0)
    schedule.begin("a", 10.0, now=100.0)
    schedule.begin("b", 10.0, now=101.0)
    schedule.finished("a", now=100.1)
    schedule.finished("b", now=102.9)

    assert schedule.due(103.0) == ["a", "b"]


def test_running_probe_is_not_started_again() -> None:
    schedule = looked_once()
    schedule.due(103.0)

    assert (schedule.due(1000.0), schedule.wake_at()) == ([], math.inf)


def test_slots_missed_while_a_probe_ran_are_skipped() -> None:
    schedule = looked_once()
    schedule.due(103.0)
    schedule.finished("p", now=137.0)

    assert (schedule.due(142.0), schedule.due(143.0)) == ([], ["p"])


def test_refresh_makes_an_idle_probe_look_at_once() -> None:
    schedule = looked_once()
    schedule.refresh("p", now=101.0)

    assert schedule.due(101.0) == ["p"]


def test_refreshes_soon_after_a_start_are_one_look() -> None:
    """systemd announces one death in several signals; each must not cost a look."""
    schedule = looked_once()
    schedule.refresh("p", now=101.0)
    schedule.due(101.0)
    schedule.finished("p", now=101.005)
    schedule.refresh("p", now=101.006)
    schedule.refresh("p", now=101.007)

    assert (schedule.due(101.008), schedule.due(101.0 + SETTLE_SECONDS)) == ([], ["p"])


def test_refresh_while_running_makes_it_look_again_after() -> None:
    """What it is just reading may be older than the reason to look."""
    schedule = looked_once()
    schedule.due(103.0)
    schedule.refresh("p", now=103.5)
    schedule.finished("p", now=104.0)

    assert schedule.due(104.0) == ["p"]


def test_finished_look_forgets_a_refresh_that_it_answered() -> None:
    schedule = looked_once()
    schedule.refresh("p", now=101.0)
    schedule.due(101.0)
    schedule.finished("p", now=101.5)

    assert schedule.wake_at() == 103.0


def test_probe_that_cannot_work_here_is_asked_less_often() -> None:
    schedule = looked_once()
    schedule.due(103.0)
    schedule.finished("p", now=103.1, period=60.0)

    assert (schedule.due(113.0), schedule.wake_at()) == ([], 123.0)


def test_unknown_and_removed_probes_are_ignored() -> None:
    schedule = looked_once()
    schedule.remove("p")
    schedule.refresh("p", now=101.0)
    schedule.finished("p", now=101.0)

    assert (schedule.due(1000.0), schedule.wake_at()) == ([], math.inf)


def test_slot_after_is_always_later_even_on_the_grid() -> None:
    schedule = Schedule(3.0)

    assert [schedule.slot_after(now, 10.0) for now in (2.9, 3.0, 12.999, 13.0)] == [3.0, 13.0, 13.0, 23.0]


@pytest.mark.parametrize(("attempt", "pause"), [(0, 0.5), (1, 1.0), (6, 32.0), (7, 60.0), (10_000, 60.0)])
def test_pauses_double_up_to_the_cap(attempt: int, pause: float) -> None:
    assert pause_seconds(attempt, base=0.5, cap=60.0) == pause


def test_full_jitter_spreads_from_nothing_to_the_pause() -> None:
    assert [jittered_seconds(3, entropy, base=0.5, cap=60.0) for entropy in (0.0, 0.5, 0.75)] == [
        0.0,
        2.0,
        3.0,
    ]
