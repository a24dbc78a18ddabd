"""The page of benches and the benches themselves: nobody looks for a figure in vain, and every command starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs

FOLDER = Path(__file__).parent
BENCHES = sorted(path.stem for path in FOLDER.glob("*_bench.py"))
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_page_lists_exactly_the_benches_there_are() -> None:
    named = [line.partition("tests.bench.")[2].partition("`")[0] for line in PAGE.splitlines()]

    assert sorted(filter(None, named)) == BENCHES


def test_page_says_what_every_other_file_is() -> None:
    others = {path.name for path in FOLDER.glob("*.py")} - {f"{bench}.py" for bench in BENCHES}
    unsaid = {name for name in others - {"__init__.py", Path(__file__).name} if f"`{name}`" not in PAGE}

    assert unsaid == set()


@pytest.mark.parametrize("bench", BENCHES)
def test_bench_explains_itself(bench: str) -> None:
    """Also: it imports, which a change elsewhere may break long before anybody runs it."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.bench.{bench}", "--help"],
        cwd=FOLDER.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout.startswith("usage: ")) == (0, True), done.stderr


def test_faults_bench_tells_who_noticed_a_fault() -> None:
    """One fault in a hurry, from the boot of its machine to the table. Peers that are not installed are left out."""
    needs.root()
    hurry = ["--warm=4", "--watch=3", "--mend=1", "--silence=0", "--boot=0"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.faults_bench", "--faults=service-dies", *hurry],
        cwd=FOLDER.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )

    needs.condition("skipped:" not in done.stdout, done.stdout.partition("skipped: ")[2].strip())
    assert done.returncode == 0, done.stderr
    assert "| a service dies and stays dead | ServiceFailed" in done.stdout, done.stdout
