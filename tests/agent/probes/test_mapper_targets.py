"""What mapped devices are made of, by `dmsetup status`."""

from pathlib import Path

import pytest
from msgspec import structs

from holdfast_agent.errors import Denied, ProbeStop, Unsupported
from holdfast_agent.probe import ProbeContext
from holdfast_agent.probes.device_answers_linux import Answer, ask_mapper
from holdfast_agent.probes.mapper_table import Target
from holdfast_agent.probes.mapper_targets_linux import MapperTargets, target_facts
from tests.agent.probes.recordings import recorded

PROBE = MapperTargets(ProbeContext(node="n"))


def test_a_failed_writecache_a_hole_and_a_test_device_are_named_and_what_was_not_said_is_missing() -> None:
    observation = PROBE.interpret(recorded(MapperTargets, "writecache-and-holes"))

    assert {resource.name: resource.facts for resource in observation.resources} == {
        "dm-0": {"dm_targets": "error, linear", "dm_faulty_target": "error"},
        "dm-1": {"dm_targets": "writecache", "dm_faulty_target": "", "dm_writecache_failed": False},
        "dm-2": {"dm_targets": "writecache", "dm_faulty_target": "", "dm_writecache_failed": True},
        "dm-3": {"dm_targets": "flakey", "dm_faulty_target": "flakey"},
        "dm-4": {"dm_targets": "raid", "dm_faulty_target": ""},
    }
    assert set(observation.missing) == {"dm-5.dm_targets"}


@pytest.mark.parametrize("arguments", [(), ("Error",)], ids=["no status", "a word"])
def test_a_writecache_that_says_nothing_of_errors_has_not_said_that_it_works(
    arguments: tuple[str, ...],
) -> None:
    assert "dm_writecache_failed" not in target_facts((Target("writecache", arguments),))


@pytest.mark.parametrize(
    ("answer", "stop", "said"),
    [
        (Answer(status=-1, error="dmsetup is not installed", asked=1.0), Unsupported, "not installed"),
        (Answer(status=1, error="Permission denied", asked=1.0), Denied, "Permission denied"),
    ],
)
def test_without_an_answer_nothing_is_claimed(answer: Answer, stop: type[ProbeStop], said: str) -> None:
    raw = structs.replace(recorded(MapperTargets, "writecache-and-holes"), answer=answer)

    with pytest.raises(stop, match=said):
        PROBE.interpret(raw)


def test_where_nothing_is_mapped_nothing_is_asked(tmp_path: Path) -> None:
    """The question alone would load the kernel's module."""
    answer = ask_mapper({}, tmp_path)["status"]

    assert (answer.status, answer.output) == (0, "")
