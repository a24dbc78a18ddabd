"""Services on a real systemd: facts, and each failure and restart told the moment systemd signals it."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast_agent.probe import NoData, Observation, ProbeContext, Unsupported
from holdfast_agent.probes.service_units import ServiceSettings
from holdfast_agent.probes.services_systemd_linux import ServicesRaw, ServicesSystemd
from holdfast_agent.probes.systemd_bus_linux import BusLost, unit_of_path
from holdfast_wire.message import Value
from tests.agent.probes.recordings import machines, recorded
from tests.agent.probes.watching import watching
from tests.rigs.systemd_box import SystemdBox
from tests.waiting import wait_until

FOREVER = "[Service]\nExecStart=/bin/sleep infinity\n"
ALWAYS = f"{FOREVER}Restart=always\nRestartSec=100ms\n"
LOOPING = (
    "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=3\n"
    "[Service]\nExecStart=/bin/false\nRestart=on-failure\nRestartSec=50ms\n"
)
INSTALL = "[Install]\nWantedBy=multi-user.target\n"


def services(observation: Observation) -> dict[str, dict[str, Value]]:
    return {resource.name: resource.facts for resource in observation.resources}


def test_a_fresh_machine_shows_what_runs_and_what_is_enabled() -> None:
    probe = ServicesSystemd(ProbeContext(node="n"))

    found = services(probe.interpret(recorded(ServicesSystemd, "debian-12-fresh")))

    assert list(found) == [
        "dbus.service",
        "systemd-journald.service",
        "systemd-logind.service",
        "systemd-remount-fs.service",
    ]
    assert {facts["up"] for facts in found.values()} == {True}


@pytest.mark.parametrize("machine", machines(ServicesSystemd))
def test_every_recorded_machine_gives_declared_facts(machine: str) -> None:
    observation = ServicesSystemd(ProbeContext(node="n")).interpret(recorded(ServicesSystemd, machine))

    stated = {(r.kind, fact) for r in observation.resources for fact in r.facts}
    assert stated <= set(ServicesSystemd.emits)


def test_a_systemd_without_services_has_no_data() -> None:
    with pytest.raises(NoData):
        ServicesSystemd(ProbeContext(node="n")).interpret(ServicesRaw([]))


def test_a_machine_without_systemd_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="systemd does not run"):
        ServicesSystemd(ProbeContext(node="n", rootfs=tmp_path)).read()


def test_a_machine_without_a_bus_is_unsupported(tmp_path: Path) -> None:
    (tmp_path / "run/systemd/system").mkdir(parents=True)

    with pytest.raises(Unsupported, match="no system bus"):
        ServicesSystemd(ProbeContext(node="n", rootfs=tmp_path)).read()


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/org/freedesktop/systemd1/unit/ssh_2eservice", "ssh.service"),
        ("/org/freedesktop/systemd1/unit/postgresql_4015_2dmain_2eservice", "postgresql@15-main.service"),
        ("/org/freedesktop/systemd1/unit/a_5fb_2eservice", "a_b.service"),
        ("/org/freedesktop/systemd1/unit/caf_c3_a9_2eservice", "café.service"),
    ],
)
def test_a_units_path_gives_its_name(path: str, unit: str) -> None:
    assert unit_of_path(path) == unit


# A real systemd


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdBox]:
    with SystemdBox(tmp_path_factory.mktemp("systemd")) as box:
        yield box


def probe_of(box: SystemdBox, *, fresh: bool = False, **settings: tuple[str, ...]) -> ServicesSystemd:
    """A probe that has run on this box before, unless `fresh`: with a note of the boot and of nothing told."""
    context = ProbeContext(
        node="box", rootfs=box.root, boot_id=box.boot_id, settings=ServiceSettings(**settings)
    )
    if not fresh:
        context.cursors.store("told", f'{{"boot_id":"{box.boot_id}","units":{{}}}}'.encode())
    return ServicesSystemd(context)


def look(probe: ServicesSystemd) -> dict[str, dict[str, Value]]:
    return services(probe.interpret(probe.read()))


async def seen(
    probe: ServicesSystemd, unit: str, condition: Callable[[dict[str, Value]], object]
) -> dict[str, Value]:
    """The unit's facts, once they are so; beside a running watch, so the look has a thread of its own."""

    async def facts() -> dict[str, Value] | None:
        found = (await asyncio.to_thread(look, probe)).get(unit)
        return found if found is not None and condition(found) else None

    return await wait_until(facts, what=unit)


