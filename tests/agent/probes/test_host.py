"""The machine itself: identity, boots told once, steps of the clock told as they happen."""

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast_agent.probe import Cursors, Happening, Observation, ProbeContext
from holdfast_agent.probes.boot_evidence import BootEvidence
from holdfast_agent.probes.clock_linux import ClockSteps, clock_state
from holdfast_agent.probes.host_facts import HostRaw, parse_meminfo, parse_os_release
from holdfast_agent.probes.host_linux import Host
from holdfast_wire.message import Value
from tests import needs
from tests.agent.probes.recordings import machines, recorded
from tests.agent.probes.watching import watching
from tests.rigs.systemd_box import SystemdBox


def host(cursors: Cursors | None = None, **context: Any) -> Host:
    base = ProbeContext(node="vm-1", boot_id="b")
    if cursors is not None:
        context["cursors"] = cursors
    return Host(msgspec.structs.replace(base, **context))


def facts(observation: Observation) -> dict[str, Value]:
    return observation.resources[0].facts


def test_a_machine_says_who_it_is_and_how_it_stands() -> None:
    observation = host().interpret(recorded(Host, "azure-clean-reboot"))

    assert facts(observation) == {
        "boot_id": "11111111-1111-4111-8111-111111111111",
        "machine_id": "5e6c1d3a9f1b4c0d8e7f6a5b4c3d2e1f",
        "os_name": "Ubuntu 22.04.5 LTS",
        "kernel": "6.8.0-1015-azure",
        "architecture": "x86_64",
        "vendor": "Microsoft Corporation",
        "product": "Virtual Machine",
        "boot_timestamp_seconds": 1764000000.0,
        "uptime_seconds": 95.0,
        "suspended_seconds": 0.0,
        "boot_count": 1,
        "boot_dirty": False,
        "boot_dirty_evidence": "the previous boot's journal has it: "
        "Reached target shutdown.target - System Shutdown.; wtmp has a shutdown before this boot",
        "clock_steps_total": 0,
        "clock_synchronized": True,
        "clock_error_seconds": 0.00153,
        "dirty_bytes": 14088 * 1024,
        "memory_bytes": 8133016 * 1024,
        "memory_available_bytes": 6011204 * 1024,
    }
    assert observation.resources[0].name == "vm-1"


def test_what_cannot_be_had_is_missing_with_its_cure() -> None:
    observation = host().interpret(recorded(Host, "hardened-unit"))

    assert observation.missing.keys() == {"boot_dirty", "clock_synchronized"}
    assert "systemd-journal" in observation.missing["boot_dirty"]
    assert "adjtimex" in observation.missing["clock_synchronized"]
    assert not {"boot_dirty", "clock_synchronized"} & facts(observation).keys()


def test_a_machine_without_firmware_data_leaves_it_out() -> None:
    observation = host().interpret(recorded(Host, "firecracker-6.18"))

    assert not {"vendor", "product"} & facts(observation).keys()
    assert facts(observation)["clock_synchronized"] is False


@pytest.mark.parametrize("machine", machines(Host))
def test_every_recorded_machine_gives_declared_facts(machine: str) -> None:
    observation = host().interpret(recorded(Host, machine))

    assert {("node", fact) for fact in facts(observation)} <= set(Host.emits)


# Boots


def another_boot(raw: HostRaw, boot_id: str, *, uptime: float = 30.0) -> HostRaw:
    return msgspec.structs.replace(raw, boot_id=boot_id, uptime_seconds=uptime)


def test_a_first_run_has_no_boot_to_tell_of() -> None:
    """The agent came to a running machine."""
    assert host().interpret(recorded(Host, "azure-power-cut")).events == []


def test_a_new_boot_is_told_once() -> None:
    probe, cut = host(), recorded(Host, "azure-power-cut")
    probe.interpret(recorded(Host, "azure-clean-reboot"))

    told = probe.interpret(another_boot(cut, "second")).events
    later = [probe.interpret(another_boot(cut, "second")).events for _ in range(2)]
    restarted = host(probe.context.cursors).interpret(another_boot(cut, "second")).events

    assert (later, restarted) == ([[], []], [])
    assert [(event.type, event.resource, event.at) for event in told] == [("boot", "vm-1", cut.booted_at)]
    assert told[0].fields == {
        "boot_id": "second",
        "previous_boot_id": "11111111-1111-4111-8111-111111111111",
        "boot_count": 2,
        "dirty": True,
        "evidence": "EXT4-fs (sda1): recovery complete; File /var/log/journal/5e/system.journal "
        "corrupted or uncleanly shut down, renaming and replacing.",
    }


