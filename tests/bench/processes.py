"""Programs that a bench starts: measured from outside, by the kernel's own accounts, and ended by their own id only."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from tests import needs
from tests.waiting import wait_for

# From linux/time.h and kernel/time/posix-cpu-timers.c: the clock of a process is its id inverted, shifted, and the kind
# of clock; kind 2 counts what the scheduler gave to all its threads, ended ones included, in nanoseconds. The ticks of
# /proc/PID/stat are 10 ms, which is all that a small agent uses in a minute.
_SCHEDULED = 2
_STOP_SECONDS = 15.0


class Memory(Struct, frozen=True, kw_only=True):
    """What a process and its children hold, in bytes (proc_pid_smaps(5))."""

    rss: int
    """Resident, shared pages counted in full."""
    pss: int
    """Resident, shared pages divided among those who share them."""
    private: int
    """Resident and nobody else's: what ends with the process."""


class Missing(Exception):
    """A program the bench needs is not installed; the text says which package brings it."""


def tool(name: str, *, package: str) -> str:
    """The absolute path of a program. Raises Missing."""
    path = needs.find(name)
    if path is None:
        raise Missing(f"{name} is not installed; on Debian or Ubuntu: apt install {package}")
    return path


def installed_command(name: str) -> str:
    """One of our own commands, as installed beside the running Python. Raises Missing."""
    path = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if path is None:
        raise Missing(f"{name} is not installed beside {sys.executable}; run: make test")
    return path


class Program:
    """One process, from construction until `stop`, or for the length of a `with`. Its output goes to a file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment` is added to our own. `folder` takes the log, `NAME.log`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log_path = folder / f"{name}.log"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                # A terminal's Ctrl-C must reach the bench only, which then ends its programs in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """All it has said so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait_ready(self, said: str, timeout: float = 60.0) -> Self:
        """Until the log holds `said`. Raises AssertionError, with the log, when the program ends first."""
        wait_for(lambda: said in self.log or not self.running, timeout, f"{self.name} to say {said!r}")
        assert self.running, f"{self.name} ended at once:\n{self.log}"
        return self

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that is not heard. Nothing when it has ended."""
        if not self.running:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL, as by a crash."""
        self._process.kill()
        self._process.wait(_STOP_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class CpuMeter:
    """CPU time and wall time of a process between two moments."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu = cpu_seconds(pid)
        self._began = time.perf_counter()

    def read(self) -> tuple[float, float]:
        """(CPU seconds, wall seconds) since construction."""
        return cpu_seconds(self._pid) - self._cpu, time.perf_counter() - self._began


def cpu_seconds(pid: int) -> float:
    """CPU time of the process so far, all threads, and of children it still has or has waited for."""
    return sum(_clock(one) for one in _tree(pid)) + _waited_children(pid)


def memory(pid: int) -> Memory:
    """What the process and its children hold now."""
    found = [_smaps(one) for one in _tree(pid)]
    return Memory(
        rss=sum(one.rss for one in found),
        pss=sum(one.pss for one in found),
        private=sum(one.private for one in found),
    )


def _clock(pid: int) -> float:
    try:
        return time.clock_gettime((~pid << 3) | _SCHEDULED)
    except OSError:
        return 0.0  # a child that has just ended: its time is among those waited for


def _waited_children(pid: int) -> float:
    """cutime + cstime of proc_pid_stat(5)."""
    fields = _stat(pid)
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name; the parent's id is the second."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _tree(root: int) -> list[int]:
    """The process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                children.setdefault(int(_stat(int(entry))[1]), []).append(int(entry))
            except OSError:
                continue  # ended meanwhile
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _smaps(pid: int) -> Memory:
    kilobytes: dict[str, int] = {}
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            key, _, rest = line.partition(":")
            kilobytes[key] = int(rest.split()[0])
    except OSError:
        return Memory(rss=0, pss=0, private=0)  # ended meanwhile
    private = kilobytes.get("Private_Clean", 0) + kilobytes.get("Private_Dirty", 0)
    return Memory(
        rss=kilobytes.get("Rss", 0) * 1024, pss=kilobytes.get("Pss", 0) * 1024, private=private * 1024
    )
