"""Keeps one volume's chain, in a thread of its own: when it is read back, when a record is due, when nothing is.

    read ──▶ say what was read ──▶ wait up to 10 s for the collector's answer ──▶ a record every interval ± 20 %
      ▲                                                                             │
      └─ mounted anew, file exchanged, fork, resume, a day old, collector holds more ◀┘

A machine that stood still may have been taken back to where it was: before each record the clocks are looked at, and
the chain is read first if they say so. The thread may hang for ever in a call that its disk does not answer; nobody waits for it.
"""

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from msgspec import structs

from holdfast_agent.core.resume import Clocks, resumed
from holdfast_agent.core.testimony import Testimony
from holdfast_agent.probe import boot_clock
from holdfast_agent.probes.host_facts import parse_meminfo
from holdfast_agent.witness.clocks import read_clocks
from holdfast_agent.witness.volume_chain import VolumeChain, Who
from holdfast_agent.witness.volume_standing import StandingBoard
from holdfast_agent.witness.witness_choice import WitnessedVolume
from holdfast_wire import Expected, ReadCause
from holdfast_wire.message import Value

ANSWER_AWAITED_SECONDS = 10.0
"""After a report, for the collector to say what it holds, so that no number is used twice. The network may be away."""
AGAIN_SECONDS = 30.0
JITTER = 0.2
BROKEN = "its keeper broke, and begins anew within a minute; the agent's log has the mistake"
DAY_SECONDS = 86_400.0
METADATA_SECONDS = 3600.0
SYNCFS_SECONDS = 60.0
RETRY_SECONDS = 60.0
"""Until a volume that could not be read, or where no chain could be begun, is tried again."""


def spread(interval: float, chance: float) -> float:
    """Seconds to the next record, so that a fleet's disks do not all write at one moment. `chance`: 0 to 1."""
    return interval * (1 + JITTER * (2 * chance - 1))