def test_a_boot_that_was_told_before_a_crash_of_the_agent_is_told_again() -> None:
    """The note moves with the next look, when the event is on disk: twice rather than not at all."""
    probe, raw = host(), recorded(Host, "azure-power-cut")
    probe.interpret(raw)
    first = probe.interpret(another_boot(raw, "second")).events

    again = host(probe.context.cursors).interpret(another_boot(raw, "second")).events

    assert first == again != []


def test_a_boot_waits_for_its_traces_but_not_for_ever() -> None:
    probe, raw = host(), recorded(Host, "hardened-unit")
    probe.interpret(raw)

    early = probe.interpret(another_boot(raw, "second", uptime=20.0)).events
    late = probe.interpret(another_boot(raw, "second", uptime=130.0)).events

    assert early == []
    assert "dirty" not in late[0].fields
    assert "in an unknown way" in late[0].summary


def test_what_showed_a_dirty_boot_is_remembered_when_the_traces_are_gone() -> None:
    probe, cut = host(), recorded(Host, "azure-power-cut")
    probe.interpret(cut)

    nothing = BootEvidence(booted_at=cut.booted_at)
    after = host(probe.context.cursors).interpret(msgspec.structs.replace(cut, evidence=nothing))

    assert facts(after)["boot_dirty"] is True


@pytest.mark.system
def test_a_real_shutdown_is_clean_and_a_real_power_cut_dirty(tmp_path: Path) -> None:
    with SystemdBox(tmp_path) as box:
        first = look_into(box, None)
        box.shut_down()
        box.start()
        clean = look_into(box, first.context.cursors)
        box.cut_power()
        box.start()
        dirty = look_into(box, first.context.cursors)

    assert [event.fields.get("dirty") for event in clean.events + dirty.events] == [False, True], (
        clean.events,
        dirty.events,
    )
    assert dirty.events[0].fields["previous_boot_id"] == clean.events[0].fields["boot_id"]
    assert dirty.events[0].fields["boot_count"] == 3


@pytest.mark.system
def test_what_journald_and_fsck_say_at_boot_is_found_in_the_journal(tmp_path: Path) -> None:
    """In a box nothing can be unclean below systemd, so their words are put into its journal."""
    unclean = (
        "File /var/log/journal/5e/system.journal corrupted or uncleanly shut down, renaming and replacing."
    )
    with SystemdBox(tmp_path) as box:
        before = look_into(box, None)
        box.run("systemd-cat", "-t", "systemd-journald", "echo", unclean)
        box.run("systemd-cat", "-t", "systemd-fsck", "echo", "/dev/vdb: recovering journal")
        box.run("journalctl", "--sync")
        found = look_into(box, None)

    assert before.facts.get("boot_dirty") is None
    assert (found.facts["boot_dirty"], found.facts["boot_dirty_evidence"]) == (
        True,
        f"fsck: /dev/vdb: recovering journal; {unclean}",
    )


class Looked:
    """What a freshly started agent sees in a box; it looks twice, so that its notes are kept."""

    def __init__(self, probe: Host) -> None:
        self.context = probe.context
        looks = [probe.interpret(probe.read()) for _ in range(2)]
        self.events: list[Happening] = [e for look in looks for e in look.events if e.type == "boot"]
        self.facts = facts(looks[0])


def look_into(box: SystemdBox, cursors: Cursors | None) -> Looked:
    return Looked(host(cursors, rootfs=box.root, procfs=box.root / "proc", boot_id=box.boot_id))


# The clock


class Clocks:
    """A wall clock that can be set, and one that cannot."""

    def __init__(self) -> None:
        self.boot = 100.0
        self.wall = 1_764_000_000.0

    def read_boot(self) -> float:
        return self.boot

    def read_wall(self) -> float:
        return self.wall

    def pass_seconds(self, seconds: float) -> None:
        self.boot += seconds
        self.wall += seconds


