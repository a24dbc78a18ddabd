"""The witness as a part of the agent: which volumes have a keeper now, what they say, what the collector answers.

One task plans, one sends, one looks at the clocks. What keepers say goes through one queue and is sent in that order: of one chain, a report
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
from holdfast_agent.core.resume import Clocks, resumed
from holdfast_agent.core.testimony import Confirmed, ReadBack, Testimony
from holdfast_agent.errors import ProbeStop
from holdfast_agent.pause import until
from holdfast_agent.probe import Cursors, boot_clock
from holdfast_agent.probes.mount_watch_linux import mount_changes
from holdfast_agent.witness.clocks import read_clocks
from holdfast_agent.witness.survey import Survey, VolumeSaid, survey, witness_section
from holdfast_agent.witness.volume_chain import Who
from holdfast_agent.witness.volume_keeper import VolumeKeeper
from holdfast_agent.witness.witness_choice import WitnessConfig, WitnessedVolume, left_out
from holdfast_wire import Acknowledgement, Expect, Position, ReadCause, Section, VolumeIdentity

PLAN_SECONDS = 60.0
"""How often the choice of volumes is made anew without a sign that mounts have changed."""
SETTLE_SECONDS = 0.5
"""After a change of mounts, for the others that come with it."""
MISSED_AFTER_SECONDS = 10.0
MISSED_AFTER_BOOT_SECONDS = 120.0
BOOTING_SECONDS = 300.0
TICK_SECONDS = 5.0
"""Between two looks at the clocks: a few microseconds of work each."""
AWAITED_MAX = 10_000
"""Records whose acknowledgement is awaited; of an older one the collector's next answer tells."""


class _Remembered(Struct, frozen=True):
    """A chain that exists, as far as the agent knows."""

    chain_id: str