def main_pid(box: SystemdBox, unit: str) -> int:
    return int(box.run("systemctl", "show", "--value", "--property=MainPID", unit))


def kill(box: SystemdBox, unit: str) -> None:
    box.run("kill", "-9", str(main_pid(box, unit)))


@pytest.mark.system
async def test_a_killed_service_is_told_and_stays_failed(box: SystemdBox) -> None:
    box.unit("killed.service", FOREVER + INSTALL)
    box.run("systemctl", "enable", "--now", "killed.service")
    probe = probe_of(box)
    before = await seen(probe, "killed.service", lambda facts: True)

    async with watching(probe) as watched:
        await watched.refreshed()  # it has caught up, and listens
        kill(box, "killed.service")
        failed = await watched.seen("killed.service", "unit_failed")
        await watched.refreshed()
        after = await seen(probe, "killed.service", lambda facts: facts["failed"])

    assert (before["up"], before["enabled"], before["failed"]) == (True, True, False)
    assert (failed.resource_kind, failed.summary) == ("service", "killed.service failed: signal, signal 9")
    assert (failed.fields["result"], failed.fields["exit_status"]) == ("signal", 9)
    assert (after["up"], after["failed"], after["result"], after["exit_status"]) == (False, True, "signal", 9)
    assert watched.of("killed.service") == [failed]


@pytest.mark.system
def test_a_running_service_tells_what_its_control_group_and_its_process_say(
    box: SystemdBox, tmp_path: Path
) -> None:
    """The box's control groups have no account of memory, so the count is a file of the test's."""
    box.unit("counted.service", f"{FOREVER}Type=exec\nOOMScoreAdjust=700\n")
    box.run("systemctl", "start", "counted.service")
    group = tmp_path / "fs/cgroup/system.slice/counted.service"
    group.mkdir(parents=True)
    (group / "memory.events").write_text("oom 3\noom_kill 3\n")
    context = ProbeContext(node="box", rootfs=box.root, procfs=box.root / "proc", sysfs=tmp_path)

    facts = look(ServicesSystemd(context))["counted.service"]

    assert (facts["oom_kills_total"], facts["oom_score_adj"]) == (3, 700)


@pytest.mark.system
async def test_a_service_that_systemd_starts_again_is_told_to_have_failed_and_restarted(
    box: SystemdBox,
) -> None:
    box.unit("again.service", ALWAYS)
    box.run("systemctl", "start", "again.service")
    probe = probe_of(box)
    await seen(probe, "again.service", lambda facts: facts["restarts_total"] == 0)
    async with watching(probe) as watched:
        await watched.refreshed()  # it has caught up, and listens
        kill(box, "again.service")
        restarted = await watched.seen("again.service", "unit_restarted")
    # The list of units shows it running, as before; it is the watch that knows better.
    facts = (await asyncio.to_thread(look, probe))["again.service"]

    assert [event.type for event in watched.of("again.service")] == ["unit_failed", "unit_restarted"]
    assert restarted.fields["restarts_total"] == 1
    assert (facts["up"], facts["restarts_total"], facts["restart_looping"]) == (True, 1, False)


@pytest.mark.system
async def test_a_crash_loop_ends_in_systemd_giving_up(box: SystemdBox) -> None:
    """systemd 252 keeps the result of the last run, so the start limit shows in the count of restarts only."""
    box.unit("looping.service", LOOPING)
    probe = probe_of(box)
    async with watching(probe) as watched:
        await watched.refreshed()  # it has caught up, and listens
        box.run("systemctl", "start", "looping.service", check=False)
        facts = await seen(probe, "looping.service", lambda facts: facts["start_limit_hit"])
        await watched.until(
            lambda: [event.type for event in watched.of("looping.service")].count("unit_failed") == 4
        )

    assert facts["failed"] is True
    types = [event.type for event in watched.of("looping.service")]
    assert types.count("unit_restarted") == 2, types
    assert types[-1] == "unit_failed"