class VolumeKeeper:
    """See the module. Every public method returns at once and may be called from any thread."""

    def __init__(
        self,
        volume: WitnessedVolume,
        who: Who,
        cause: ReadCause,
        remembered_chain_id: str,
        say: Callable[[Testimony], None],
        ended: Callable[[], None],
        random: Random | None = None,
        clocks: Callable[[], Clocks] = read_clocks,
    ) -> None:
        """`say` and `ended` are called in the thread. `cause`: why the volume is taken up."""
        self.volume = volume
        self._read_clocks = clocks
        self._clocks = clocks()
        """At the newest look."""
        self._resumed_at = -math.inf
        """Monotonic clock at the newest read that a standstill led to."""
        self._ended = ended
        self._random = random or Random()
        self._board = StandingBoard()
        self._chain = VolumeChain(volume, who, remembered_chain_id, say, self._board)
        self._change = threading.Condition()
        self._wanted: list[ReadCause] = [cause]
        self._answers: list[Expected] = []
        self._stop: bool | None = None
        """True: with a last record; False: without."""
        now = time.monotonic()
        self._append_at = self._metadata_at = self._syncfs_at = now
        self._daily_at = now + DAY_SECONDS
        self._again_at: float | None = None
        self._awaiting = False
        """A report was said, and the collector has not answered."""

    def start(self) -> None:
        threading.Thread(target=self._run, name=f"witness {self.volume.volume}", daemon=True).start()

    def read(self, cause: ReadCause) -> None:
        """Read the chain back as soon as the thread is free."""
        with self._change:
            if cause not in self._wanted:
                self._wanted.append(cause)
            self._change.notify_all()

    def resume(self, since: float) -> None:
        """The machine stood still at some time after `since`, by its monotonic clock: read, unless that was noticed here."""
        if self._resumed_at < since:
            self.read(ReadCause.RESUME)

    def pace(self, interval: float) -> None:
        """Write at this interval from now on."""
        if interval == self.volume.interval:
            return
        self.volume = structs.replace(self.volume, interval=interval)
        with self._change:
            self._append_at = min(self._append_at, time.monotonic() + interval)
            self._change.notify_all()

    def look_at_mount(self) -> None:
        """Something was mounted somewhere: append soon, which finds out whether it was here."""
        with self._change:
            if not self._awaiting:
                self._append_at = min(self._append_at, time.monotonic())
                self._change.notify_all()

    def expected(self, expected: Expected) -> None:
        """The collector's answer."""
        with self._change:
            self._answers.append(expected)
            self._change.notify_all()

    def acknowledged(self, chain_id: str, seq: int) -> None:
        """The collector committed the witness of this record."""
        self._chain.acknowledged(chain_id, seq)

    def stop(self, *, last_record: bool) -> None:
        """End, after a record that says it was orderly, or without a word."""
        with self._change:
            self._stop = last_record
            self._change.notify_all()

    def facts(self) -> dict[str, Value]:
        """What is reported of the volume now."""
        return self._board.facts(self.volume.interval, boot_clock())

    def trouble(self) -> tuple[str, bool, str]:
        """See `StandingBoard.trouble`."""
        return self._board.trouble()

    # The thread

    def _run(self) -> None:
        try:
            while self._stop is None:
                self._next()()
            if self._stop:
                self._chain.append(clean_stop=True)
        except BaseException:
            # The interpreter prints it (threading.excepthook). Nothing is written any more, and that must not look well.
            with self._board.changing() as standing:
                standing.reason = BROKEN
            raise
        finally:
            self._ended()

    def _next(self) -> Callable[[], None]:
        """What to do now; waits until there is something."""
        with self._change:
            while self._stop is None:
                if self._answers:
                    return self._take_answer
                if self._wanted:
                    return self._read_wanted
                due, what = min(self._times(), key=lambda each: each[0])
                pause = due - time.monotonic()
                if pause <= 0:
                    return what
                self._change.wait(pause)
        return lambda: None

    def _times(self) -> list[tuple[float, Callable[[], None]]]:
        if self._again_at is not None:
            return [(self._again_at, self._read_second)]
        return [(self._append_at, self._turn), (self._daily_at, lambda: self._read(ReadCause.DAILY))]

    def _read_wanted(self) -> None:
        with self._change:
            cause = self._wanted.pop(0)
        self._read(cause)

    def _read_second(self) -> None:
        self._again_at = None
        self._read(ReadCause.AGAIN)

    def _read(self, cause: ReadCause) -> None:
        self._clocks = self._read_clocks()
        if cause is ReadCause.RESUME:
            self._resumed_at = self._clocks.monotonic
        self._chain.read(cause)
        self._daily_at = time.monotonic() + DAY_SECONDS
        self._awaiting = self._chain.open
        self._hold(ANSWER_AWAITED_SECONDS if self._chain.open else RETRY_SECONDS)

    def _take_answer(self) -> None:
        with self._change:
            answer, awaited = self._answers.pop(0), self._awaiting
            self._awaiting = False
        match self._chain.expected(answer):
            case "again":
                self._again_at = time.monotonic() + AGAIN_SECONDS
            case "begin_anew":
                self._chain.begin_anew()
                self._hold(0.0 if self._chain.open else RETRY_SECONDS)
            case "nothing" if awaited:
                self._hold(0.0)
            case "nothing":
                pass

    def _turn(self) -> None:
        """One regular turn: what is due beside a record, and the record."""
        now = time.monotonic()
        self._awaiting = False
        if not self._chain.open:
            self._read(ReadCause.MOUNT)
            return
        before, self._clocks = self._clocks, self._read_clocks()
        if resumed(before, self._clocks):
            self._read(ReadCause.RESUME)
            return
        self._hold(spread(self.volume.interval, self._random.random()))
        if now >= self._metadata_at:
            self._metadata_at = now + METADATA_SECONDS
            self._chain.renew_metadata()
        if not self._chain.append():
            self.read(ReadCause.MOUNT)
        elif now >= self._syncfs_at:
            self._syncfs_at = now + SYNCFS_SECONDS
            self._chain.ask_for_lost_writes(_dirty_bytes())

    def _hold(self, seconds: float) -> None:
        with self._change:
            self._append_at = time.monotonic() + seconds


def _dirty_bytes() -> int | None:
    try:
        return parse_meminfo(Path("/proc/meminfo").read_text("ascii", "replace")).get("Dirty")
    except OSError:
        return None
