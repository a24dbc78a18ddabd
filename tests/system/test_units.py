"""The systemd units: systemd itself understands them, and they give away no more than they must."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast_agent.probes.device_answers_linux import FOLDER, PERIOD_SECONDS
from tests import needs

pytestmark = pytest.mark.system

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNITS = ["holdfast-agent.service", "holdfast-collector.service", "holdfast-devices.service"]


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = needs.tool("systemd-analyze", package="systemd")
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, env={"LC_ALL": "C.UTF-8"}
    )


@pytest.mark.parametrize(
    ("unit", "exposure_max"),
    [
        ("holdfast-agent.service", 2.5),
        ("holdfast-collector.service", 1.5),
        ("holdfast-devices.service", 1.5),
    ],
)
def test_unit_is_no_more_exposed_than_promised(unit: str, exposure_max: float) -> None:
    """systemd's own score from 0 (nothing it could break) to 10; an unhardened service has 9.6."""
    done = analyze("security", "--offline=yes", "--no-pager", str(SYSTEMD / unit))
    said = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)

    assert said is not None, done.stdout + done.stderr
    assert float(said[1]) <= exposure_max, done.stdout


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_no_fault_with_the_unit(unit: str, tmp_path: Path) -> None:
    """The program's place is replaced by one that exists here: systemd looks whether it is executable."""
    text = (SYSTEMD / unit).read_text(encoding="utf-8")
    installed = re.sub(r"/opt/holdfast/bin/\S+", sys.executable, text)
    (tmp_path / unit).write_text(installed, encoding="utf-8")
    done = analyze("verify", str(tmp_path / unit))

    assert installed != text
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_misspelt_setting_would_be_found(tmp_path: Path) -> None:
    """What the test above relies on: systemd only warns of settings it does not know."""
    text = (SYSTEMD / UNITS[0]).read_text(encoding="utf-8").replace("NoNewPrivileges", "NoNewPriviliges")
    (tmp_path / UNITS[0]).write_text(text, encoding="utf-8")
    done = analyze("verify", str(tmp_path / UNITS[0]))

    assert "NoNewPriviliges" in done.stdout + done.stderr


def test_the_timer_is_one_that_systemd_takes(tmp_path: Path) -> None:
    for name in ("holdfast-devices.service", "holdfast-devices.timer"):
        text = (SYSTEMD / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(re.sub(r"/opt/holdfast/bin/\S+", sys.executable, text), encoding="utf-8")
    done = analyze("verify", str(tmp_path / "holdfast-devices.timer"))

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_timer_asks_as_often_as_the_agent_expects() -> None:
    """An agent that takes answers for old before new ones can be there would call its own helper dead."""
    timer = (SYSTEMD / "holdfast-devices.timer").read_text(encoding="utf-8")
    unit = (SYSTEMD / "holdfast-devices.service").read_text(encoding="utf-8")

    assert f"OnUnitActiveSec={PERIOD_SECONDS / 60:g}min" in timer
    assert f"/{FOLDER}\n" in unit
    assert f"RuntimeDirectory={FOLDER.name}\n" in unit
