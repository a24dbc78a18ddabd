"""Sections: what is news, what no collector would take, and how much fits into one report."""

import math

import msgspec
import pytest

from holdfast_agent.core.section import Sections, fitting, sound
from holdfast_wire import Resource, Section, SectionStatus, section_digest
from holdfast_wire.message import Value


def section(probe: str = "p", *, at: float = 1.0, resources: list[Resource] | None = None) -> Section:
    return Section(
        probe=probe, status=SectionStatus.OK, observed_at=at, mono=at, period_seconds=10.0, duration_seconds=at,
        resources=resources or [],
    )  # fmt: skip


def volumes(count: int, text: str = "x") -> list[Resource]:
    return [Resource(kind="volume", name=f"/{number}", facts={"source": text}) for number in range(count)]


def test_looking_again_is_no_news_but_renews_the_mark() -> None:
    sections = Sections()

    assert [sections.put(section(at=1.0)), sections.put(section(at=2.0))] == [True, False]
    assert sections.marks()["p"].mono == 2.0


def test_other_facts_are_news() -> None:
    sections = Sections()
    sections.put(section(resources=volumes(1)))

    assert sections.put(section(resources=volumes(2)))


@pytest.mark.parametrize(
    "facts",
    [{"size_bytes": "many"}, {"free_ratio": math.nan}, {f"f{number}": 1 for number in range(200)}],
    ids=["wrong type", "not a number", "too many"],
)
def test_section_that_no_collector_takes_becomes_its_probes_error(facts: dict[str, Value]) -> None:
    """A collector refuses the whole message: one probe's mistake must not silence the node."""
    said = sound(section(resources=[Resource(kind="volume", name="/", facts=facts)]))

    assert (said.status, said.resources) == (SectionStatus.ERROR, [])
    assert said.detail.startswith("the probe said what no collector accepts")


def test_sound_section_passes_untouched() -> None:
    whole = section(resources=volumes(3))

    assert sound(whole) is whole


def test_unpublished_sections_are_packed_into_as_few_reports_as_they_fit() -> None:
    sections = Sections()
    for name in ("a", "b", "c"):
        sections.put(section(name, resources=volumes(1, "x" * 2000)))

    groups = sections.parts({}, bytes_max=8192)

    assert [[held.section.probe for held in group] for group in groups] == [["a", "b"], ["c"]]


def test_published_sections_stay_at_home() -> None:
    sections = Sections()
    sections.put(section("a"))
    sections.put(section("b"))

    groups = sections.parts({"a": section_digest(section("a"))}, bytes_max=8192)

    assert [[held.section.probe for held in group] for group in groups] == [["b"]]


def test_report_without_news_is_one_empty_group() -> None:
    sections = Sections()
    sections.put(section("a"))

    assert sections.parts({"a": section_digest(section("a"))}, bytes_max=8192) == [[]]


def test_section_too_large_for_any_report_says_what_it_leaves_out() -> None:
    """To vanish from a list means to be gone; so a list cut short must be seen to be cut."""
    whole = section(resources=volumes(100, "x" * 200))

    cut = fitting(whole, 4096)

    assert len(msgspec.json.encode(cut)) <= 4096
    assert cut.status is SectionStatus.ERROR
    assert 0 < len(cut.resources) < 100
    assert cut.detail.startswith(f"too much for one message: {len(cut.resources)} of 100 resources")


def test_marks_carry_the_digest_of_the_section_as_it_was_cut() -> None:
    """Else the collector would ask for the rest for ever."""
    sections = Sections()
    sections.put(section(resources=volumes(100, "x" * 200)))
    ((held,),) = sections.parts({}, bytes_max=8192)

    assert sections.marks()["p"].digest == held.digest == section_digest(held.section)
    assert sections.parts({"p": held.digest}, bytes_max=8192) == [[]]


def test_removed_probe_leaves_no_mark() -> None:
    sections = Sections()
    sections.put(section())
    sections.remove("p")

    assert (sections.marks(), sections.names()) == ({}, set())
