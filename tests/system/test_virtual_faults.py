"""What `make vm-test` expects exists, and what it says is right. The guest itself takes minutes, and is not for every change."""

import subprocess
import sys

import pytest

from holdfast_collector.packs import load_rules
from tests import tidy
from tests.system.virtual_fault_table import FAULTS
from tests.system.virtual_guest import OF_A_SLOW_MACHINE
from tests.system.virtual_power import OF_A_BOOT
from tests.system.virtual_tally import Row, table


def test_the_make_target_can_start() -> None:
    """One that cannot would be found out in the night in which it is needed."""
    command = [sys.executable, "-m", "tests.system.virtual_faults", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tidy.ROOT)

    assert done.returncode == 0, done.stderr
    assert "-m tests.system.virtual_faults" in (tidy.ROOT / "Makefile").read_text(encoding="utf-8")


def test_faults_expect_only_alerts_that_are_shipped() -> None:
    """A renamed rule must not turn into a missed fault, nor into an excuse that excuses nothing."""
    expected = {alert for fault in FAULTS for alert in (fault.alert, *fault.also)}
    expected |= {"FlushNotHonoured"} | OF_A_BOOT | OF_A_SLOW_MACHINE

    assert expected - {rule.alert for rule in load_rules().rules} == set()


def test_a_fault_that_was_named_and_cleared_alone_is_good() -> None:
    row = Row(
        name="md", expected="RaidDegraded of md0", named_seconds=3.0, verdict="at_risk", cleared_seconds=9.0
    )

    assert row.good
    assert table([row]).splitlines()[1:] == [
        f"{'md':40}{'RaidDegraded of md0':46}{'at_risk':14}     3 s      9 s      0",
        "missed: 0, not cleared: 0, false alarms: 0",
    ]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Row(name="md", expected="x"), "missed: 1, not cleared: 1, false alarms: 0"),
        (Row(name="md", expected="x", named_seconds=1.0), "missed: 0, not cleared: 1, false alarms: 0"),
        (
            Row(name="md", expected="x", named_seconds=1.0, cleared_seconds=1.0, false_alarms=["y of z"]),
            "missed: 0, not cleared: 0, false alarms: 1\ny of z",
        ),
    ],
)
def test_a_fault_that_was_missed_stayed_or_raised_a_false_alarm_is_not_good(row: Row, said: str) -> None:
    """Each of the three alone ends the run with 1."""
    assert not row.good
    assert table([row]).endswith(said)
