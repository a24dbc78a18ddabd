"""A real mosquitto of a test's own: loopback, free port, killed and started again at will."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tests import needs
from tests.ports import free_port, listening
from tests.waiting import wait_for


class Broker:
    """One mosquitto process. The same port across restarts, so clients find it again.

    `lines` are added to the configuration; `listener` replaces the plain anonymous listener (lines with `{port}`).
    `log_types` are mosquitto's; benches ask for less than all, which is a line for every packet.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lines: Sequence[str] = (),
        listener: Sequence[str] | None = None,
        log_types: Sequence[str] = ("all",),
    ) -> None:
        self._program = needs.tool("mosquitto", package="mosquitto")
        self.port = free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / "mosquitto.log"
        self._config = folder / "mosquitto.conf"
        if listener is None:
            listener = ["listener {port} 127.0.0.1", "allow_anonymous true"]
        # As root mosquitto becomes the user mosquitto, who cannot read a test's folder.
        user = ["user root"] if os.geteuid() == 0 else []
        logs = [f"log_type {log_type}" for log_type in log_types]
        text = [*user, *logs, *(line.format(port=self.port) for line in listener), *lines]
        self._config.write_text("\n".join(text) + "\n", encoding="utf-8")

    @property
    def pid(self) -> int:
        """The running process. Fails when there is none."""
        assert self._process is not None, "the broker is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """All that mosquitto has said so far, over every start."""
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def start(self) -> "Broker":
        """Run, and return when it listens."""
        assert not self.running, "the broker runs already"
        self._log = self.log_path.open("ab")
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._config)], stdout=self._log, stderr=subprocess.STDOUT
        )
        wait_for(lambda: listening(self.port) or not self.running, what="mosquitto to listen")
        assert self.running, f"mosquitto ended at once:\n{self.log}"
        return self

    def kill(self) -> None:
        """SIGKILL: what it held in memory is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM; nothing when it does not run."""
        self._end(signal.SIGTERM)

    def reload(self) -> None:
        """SIGHUP: mosquitto reads ACL and certificates again."""
        os.kill(self.pid, signal.SIGHUP)

    def restart(self) -> None:
        """Kill -9 and start: the broker people find after a power cut."""
        self.kill()
        self.start()

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.wait(timeout=30)
        self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None
