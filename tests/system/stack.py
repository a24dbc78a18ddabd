"""The whole product as people run it: a real broker, the collector, agents, each a process of its own.

    with Receiver() as hook, Stack(tmp_path, receivers=[webhook(hook)]) as stack:
        agent = stack.agent("vm-1").start()
        stack.wait(lambda: stack.collector.firing(alertname="VolumeDead"), "the alert")
        agent.kill()

Everything is made below one folder: configurations, state, logs. Processes are ended by their own id, at the end of
the block at the latest. A wait that fails shows the end of every log, and fails at once when a process ended unasked.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from holdfast_rules import duration
from tests.broker import Broker
from tests.ports import free_port
from tests.receiver import Receiver
from tests.waiting import TIMEOUT_SECONDS, wait_for

BROKER_LINES = (
    "persistence false",
    "set_tcp_nodelay true",
    "max_inflight_messages 0",
    "max_queued_messages 0",
)
"""As in systemd/mosquitto/holdfast.conf, and nothing kept on disk: the product must not need that."""
STOP_SECONDS = 5.0
"""The product's promise to whoever stops its services, and to a machine that shuts down."""
_TAIL_BYTES = 3000

Found = TypeVar("Found")


def command(name: str) -> str:
    """One of our commands, as installed beside the running Python."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found is not None, (
        f"{name} is not installed beside {sys.executable}: pip install -e '.[collector]'"
    )
    return found


def environment(**added: str) -> dict[str, str]:
    """Our own environment without what would configure the product or talk to a service manager."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HOLDFAST__")}
    for key in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"):
        kept.pop(key, None)
    return kept | added


