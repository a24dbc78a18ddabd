"""How late each fact is at worst: declared with the probe, so that what is said of it cannot drift from what it does."""

import re
from pathlib import Path

import pytest

from holdfast_agent import machine_profile
from holdfast_agent.config import AgentConfig
from holdfast_agent.detection import EVENT, Detection, Subject, detections, sentences, subjects
from holdfast_agent.probe import Poll, Watch, facts_of
from holdfast_agent.registry import ProbeKind, probe_classes, probe_kinds
from holdfast_agent.witness.lateness import SUBJECTS, witness_detections
from holdfast_wire.fact import EVENT_TYPES, FACTS, Origin

README = Path(__file__).parents[2] / "agent" / "README.md"
KINDS = list(probe_kinds(probe_classes("linux")).values())
DEFAULT = AgentConfig()


def found(kind: ProbeKind) -> list[Detection]:
    return detections(kind, kind.timing(DEFAULT.interval)[0])


def test_every_fact_and_event_of_the_vocabulary_is_seen_at_some_time() -> None:
    """Whoever relies on a fact wants to know when it would change: at once, or when somebody looks next."""
    everything = [
        each
        for kind in (
            *map(found, KINDS),
            witness_detections(DEFAULT.witness.interval, DEFAULT.interval),
        )
        for each in kind
    ]
    timed = {
        subject for each in everything if each.told_by or each.within_seconds > 0 for subject in each.subjects
    }
    told = {(EVENT, name) for name in machine_profile.EVENTS}

    declared = {(fact.resource.value, fact.name) for fact in FACTS if fact.origin is Origin.AGENT}
    declared |= {(EVENT, type_.name) for type_ in EVENT_TYPES.values() if type_.origin is Origin.AGENT}
    assert declared - timed - told == set()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_behind_whatever_tells_of_a_fact_there_is_one_look(kind: ProbeKind) -> None:
    """A signal that got lost, or was never sent, must not leave a fact as it was for ever."""
    looked = [subject for each in found(kind) if not each.told_by for subject in each.subjects]

    assert sorted(subject for subject in looked if subject[0] != EVENT) == sorted(kind.emits)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_probe_is_told_of_what_it_states_and_of_nothing_else(kind: ProbeKind) -> None:
    named = {subject for each in found(kind) for subject in each.subjects}

    assert named - set(subjects(kind)) == set()
    assert all(signal.by for class_ in kind.classes if issubclass(class_, Watch) for signal in class_.told_by)
    assert kind.looks or any(issubclass(class_, Watch) for class_ in kind.classes)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_an_event_tells_of_is_told_by_a_watch_unless_it_takes_a_look(kind: ProbeKind) -> None:
    """The poll of a probe that states nothing but what its watch hears of has nothing to find."""
    polls = any(issubclass(class_, Poll) and class_.events for class_ in kind.classes)
    waiting = [name for each in found(kind) if not each.told_by for of, name in each.subjects if of == EVENT]

    assert not waiting or polls


def test_a_period_of_the_configuration_counts() -> None:
    services = next(kind for kind in KINDS if kind.name == "services_systemd")

    assert [each.within_seconds for each in detections(services, 5.0) if not each.told_by] == [5.0, 300.0]


def test_records_and_reports_take_their_time() -> None:
    """A record comes a fifth late at worst, and what it showed goes with the next report."""
    rows = witness_detections(300.0, 20.0)

    by_fact = {name: each for each in rows if not each.told_by for _, name in each.subjects}
    assert by_fact["write_probe_error"].within_seconds == 380.0
    assert by_fact["writeback_failed"].within_seconds == 80.0
    assert sorted(by_fact) == sorted(name for _, name in SUBJECTS)


ALL: tuple[Subject, ...] = (
    *facts_of("device", "a", "b"),
    *facts_of("volume", "c", "d", "e"),
    (EVENT, "x"),
    (EVENT, "y"),
)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (ALL, "every fact, every event"),
        (ALL[:5], "every fact"),
        (ALL[:2], "every fact of a device"),
        (ALL[1:5], "every fact but a"),
        (ALL[3:5], "d, e"),
        (ALL[2:6], "every fact of a volume, event x"),
        ((), "what comes and goes"),
    ],
)
def test_subjects_are_named_in_few_words(chosen: tuple[Subject, ...], said: str) -> None:
    assert sentences([Detection(subjects=chosen, told_by="z")], ALL) == [f"at once by z: {said}"]


def test_a_look_says_how_long_and_why_so_long() -> None:
    rows = [
        Detection(subjects=ALL[:1], within_seconds=30.0),
        Detection(subjects=ALL[1:2], within_seconds=330.0, because="it is asked seldom"),
    ]

    assert sentences(rows, ALL) == [
        "after 30 s at most by looking: a",
        "after 330 s at most by looking (it is asked seldom): b",
    ]


def test_the_readme_says_how_late_every_fact_is() -> None:
    text = README.read_text(encoding="utf-8").partition("| probe | how late")[2].partition("\n\n")[0]

    expected = {kind.name: "; ".join(sentences(found(kind), subjects(kind))) for kind in KINDS}
    rows = witness_detections(DEFAULT.witness.interval, DEFAULT.interval)
    expected["witness"] = "; ".join(sentences(rows, SUBJECTS))
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)) == expected
