"""A real collector process of a test's own, and an agent that speaks to it by hand."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from holdfast_collector.core.record import State
from holdfast_collector.ingest.mqtt import Delivery, Session, SessionOptions
from holdfast_collector.store.sqlite import SqliteStore
from holdfast_wire import Ack, Acknowledgement, UpMessage, content_digest, decode_down, encode
from holdfast_wire.topic import down_topic, up_topic
from tests.collector.fleet import Agent
from tests.ports import free_port
from tests.waiting import wait_for, wait_until

ROOT = Path(__file__).parents[2]
RULES = """
rules:
  - {alert: JobFailed, id: T-01, resource: service, when: 'delta(unit_failed_total, "6h") > 0', severity: ticket,
     summary: "{node}: {unit_failed_last}"}
"""


class CollectorProcess:
    """`holdfast-collector run` with its own folder, port and rules; started, killed and started again."""

    def __init__(
        self,
        folder: Path,
        broker_url: str,
        *,
        receivers: str = "",
        data_dir: Path | None = None,
        rules: str = RULES,
    ) -> None:
        self.folder = folder
        self.data_dir = data_dir or folder / "data"
        self.database = self.data_dir / "collector.db"
        self.config = folder / "collector.toml"
        self.rules = folder / "rules.d" / "own.yaml"
        self.url = f"http://127.0.0.1:{free_port()}"
        self._broker_url = broker_url
        self._process: subprocess.Popen[bytes] | None = None
        self._log_path = folder / "collector.log"
        self.rules.parent.mkdir(parents=True, exist_ok=True)
        self.rules.write_text(rules)
        self.configure(receivers)

    def configure(self, receivers: str, more: str = "") -> None:
        """Write the configuration anew."""
        self.config.write_text(
            f'data_dir = "{self.data_dir}"\n[mqtt]\nbrokers = ["{self._broker_url}"]\n'
            f'[http]\nlisten = "{self.url.removeprefix("http://")}"\n'
            f'[rules]\nshipped = false\ndirectories = ["{self.rules.parent}"]\n{more}\n{receivers}\n'
        )

    def start(
        self, *, module: Sequence[str] = ("holdfast_collector",), environment: dict[str, str] | None = None
    ) -> None:
        """Start, without waiting for anything. `module` may wrap the command."""
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *module, "run", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
            )

    def wait_ready(self) -> None:
        """Until it does its whole work."""
        wait_for(lambda: self.ask("/readyz")[0] == 200, what=lambda: f"readiness; the log says:\n{self.text}")

    def send(self, which: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(which)

    def wait(self) -> int:
        """Until it has ended; its exit code, negative for a signal."""
        assert self._process is not None
        code = self._process.wait(timeout=30)
        self._process = None
        return code

    @property
    def dead(self) -> bool:
        """It has ended, or was never started."""
        return self._process is None or self._process.poll() is not None

    def end(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        """End it if it runs."""
        if self._process is None:
            return None
        self.send(how)
        return self.wait()

    def ask(self, path: str) -> tuple[int, str]:
        """GET a page: status and body; status 0 when nobody answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return 0, ""

    def stored(self) -> State:
        """What is in its database, read by somebody else."""
        store = SqliteStore.open(self.database)
        try:
            return store.load(events_since=0.0, resolved_since=0.0).state
        finally:
            store.close()

    @property
    def text(self) -> str:
        return self._log_path.read_text() if self._log_path.exists() else ""

    def log(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one event so far."""
        lines = [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


class Hand(Agent):
    """An agent led by hand: it sends what it is told, and notes which messages were acknowledged."""

    def __init__(self, session: Session, node: str = "n1") -> None:
        super().__init__(node)
        self.session = session
        self.polls = 0
        self.acknowledged: list[Acknowledgement] = []

    def heard(self, delivery: Delivery) -> None:
        message = decode_down(delivery.payload)
        if isinstance(message, Ack):
            self.acknowledged.extend(message.messages)
        if delivery.receipt:
            self.session.acknowledge([delivery.receipt])

    def send(self, message: UpMessage) -> None:
        """Publish once; a loss is no concern of this call."""
        self.session.publish(up_topic(self.node), encode(message)).add_done_callback(
            lambda future: future.cancelled() or future.exception()
        )

    def has_ack(self, message: UpMessage) -> bool:
        digest = content_digest(encode(message))
        return Acknowledgement(message.epoch, message.seq, digest) in self.acknowledged

    def urge(self, messages: Sequence[UpMessage]) -> bool:
        """What an agent does with durable messages: send them again now and then. Whether all are acknowledged.

        To be asked as the condition of a wait.
        """
        waiting = [message for message in messages if not self.has_ack(message)]
        self.polls += 1
        if self.polls % 25 == 1:
            for message in waiting:
                self.send(message)
        return not waiting

    async def deliver(self, *messages: UpMessage) -> None:
        """Send them until they are acknowledged."""
        self.polls = 0
        await wait_until(lambda: self.urge(messages), what="an acknowledgement")


@contextlib.asynccontextmanager
async def hand(broker_url: str, node: str = "n1") -> AsyncIterator[Hand]:
    """An agent led by hand, connected for the length of the block."""
    session = Session(
        SessionOptions(
            brokers=[broker_url],
            client_id=f"hand-{node}",
            filters=[down_topic(node)],
            backoff_seconds_max=0.1,
        ),
        delivered=lambda delivery: made.heard(delivery),
    )
    made = Hand(session, node)
    task = asyncio.create_task(session.run())
    await wait_until(lambda: session.connected)
    try:
        yield made
    finally:
        session.stop()
        await task
