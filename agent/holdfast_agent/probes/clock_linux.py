"""The kernel's clock: whether something disciplines it, and when somebody sets it."""

import ctypes
import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import cache

from msgspec import Struct

from holdfast_agent.probe import Unsupported

STEP_SECONDS_MIN = 0.1
"""Smaller corrections disturb nobody, and some hypervisors' time services make them every minute. Slewing is no step:
it moves all clocks of the kernel alike, so the difference between them stays."""
_TIME_ERROR = 5
_STA_UNSYNC = 0x0040
_TFD_TIMER_ABSTIME, _TFD_TIMER_CANCEL_ON_SET = 1, 2
_FAR_AWAY_SECONDS = 10 * 365 * 86_400


class ClockState(Struct, frozen=True):
    """What adjtimex(2) says."""

    state: int
    """The call's result: 0 to 4 are synchronised, 5 is TIME_ERROR."""
    status: int
    max_error_usec: int

    @property
    def synchronized(self) -> bool:
        return self.state != _TIME_ERROR and not self.status & _STA_UNSYNC


class _Timex(ctypes.Structure):
    """struct timex of <sys/timex.h>; the last field stands for what is never read."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


class _TimerSpec(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = (
        ("interval_sec", ctypes.c_long),
        ("interval_nsec", ctypes.c_long),
        ("value_sec", ctypes.c_long),
        ("value_nsec", ctypes.c_long),
    )


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def clock_state() -> ClockState:
    """Ask without changing anything (modes = 0). Raises OSError: a unit with ProtectClock= forbids even asking."""
    timex = _Timex()
    state = _libc().adjtimex(ctypes.byref(timex))
    if state < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return ClockState(state, timex.status, timex.maxerror)


def suspended_seconds() -> float:
    """How long this boot was suspended: the one clock runs on, the other stands still."""
    if sys.platform != "linux":
        raise Unsupported("only Linux tells time in suspend apart")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC))


class ClockAlarm:
    """A descriptor that becomes readable when the wall clock is set (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET)."""

    _libc: ctypes.CDLL
    _descriptor: int

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise Unsupported("only Linux has timerfd")
        self._libc = _libc()
        self._descriptor = self._libc.timerfd_create(0, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise Unsupported(f"the kernel gives no timer: {os.strerror(ctypes.get_errno())}")
        self._arm()

    def fileno(self) -> int:
        return self._descriptor

    def acknowledge(self) -> None:
        """Take notice that the clock was set, and wait for the next time."""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
        self._arm()

    def close(self) -> None:
        os.close(self._descriptor)

    def _arm(self) -> None:
        spec = _TimerSpec(0, 0, int(time.time()) + _FAR_AWAY_SECONDS, 0)
        flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
        if self._libc.timerfd_settime(self._descriptor, flags, ctypes.byref(spec), None) != 0:
            raise Unsupported(f"the kernel gives no alarm: {os.strerror(ctypes.get_errno())}")


class ClockSteps:
    """Notices steps: the wall clock moved against the clock that nobody sets. For the watch and the poll alike.

    `offset` is the difference that an earlier run of the agent saw in this boot, so that a step while no agent ran is
    seen, too; None when there was none.
    """

    def __init__(
        self, wall_clock: Callable[[], float], boot_clock: Callable[[], float], offset: float | None
    ) -> None:
        self._wall_clock = wall_clock
        self._boot_clock = boot_clock
        self._lock = threading.Lock()
        self.offset = offset
        self.total = 0
        self.newest: float | None = None

    def observe(self) -> float | None:
        """The step since the last call, in seconds, negative when backwards; None when there was none."""
        with self._lock:
            offset = self._difference()
            if offset is None:
                return None
            before, step = self.offset, offset - (self.offset or 0.0)
            if before is not None and abs(step) < STEP_SECONDS_MIN:
                return None
            self.offset = offset
            if before is None:
                return None
            self.total += 1
            self.newest = step
            return step

    def _difference(self) -> float | None:
        """Of both clocks at one moment; None when the machine is too busy to read them together."""
        for _ in range(5):
            before = self._boot_clock()
            wall = self._wall_clock()
            if self._boot_clock() - before < STEP_SECONDS_MIN / 10:
                return wall - before
        return None
