"""Who this agent is across restarts: its state folder, its install id, its start counter, how it last stopped.

    lock         held while an agent runs: two with one identity would look like a clone
    install_id   random, written once and never again
    run.json     the start counter (`epoch`), and whether the run it counts has ended cleanly

The counter is on disk before it is used, so no two runs ever share a position. A state folder that cannot be written
does not stop the agent: it says so, counts from the wall clock so that it still never repeats itself, and tries again
with `settle`.
"""

import os
import sys
import time
import uuid
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from holdfast_agent.durable_file import read_if_there, sync_folder, write_durably
from holdfast_agent.errors import AlreadyRunning

PreviousStop = Literal["clean", "dirty", "first"]


class _Run(Struct):
    epoch: int
    stop: Literal["running", "clean"]
    boot_id: str = ""
    booted_at: float = 0.0


class Standing(Struct, frozen=True, kw_only=True):
    """Who the agent is in this run."""

    install_id: str
    boot_id: str
    epoch: int
    previous_stop: PreviousStop
    detail: str = ""
    """What is wrong with the state folder, for a person; empty when nothing is."""


class StateFolder:
    """The agent's own folder. One process at a time; blocking, small, used at start and stop only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: int | None = None
        self._unsaved: _Run | None = None
        self._unsaved_install_id = ""
        self._run: _Run | None = None

    def open(self) -> Standing:
        """Take the folder, count this start, and say who we are. Raises AlreadyRunning."""
        trouble: list[str] = []
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
        except OSError as error:
            trouble.append(f"the state folder {self.folder} cannot be used ({error.strerror}): {_CURE}")
        install_id = self._install_id(trouble)
        previous = self._previous_run(trouble)
        boot_id = _boot_id(previous)
        self._run = self._next_run(previous, boot_id, trouble)
        return Standing(
            install_id=install_id,
            boot_id=boot_id,
            epoch=self._run.epoch,
            previous_stop=_previous_stop(previous),
            detail="; ".join(dict.fromkeys(trouble)),
        )

    def settle(self) -> bool:
        """Write what could not be written at start, if there is anything; whether all is on disk now."""
        if self._unsaved is None:
            return True
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
            path = self.folder / "install_id"
            if self._unsaved_install_id and read_if_there(path) is None:
                write_durably(path, self._unsaved_install_id.encode())
            self._save(self._unsaved)
        except (OSError, AlreadyRunning):
            return False
        self._unsaved = None
        return True

    def close(self, *, clean: bool) -> None:
        """Note how this run ended, as far as the disk allows, and let go of the folder."""
        if clean and self._run is not None and self._unsaved is None:
            try:
                self._save(_Run(self._run.epoch, "clean", self._run.boot_id, self._run.booted_at))
            except OSError:
                pass  # the next start finds a run that did not end: dirty, as it should be when the disk fails
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        if self._lock is not None or sys.platform == "win32":
            return  # the service control manager runs one instance of a service
        import fcntl

        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise AlreadyRunning(f"another agent is running on the state folder {self.folder}") from None
        self._lock = descriptor

    def _install_id(self, trouble: list[str]) -> str:
        path = self.folder / "install_id"
        try:
            written = (read_if_there(path) or b"").decode("ascii", errors="replace").strip()
        except OSError as error:
            trouble.append(f"{path} cannot be read ({error.strerror}): {_CURE}")
            written = ""
        if 16 <= len(written) <= 64 and written.isalnum():
            return written
        if written:
            self._quarantine(path, trouble, "is no install id; this agent counts as newly installed")
        fresh = os.urandom(16).hex()
        try:
            write_durably(path, fresh.encode())
        except OSError as error:
            trouble.append(f"{path} cannot be written ({error.strerror}): {_CURE}")
            self._unsaved_install_id = fresh
        return fresh

    def _previous_run(self, trouble: list[str]) -> _Run | None:
        path = self.folder / "run.json"
        try:
            written = read_if_there(path)
        except OSError as error:
            trouble.append(f"{path} cannot be read ({error.strerror}): {_CURE}")
            return None
        if written is None:
            return None
        try:
            return msgspec.json.decode(written, type=_Run)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._quarantine(path, trouble, "is unreadable; starts are counted from the wall clock")
            # Past runs are unknown, and the seconds since 1970 are more than any of them.
            return _Run(epoch=int(time.time()), stop="running")

    def _next_run(self, previous: _Run | None, boot_id: str, trouble: list[str]) -> _Run:
        booted_at = time.time() - time.monotonic()
        run = _Run((previous.epoch if previous else 0) + 1, "running", boot_id, booted_at)
        try:
            self._save(run)
        except OSError as error:
            trouble.append(f"{self.folder}/run.json cannot be written ({error.strerror}): {_CURE}")
            run.epoch = max(run.epoch, int(time.time()))
            self._unsaved = run
        return run

    def _save(self, run: _Run) -> None:
        write_durably(self.folder / "run.json", msgspec.json.encode(run))

    def _quarantine(self, path: Path, trouble: list[str], what: str) -> None:
        aside = path.with_name(path.name + ".corrupt")
        try:
            os.replace(path, aside)
            sync_folder(path.parent)
        except OSError:
            aside = path
        trouble.append(f"{path} {what}; its content is kept as {aside.name}")


_CURE = "the agent goes on from memory; give it a writable state_dir"


def _previous_stop(previous: _Run | None) -> PreviousStop:
    if previous is None:
        return "first"
    return "clean" if previous.stop == "clean" else "dirty"


def _boot_id(previous: _Run | None) -> str:
    """The kernel's boot id (random(4)); elsewhere our own, kept while the machine's boot time stands still."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        booted_at = time.time() - time.monotonic()
        if previous and previous.boot_id and abs(previous.booted_at - booted_at) < 60.0:
            return previous.boot_id
        return str(uuid.uuid4())