class Replanned(Struct, frozen=True, kw_only=True):
    """What a new plan changed."""

    begun: list[str]
    """Volumes that are witnessed from now on."""
    ended: list[str]
    """Volumes that are not any more."""


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
        clocks: Callable[[], Clocks] = read_clocks,
    ) -> None:
        """Needs a running loop. `interval`: of the agent's reports."""
        self._clocks = clocks
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
        """Of each volume's newest keeper."""
        self._numbers: dict[str, str] = {}
        """The device that was on."""
        self._survey = Survey()
        self._chains = self._remembered()
        self._missing_since: dict[str, float] = {}
        self._missed: set[str] = set()
        self._said: asyncio.Queue[Testimony] = asyncio.Queue()
        self._awaited: OrderedDict[Position, tuple[str, str, str, int]] = OrderedDict()
        """Position → digest, volume, chain, record."""
        self._mounts_changed = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._planning = asyncio.Lock()

    @property
    def enabled(self) -> bool:
        return self._config.enabled

    async def run(self) -> None:
        """Until cancelled; `stop` must follow."""
        self._sender = self._loop.create_task(self._send(), name="testimony")
        ticking = self._loop.create_task(self._tick(), name="clocks")
        with contextlib.ExitStack() as held:
            held.callback(ticking.cancel)
            with contextlib.suppress(ProbeStop):
                held.enter_context(mount_changes(Path("/proc"), self._mounts_changed.set))
            await self._plan(ReadCause.AGENT_START)
            planned_at = boot_clock()
            while True:
                if self.enabled:
                    self._user.section(self._section(), urgent=False)
                await until(self._mounts_changed, self._interval)
                if self._mounts_changed.is_set() or boot_clock() - planned_at >= PLAN_SECONDS:
                    await self._settle()
                    await self._plan(ReadCause.MOUNT)
                    planned_at = boot_clock()
                self._miss()

    async def configure(self, config: WitnessConfig, interval: float) -> Replanned:
        """Go over to another configuration; what that changed at once."""
        self._config, self._interval = config, interval
        return await self._plan(ReadCause.AGENT_START)

    async def stop(self) -> None:
        """Each volume's last record, and all that was said in the spool. May hang with a disk: bound it."""
        for keeper in self._keepers.values():
            keeper.stop(last_record=True)
        if self._endings:
            await asyncio.wait(self._endings.values())
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

    async def _plan(self, cause: ReadCause) -> Replanned:
        """Give each volume that shall be witnessed a keeper, and end those whose volume is gone or shall not be any more."""
        async with self._planning:
            self._survey = await self._loop.run_in_executor(None, self._look)
            wanted = self._survey.plan.witnessed
            broken = {name for name in self._keepers if self._endings[name].done()}
            ended = sorted(
                name
                for name, keeper in self._keepers.items()
                if name in broken or not _goes_on(keeper, wanted.get(name))
            )
            for name in ended:
                # What is still mounted is let go in order; where another disk is by now, nothing may be written.
                self._keepers.pop(name).stop(last_record=name not in wanted and not self._unmounted(name))
            begun = [name for name in wanted if name not in self._keepers and self._free(name)]
            for name in begun:
                again = ReadCause.AGENT_START if name in broken else cause
                self._keepers[name] = self._keep(wanted[name], again)
            for name in self._keepers.keys() - set(begun):
                self._keepers[name].pace(wanted[name].interval)
                self._keepers[name].look_at_mount()
            return Replanned(begun=begun, ended=[name for name in ended if name not in wanted])

    def _free(self, name: str) -> bool:
        """Whether the keeper that a volume had before has ended. Two at once would give one number to two records; one
        that hangs with its disk is not waited for where another disk is."""
        ending = self._endings.get(name)
        return (
            ending is None or ending.done() or self._numbers[name] != self._survey.plan.witnessed[name].number
        )

    def _keep(self, volume: WitnessedVolume, cause: ReadCause) -> VolumeKeeper:
        remembered = self._chains.get(volume.volume)
        ended: asyncio.Future[None] = self._loop.create_future()
        keeper = VolumeKeeper(
            volume,
            self._who,
            cause,
            remembered.chain_id if remembered else "",
            say=lambda said: self._from_thread(lambda: self._said.put_nowait(said)),
            ended=lambda: self._from_thread(lambda: self._ended(ended)),
            clocks=self._clocks,
        )
        self._endings[volume.volume], self._numbers[volume.volume] = ended, volume.number
        keeper.start()
        return keeper

    def _look(self) -> Survey:
        if not self._config.enabled:
            return Survey(trouble="disabled in the configuration")
        return survey(self._config, Path(os.path.realpath(self._state_folder)), self._who.install_id)

    def _ended(self, ending: "asyncio.Future[None]") -> None:
        if not ending.done():
            ending.set_result(None)
        if self._survey.plan.witnessed.keys() - self._keepers.keys():
            self._mounts_changed.set()  # somebody waits for this one's place

    def _from_thread(self, what: Callable[[], object]) -> None:
        with contextlib.suppress(
            RuntimeError
        ):  # the loop is closed: the agent ended without waiting for the thread
            self._loop.call_soon_threadsafe(what)

    async def _settle(self) -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        self._mounts_changed.clear()

    async def _tick(self) -> None:
        """Have every chain read back when the machine goes on after a standstill."""
        before = self._clocks()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = self._clocks()
            if resumed(before, now, TICK_SECONDS):
                for keeper in self._keepers.values():
                    keeper.resume(since=before.monotonic)
            before = now

    def _miss(self) -> None:
        """Report volumes that had a chain and are not mounted any more, once."""
        now = boot_clock()
        gone = {n for n in self._chains if self._unmounted(n) and not left_out(n, self._config)}
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


def _goes_on(keeper: VolumeKeeper, wanted: WitnessedVolume | None) -> bool:
    """Whether a keeper's volume is still the same and still to be witnessed, if at another interval."""
    if wanted is None:
        return False
    had = keeper.volume
    return structs.replace(had, interval=wanted.interval, slots_max=wanted.slots_max) == wanted
