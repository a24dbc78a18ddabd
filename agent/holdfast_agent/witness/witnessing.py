"""The witness as a part of the agent: which volumes have a keeper now, what they say, what the collector answers.

One task plans, one sends. What keepers say goes through one queue and is sent in that order: of one chain, a report
always has its position before the records that follow it.

A volume that had a chain and whose mountpoint is no mount any more is missed aloud, after a grace: mounts come one
after the other while a machine boots, and an exchange of disks unmounts first.
"""

import asyncio
import contextlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

import msgspec
from msgspec import Struct, structs

from holdfast_agent.core.delivery import Spooled
from holdfast_agent.core.testimony import Confirmed, ReadBack, Testimony
from holdfast_agent.errors import ProbeStop
from holdfast_agent.probe import Cursors, boot_clock
from holdfast_agent.probes.clock_linux import suspended_seconds
from holdfast_agent.probes.mount_watch_linux import mount_changes
from holdfast_agent.witness.survey import Survey, VolumeSaid, survey, witness_section
from holdfast_agent.witness.volume_chain import Who
from holdfast_agent.witness.volume_keeper import VolumeKeeper
from holdfast_agent.witness.witness_choice import WitnessConfig, WitnessedVolume
from holdfast_wire import Acknowledgement, Expect, Position, ReadCause, Section, VolumeIdentity

PLAN_SECONDS = 60.0
"""How often the choice of volumes is made anew without a sign that mounts have changed."""
SETTLE_SECONDS = 0.5
"""After a change of mounts, for the others that come with it."""
MISSED_AFTER_SECONDS = 10.0
MISSED_AFTER_BOOT_SECONDS = 120.0
BOOTING_SECONDS = 300.0
RESUMED_SECONDS = 1.0
"""A machine that slept this much since the last look has been suspended."""
AWAITED_MAX = 10_000
"""Records whose acknowledgement is awaited; of an older one the collector's next answer tells."""


class _Remembered(Struct, frozen=True):
    """A chain that exists, as far as the agent knows."""

    chain_id: str


class WitnessUser(Protocol):
    """Whom the witness serves, on the event loop."""

    async def testify(self, said: Testimony) -> Spooled | None:
        """Make it a durable message; returns when that is in the spool. None: no collector would take it."""

    def section(self, section: Section, *, urgent: bool) -> None: ...


