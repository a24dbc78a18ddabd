"""A program that `holdfast up` runs: its log in a file, its end noticed, ended by its pid and never left behind."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

LAST_LINES = 15
"""Of a log, when its program ended by itself: enough for a Python traceback's end or a configuration's mistakes."""
STOP_SECONDS = 7.0
"""Agent and collector promise to end within 5 s of SIGTERM."""
_PR_SET_PDEATHSIG = 1
"""include/uapi/linux/prctl.h"""


class Child:
    """One running program."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self._process = process
        self.ended = asyncio.ensure_future(process.wait())
        """Resolves to the exit status; negative for a signal."""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    @property
    def how_it_ended(self) -> str:
        """In words; only after it has ended."""
        status = self._process.returncode
        assert status is not None, f"{self.name} runs"
        if status >= 0:
            return f"exit code {status}"
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}"
        return f"killed by signal {-status}"

    def last_lines(self) -> list[str]:
        """The end of its log."""
        try:
            text = self.log_path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            return [f"(its log cannot be read: {error})"]
        return text.splitlines()[-LAST_LINES:]

    async def stop(self) -> bool:
        """Ask it to end, and end it when it does not. Whether it ended by itself."""
        if not self.running:
            return True
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.ended), STOP_SECONDS)
            return True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.ended
        return False


async def start(name: str, command: Sequence[str], log_path: Path) -> Child:
    """Run the command with nothing of ours but a clean environment and a log. Raises OSError when it cannot start."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("wb") as log:
        process = await _spawn(command, log)
    return Child(name, process, log_path)


async def _spawn(command: Sequence[str], log: IO[bytes]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=_environment(os.environ),
        # Ctrl-C goes to the whole foreground group; the children are to end in order, told by us.
        start_new_session=True,
        preexec_fn=_die_with_parent(),
    )


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Without what configures an installed agent or collector, or makes our children talk to our supervisor."""
    return {
        name: value
        for name, value in ours.items()
        if not name.startswith("HOLDFAST__")
        and name not in {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
    }


def _die_with_parent() -> Callable[[], None] | None:
    """Linux: a child gets SIGTERM when we die without having ended it, kill -9 included (prctl(2))."""
    if sys.platform != "linux":
        return None
    import ctypes

    # Looked up before the fork: between fork and exec nothing may be loaded.
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
