"""Services: which of them matter, what up means, and what is told of a unit however its states come in."""

import pytest
from msgspec import structs

from holdfast_agent.probes.service_changes import Seen, Told, baseline, changes
from holdfast_agent.probes.service_units import ServiceSettings, ServiceUnit, matters, service_facts

RUNNING = ServiceUnit(
    id="web.service",
    active_state="active",
    sub_state="running",
    unit_file_state="enabled",
    conditions_met=True,
    type="simple",
    restart="on-failure",
    result="success",
    start_limit_burst=5,
    main_pid=100,
    changed_usec=1000,
)
KILLED = structs.replace(
    RUNNING,
    active_state="failed",
    sub_state="failed",
    result="signal",
    main_pid=0,
    exit_code=2,
    exit_status=9,
    ended_usec=2000,
    changed_usec=2001,
)
WAITING = structs.replace(KILLED, active_state="activating", sub_state="auto-restart", changed_usec=2002)
RESTARTING = structs.replace(WAITING, restarts=1)
AGAIN = structs.replace(RUNNING, restarts=1, changed_usec=3000)
GIVEN_UP = structs.replace(KILLED, restarts=1, changed_usec=2500)
OOM = structs.replace(KILLED, result="oom-kill")
BEING_STARTED = structs.replace(
    KILLED, result="success", exit_code=0, exit_status=0, ended_usec=0, main_pid=101
)
"""systemd 252 begins a start by hand so: the result is that of the new run already, the state still the old one."""
STOPPED = structs.replace(RUNNING, active_state="inactive", sub_state="dead", main_pid=0, changed_usec=4000)
NO_SETTINGS = ServiceSettings()


def told(*states: ServiceUnit, seen: Seen | None = None) -> list[list[tuple[str, int]]]:
    """What each state makes told, one after the other, of a unit that ran at first."""
    newest = baseline(RUNNING) if seen is None else seen
    lists: list[list[tuple[str, int]]] = []
    for state in states:
        newest, events = changes(newest, state)
        lists.append([(event.type, event.count) for event in events])
    return lists


FAILED, RESTARTED, OOM_KILLED = ("unit_failed", 1), ("unit_restarted", 1), ("unit_oom_kill", 1)


@pytest.mark.parametrize(
    ("states", "events"),
    [
        # Every state of a kill and a restart is seen, or only some: what is told stays the same.
        ((KILLED, WAITING, RESTARTING, AGAIN), [[FAILED], [], [], [RESTARTED]]),
        ((WAITING, RESTARTING, AGAIN), [[FAILED], [], [RESTARTED]]),
        # Started by hand after a failure: nothing fails a second time.
        ((KILLED, BEING_STARTED, structs.replace(RUNNING, changed_usec=3000)), [[FAILED], [], []]),
        ((RESTARTING, AGAIN), [[FAILED], [RESTARTED]]),
        ((AGAIN,), [[RESTARTED]]),
        # Seen twice is told once.
        ((KILLED, KILLED), [[FAILED], []]),
        ((AGAIN, AGAIN), [[RESTARTED], []]),
        # systemd gives up: it counts a restart that never began.
        ((KILLED, WAITING, GIVEN_UP, GIVEN_UP), [[FAILED], [], [FAILED], []]),
        ((WAITING, GIVEN_UP), [[FAILED], [FAILED]]),
        ((OOM,), [[FAILED, OOM_KILLED]]),
        ((OOM, OOM), [[FAILED, OOM_KILLED], []]),
        # An operator's stop, start and restart are nobody's news.
        ((STOPPED, structs.replace(RUNNING, changed_usec=5000)), [[], []]),
    ],
)
def test_what_is_told_does_not_depend_on_how_often_it_is_looked_at(
    states: tuple[ServiceUnit, ...], events: list[list[tuple[str, int]]]
) -> None:
    assert told(*states) == events


def test_restarts_nobody_saw_are_told_as_often_as_they_were() -> None:
    assert told(structs.replace(AGAIN, restarts=4)) == [[("unit_restarted", 4)]]


def test_a_crash_loop_tells_each_failure_and_each_restart() -> None:
    """Where signals are joined, a new failure shows that the counted restart did begin."""
    second = structs.replace(KILLED, restarts=1, ended_usec=4000, changed_usec=4001)
    third = structs.replace(KILLED, restarts=2, ended_usec=6000, changed_usec=6001)

    assert told(KILLED, second, third) == [[FAILED], [RESTARTED, FAILED], [RESTARTED, FAILED]]


