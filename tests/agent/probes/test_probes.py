"""What all probes keep to: they state what they declare, they declare what the vocabulary has, and miss nothing of it."""

from typing import Any

import pytest

from holdfast_agent import machine_profile
from holdfast_agent.probe import Observation, Poll, Probe, ProbeContext, ProbeStop
from holdfast_agent.registry import probe_classes
from holdfast_agent.witness import volume_standing
from holdfast_wire import SectionStatus
from holdfast_wire.fact import EVENT_TYPES, FACTS, FACTS_OF, Origin
from tests.agent.probes.recordings import machines, recorded
from tests.rigs.unprivileged import as_nobody

PROBES = probe_classes("linux")
POLLS: list[type[Poll[Any]]] = [probe for probe in PROBES if issubclass(probe, Poll) and probe.emits]


def names(probes: list[type[Any]]) -> list[str]:
    return [probe.name for probe in probes]


@pytest.mark.parametrize("probe", PROBES, ids=names(PROBES))
def test_a_probe_declares_what_the_vocabulary_has(probe: type[Probe]) -> None:
    unknown = [f"{kind}.{fact}" for kind, fact in probe.emits if fact not in FACTS_OF[kind]]

    assert unknown + [event for event in probe.events if event not in EVENT_TYPES] == []


def test_every_fact_and_event_of_the_vocabulary_has_a_probe() -> None:
    """A rule may ask for any of them."""
    stated = {(kind, fact) for probe in PROBES for kind, fact in probe.emits}
    stated |= {("volume", fact) for fact in volume_standing.EMITS}
    told = {event for probe in PROBES for event in probe.events} | set(machine_profile.EVENTS)

    assert {(f.resource.value, f.name) for f in FACTS if f.origin is Origin.AGENT} - stated == set()
    assert {event.name for event in EVENT_TYPES.values() if event.origin is Origin.AGENT} - told == set()


@pytest.mark.parametrize("poll", POLLS, ids=names(POLLS))
def test_the_recorded_machines_show_every_declared_fact_with_its_type(poll: type[Poll[Any]]) -> None:
    stated: set[tuple[str, str]] = set()
    for machine in machines(poll):
        for resource in poll(ProbeContext(node="n")).interpret(recorded(poll, machine)).resources:
            for fact, value in resource.facts.items():
                allowed = FACTS_OF[resource.kind][fact].type.python_types
                assert type(value) in allowed, f"{machine}: {fact} is {value!r}"
                stated.add((resource.kind, fact))

    assert set(poll.emits) - stated == SHOWN_BY_A_TEST_OF_ITS_OWN.get(poll.name, set())


SHOWN_BY_A_TEST_OF_ITS_OWN = {
    "host": {("node", "clock_step_seconds")},
    "devices": {("volume", "durability_class_found")},
    "state_paths": {("state_path", "moved_from")},
}


@pytest.mark.parametrize("probe", PROBES, ids=names(PROBES))
def test_a_probe_says_what_is_not_known_without_it(probe: type[Probe]) -> None:
    """Completes the sentence "without it, …"."""
    assert probe.cost
    assert probe.cost[0].islower()
    assert not probe.cost.endswith(".")


@pytest.mark.parametrize("poll", [p for p in PROBES if issubclass(p, Poll)], ids=lambda poll: poll.name)
def test_a_poll_works_on_this_machine_or_says_why_not(poll: type[Poll[Any]]) -> None:
    probe = poll(ProbeContext(node="this", boot_id="b"))
    stopped = ""
    try:
        observation = probe.interpret(probe.read())
    except ProbeStop as stop:
        stopped = stop.reason
        observation = Observation(detail=stopped)

    assert stopped or observation.status is SectionStatus.OK
    assert all(observation.missing.values())


@pytest.mark.system
def test_without_any_right_a_poll_works_or_says_why_not() -> None:
    """The agent is no root: whatever may not be read is named, and nothing fails in a way nobody foresaw."""
    said = as_nobody(
        """
        from holdfast_agent.probe import Poll, ProbeContext, ProbeStop
        from holdfast_agent.registry import probe_classes
        for class_ in probe_classes():
            if issubclass(class_, Poll):
                probe = class_(ProbeContext(node="n", boot_id="b"))
                try:
                    print(class_.name, "ok" if all(probe.interpret(probe.read()).missing.values()) else "mute")
                except ProbeStop as stop:
                    print(class_.name, type(stop).__name__ if stop.reason else "mute")
        """
    )
    words = dict(line.split() for line in said.splitlines())

    assert words.keys() == {probe.name for probe in PROBES if issubclass(probe, Poll)}
    assert set(words.values()) <= {"ok", "NoData", "Unsupported", "Denied"}
