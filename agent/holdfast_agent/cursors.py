"""The probes' small notes on disk: see `holdfast_agent.probe.Cursors`.

One file per note, `cursors/<probe>.<name>`. Notes are written by one background thread, newest only, so that neither
a watch on the event loop nor a poll waits for a slow disk. A note that cannot be written stays in memory.
"""

import threading
from pathlib import Path

from holdfast_agent.durable_file import read_if_there, write_durably


class CursorFolder:
    """The notes of all probes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._notes: dict[str, bytes] = {}
        self._unwritten: dict[str, bytes] = {}
        self._change = threading.Condition()
        self._writer: threading.Thread | None = None
        self._writing = False
        self.failure = ""
        """Why the newest write failed; empty when it did not."""

    def of(self, probe: str) -> "ProbeCursors":
        """The notes of one probe."""
        return ProbeCursors(self, probe)

    def load(self, key: str) -> bytes | None:
        with self._change:
            if key in self._notes:
                return self._notes[key]
        try:
            return read_if_there(self._folder / key)
        except OSError as error:
            self.failure = str(error)
            return None

    def store(self, key: str, note: bytes) -> None:
        with self._change:
            if self._notes.get(key) == note:
                return
            self._notes[key] = self._unwritten[key] = note
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="cursors", daemon=True)
                self._writer.start()
            self._change.notify_all()

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until every note is on disk or has failed; whether that came in time."""
        with self._change:
            return self._change.wait_for(lambda: not self._unwritten and not self._writing, timeout_seconds)

    def _write(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: bool(self._unwritten))
                notes, self._unwritten = self._unwritten, {}
                self._writing = True
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                for key, note in notes.items():
                    write_durably(self._folder / key, note)
                self.failure = ""
            except OSError as error:
                self.failure = str(error)
            with self._change:
                self._writing = False
                self._change.notify_all()


class ProbeCursors:
    """The notes of one probe; satisfies `holdfast_agent.probe.Cursors`."""

    def __init__(self, folder: CursorFolder, probe: str) -> None:
        self._folder = folder
        self._probe = probe

    def load(self, name: str) -> bytes | None:
        return self._folder.load(f"{self._probe}.{name}")

    def store(self, name: str, note: bytes) -> None:
        self._folder.store(f"{self._probe}.{name}", note)
