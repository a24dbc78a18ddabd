"""A real Alertmanager of a test's own: loopback, free port, telling a webhook at once."""

import json
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests import needs
from tests.ports import free_port
from tests.waiting import wait_for

CONFIG = """
global: {{resolve_timeout: 5m}}
route: {{receiver: hook, group_by: ['...'], group_wait: 100ms, group_interval: 200ms, repeat_interval: 1h}}
receivers:
- name: hook
  webhook_configs:
  - {{url: '{webhook}', send_resolved: true}}
"""


class AlertmanagerProcess:
    """Runs for the length of a `with`. `webhook` is told of every firing and every resolve."""

    def __init__(self, folder: Path, webhook: str) -> None:
        self._program = needs.tool("prometheus-alertmanager", package="prometheus-alertmanager")
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "alertmanager.yml").write_text(CONFIG.format(webhook=webhook), encoding="utf-8")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def alerts(self) -> list[dict[str, Any]]:
        """What it believes now, as its API says it."""
        with urllib.request.urlopen(self.url + "/api/v2/alerts", timeout=10) as reply:
            found: list[dict[str, Any]] = json.load(reply)
            return found

    def start(self) -> None:
        self._log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(
            [
                self._program,
                f"--config.file={self._folder}/alertmanager.yml",
                f"--storage.path={self._folder}/data",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--cluster.listen-address=",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        wait_for(self._ready, what="alertmanager to be ready")

    def kill(self) -> None:
        """SIGKILL: it keeps no alerts on disk."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=30)
        self._log.close()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/-/ready", timeout=5) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, ConnectionError):
            assert self._process.poll() is None, (self._folder / "log").read_text()
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
