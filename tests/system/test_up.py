"""`holdfast up` on the machine the test runs on: real facts of it, every part ended, and nothing left elsewhere."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests import needs
from tests.ports import free_port, listening
from tests.waiting import wait_for

pytestmark = pytest.mark.system

UP = [sys.executable, "-m", "holdfast", "up"]
PARTS = ["broker", "collector", "agent"]
NOBODY = 65534


class Up:
    """One `holdfast up` in the background."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.data = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "out"
        with self._log.open("ab") as out:
            self.process = subprocess.Popen(
                [*UP, "--data", str(self.data), "--port", str(self.port), *options],
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def until(self, words: str) -> None:
        """Wait for something to be said."""
        wait_for(
            lambda: words in self.said or self.process.poll() is not None, 90, lambda: f"{words}: {self.said}"
        )
        assert words in self.said, self.said

    def get(self, path: str) -> str:
        with urlopen(self.url + path, timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout=60)

    def pid_of(self, part: str) -> int:
        """The running part's process id, by its command line."""
        if part == "broker":
            # mosquitto is known by its configuration, the embedded broker by its port, which all are told.
            broker_port = self.said.partition("--broker mqtt://127.0.0.1:")[2].split()[0]
            wanted = f"broker_embedded\0{broker_port}" if "amqtt" in self.said else str(self.data / "broker")
        else:
            wanted = str(self.data / f"{part}.toml")
        found = [
            int(entry.name)
            for entry in Path("/proc").glob("[0-9]*")
            if wanted in _command(entry) and int(entry.name) != self.process.pid
        ]
        assert len(found) == 1, (part, found, self.said)
        return found[0]


def _command(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def gone(pid: int) -> bool:
    """Whether a process is no more, or only waits to be reaped."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*options: str) -> Up:
        started.append(Up(tmp_path, *options))
        return started[-1]

    yield start
    for each in started:
        each.end(signal.SIGKILL if each.process.poll() is None else signal.SIGTERM)


@pytest.mark.parametrize("broker", ["mosquitto", "embedded"])
def test_up_shows_this_machine_and_ends_cleanly(up: Callable[..., Up], broker: str) -> None:
    """The first thing anybody tries: real facts on every page, and afterwards nothing runs."""
    if broker == "mosquitto":
        needs.tool("mosquitto", package="mosquitto")
    running = up("--broker", broker)
    running.until("page       ")
    metrics = running.get("/metrics")
    page = running.get("/")
    [node] = running.json("/api/v1/nodes")["nodes"]
    volumes = [
        row["facts"]
        for row in running.json(f"/api/v1/nodes/{node['node']}")["resources"]
        if row["kind"] == "volume"
    ]
    status = running.end()

    # Other tests mount and unmount meanwhile, some where only root may look; what is seen must be told truly.
    sizes = {
        facts["mountpoint"]: facts["size_bytes"]
        for facts in volumes
        if "size_bytes" in facts and os.path.ismount(facts["mountpoint"])
    }
    assert sizes
    assert sizes == {
        mountpoint: (found := os.statvfs(mountpoint)).f_blocks * found.f_frsize for mountpoint in sizes
    }
    assert all(f'mountpoint="{mountpoint}"' in metrics for mountpoint in sizes)
    assert f'holdfast_node_up{{node="{node["node"]}"}} 1' in metrics
    assert node["node"] in page
    assert node["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (status, running.said.splitlines()[-1], listening(running.port)) == (0, "stopped", False)


def test_the_embedded_broker_hangs_up_on_mqtt_5_at_once(tmp_path: Path) -> None:
    """Left alone, amqtt waits for ever for the rest of such a CONNECT, and each part waits 5 s before it asks again."""
    port = free_port()
    connect = b"\x10\x10\x00\x04MQTT\x05\x02\x00\x1e\x00\x00\x03abc"
    process = subprocess.Popen([sys.executable, "-m", "holdfast.broker_embedded", str(port)])
    try:
        wait_for(lambda: listening(port), what="the broker to listen")
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            client.sendall(connect)
            answer = client.recv(100)
    finally:
        process.terminate()
        status = process.wait(timeout=30)

    assert (answer, status) == (b"", 0)


def test_metrics_of_this_machine_satisfy_promtool(up: Callable[..., Up]) -> None:
    promtool = needs.tool("promtool", package="prometheus")
    running = up()
    running.until("page       ")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=running.get("/metrics"),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_ends_by_itself_after_the_time_it_is_given(up: Callable[..., Up]) -> None:
    running = up("--for", "1s")
    status = running.process.wait(timeout=90)

    assert (status, running.said.splitlines()[-1]) == (0, "stopped")
    assert re.search(r"^\d\d:\d\d:\d\d 1 node reports; here ", running.said, re.MULTILINE), running.said


def test_the_commands_it_prints_can_be_run_as_printed(up: Callable[..., Up]) -> None:
    """In a clone `holdfast` is not on the PATH, and a hint that cannot be pasted is the first thing that fails."""
    running = up()
    running.until("more nodes ")
    running.until("report")
    printed = dict(re.findall(r"^(alerts|more nodes) +(\S.*)$", running.said, re.MULTILINE))
    alerts = subprocess.run(printed["alerts"], shell=True, capture_output=True, text=True, check=False)
    nodes = subprocess.run(
        f"{printed['more nodes']} --nodes 3 --interval 1s --for 2s",
        shell=True,
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (alerts.returncode in {0, 1}, alerts.stderr) == (True, "")
    assert alerts.stdout
    assert (nodes.returncode, nodes.stdout.startswith("3 connected")) == (0, True), (
        nodes.stdout + nodes.stderr
    )


def test_parts_end_in_order_and_with_goodbyes(up: Callable[..., Up]) -> None:
    """The agent's goodbye needs the broker, and the collector's last commit needs nobody after it."""
    running = up()
    running.until("page       ")
    pids = [running.pid_of(part) for part in PARTS]
    status = running.end(signal.SIGINT)
    next_time = up("--for", "1s")
    next_time.process.wait(timeout=90)
    stopped = next_time.said

    assert (status, [gone(pid) for pid in pids]) == (0, [True] * 3)
    assert "was killed" not in stopped
    assert "AgentStoppedWithoutNotice" not in stopped


def test_all_it_writes_is_below_its_folder(tmp_path: Path, up: Callable[..., Up]) -> None:
    """Trying it leaves nothing on anybody's disks."""
    before = {path for path in tmp_path.rglob("*") if "data" not in path.parts}
    running = up("--for", "1s")
    pids: list[int] = []
    running.until("page       ")
    pids += [running.pid_of(part) for part in PARTS]
    open_files = {
        os.readlink(link)
        for pid in pids
        for link in (Path("/proc") / str(pid) / "fd").iterdir()
        if _real(link)
    }
    status = running.process.wait(timeout=90)

    written = {
        path for path in open_files if path.startswith("/") and not path.startswith(("/dev/", "/proc/"))
    }
    outside = {path for path in written if not path.startswith(f"{running.data}/")}
    after = {path for path in tmp_path.rglob("*") if "data" not in path.parts}
    assert status == 0
    assert written
    assert {path for path in outside if os.access(path, os.W_OK) and _regular(path)} == set()
    assert after - before == {tmp_path / "out"}
    shutil.rmtree(running.data)


def _real(link: Path) -> bool:
    """A descriptor open for writing: bit 1 or 2 of the flags (proc_pid_fdinfo(5))."""
    try:
        flags = (link.parent.parent / "fdinfo" / link.name).read_text().split("flags:")[1].split()[0]
    except OSError:
        return False
    return bool(int(flags, 8) & 0o3)


def _regular(path: str) -> bool:
    return Path(path).is_file()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_dies_is_named_with_its_last_words(up: Callable[..., Up], part: str) -> None:
    """Exit code 1: no half of it goes on pretending."""
    running = up()
    running.until("page       ")
    pids = {name: running.pid_of(name) for name in PARTS}
    os.kill(pids[part], signal.SIGKILL)
    status = running.process.wait(timeout=60)

    assert (status, {name: gone(pid) for name, pid in pids.items()}) == (1, dict.fromkeys(PARTS, True))
    assert f"the {part} ended by itself (killed by SIGKILL)" in running.said
    assert str(running.data / "log" / f"{part}.log") in running.said


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
def test_a_killed_up_leaves_nothing_running(up: Callable[..., Up]) -> None:
    running = up()
    running.until("page       ")
    pids = [running.pid_of(part) for part in PARTS]
    running.end(signal.SIGKILL)
    wait_for(lambda: all(gone(pid) for pid in pids), what="the children to end")

    assert not listening(running.port)


def test_a_second_one_in_the_same_folder_is_refused(up: Callable[..., Up]) -> None:
    running = up()
    running.until("broker     ")
    second = subprocess.run(
        [*UP, "--data", str(running.data), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert second.returncode == 2
    assert f"another `holdfast up` uses {running.data}" in second.stderr
    assert "--data" in second.stderr


def test_a_taken_port_is_named_with_its_owner_and_the_cure(tmp_path: Path) -> None:
    """Exit code 2: the user can mend it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [*UP, "--data", str(tmp_path / "data"), "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert f"port {port} is taken by " in done.stderr
    assert f"pid {os.getpid()} " in done.stderr.replace(")", " ").replace(";", " ")
    assert "--port" in done.stderr


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    command = [*UP, "--data", str(tmp_path / "file" / "data"), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, "cannot write to" in done.stderr, "--data" in done.stderr) == (2, True, True)


def test_without_root_it_runs_and_says_what_it_cannot_see(tmp_path: Path) -> None:
    """Nobody should need root to have a look, nor be left to believe that everything was looked at."""
    needs.root()
    setpriv = needs.tool("setpriv", package="util-linux")
    folder = tmp_path / "home"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    # The one right that is left lets it reach interpreter and folder, which may lie in root's home.
    kept = "-all,+dac_read_search"
    command = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    command += [f"--inh-caps={kept}", f"--ambient-caps={kept}", f"--bounding-set={kept}"]
    command += [*UP, "--data", str(folder / "data"), "--port", "0", "--for", "1s"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)
    restricted = Path("/proc/sys/kernel/dmesg_restrict").read_text().strip() == "1"

    assert done.returncode == 0, done.stdout + done.stderr
    assert "without root" in done.stdout
    assert re.search(r"^sees       \d+ volume", done.stdout, re.MULTILINE), done.stdout
    assert ("cannot see kernel_log: " in done.stdout) == restricted