class Child:
    """A process that can be started again and again. What it says goes to one file, over all its runs."""

    def __init__(
        self, name: str, arguments: Sequence[str], folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.arguments = list(arguments)
        self.log_path = folder / f"{name}.log"
        self._environment = environment(**(env or {}))
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int:
        """The running process. Fails when there is none."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def ended_unasked(self) -> bool:
        """It was started, and ended before anybody ended it."""
        return self._process is not None and self._process.poll() is not None

    @property
    def log(self) -> str:
        """All it has said so far, over every run."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def said(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of one event, oldest first."""
        found = []
        for line in self.log.splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # a traceback, or a line cut short by a kill
            if isinstance(row, dict) and row.get("event") == event:
                found.append(row)
        return found

    def start(self) -> Self:
        assert not self.running, f"{self.name} runs already"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                # A terminal's Ctrl-C must reach the test only, which then ends its processes in order.
                start_new_session=True,
            )
        return self

    def kill(self) -> None:
        """SIGKILL: what it held in memory is gone."""
        self._end(signal.SIGKILL, 30.0)

    def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM; the exit code. Raises AssertionError when it has not ended in time."""
        return self._end(signal.SIGTERM, timeout)

    def send(self, number: signal.Signals) -> None:
        """Any signal, e.g. SIGHUP, or SIGSTOP for a process that hangs."""
        os.kill(self.pid, number)

    def close(self) -> None:
        """End it in whatever state it is; nothing when it does not run."""
        if not self.running:
            self._process = None
            return
        self.send(signal.SIGCONT)
        try:
            self.stop()
        except AssertionError:
            self.kill()

    def _end(self, how: signal.Signals, timeout: float) -> int:
        assert self._process is not None, f"{self.name} is not running"
        assert self.running, f"{self.name} ended by itself, with {self._process.returncode}:\n{self.log}"
        self._process.send_signal(how)
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} runs {timeout:g} s after {how.name}:\n{self.log}") from None
        self._process = None
        return code


class Collector(Child):
    """`holdfast-collector run`, and what it serves."""

    def __init__(
        self,
        folder: Path,
        broker_url: str,
        *,
        receivers: Sequence[str] = (),
        rules: Path | None = None,
        shipped_rules: bool = True,
        lines: Sequence[str] = (),
    ) -> None:
        """`receivers` are `[[receiver]]` tables; `rules` a folder of packs; `lines` go to the top of the file."""
        self.folder = folder
        self.config = folder / "collector.toml"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__(
            "collector", [command("holdfast-collector"), "run", "--config", str(self.config)], folder
        )
        directories = json.dumps([str(rules)] if rules else [])
        text = [
            *lines,
            f'data_dir = "{folder / "data"}"',
            "[mqtt]",
            f'brokers = ["{broker_url}"]',
            "[http]",
            f'listen = "127.0.0.1:{self.port}"',
            "[rules]",
            f"shipped = {str(shipped_rules).lower()}",
            f"directories = {directories}",
            *receivers,
        ]
        self.config.write_text("\n".join(text) + "\n", encoding="utf-8")

    def start(self) -> Self:
        """Run; returns when it serves and has its broker."""
        super().start()
        wait_for(lambda: self.ready or not self.running, what=lambda: f"readiness:\n{self.log}")
        assert self.running, f"the collector ended at once:\n{self.log}"
        return self

    @property
    def ready(self) -> bool:
        try:
            self.page("/readyz")
        except (HTTPError, URLError, OSError):
            return False
        return True

    @property
    def warm(self) -> bool:
        """It has watched for a full grace period: from now on alerts can resolve and nodes be called silent."""
        return bool(self.get("/api/v1/status")["health"]["warm"])

    def page(self, path: str, accept: str = "*/*") -> tuple[str, str]:
        """(content type, text). Raises HTTPError, URLError."""
        with urlopen(Request(self.url + path, headers={"accept": accept}), timeout=10) as reply:
            return reply.headers["content-type"], reply.read().decode()

    def get(self, path: str) -> Any:
        """The JSON at a path of the API."""
        return json.loads(self.page(path)[1])

    def post(self, path: str, body: Any) -> Any:
        """The JSON that answers a JSON body."""
        request = Request(
            self.url + path,
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
            method="POST",
        )
        with urlopen(request, timeout=10) as reply:
            return json.loads(reply.read())

    def alerts(self, **fields: str) -> list[dict[str, Any]]:
        """Pending, firing and resolved alerts, as far as their fields are these."""
        return matching(self.get("/api/v1/alerts?limit=10000")["alerts"], fields)

    def firing(self, **fields: str) -> list[dict[str, Any]]:
        return self.alerts(state="firing", **fields)

    def node(self, name: str) -> dict[str, Any] | None:
        """All that is known of a node; None while it is not known."""
        try:
            found: dict[str, Any] = self.get(f"/api/v1/nodes/{name}")
        except HTTPError as error:
            if error.code == 404:
                return None
            raise
        return found

    def facts(self, node: str, kind: str, resource: str) -> dict[str, Any]:
        """The fresh facts of a resource; empty while there are none."""
        shown = (self.node(node) or {}).get("resources", [])
        return next((r["facts"] for r in shown if (r["kind"], r["name"]) == (kind, resource)), {})

    def metric(self, name: str, **labels: str) -> float | None:
        """A sample of `/metrics` by its name and some of its labels; None when there is none."""
        for line in self.page("/metrics")[1].splitlines():
            found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if found is None:
                continue
            has = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[1] or ""))
            if labels.items() <= has.items():
                return float(found[2])
        return None


class Agent(Child):
    """`holdfast-agent run` under the name of a node."""

    def __init__(
        self,
        node: str,
        folder: Path,
        broker_url: str,
        *,
        tables: Sequence[str] = (),
        wrap: Callable[[list[str]], list[str]] = list,
    ) -> None:
        """`tables` are tables of the configuration, e.g. `[probes.NAME]`; `wrap` puts a command before ours."""
        self.node = node
        self.folder = folder
        self.config = folder / "agent.toml"
        super().__init__(node, wrap([command("holdfast-agent"), "run", "--config", str(self.config)]), folder)
        text = [
            f'node = "{node}"',
            'interval = "1s"',
            f'state_dir = "{folder / "state"}"',
            "[broker]",
            f'urls = ["{broker_url}"]',
            'keepalive = "5s"',
            'will_delay = "0s"',
            # Tests of the witness bring a table of their own; the others leave the machine's volumes alone.
            *(
                []
                if any(table.startswith("[witness]") for table in tables)
                else ["[witness]", "enabled = false"]
            ),
            *tables,
        ]
        self.config.write_text("\n".join(text) + "\n", encoding="utf-8")


class Stack:
    """Broker, collector and agents, until the block ends. The first two run inside it, agents when started."""

    def __init__(
        self,
        folder: Path,
        *,
        receivers: Sequence[str] = (),
        rules: Path | None = None,
        shipped_rules: bool = True,
    ) -> None:
        self.folder = folder
        self.broker = Broker(folder / "broker", lines=BROKER_LINES)
        self.collector = Collector(
            folder / "collector",
            self.broker.url,
            receivers=receivers,
            rules=rules,
            shipped_rules=shipped_rules,
        )
        self.agents: dict[str, Agent] = {}

    def agent(
        self,
        node: str,
        *,
        tables: Sequence[str] = (),
        wrap: Callable[[list[str]], list[str]] = list,
        label: str = "",
    ) -> Agent:
        """An agent of this stack, not started yet. `label` tells agents apart that go by one node's name."""
        agent = Agent(node, self.folder / (label or node), self.broker.url, tables=tables, wrap=wrap)
        self.agents[label or node] = agent
        return agent

    def wait(
        self, condition: Callable[[], Found | None], what: str, timeout: float = TIMEOUT_SECONDS
    ) -> Found:
        """`wait_for`, with every log in the failure."""

        def watched() -> Found | None:
            for child in (self.collector, *self.agents.values()):
                assert not child.ended_unasked, f"{child.name} ended by itself:\n{child.log[-_TAIL_BYTES:]}"
            return condition()

        return wait_for(watched, timeout, lambda: f"{what}\n{self.tails()}")

    def wait_reported(self, node: str, probe: str) -> None:
        """Until the collector holds what a probe of the node says."""
        self.wait(lambda: self._working(node, probe), f"what {probe} says on {node}")

    def wait_warm(self) -> None:
        """Until the collector lets alerts resolve: half a minute after its start."""
        self.wait(lambda: self.collector.warm, "the collector to be warm", 90.0)

    def tails(self) -> str:
        """The end of every log."""
        return "\n".join(
            f"--- {child.name}\n{child.log[-_TAIL_BYTES:]}"
            for child in (self.collector, *self.agents.values())
        )

    def _working(self, node: str, probe: str) -> bool:
        sections = (self.collector.node(node) or {}).get("sections", [])
        return any(s["probe"] == probe and s["status"] == "ok" and not s["stale"] for s in sections)

    def __enter__(self) -> Self:
        self.broker.start()
        try:
            self.collector.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for agent in self.agents.values():
            agent.close()
        self.collector.close()
        self.broker.stop()


