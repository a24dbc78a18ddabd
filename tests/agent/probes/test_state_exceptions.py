"""Exceptions that end: a declared class holds until its day is over, then what the role needs is required again."""

from pathlib import Path

import msgspec
import pytest

from holdfast_agent.config import load
from holdfast_agent.errors import ConfigInvalid
from holdfast_agent.probe import ProbeContext
from holdfast_agent.probes.state_paths_linux import StatePaths
from holdfast_agent.registry import probe_kinds
from holdfast_wire.message import Value
from tests.agent.probes.recordings import recorded

DAY = 86_400.0
LAST_DAY = 1_761_868_800.0
"""2025-10-31, 00:00 UTC: the day in the recording."""


def seen(at: float) -> tuple[Value | None, ...]:
    raw = msgspec.structs.replace(recorded(StatePaths, "backups"), wall=at)
    observation = StatePaths(ProbeContext(node="n", boot_id="b")).interpret(raw)
    [facts] = [each.facts for each in observation.resources if each.name == "odd.service:/srv/odd"]
    return tuple(facts.get(name) for name in ("required_class", "exception_expired", "exception_until"))


def test_an_exception_holds_through_its_last_day_and_no_longer() -> None:
    assert [seen(LAST_DAY), seen(LAST_DAY + DAY - 1), seen(LAST_DAY + DAY)] == [
        (1, False, "2025-10-31"),
        (1, False, "2025-10-31"),
        (2, True, "2025-10-31"),
    ]


def test_a_path_without_an_exception_says_nothing_of_one() -> None:
    observation = StatePaths(ProbeContext(node="n", boot_id="b")).interpret(recorded(StatePaths, "backups"))

    [facts] = [each.facts for each in observation.resources if each.name == "odd.service:/odd/dumps"]
    assert (facts["required_class"], "exception_expired" in facts) == (2, False)


def configured(tmp_path: Path, until: str) -> str:
    """The `until` in effect, or the mistake."""
    file = tmp_path / "agent.toml"
    file.write_text(
        '[broker]\nurls = ["mqtt://127.0.0.1:1883"]\n[[probes.state_paths.declare]]\nservice = "a.service"\n'
        f'path = "/d"\nrole = "data"\nrequired_class = 1\nuntil = {until}\n'
    )
    try:
        settings = load(file, {}, probe_kinds()).config.probes["state_paths"].settings
    except ConfigInvalid as invalid:
        return "; ".join(invalid.mistakes)
    return str(msgspec.to_builtins(settings)["declare"][0]["until"])


@pytest.mark.parametrize("until", ['"31.1.2027"', '"2027-13-01"', '"2027-1-1"', '"soon"', "3"])
def test_a_day_that_is_none_is_refused_with_its_place(tmp_path: Path, until: str) -> None:
    assert "until" in configured(tmp_path, until)


def test_a_day_is_taken_as_it_is_written(tmp_path: Path) -> None:
    assert configured(tmp_path, '"2027-01-31"') == "2027-01-31"
