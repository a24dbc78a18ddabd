"""The disk that lies is convicted and no other, whenever the power goes."""

import os
import random
import sys
from pathlib import Path

import pytest

from tests.system.power_cuts import run, table

ROUNDS = 5


@pytest.mark.system
def test_power_cuts_convict_the_disk_that_lies_and_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twelve disks, four kinds under three filesystems; `python -m tests.system.power_cuts` goes on for longer."""
    seed = int(os.environ.get("HOLDFAST_SEED", random.randrange(1_000_000)))
    trial = run(tmp_path, ROUNDS, seed, lambda tallies, number: None)
    with capsys.disabled():
        sys.stdout.write(f"\nseed {seed}\n{table(trial.tallies)}\n")

    assert trial.told == [], f"seed {seed}"
