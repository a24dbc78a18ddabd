"""What an agent costs its machine: memory, and CPU per cycle, beside node_exporter and collectd.

    python -m tests.bench.agent_footprint_bench [--seconds 120] [--services 40] [--venv DIR]

All subjects run at the same time with an interval of 10 s, so the machine's moods fall on all of them: the agent with
and without TLS, each with the shipped probes and a collector that acknowledges; node_exporter, scraped every 10 s; and
collectd with df, disk, processes and mqtt. The agent is the base install in a fresh virtual environment, for what else
is installed beside it (rich, above all) costs memory. Services come from a systemd of the bench's own where root allows
that (`tests/rigs/systemd_box.py`), else from the machine's.

Memory includes children. CPU is what the scheduler gave the process; a cycle is 10 s.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from msgspec import Struct

from tests.bench import collectd
from tests.bench.boxed_services import BoxedServices
from tests.bench.figures import MB, milliseconds, print_heading, print_table
from tests.bench.holdfast_parts import CollectorUnderTest, start_agent, start_broker
from tests.bench.processes import CpuMeter, Missing, Program, memory, tool
from tests.broker import Broker
from tests.ports import free_port
from tests.rigs.systemd_box import SystemdBox

ROOT = Path(__file__).parents[2]
INTERVAL_SECONDS = 10.0
SETTLE_CYCLES = 3


class Subject(Struct, frozen=True):
    """One process under measurement."""

    name: str
    program: Program


def base_install(folder: Path) -> Path:
    """A virtual environment with the base install of this tree; its `holdfast-agent`."""
    agent = folder / "bin" / "holdfast-agent"
    if not agent.exists():
        print(f"installing the agent into {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--disable-pip-version-check", str(ROOT)], check=True)
    return agent


def start_tls_broker(folder: Path) -> tuple[Broker, str, Path]:
    """One mosquitto with a plain and a TLS listener; the TLS address and whom to trust."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    folder.mkdir(parents=True, exist_ok=True)
    ca_file = folder / "authority.pem"
    authority.cert_pem.write_to_path(ca_file)
    certificate.private_key_pem.write_to_path(folder / "broker.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "broker.pem")
    port = free_port()
    listener = [
        "allow_anonymous true",
        "listener {port} 127.0.0.1",
        f"listener {port} 127.0.0.1",
        f"cafile {ca_file}",
        f"certfile {folder / 'broker.pem'}",
        f"keyfile {folder / 'broker.key'}",
    ]
    return start_broker(folder, listener=listener), f"mqtts://localhost:{port}", ca_file


@contextlib.contextmanager
def services(count: int, folder: Path, command: list[str]) -> Iterator[list[str]]:
    """Running systemd services to watch; the agent's command, wrapped so that it finds them."""
    try:
        box = SystemdBox(folder)
    except pytest.skip.Exception as missing:
        print(f"services of this machine's own systemd, if it has one: {missing}")
        yield command
        return
    with box:
        yield BoxedServices(box, count).watched_by(command)


@contextlib.contextmanager
def scraped(port: int) -> Iterator[None]:
    """Somebody scrapes the exporter once in a cycle."""
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(INTERVAL_SECONDS):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10.0).read()

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=15.0)


def start_exporter(folder: Path, port: int) -> Program:
    """node_exporter with its default collectors. Raises Missing."""
    command = [
        tool("prometheus-node-exporter", package="prometheus-node-exporter"),
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    return Program("node_exporter", command, folder=folder).wait_ready("Listening on")


def start_subjects(stack: contextlib.ExitStack, folder: Path, agent: list[str]) -> list[Subject]:
    """All that is installed, running side by side until the stack ends."""
    broker, tls_url, ca_file = start_tls_broker(folder / "tls")
    stack.callback(broker.stop)
    collector = CollectorUnderTest(folder / "collector", broker_url=broker.url)
    stack.callback(collector.stop)
    plain = start_agent(
        folder / "plain",
        broker_url=broker.url,
        command=agent,
        node="bench-plain",
    )
    subjects = [Subject("holdfast-agent", stack.enter_context(plain))]
    tls = start_agent(
        folder / "tls-agent",
        broker_url=tls_url,
        command=agent,
        node="bench-tls",
        ca_file=ca_file,
    )
    subjects.append(Subject("holdfast-agent, TLS", stack.enter_context(tls)))
    port = free_port()
    try:
        exporter = stack.enter_context(start_exporter(folder / "exporter", port))
        stack.enter_context(scraped(port))
        subjects.append(Subject("node_exporter, scraped every 10 s", exporter))
    except Missing as missing:
        print(f"left out: node_exporter: {missing}")
    try:
        peer = collectd.start_agent(
            folder / "collectd",
            broker_port=broker.port,
            interval_seconds=INTERVAL_SECONDS,
            processes=[*(f"service{number}" for number in range(39)), "sleep"],
        )
        subjects.append(Subject("collectd: df, disk, 40 processes, mqtt", stack.enter_context(peer)))
    except Missing as missing:
        print(f"left out: collectd: {missing}")
    return subjects


def measure(subjects: list[Subject], seconds: float) -> list[list[str]]:
    """A row per subject, after all had time to settle."""
    time.sleep(SETTLE_CYCLES * INTERVAL_SECONDS)
    for subject in subjects:
        assert subject.program.running, f"{subject.name} has ended:\n{subject.program.log}"
    meters = [CpuMeter(subject.program.pid) for subject in subjects]
    time.sleep(seconds)
    rows = []
    for subject, meter in zip(subjects, meters, strict=True):
        cpu, wall = meter.read()
        held = memory(subject.program.pid)
        rows.append(
            [
                subject.name,
                f"{held.rss / MB:.1f}",
                f"{held.pss / MB:.1f}",
                f"{held.private / MB:.1f}",
                milliseconds(cpu / wall * INTERVAL_SECONDS),
                f"{100 * cpu / wall:.3f} %",
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="how long to measure, after 30 s of settling"
    )
    parser.add_argument(
        "--services", type=int, default=40, help="in the bench's own systemd, where root allows one"
    )
    parser.add_argument("--venv", type=Path, help="keep the agent's environment there, and use what is there")
    asked = parser.parse_args()
    print_heading(f"Agent footprint: interval {INTERVAL_SECONDS:g} s, measured over {asked.seconds:g} s")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-")))
        agent = base_install(asked.venv or folder / "venv")
        command = stack.enter_context(services(asked.services, folder / "systemd", [str(agent)]))
        subjects = start_subjects(stack, folder, command)
        rows = measure(subjects, asked.seconds)
        print_table(["subject", "RSS MB", "PSS MB", "private MB", "CPU per cycle", "of a core"], rows)
    print(f"MB is 10⁶ bytes. Run as {'root' if os.geteuid() == 0 else 'an ordinary user'}.")


if __name__ == "__main__":
    main()
