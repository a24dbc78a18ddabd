"""Our own processes as people run them: the installed commands with a configuration file, beside a real mosquitto."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.boxed_machine import BoxedMachine
from tests.bench.processes import Program, installed_command, tool
from tests.broker import Broker
from tests.ports import free_port
from tests.waiting import wait_for

# As in systemd/mosquitto/holdfast.conf, but for the certificates; nothing kept on disk, which holdfast does not need.
BROKER_LINES = (
    "persistence false",
    "set_tcp_nodelay true",
    "max_packet_size 263168",
    "max_inflight_messages 2000",
    "max_queued_messages 0",
)


def start_broker(folder: Path, *, listener: Sequence[str] | None = None) -> Broker:
    """A mosquitto set up as we ship it. Raises Missing."""
    tool("mosquitto", package="mosquitto")
    broker = Broker(folder / "broker", lines=BROKER_LINES, listener=listener, log_types=("error", "warning"))
    return broker.start()


class CollectorUnderTest:
    """`holdfast-collector run`. Ready when constructed: it serves, and holds a session with the broker."""

    def __init__(
        self,
        folder: Path,
        *,
        broker_url: str,
        webhook_url: str | None = None,
        rules_directories: Sequence[Path] = (),
        shipped_rules: bool = True,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        config = folder / "collector.toml"
        text = [
            f'data_dir = "{folder / "data"}"',
            "[mqtt]",
            f'brokers = ["{broker_url}"]',
            "[http]",
            f'listen = "127.0.0.1:{port}"',
            "[rules]",
            f"shipped = {str(shipped_rules).lower()}",
            f"directories = {json.dumps([str(one) for one in rules_directories])}",
        ]
        if webhook_url is not None:
            text += ["[[receiver]]", 'name = "bench"', 'kind = "webhook"', f'url = "{webhook_url}"']
        config.write_text("\n".join(text) + "\n", encoding="utf-8")
        self.program = Program(
            "collector",
            [installed_command("holdfast-collector"), "run", "--config", str(config)],
            folder=folder,
        )
        try:
            wait_for(self._ready, 60.0, lambda: f"the collector to be ready:\n{self.program.log}")
        except BaseException:
            self.program.stop()
            raise

    @property
    def pid(self) -> int:
        return self.program.pid

    def metric(self, name: str) -> float:
        """The sum of a family's samples on `/metrics`; 0 when there are none."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60.0) as reply:
            page = reply.read().decode()
        samples = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)", page, re.MULTILINE)
        return sum(map(float, samples))

    def stop(self) -> None:
        self.program.stop()

    def _ready(self) -> bool:
        assert self.program.running, f"the collector ended at once:\n{self.program.log}"
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5.0) as reply:
                return int(reply.status) == 200
        except (urllib.error.URLError, OSError):
            return False


def start_agent(
    folder: Path,
    *,
    broker_url: str,
    command: Sequence[str],
    node: str = "bench-agent",
    ca_file: Path | None = None,
    interval_seconds: float = 10.0,
    probes: Sequence[str] = (),
    witness: Sequence[str] = ("state_dir_only = true",),
    environment: Mapping[str, str] | None = None,
    through: BoxedMachine | None = None,
) -> Program:
    """`holdfast-agent run` as `command` starts it, on the machine `through` where there is one.

    `probes` are tables of the configuration, `[probes.NAME]`; `witness` the lines of its table, by default such that no
    other volume is written on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "agent.toml"
    text = [
        f'node = "{node}"',
        f'interval = "{interval_seconds:g}s"',
        f'state_dir = "{folder / "state"}"',
        "[broker]",
        f'urls = ["{broker_url}"]',
        *([f'ca_file = "{ca_file}"'] if ca_file else []),
        "[witness]",
        *witness,
        *probes,
    ]
    config.write_text("\n".join(text) + "\n", encoding="utf-8")
    started = [*command, "run", "--config", str(config)]
    if through is not None:
        through.share(folder, *([ca_file] if ca_file else []))
        started = through.running(started)
    return Program(node, started, folder=folder, environment=environment)
