"""What `make vm-test` expects exists. The guest itself takes minutes, and is not for every change."""

import subprocess
import sys

from holdfast_collector.packs import load_rules
from tests import tidy
from tests.system.virtual_fault_table import FAULTS


def test_the_make_target_can_start() -> None:
    """One that cannot would be found out in the night in which it is needed."""
    command = [sys.executable, "-m", "tests.system.virtual_faults", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tidy.ROOT)

    assert done.returncode == 0, done.stderr
    assert "-m tests.system.virtual_faults" in (tidy.ROOT / "Makefile").read_text(encoding="utf-8")


def test_faults_expect_only_alerts_that_are_shipped() -> None:
    """A renamed rule must not turn into a missed fault."""
    expected = {alert for fault in FAULTS for alert in (fault.alert, *fault.also)}

    assert expected
    assert expected - {rule.alert for rule in load_rules().rules} == set()
