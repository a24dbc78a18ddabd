"""Nothing durable is lost, repeated or invented while broker, collector and agents are killed at random.

The broker keeps nothing on disk and the webhook refuses a tenth of its requests and leaves a twentieth unanswered, so
neither a PUBACK nor a POST can be trusted: only the chain spool → commit → acknowledgement → outbox carries the news.
"""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.broker import Broker
from tests.ports import free_port, listening
from tests.receiver import Receiver
from tests.system.job_agent import count
from tests.waiting import wait_for

AGENTS = 4
JOBS = 1_050
"""Per agent; 4,200 events together."""
ROUNDS = 21
RULES = """
rules:
  - alert: JobFailed
    id: T-01
    resource: service
    when: delta(unit_failed_total, "6h") > 0
    severity: ticket
    summary: "{node}: {unit_failed_last}"
"""


class Process:
    """A process of ours, killed by its id and started again as it was."""

    def __init__(self, name: str, arguments: list[str], log: Path) -> None:
        self.name = name
        self._arguments = arguments
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.getcwd()},
            )

    def stop(self, how: signal.Signals) -> None:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.name} ended by itself:\n{self._log.read_text()[-3000:]}"
        self._process.send_signal(how)
        self._process.wait(timeout=30)

    def restart(self) -> None:
        self.stop(signal.SIGKILL)
        self.start()


class JobAgent:
    """An agent whose jobs fail as fast as the test allows."""

    def __init__(self, node: str, folder: Path, broker: Broker) -> None:
        self.node = node
        self.folder = folder
        folder.mkdir()
        (folder / "allowed").write_text("0")
        config = folder / "agent.toml"
        config.write_text(
            f'node = "{node}"\nstate_dir = "{folder / "state"}"\ninterval = "1s"\n\n'
            f'[broker]\nurls = ["{broker.url}"]\n[witness]\nenabled = false\n'
        )
        self.process = Process(
            node, ["-m", "tests.system.job_agent", str(config), str(folder)], folder / "log"
        )

    def allow(self, jobs: int) -> None:
        temporary = self.folder / "allowed.new"
        temporary.write_text(str(jobs))
        temporary.replace(self.folder / "allowed")

    def wait_for_spooled(self, jobs: int) -> None:
        """Until that many events are confirmed to be in the spool."""
        wait_for(lambda: count(self.folder / "spooled") >= jobs, 60, f"{self.node} to spool {jobs}")

    def ledger(self, name: str) -> set[tuple[str, str]]:
        path = self.folder / name
        return {(self.node, line) for line in path.read_text().splitlines()} if path.exists() else set()


def collector_process(folder: Path, broker: Broker, receiver: Receiver) -> tuple[Process, int]:
    """The collector with one rule and one webhook."""
    port = free_port()
    rules = folder / "rules"
    rules.mkdir(parents=True)
    (rules / "jobs.yaml").write_text(RULES)
    config = folder / "collector.toml"
    config.write_text(
        f'data_dir = "{folder / "data"}"\n\n[mqtt]\nbrokers = ["{broker.url}"]\n\n'
        f'[http]\nlisten = "127.0.0.1:{port}"\n\n[rules]\nshipped = false\ndirectories = ["{rules}"]\n\n'
        f'[[receiver]]\nname = "hook"\nkind = "webhook"\nurl = "{receiver.url}/alert"\n'
    )
    arguments = ["-m", "holdfast_collector", "run", "--config", str(config)]
    return Process("collector", arguments, folder / "log"), port


class Told:
    """(node, job) → the keys under which its failure was told, kept up with what the receiver takes."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._read = 0
        self._keys: dict[tuple[str, str], set[str]] = {}

    def __call__(self) -> dict[tuple[str, str], set[str]]:
        posts = self._receiver.posts
        for post in posts[self._read :]:
            if post.taken:
                alert = post.json()
                place = (alert["node"], alert["resource"])
                self._keys.setdefault(place, set()).add(post.headers["idempotency-key"])
        self._read = len(posts)
        return self._keys


def spooled_messages(port: int, node: str) -> int:
    """What the collector last heard that the agent still holds."""
    with urlopen(f"http://127.0.0.1:{port}/api/v1/nodes/{node}", timeout=10) as answer:
        shown = json.loads(answer.read())
    facts = [resource["facts"] for resource in shown["resources"] if resource["kind"] == "node"]
    return int(facts[0]["spool_messages"])


@pytest.mark.system
def test_no_event_is_lost_repeated_or_invented_under_random_kills(tmp_path: Path) -> None:
    """4,200 events, 21 kills of a random part; each event is told under one key, and nothing else is told."""
    seed = int(os.environ.get("HOLDFAST_SEED", random.randrange(1_000_000)))
    rng = random.Random(seed)
    broker = Broker(tmp_path / "broker", lines=["persistence false", "max_queued_messages 0"]).start()
    with Receiver(refuse_ratio=0.10, drop_ratio=0.05, seed=seed) as receiver:
        told = Told(receiver)
        collector, port = collector_process(tmp_path / "collector", broker, receiver)
        agents = [JobAgent(f"vm-{number}", tmp_path / f"vm-{number}", broker) for number in range(AGENTS)]
        collector.start()
        for agent in agents:
            agent.process.start()
        try:
            for round_number in range(1, ROUNDS + 1):
                allowed = JOBS * round_number // ROUNDS
                watched = rng.choice(agents)
                for agent in agents:
                    agent.allow(allowed)
                some = rng.randint(count(watched.folder / "spooled"), allowed)
                watched.wait_for_spooled(some)
                rng.choice(
                    [broker.restart, collector.restart, *(agent.process.restart for agent in agents)]
                )()
            wait_for(lambda: listening(port), 60, "the collector to listen")
            for agent in agents:
                agent.wait_for_spooled(JOBS)
            spooled = set().union(*(agent.ledger("spooled") for agent in agents))
            begun = set().union(*(agent.ledger("begun") for agent in agents))
            wait_for(
                lambda: spooled <= told().keys(),
                240,
                lambda: f"{len(spooled - told().keys())} of {len(spooled)} to be told, seed {seed}",
            )
            wait_for(
                lambda: not any(spooled_messages(port, agent.node) for agent in agents), 60, "empty spools"
            )
        finally:
            for process in [*(agent.process for agent in agents), collector]:
                process.stop(signal.SIGTERM)
            broker.stop()

    found = told()
    assert len(spooled) == AGENTS * JOBS
    assert found.keys() <= begun, f"told and never happened: {sorted(found.keys() - begun)[:5]}, seed {seed}"
    assert {place: keys for place, keys in found.items() if len(keys) > 1} == {}, f"seed {seed}"
