"""`zpool events -f`: what happens to ZFS pools, told the moment it does (catalogue A-35).

The program lists what the kernel module remembers, a few hundred events, and then waits for more; it flushes its output
after each (zpool-events(8); `zpool_do_events_next` in cmd/zpool/zpool_main.c). With `-H` a line is the time and the class
with a tab between them. To be told takes CAP_SYS_ADMIN: others' programs end at once with `permission denied`. Then it
is tried again ever more seldom.

It is a child of the agent's, for as long as there are pools. It ends with the watch; should the agent be killed, it ends
by SIGPIPE at the next event, or with the unit's control group.
"""

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Callable

from holdfast_agent.probe import Refresh

ARGUMENTS = ("events", "-H", "-f")
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 1.0, 3600.0
_GROWTH = 4.0
STEADY_SECONDS = 60.0
"""A program that ran for so long is begun again after the shortest pause."""
_ENDING_SECONDS = 0.1
"""How long a killed program may take: it does nothing at its end."""
_READ_BYTES = 65_536
_LINE_BYTES_MAX = 4096
_OF_NO_CONCERN = ("sysevent.fs.zfs.history_event", "sysevent.fs.zfs.config_sync")
"""Every command of an administrator makes one of these, every snapshot, too."""


class ZpoolEvents:
    """Follows the events while a block runs; looks again when one may change what is said of a pool."""

    def __init__(self, find: Callable[[], str | None], look: Refresh) -> None:
        """`find` gives the path of `zpool`; None where it is not installed."""
        self._find = find
        self._look = look
        self._rest = b""

    async def follow(self) -> None:
        """Until cancelled, with a growing pause whenever the program ends."""
        pause = 0.0
        while True:
            began = time.monotonic()
            program = self._find()
            if program is not None:
                await self._run(program)
            pause = next_pause(pause, time.monotonic() - began)
            await asyncio.sleep(pause)

    async def _run(self, program: str) -> None:
        """One run of the program, to its end or ours."""
        loop, ended, self._rest = asyncio.get_running_loop(), asyncio.Event(), b""
        # In a thread: where the program lies on a dead disk, to start it may take for ever.
        starting = loop.run_in_executor(None, _started, program)
        try:
            child = await asyncio.shield(starting)
        except OSError:
            return  # the poll asks `zpool` as well and says why it cannot
        except asyncio.CancelledError:
            starting.add_done_callback(_end_late)
            raise
        assert child.stdout is not None
        descriptor = child.stdout.fileno()

        def readable() -> None:
            said = os.read(descriptor, _READ_BYTES)
            if not said:
                loop.remove_reader(descriptor)
                ended.set()
            elif self.concerned(said):
                self._look()

        loop.add_reader(descriptor, readable)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            _end(child)

    def concerned(self, said: bytes) -> bool:
        """Whether one of the whole lines so far may change what is said of a pool; the rest of a line waits for its end."""
        *lines, self._rest = (self._rest + said).split(b"\n")
        self._rest = self._rest[-_LINE_BYTES_MAX:]
        return any(concerns_state(line.decode("ascii", "replace")) for line in lines)


def _started(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [program, *ARGUMENTS],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"LC_ALL": "C", "TZ": "UTC"},
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    """One that hangs in the kernel is left behind; Python collects it when it starts another program."""
    child.kill()
    if child.stdout is not None:
        child.stdout.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_ENDING_SECONDS)


def _end_late(starting: "asyncio.Future[subprocess.Popen[bytes]]") -> None:
    if not starting.cancelled() and starting.exception() is None:
        _end(starting.result())


def next_pause(before: float, ran_seconds: float) -> float:
    """How long to wait after a run, in seconds; `before` is the pause before that run, 0 when there was none."""
    steady = ran_seconds >= STEADY_SECONDS
    return PAUSE_SECONDS_MIN if steady or not before else min(before * _GROWTH, PAUSE_SECONDS_MAX)


def concerns_state(line: str) -> bool:
    """`Nov 25 2026 10:12:13.123456789<TAB>ereport.fs.zfs.io`: anything but what merely keeps a record."""
    words = line.split()
    return bool(words) and words[-1].count(".") >= 2 and words[-1] not in _OF_NO_CONCERN