class Witnessing:
    """See the module."""

    def __init__(
        self,
        config: WitnessConfig,
        who: Who,
        user: WitnessUser,
        cursors: Cursors,
        state_folder: Path,
        interval: float,
        previous_boot: Callable[[], Literal["clean", "dirty", "unknown"]],
    ) -> None:
        """Needs a running loop. `interval`: of the agent's reports."""
        self._config = config
        self._who = who
        self._user = user
        self._cursors = cursors
        self._state_folder = state_folder
        self._interval = interval
        self._previous_boot = previous_boot
        self._loop = asyncio.get_running_loop()
        self._keepers: dict[str, VolumeKeeper] = {}
        self._endings: dict[str, asyncio.Future[None]] = {}
        self._survey = Survey()
        self._chains = self._remembered()
        self._missing_since: dict[str, float] = {}
        self._missed: set[str] = set()
        self._said: asyncio.Queue[Testimony] = asyncio.Queue()
        self._awaited: OrderedDict[Position, tuple[str, str, str, int]] = OrderedDict()
        """Position → digest, volume, chain, record."""
        self._mounts_changed = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._suspended = 0.0

    @property
    def enabled(self) -> bool:
        return self._config.enabled

    async def run(self) -> None:
        """Until cancelled; `stop` must follow."""
        if not self._config.enabled:
            await asyncio.Event().wait()
        self._sender = self._loop.create_task(self._send(), name="testimony")
        with contextlib.ExitStack() as held:
            with contextlib.suppress(ProbeStop):
                self._suspended = suspended_seconds()
                held.enter_context(mount_changes(Path("/proc"), self._mounts_changed.set))
            await self._plan(ReadCause.AGENT_START)
            planned_at = boot_clock()
            while True:
                self._user.section(self._section(), urgent=False)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._mounts_changed.wait(), self._interval)
                self._notice_resume()
                if self._mounts_changed.is_set() or boot_clock() - planned_at >= PLAN_SECONDS:
                    await self._settle()
                    await self._plan(ReadCause.MOUNT)
                    planned_at = boot_clock()
                await self._miss()

    async def stop(self) -> None:
        """Each volume's last record, and all that was said in the spool. May hang with a disk: bound it."""
        endings = [self._end(keeper, last_record=True) for keeper in self._keepers.values()]
        if endings:
            await asyncio.wait(endings)
        await asyncio.sleep(
            0
        )  # what the threads said before they ended is in the loop's queue before their end
        await self._said.join()
        if self._sender is not None:
            self._sender.cancel()

    def reread(self, cause: ReadCause) -> None:
        """Read every chain back now."""
        for keeper in self._keepers.values():
            keeper.read(cause)

    def acknowledged(self, acknowledgements: list[Acknowledgement]) -> None:
        """The collector holds these messages; those that were of records, the keepers want to know."""
        for each in acknowledgements:
            digest, volume, chain_id, seq = self._awaited.get(Position(each.epoch, each.seq), ("", "", "", 0))
            if digest and digest == each.digest:
                del self._awaited[Position(each.epoch, each.seq)]
                if volume in self._keepers:
                    self._keepers[volume].acknowledged(chain_id, seq)

    def expect(self, expect: Expect) -> None:
        """The collector's answer to reports."""
        if expect.install_id != self._who.install_id:
            return
        for expected in expect.chains:
            if expected.volume in self._keepers:
                self._keepers[expected.volume].expected(expected)

    # Volumes

    async def _plan(self, cause: ReadCause) -> None:
        """Give each volume that shall be witnessed a keeper, and end those whose volume is gone."""
        self._survey = await self._loop.run_in_executor(None, self._look)
        wanted = self._survey.plan.witnessed
        for name in [name for name, keeper in self._keepers.items() if wanted.get(name) != keeper.volume]:
            self._end(self._keepers.pop(name), last_record=False)
        for name, volume in wanted.items():
            if name in self._keepers:
                self._keepers[name].look_at_mount()
            else:
                self._keepers[name] = self._keep(volume, cause)

    def _keep(self, volume: WitnessedVolume, cause: ReadCause) -> VolumeKeeper:
        remembered = self._chains.get(volume.volume)
        ended: asyncio.Future[None] = self._loop.create_future()
        keeper = VolumeKeeper(
            volume,
            self._who,
            cause,
            remembered.chain_id if remembered else "",
            say=lambda said: self._from_thread(lambda: self._said.put_nowait(said)),
            ended=lambda: self._from_thread(lambda: _resolve(ended)),
        )
        self._endings[volume.volume] = ended
        keeper.start()
        return keeper

    def _look(self) -> Survey:
        return survey(self._config, Path(os.path.realpath(self._state_folder)), self._who.install_id)

    def _end(self, keeper: VolumeKeeper, *, last_record: bool) -> "asyncio.Future[None]":
        keeper.stop(last_record=last_record)
        return self._endings.pop(keeper.volume.volume)

    def _from_thread(self, what: Callable[[], object]) -> None:
        with contextlib.suppress(
            RuntimeError
        ):  # the loop is closed: the agent ended without waiting for the thread
            self._loop.call_soon_threadsafe(what)

    async def _settle(self) -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        self._mounts_changed.clear()

    def _notice_resume(self) -> None:
        with contextlib.suppress(ProbeStop):
            suspended, self._suspended = self._suspended, suspended_seconds()
            if self._suspended - suspended >= RESUMED_SECONDS:
                self.reread(ReadCause.RESUME)

    async def _miss(self) -> None:
        """Report volumes that had a chain and are not mounted any more, once."""
        now = boot_clock()
        gone = {name for name in self._chains if self._unmounted(name)}
        self._missed &= gone
        for name in list(self._missing_since.keys() - gone):
            del self._missing_since[name]
        for name in sorted(gone - self._missed):
            since = self._missing_since.setdefault(name, now)
            if now - since < (MISSED_AFTER_BOOT_SECONDS if now < BOOTING_SECONDS else MISSED_AFTER_SECONDS):
                continue
            self._missed.add(name)
            identity = VolumeIdentity(volume=name)
            self._said.put_nowait(
                ReadBack(identity=identity, machine=self._who.machine, cause=ReadCause.MOUNT, mounted=False)
            )

    def _unmounted(self, name: str) -> bool:
        return not self._survey.trouble and name not in self._survey.mountpoints

    # What is said

    async def _send(self) -> None:
        while True:
            said = await self._said.get()
            if isinstance(said, ReadBack):
                said = structs.replace(said, previous_boot=self._previous_boot())
            message = await self._user.testify(said)
            if message is not None and isinstance(said, Confirmed):
                self._awaited[message.position] = message.digest, said.volume, said.chain_id, said.head.seq
                while len(self._awaited) > AWAITED_MAX:
                    self._awaited.popitem(last=False)
            self._remember(said)
            self._said.task_done()

    def _section(self) -> Section:
        said = {}
        for name, keeper in self._keepers.items():
            reason, denied, skipped = keeper.trouble()
            missing = {name: reason} if reason and denied else {}
            if skipped and not reason:
                missing[f"{name} writeback_failed"] = skipped
            said[name] = VolumeSaid(facts=keeper.facts(), missing=missing, denied=denied)
        return witness_section(
            self._survey, said, at=time.time(), mono=boot_clock(), period=max(self._interval, 1.0)
        )

    # What is remembered

    def _remember(self, said: Testimony) -> None:
        """Which volume has which chain, so that a chain that is gone is missed after a restart, too."""
        if not isinstance(said, Confirmed):
            return
        known = self._chains.get(said.volume)
        if known is None or known.chain_id != said.chain_id:
            self._chains[said.volume] = _Remembered(said.chain_id)
            self._cursors.store("chains", msgspec.json.encode(self._chains))

    def _remembered(self) -> dict[str, _Remembered]:
        note = self._cursors.load("chains")
        try:
            return msgspec.json.decode(note, type=dict[str, _Remembered]) if note else {}
        except msgspec.DecodeError:
            return {}


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
