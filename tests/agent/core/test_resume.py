"""Whether a machine stood still, from clock readings."""

import pytest

from holdfast_agent.core.resume import Clocks, resumed

BEFORE = Clocks(wall=1_764_000_000.0, boot=5_000.0, monotonic=4_000.0)
"""Of a machine that had slept for 1,000 s before."""


@pytest.mark.parametrize(
    ("wall", "boot", "monotonic", "waited", "answer"),
    [
        (5.0, 5.0, 5.0, 5.0, False),
        (7.9, 7.9, 7.9, 5.0, False),  # a busy machine
        (3_605.0, 3_605.0, 5.0, 5.0, True),  # suspended
        (6.1, 6.1, 5.0, None, True),  # and only just
        (5.9, 5.9, 5.0, None, False),  # read one after the other
        (305.0, 5.0, 5.0, 5.0, True),  # all clocks stood, and the wall clock was set right
        (4.0, 5.0, 5.0, 5.0, False),  # a small correction
        (-3_595.0, 5.0, 5.0, 5.0, False),  # set back: no standstill does that
        (65.0, 65.0, 65.0, 5.0, True),  # paused, and the clocks ran on
        (65.0, 65.0, 65.0, None, False),  # slow work looks the same
    ],
)
def test_standstills_show_in_the_clocks(
    wall: float, boot: float, monotonic: float, waited: float | None, answer: bool
) -> None:
    now = Clocks(BEFORE.wall + wall, BEFORE.boot + boot, BEFORE.monotonic + monotonic)

    assert resumed(BEFORE, now, waited) is answer