@pytest.mark.system
async def test_what_happened_while_no_agent_ran_is_told_once(box: SystemdBox) -> None:
    box.unit("away.service", ALWAYS)
    box.run("systemctl", "start", "away.service")
    first = probe_of(box)
    async with watching(first) as watched:
        await watched.refreshed()  # it has caught up, and listens
        kill(box, "away.service")
        await watched.seen("away.service", "unit_restarted")
    kill(box, "away.service")
    await seen(first, "away.service", lambda facts: facts["restarts_total"] == 2)

    second = ServicesSystemd(first.context)
    async with watching(second) as watched:
        restarted = await watched.seen("away.service", "unit_restarted")
    third = ServicesSystemd(first.context)
    async with watching(third) as quiet:
        box.unit("marker.service", "[Service]\nExecStart=/bin/false\n")
        box.run("systemctl", "start", "marker.service", check=False)
        await quiet.seen("marker.service", "unit_failed")

    assert (restarted.fields["count"], restarted.fields["restarts_total"]) == (1, 2)
    assert quiet.of("away.service") == []


@pytest.mark.system
async def test_a_first_run_tells_nothing_old(box: SystemdBox) -> None:
    box.unit("old.service", "[Service]\nExecStart=/bin/false\n")
    box.run("systemctl", "start", "old.service", check=False)
    await seen(probe_of(box), "old.service", lambda facts: facts["failed"])
    probe = probe_of(box, fresh=True)
    async with watching(probe) as watched:
        await watched.until(lambda: probe.context.cursors.load("told"))
        box.unit("new.service", "[Service]\nExecStart=/bin/false\n")
        box.run("systemctl", "start", "new.service", check=False)
        await watched.seen("new.service", "unit_failed")

    assert watched.of("old.service") == []


@pytest.mark.system
async def test_an_operator_is_no_news(box: SystemdBox) -> None:
    box.unit("mine.service", FOREVER)
    box.run("systemctl", "start", "mine.service")
    async with watching(probe_of(box)) as watched:
        await watched.refreshed()  # it has caught up, and listens
        box.run("systemctl", "restart", "mine.service")
        box.run("systemctl", "stop", "mine.service")
        box.unit("marker2.service", "[Service]\nExecStart=/bin/false\n")
        box.run("systemctl", "start", "marker2.service", check=False)
        await watched.seen("marker2.service", "unit_failed")

    assert watched.of("mine.service") == []


@pytest.mark.system
async def test_an_excluded_unit_is_neither_reported_nor_told(box: SystemdBox) -> None:
    box.unit("noisy.service", FOREVER)
    box.run("systemctl", "start", "noisy.service")
    probe = probe_of(box, exclude=("noisy*",))
    reported = await asyncio.to_thread(look, probe)
    async with watching(probe) as watched:
        await watched.refreshed()  # it has caught up, and listens
        kill(box, "noisy.service")
        box.unit("marker3.service", "[Service]\nExecStart=/bin/false\n")
        box.run("systemctl", "start", "marker3.service", check=False)
        await watched.seen("marker3.service", "unit_failed")

    assert "noisy.service" not in reported
    assert watched.of("noisy.service") == []


@pytest.mark.system
def test_a_oneshot_that_ended_well_is_up_and_one_that_failed_is_followed(box: SystemdBox) -> None:
    box.unit("job.service", "[Service]\nType=oneshot\nExecStart=/bin/test -e /run/job-may\n" + INSTALL)
    box.run("systemctl", "enable", "job.service")
    probe = probe_of(box)
    box.run("systemctl", "start", "job.service", check=False)
    failed = look(probe)["job.service"]
    box.run("touch", "/run/job-may")
    box.run("systemctl", "start", "job.service")
    ended = look(probe)["job.service"]

    assert (failed["up"], failed["failed"], failed["result"]) == (False, True, "exit-code")
    assert (ended["up"], ended["failed"], ended["active_state"]) == (True, False, "inactive")


@pytest.mark.system
async def test_a_lost_bus_ends_the_watch_so_that_it_is_started_again(tmp_path: Path) -> None:
    with SystemdBox(tmp_path) as own:
        probe = probe_of(own)
        async with watching(probe) as watched:
            await watched.refreshed()  # it has caught up, and listens
            kill(own, "dbus.service")
            with pytest.raises(BusLost):
                await watched.until(lambda: None)
