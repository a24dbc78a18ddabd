"""Durations as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_rules import duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("2d", 172800), ("1w1d", 691200), ("007m", 420)],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert duration.parse(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "5 m", "m", "1.5h", "-5m", "30m1h", "1m1m", "400d", "5M", "1h ", "٥m", "9" * 40 + "s"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|longer"):
        duration.parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (61, "1m1s"),
        (3600, "1h"),
        (3601, "1h"),
        (93784, "1d2h"),
        (-90, "-1m30s"),
        (-0.2, "0s"),
    ],
)
def test_a_duration_is_spelled_with_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration.spell(seconds) == text


@given(st.integers(0, duration.SECONDS_MAX))
def test_what_is_spelled_can_be_read_and_is_never_more(seconds: int) -> None:
    assert 0 <= seconds - duration.parse(duration.spell(seconds)) < max(60, seconds / 24)