def webhook(receiver: Receiver, name: str = "webhook") -> str:
    """The `[[receiver]]` table of a webhook."""
    return f'[[receiver]]\nname = "{name}"\nkind = "webhook"\nurl = "{receiver.url}/{name}"'


def alertmanager(url: str, name: str = "alertmanager", resend: str = "5s") -> str:
    """The `[[receiver]]` table of an Alertmanager."""
    return f'[[receiver]]\nname = "{name}"\nkind = "alertmanager"\nurls = ["{url}"]\nresend = "{resend}"'


def notices(receiver: Receiver, **fields: str) -> list[dict[str, Any]]:
    """What a webhook was told, each notice once, oldest first, as far as its fields are these."""
    taken = {post.headers["idempotency-key"]: post.json() for post in receiver.taken}
    return matching(list(taken.values()), fields)


def matching(rows: Sequence[dict[str, Any]], fields: Mapping[str, str]) -> list[dict[str, Any]]:
    return [row for row in rows if all(row.get(key) == value for key, value in fields.items())]


def hurried_rules(folder: Path, *, window: str = "") -> Path:
    """The shipped packs with the same conditions, met sooner: a test cannot wait half an hour. Returns the folder.

    Every `for` and `keep_firing_for` is a three-hundredth, and at least a second; seconds stay, so that what comes first still does.
    With `window` the windows of `delta` change, too: what counts as recent is soon over. Nothing else is touched.
    """
    folder.mkdir(parents=True)
    for pack in (resources.files("holdfast_rules") / "packs").iterdir():
        if not pack.name.endswith(".yaml") or pack.name.endswith(".test.yaml"):
            continue
        text = re.sub(r"(?<=for: )\w+$", _hurried, pack.read_text(encoding="utf-8"), flags=re.MULTILINE)
        if window:
            text = re.sub(r'(delta\(\w+, )"\w+"', rf'\g<1>"{window}"', text)
        (folder / pack.name).write_text(text, encoding="utf-8")
    return folder


def _hurried(found: re.Match[str]) -> str:
    seconds = duration.parse(found[0])
    return f"{max(1, round(seconds / 300))}s" if seconds > 10 else found[0]
