"""`holdfast up` on the machine the test runs on: real facts of it, and nothing left behind."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests import needs
from tests.ports import free_port
from tests.waiting import wait_for

UP = [sys.executable, "-m", "holdfast", "up"]


@pytest.mark.system
@pytest.mark.parametrize("broker", ["mosquitto", "embedded"])
def test_up_shows_this_machine_and_ends_cleanly(tmp_path: Path, broker: str) -> None:
    """The first thing anybody tries."""
    if broker == "mosquitto":
        needs.tool("mosquitto", package="mosquitto")
    port = free_port()
    log = tmp_path / "out"
    with log.open("wb") as out:
        command = [*UP, "--data", str(tmp_path / "data"), "--port", str(port), "--broker", broker]
        running = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:

        def page() -> str:
            try:
                with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                    text: str = answer.read().decode()
            except OSError:
                return ""
            return text if "holdfast_volume_free_bytes{" in text else ""

        metrics = wait_for(page, 60, lambda: f"facts of this machine: {log.read_text()}")
    finally:
        running.terminate()
        status = running.wait(timeout=30)

    root = re.search(r'holdfast_volume_size_bytes\{[^}]*mountpoint="/"\} (\S+)', metrics)
    filesystem = os.statvfs("/")
    assert status == 0
    assert root is None or float(root[1]) == filesystem.f_blocks * filesystem.f_frsize
    assert log.read_text().rstrip().endswith("stopped")


def test_a_taken_port_is_named_with_the_cure(tmp_path: Path) -> None:
    """Exit code 2: the user can mend it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [*UP, "--data", str(tmp_path), "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, f"port {port} is taken" in done.stderr, "--port" in done.stderr) == (
        2,
        True,
        True,
    )
