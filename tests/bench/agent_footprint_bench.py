"""What an agent costs its machine: memory, CPU per cycle and bytes sent, beside node_exporter and collectd.

    python -m tests.bench.agent_footprint_bench [--mounts 200 --services 300] [--seconds 300] [--venv DIR]

All subjects run at the same time with an interval of 10 s, so the machine's moods fall on all of them. On an ordinary
machine of 40 services: the agent with and without TLS, each with the shipped probes and a collector that acknowledges;
node_exporter with its systemd collector, scraped every 10 s; collectd with df, disk, processes and mqtt; and, as what an agent
in Python can come down to, the MQTT library alone (`bare_client.py`). With
`--mounts` the same again, but for TLS, on a large one beside it. The machines are the bench's own (`boxed_machine.py`), and
nothing happens on them; where root allows none, the agent watches this one. The agent is the base install in a fresh
virtual environment, for what else is installed beside it (rich, above all) costs memory.

Memory includes children. CPU is what the scheduler gave the process; a cycle is 10 s. The probe of state paths looks every five
minutes, so anything under 300 s is measured with too much or too little of it.
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
from tests.bench.boxed_machine import BoxedMachine
from tests.bench.figures import MB, milliseconds, print_heading, print_table
from tests.bench.holdfast_parts import CollectorUnderTest, start_agent, start_broker
from tests.bench.processes import CpuMeter, Missing, Program, memory, tool
from tests.bench.traffic import Traffic
from tests.broker import Broker
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
INTERVAL_SECONDS = 10.0
SETTLE_CYCLES = 3


ORDINARY_SERVICES = 40


class Subject(Struct, frozen=True):
    """One process under measurement."""

    name: str
    program: Program
    nested: bool
    """Whether `nsenter` stays as its parent, and is none of its cost."""

    @property
    def pid(self) -> int:
        if not self.nested:
            return self.program.pid
        (child,) = Path(f"/proc/{self.program.pid}/task/{self.program.pid}/children").read_text().split()
        return int(child)


class Place(Struct, frozen=True):
    """Where subjects run."""

    name: str
    machine: BoxedMachine | None

    def running(self, command: list[str]) -> list[str]:
        return self.machine.running(command) if self.machine else command


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


def places(stack: contextlib.ExitStack, folder: Path, mounts: int, services: int) -> list[Place]:
    """The ordinary machine, and the large one where it is asked for."""
    try:
        ordinary = stack.enter_context(
            BoxedMachine(folder / "ordinary", mounts=0, services=ORDINARY_SERVICES)
        )
        found = [Place(f"{ORDINARY_SERVICES} services", ordinary)]
        if mounts or services != ORDINARY_SERVICES:
            large = stack.enter_context(BoxedMachine(folder / "large", mounts=mounts, services=services))
            found.append(Place(f"{mounts} mounts, {services} services", large))
    except pytest.skip.Exception as missing:
        print(f"this machine itself, for none of the bench's own can be: {missing}")
        return [Place("this machine", None)]
    return found


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


def start_exporter(folder: Path, place: Place, port: int) -> Program:
    """node_exporter with its default collectors, and systemd's where there is one of ours. Raises Missing."""
    command = [
        tool("prometheus-node-exporter", package="prometheus-node-exporter"),
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    if place.machine:
        command.append("--collector.systemd")
    return Program("node_exporter", place.running(command), folder=folder).wait_ready("Listening on")


class Bench:
    """All that runs while it is measured."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path, agent: str) -> None:
        self._stack, self._folder, self._agent = stack, folder, agent
        self._broker, self._tls_url, self._ca_file = start_tls_broker(folder / "tls")
        stack.callback(self._broker.stop)
        collector = CollectorUnderTest(folder / "collector", broker_url=self._broker.url)
        stack.callback(collector.stop)
        self.subjects: list[Subject] = []
        self.senders: dict[str, str] = {}

    def start(self, number: int, place: Place) -> None:
        """Every subject at this place; TLS at the first only."""
        self._start_agent(f"bench-{number}", place, tls=False)
        if number == 0:
            self._start_agent("bench-tls", place, tls=True)
            self._start_bare_client(place)
        for start in (self._start_exporter, self._start_collectd):
            try:
                start(number, place)
            except Missing as missing:
                print(f"left out: {missing}")

    def measure(self, seconds: float) -> list[list[str]]:
        """A row per subject, after all had time to settle."""
        with Traffic(self._broker.port, self.senders) as traffic:
            time.sleep(SETTLE_CYCLES * INTERVAL_SECONDS)
            for subject in self.subjects:
                assert subject.program.running, f"{subject.name} has ended:\n{subject.program.log}"
            meters = [CpuMeter(subject.pid) for subject in self.subjects]
            traffic.clear()
            time.sleep(seconds)
            return [
                _row(subject, meter, traffic) for subject, meter in zip(self.subjects, meters, strict=True)
            ]

    def _add(self, name: str, place: Place, program: Program) -> str:
        subject = Subject(
            f"{name}; {place.name}", self._stack.enter_context(program), place.machine is not None
        )
        self.subjects.append(subject)
        return subject.name

    def _start_agent(self, node: str, place: Place, *, tls: bool) -> None:
        folder = self._folder / node
        folder.mkdir(parents=True)
        program = start_agent(
            folder,
            broker_url=self._tls_url if tls else self._broker.url,
            command=[self._agent],
            node=node,
            ca_file=self._ca_file if tls else None,
            through=place.machine,
        )
        name = self._add("holdfast-agent, TLS" if tls else "holdfast-agent", place, program)
        self.senders[f"holdfast/v1/{node}/"] = name

    def _start_bare_client(self, place: Place) -> None:
        script = Path(__file__).with_name("bare_client.py")
        command = [
            str(Path(self._agent).with_name("python")),
            str(script),
            f"127.0.0.1:{self._broker.port}",
            "bench",
        ]
        program = Program("bare_client", place.running(command), folder=self._folder / "bare")
        name = self._add("Python and aiomqtt, nothing else", place, program.wait_ready("connected"))
        self.senders["bare/bench/"] = name

    def _start_exporter(self, number: int, place: Place) -> None:
        port = free_port()
        program = start_exporter(self._folder / f"exporter-{number}", place, port)
        self._add("node_exporter with systemd, scraped every 10 s", place, program)
        self._stack.enter_context(scraped(port))

    def _start_collectd(self, number: int, place: Place) -> None:
        program = collectd.start_agent(
            self._folder / f"collectd-{number}",
            broker_port=self._broker.port,
            interval_seconds=INTERVAL_SECONDS,
            processes=[*(f"service{count}" for count in range(39)), "sleep"],
            host=f"bench-{number}",
            through=place.machine,
        )
        name = self._add("collectd: df, disk, 40 processes, mqtt", place, program)
        self.senders[f"collectd/bench-{number}/"] = name


def _row(subject: Subject, meter: CpuMeter, traffic: Traffic) -> list[str]:
    cpu, wall = meter.read()
    held, sent = memory(subject.pid), traffic.sent(subject.name)
    return [
        subject.name,
        f"{held.rss / MB:.1f}",
        f"{held.pss / MB:.1f}",
        f"{held.private / MB:.1f}",
        milliseconds(cpu / wall * INTERVAL_SECONDS),
        f"{100 * cpu / wall:.3f} %",
        f"{sent.bytes / wall * 3600 / 1000:.0f} kB" if sent.messages else "–",
        f"{sent.report_bytes_min} B" if sent.report_bytes_min else "–",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--seconds", type=float, default=300.0, help="how long to measure, after 30 s of settling"
    )
    parser.add_argument("--mounts", type=int, default=0, help="of a large machine beside the ordinary one")
    parser.add_argument(
        "--services", type=int, default=ORDINARY_SERVICES, help="of the large machine; default: no large one"
    )
    parser.add_argument("--venv", type=Path, help="keep the agent's environment there, and use what is there")
    asked = parser.parse_args()
    print_heading(f"Agent footprint: interval {INTERVAL_SECONDS:g} s, measured over {asked.seconds:g} s")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-")))
        agent = base_install(asked.venv or folder / "venv")
        found = places(stack, folder, asked.mounts, asked.services)
        bench = Bench(stack, folder, str(agent))
        for number, place in enumerate(found):
            bench.start(number, place)
        rows = bench.measure(asked.seconds)
        columns = [
            "subject",
            "RSS MB",
            "PSS MB",
            "private MB",
            "CPU per cycle",
            "of a core",
            "sent per hour",
            "smallest report",
        ]
        print_table(columns, rows)
    print(f"MB is 10⁶ bytes. Run as {'root' if os.geteuid() == 0 else 'an ordinary user'}.")


if __name__ == "__main__":
    main()