def steps(clocks: Clocks, offset: float | None = None) -> ClockSteps:
    return ClockSteps(clocks.read_wall, clocks.read_boot, offset)


def test_time_that_passes_is_no_step() -> None:
    clocks = Clocks()
    noticed = steps(clocks)

    seen = [noticed.observe()]
    clocks.pass_seconds(3600.0)
    seen.append(noticed.observe())

    assert (seen, noticed.total) == ([None, None], 0)


@pytest.mark.parametrize("step", [5.0, -3600.0, 0.2])
def test_a_set_clock_is_a_step_with_its_size(step: float) -> None:
    clocks = Clocks()
    noticed = steps(clocks)
    noticed.observe()
    clocks.wall += step

    seen = [noticed.observe(), noticed.observe()]

    assert seen == [pytest.approx(step, abs=1e-6), None]
    assert noticed.total == 1


def test_a_correction_nobody_notices_is_no_step_but_many_of_them_are() -> None:
    clocks = Clocks()
    noticed = steps(clocks)
    noticed.observe()
    seen = []
    for _ in range(3):
        clocks.wall += 0.04
        seen.append(noticed.observe())

    assert seen == [None, None, pytest.approx(0.12, abs=1e-6)]


def test_a_step_while_no_agent_ran_is_told_at_its_next_start() -> None:
    clocks = Clocks()
    context: dict[str, Any] = {"wall_clock": clocks.read_wall, "boot_clock": clocks.read_boot}
    probe = host(**context)
    for _ in range(2):
        probe.interpret(probe.read())
    clocks.wall += 90.0

    restarted = host(probe.context.cursors, **context)
    observation = restarted.interpret(restarted.read())
    other_boot = host(probe.context.cursors, boot_id="another", **context)

    assert [(event.type, event.fields["step_seconds"]) for event in observation.events] == [
        ("clock_step", 90.0)
    ]
    assert facts(observation)["clock_step_seconds"] == 90.0
    assert other_boot.interpret(other_boot.read()).events == []


def test_the_kernel_says_how_its_clock_stands() -> None:
    state = clock_state()

    assert 0 <= state.state <= 5
    assert state.max_error_usec >= 0


@pytest.mark.system
async def test_the_watch_tells_a_step_when_the_clock_is_set() -> None:
    """The kernel's clock is set to what it is; the probe's own clock is what jumps."""
    clocks = Clocks()
    probe = host(wall_clock=clocks.read_wall, boot_clock=clocks.read_boot)
    probe.interpret(probe.read())
    async with watching(probe) as watched:
        await watched.started()
        clocks.wall -= 42.0
        set_clock_to_itself()
        await watched.seen("vm-1", "clock_step")
        await watched.refreshed()
        clocks.wall += 3600.0
        set_clock_to_itself()
        await watched.until(lambda: len(watched.happenings) == 2)

    assert [(event.fields["step_seconds"], event.summary) for event in watched.happenings] == [
        (-42.0, "the wall clock was set 42.000 s back"),
        (3600.0, "the wall clock was set 3600.000 s forward"),
    ]
    assert facts(probe.interpret(probe.read()))["clock_steps_total"] == 2


def set_clock_to_itself() -> None:
    needs.root()
    try:
        time.clock_settime(time.CLOCK_REALTIME, time.time())
    except PermissionError:
        needs.condition(False, "needs CAP_SYS_TIME")


# Text


def test_meminfo_gives_bytes_and_leaves_out_counts() -> None:
    assert parse_meminfo("MemTotal:  10 kB\nHugePages_Total:   3\nnonsense\n") == {"MemTotal": 10240}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n', "Debian GNU/Linux 12 (bookworm)"),
        ("PRETTY_NAME='Fedora Linux 43'\nNAME=x\n", "Fedora Linux 43"),
        ("# PRETTY_NAME=comment\nPRETTY_NAME=Arch\n", "Arch"),
        ('NAME="unclosed\nPRETTY_NAME=Arch\n', "Arch"),
    ],
)
def test_os_release_is_read_as_the_shell_would(text: str, name: str) -> None:
    assert parse_os_release(text)["PRETTY_NAME"] == name