def test_a_counter_that_starts_anew_counts_from_zero() -> None:
    """`systemctl reset-failed` and a start by hand set NRestarts to 0."""
    assert told(structs.replace(AGAIN, restarts=2), seen=Seen(restarts=5)) == [[("unit_restarted", 2)]]
    assert told(structs.replace(AGAIN, restarts=0), seen=Seen(restarts=5)) == [[]]


def test_a_unit_without_a_main_process_fails_by_the_moment_its_state_changed() -> None:
    """ExecStartPre failed: no main process ever ran."""
    first = structs.replace(KILLED, ended_usec=0, exit_code=0, changed_usec=10)
    second = structs.replace(first, changed_usec=20)

    assert told(first, first, second, seen=Seen()) == [[FAILED], [], [FAILED]]


def test_an_agent_that_comes_to_a_failed_unit_tells_nothing_old() -> None:
    assert told(KILLED, seen=baseline(KILLED)) == [[]]
    assert told(AGAIN, seen=baseline(AGAIN)) == [[]]


def test_after_a_boot_the_failures_before_the_agent_started_are_told() -> None:
    assert told(structs.replace(KILLED, restarts=0), seen=Seen()) == [[FAILED]]


def test_an_event_says_how_many() -> None:
    assert changes(Seen(), AGAIN)[1] == [Told("unit_restarted", 1)]


# What matters, and what up means


@pytest.mark.parametrize(
    ("unit", "reported"),
    [
        (RUNNING, True),
        (KILLED, True),
        (WAITING, True),
        (STOPPED, True),
        (structs.replace(RUNNING, unit_file_state="static"), True),
        (structs.replace(STOPPED, unit_file_state="static"), False),
        (structs.replace(STOPPED, unit_file_state="disabled"), False),
        # A guest agent of another hypervisor: enabled, but its condition does not hold here.
        (structs.replace(STOPPED, conditions_met=False), False),
        # systemd's own steps at boot.
        (structs.replace(RUNNING, sub_state="exited", unit_file_state="static"), False),
        (structs.replace(RUNNING, sub_state="exited"), True),
        (structs.replace(RUNNING, load_state="not-found"), False),
        (structs.replace(RUNNING, id="user@1000.service"), False),
    ],
)
def test_a_unit_matters_when_it_is_in_use_or_should_be(unit: ServiceUnit, reported: bool) -> None:
    assert matters(unit, NO_SETTINGS, did_fail=False) is reported


def test_a_unit_that_failed_is_followed_until_systemd_forgets_it() -> None:
    recovered = structs.replace(STOPPED, unit_file_state="static")

    assert matters(recovered, NO_SETTINGS, did_fail=True)


def test_settings_add_and_take_away() -> None:
    static = structs.replace(STOPPED, unit_file_state="static")
    settings = ServiceSettings(include=("web*",), exclude=("web-dev*",))

    assert matters(static, settings, did_fail=False)
    assert not matters(structs.replace(static, id="web-dev.service"), settings, did_fail=False)


@pytest.mark.parametrize(
    ("unit", "up"),
    [
        (RUNNING, True),
        (structs.replace(RUNNING, active_state="reloading"), True),
        (structs.replace(RUNNING, active_state="activating", sub_state="start"), True),
        (structs.replace(RUNNING, active_state="deactivating", sub_state="stop-sigterm"), False),
        (WAITING, False),
        (KILLED, False),
        (STOPPED, False),
        (structs.replace(STOPPED, type="oneshot"), True),
        (structs.replace(STOPPED, type="oneshot", result="exit-code"), False),
    ],
)
def test_up_is_to_do_ones_work_or_to_have_done_it(unit: ServiceUnit, up: bool) -> None:
    assert service_facts(unit)["up"] is up


@pytest.mark.parametrize(
    ("unit", "given_up"),
    [
        (KILLED, False),
        (structs.replace(KILLED, result="start-limit-hit"), True),
        (structs.replace(KILLED, restarts=5), True),
        (structs.replace(WAITING, restarts=5), False),
        (structs.replace(KILLED, restarts=5, restart="no"), False),
        (structs.replace(KILLED, restarts=5, start_limit_burst=0), False),
    ],
)
def test_systemd_has_given_up_when_it_says_so_or_has_counted_out(unit: ServiceUnit, given_up: bool) -> None:
    assert service_facts(unit)["start_limit_hit"] is given_up


def test_a_process_that_has_not_ended_has_no_exit_status() -> None:
    assert "exit_status" not in service_facts(RUNNING)
    assert service_facts(KILLED)["exit_status"] == 9
