"""Machines whose volumes promise, and what befalls them: chapters of bad weather with one incident for each machine.

What really became of every promise is kept beside (`Outcome`); the collector's word is held against it.
"""

from collections.abc import Callable
from copy import deepcopy
from enum import StrEnum
from functools import partial

from msgspec import Struct, field

from holdfast_agent.core.chain import decode_header
from holdfast_collector.core.event import Acknowledged
from holdfast_wire import Machine, ReadCause
from tests.sim.guest import ROOT, AgentDied, Guest
from tests.sim.medium import Medium
from tests.sim.reckoning import Reckoning
from tests.sim.scene import CALM, Scene, Weather

BEAT_SECONDS = 5.0
SETTLE_SECONDS = 480.0
"""Longer than any message waits for another one, and is then sent again."""
RULES = """
rules:
  - {alert: WitnessLost, id: W-01, resource: volume, when: witness_lost, for: 0s, severity: page, sticky: true,
     summary: "{node}: {resource} lost {witness_loss_records} records"}
  - {alert: WitnessForked, id: W-02, resource: volume, when: witness_forked, for: 0s, severity: page, sticky: true,
     summary: "{node}: {resource} forked"}
  - {alert: WitnessMissing, id: W-03, resource: volume, when: witness_missing, for: 0s, severity: page,
     summary: "{node}: {resource} {witness_missing_reason}"}
  - {alert: WitnessCorrupt, id: W-04, resource: volume, when: witness_corrupt, for: 0s, severity: page,
     summary: "{node}: {resource} corrupt"}
  - {alert: CollectorBehind, id: W-05, resource: collector, when: behind_agents, for: 0s, severity: page,
     summary: "the collector was restored"}
"""
STORM = Weather(
    collector_crash=0.004,
    agent_crash=0.01,
    reboot=0.01,
    disconnect=0.02,
    truncation=0.02,
    flip=0.0,
    refusal=0.05,
)


class Incident(StrEnum):
    """What befalls a machine in a chapter."""

    NOTHING = "nothing"
    REBOOT = "reboot"
    GUEST_CRASH = "guest_crash"
    POWER_CUT = "power_cut"
    ROLLBACK_CLEAN = "rollback_clean"
    ROLLBACK_DIRTY = "rollback_dirty"
    RESTORE = "restore"
    MEMORY_ROLLBACK = "memory_rollback"
    MEMORY_UNNOTICED = "memory_unnoticed"
    REFORMAT = "reformat"
    CLONE = "clone"
    CLONE_WITH_MEMORY = "clone_with_memory"


LAST = {Incident.CLONE, Incident.CLONE_WITH_MEMORY, Incident.MEMORY_ROLLBACK, Incident.MEMORY_UNNOTICED}
"""Positions go back, or two machines have them: what comes after is another story."""
FORKS = {Incident.CLONE, Incident.CLONE_WITH_MEMORY}


def whole(header: object) -> bool:
    """Whether a chain's header is there."""
    return isinstance(header, bytes) and decode_header(header) is not None


class Outcome(Struct, kw_only=True):
    """The truth about one machine's incident."""

    guest: Guest
    incident: Incident
    at: float
    gone: dict[str, int] = field(default_factory=dict)
    """Volume → confirmed records that are not on its medium any more."""
    proven: dict[str, float] = field(default_factory=dict)
    """Volumes of which the collector had committed records that are gone, and when the newest of them."""
    certain: bool = True
    """The collector can know. A copy of a machine's memory that nobody is told of may pass for anything or for nothing."""
    kinds: frozenset[str] = frozenset()
    """What a loss may rightly be called."""


class Ordeal(Scene):
    """See the module."""

    rules_text = RULES

    def __init__(self, seed: int) -> None:
        self.reckoning = Reckoning(self)
        self.sessions: dict[str, Guest] = {}
        """Node → whom the broker talks to."""
        self.guests: list[Guest] = []
        self.named = 0
        self.restored_at = 0.0
        """When the collector was restored in this chapter; 0: it was not."""
        self.may_misread: list[Guest] = []
        self.steps_may_kill = 0.0
        super().__init__(seed, CALM, self.reckoning)
        for number in range(self.rng.randint(1, 2)):
            self._install(number)
        self.run(60.0)

    def _install(self, number: int) -> None:
        rng = self.rng
        shows = rng.random() < 0.85
        media = {
            volume: Medium(
                self.name("fs") if shows else "",
                lies=rng.random() < 0.35,
                reorders=rng.random() < 0.3,
                forgets_renames=rng.random() < 0.2,
            )
            for volume in (ROOT, "/srv", "/data")[: rng.randint(1, 3)]
        }
        machine = Machine(machine_id=f"m-{number}", instance_id=self.name("i") if rng.random() < 0.85 else "")
        guest = Guest(f"n{number}", f"install{number}", media, machine)
        guest.says_stop = rng.random() < 0.8
        guest.temporary = {volume for volume in media if volume != ROOT and rng.random() < 0.2}
        guest.die = self._maybe_die
        guest.fsync_fails = lambda: self.chance(0.02) and self.weather is not CALM
        guest.misreads = partial(self._misreads, guest)
        guest.ids = lambda: f"{self.rng.getrandbits(128):032x}"
        guest.boot_up(self.name("boot"), self.now)
        self._settle_in(guest)

    def _settle_in(self, guest: Guest) -> None:
        self.guests.append(guest)
        self.after(self.rng.random() * BEAT_SECONDS, partial(self._beat, guest))

    def name(self, what: str) -> str:
        """One that nobody had before."""
        self.named += 1
        return f"{what}-{self.named}"

    # ---- a chapter -----------------------------------------------------------------------------------------------

    def chapter(self, incidents: list[Incident], *, restore_collector: bool = False) -> list[Outcome]:
        """Storm, incidents, storm, and calm until everything is said. What really happened."""
        self.weather, self.steps_may_kill = STORM, 0.002
        self.restored_at = 0.0
        self.may_misread = [
            guest
            for guest, incident in zip(self.guests, incidents, strict=False)
            if incident is Incident.NOTHING
        ]
        before = self.rng.uniform(60.0, 240.0)
        guests = list(self.guests)
        snapshots: dict[str, Guest] = {}
        for guest in guests:
            self.after(self.rng.uniform(0.0, before), partial(self._snapshot, guest, snapshots))
        if restore_collector:
            self._plan_collector_restore(before)
        self.run(before)
        self.weather = self._without_reboots()
        outcomes = [
            self._befall(guest, incident, snapshots[guest.name])
            for guest, incident in zip(guests, incidents, strict=False)
        ]
        self.run(self.rng.uniform(20.0, 120.0))
        self.weather, self.steps_may_kill = CALM, 0.0
        for guest in self.guests:
            guest.reachable_at = self.now
            guest.disconnect()
        self.run(SETTLE_SECONDS)
        return outcomes

    def _without_reboots(self) -> Weather:
        return Weather(
            collector_crash=0.004, agent_crash=0.01, reboot=0.0, disconnect=0.02, flip=0.0, refusal=0.05
        )

    def _snapshot(self, guest: Guest, snapshots: dict[str, Guest]) -> None:
        snapshots[guest.name] = guest.twin()
        snapshots[guest.name].reachable_at = self.now  # when it was taken

    def _plan_collector_restore(self, before: float) -> None:
        at = self.rng.uniform(0.0, before)
        back = self.rng.uniform(at, before + 20.0)
        copies: list[object] = []
        self.after(at, lambda: copies.append(deepcopy(self.disk)))
        self.after(back, lambda: self._restore_collector(copies[0]))

    def _restore_collector(self, disk: object) -> None:
        assert isinstance(disk, type(self.disk))
        self.reckoning.collector_restored(disk)
        self.disk, self.restored_at = disk, self.now
        self.collector = self._start_collector()
        self.reckoning.crashed()

    def acknowledge_all(self) -> None:
        """The operator takes note of everything."""
        for key in sorted(self.collector.alerts):
            self.feed(Acknowledged(self.now, key, "seen"))

    # ---- incidents -----------------------------------------------------------------------------------------------

    def _befall(self, guest: Guest, incident: Incident, snapshot: Guest) -> Outcome:
        outcome = Outcome(guest=guest, incident=incident, at=self.now)
        before = {volume: medium.holds() for volume, medium in guest.media.items()}
        told = len(guest.told)
        notes = {volume: medium.read("metadata") for volume, medium in guest.media.items()}
        deeds: dict[Incident, Callable[[Guest, Guest], frozenset[str]]] = {
            Incident.NOTHING: lambda guest, snapshot: frozenset(),
            Incident.REBOOT: self._reboot,
            Incident.GUEST_CRASH: self._guest_crash,
            Incident.POWER_CUT: self._power_cut,
            Incident.ROLLBACK_CLEAN: partial(self._rollback, clean=True),
            Incident.ROLLBACK_DIRTY: partial(self._rollback, clean=False),
            Incident.RESTORE: self._restore,
            Incident.MEMORY_ROLLBACK: partial(self._memory_rollback, noticed=True),
            Incident.MEMORY_UNNOTICED: partial(self._memory_rollback, noticed=False),
            Incident.REFORMAT: self._reformat,
            Incident.CLONE: self._clone,
            Incident.CLONE_WITH_MEMORY: self._clone_with_memory,
        }
        memory = {Incident.MEMORY_ROLLBACK, Incident.MEMORY_UNNOTICED}
        outcome.certain = incident not in memory or (
            incident is Incident.MEMORY_ROLLBACK and snapshot.running
        )
        outcome.kinds = deeds[incident](guest, snapshot)
        # What an orderly stop wrote counts, too.
        late = frozenset(one.hash for one in guest.told[told:])
        self._weigh(outcome, {volume: held | late for volume, held in before.items()}, notes)
        return outcome

    def _weigh(self, outcome: Outcome, before: dict[str, frozenset[bytes]], notes: dict[str, object]) -> None:
        """Which promises are gone, and which of them the collector has on its disk."""
        committed = {seen.digest: seen.at for seen in self.disk.seen.values()}
        for volume, medium in outcome.guest.media.items():
            gone_hashes = before[volume] - medium.holds()
            gone = [one for one in outcome.guest.told if one.volume == volume and one.hash in gone_hashes]
            renamed = notes[volume] != medium.read("metadata") and not gone
            if renamed and isinstance(notes[volume], tuple):
                gone = [one for one in outcome.guest.told if one.volume == volume][-3:]
            outcome.gone[volume] = len(gone)
            proof = {one.seq: committed[one.digest] for one in gone if one.digest in committed}
            if proof and not renamed:
                outcome.proven[volume] = proof[max(proof)]

    def _off(self, guest: Guest) -> None:
        """No power: the agent is gone, and the broker finds out some time."""
        self._lose_connection(guest)
        guest.running = False

    def _shut_down(self, guest: Guest) -> None:
        connected = guest.connected
        try:
            goodbye = guest.shut_down(self.now)
        except AgentDied:
            goodbye = None
            guest.running = False
        if goodbye is not None:
            self.send_up(guest.name, goodbye)
        elif connected:
            self._lose_connection(guest)
        guest.connected = False

    def _reboot(self, guest: Guest, snapshot: Guest) -> frozenset[str]:
        self._shut_down(guest)
        for medium in guest.media.values():
            medium.flush()
        guest.boot_up(self.name("boot"), self.now)
        return frozenset()

    def _guest_crash(self, guest: Guest, snapshot: Guest) -> frozenset[str]:
        self._off(guest)
        for medium in guest.media.values():
            medium.guest_crash(self.rng)
        guest.boot_up(self.name("boot"), self.now)
        return frozenset()

    def _power_cut(self, guest: Guest, snapshot: Guest) -> frozenset[str]:
        self._off(guest)
        for medium in guest.media.values():
            medium.power_cut(self.rng)
        guest.boot_up(self.name("boot"), self.now)
        told = {"lost_tail", "torn", "metadata"}
        if not all(whole(medium.read(0)) for medium in guest.media.values()):
            told |= {"deleted", "corrupt"}  # a chain that was only just begun, with its header
        if any(medium.lies for medium in guest.media.values()):
            told |= {"corrupt"}  # a later write may have arrived, and none before it
        return frozenset(told if self._reliable(guest) else told | {"rolled_back"})

    def _reliable(self, guest: Guest) -> bool:
        """Whether the machine's word on how it stopped is to be had and true."""
        return guest.says_stop and not guest.media[ROOT].lies

    def _rollback(self, guest: Guest, snapshot: Guest, *, clean: bool) -> frozenset[str]:
        if clean:
            self._shut_down(guest)
        else:
            self._off(guest)
            for medium in guest.media.values():
                medium.guest_crash(self.rng)
        rolled = [volume for volume in guest.media if self.rng.random() < 0.6] or [ROOT]
        for volume in rolled:
            guest.media[volume] = snapshot.media[volume].snapshot()
        guest.boot_up(self.name("boot"), self.now)
        if self._reliable(guest) and ROOT not in rolled:
            return frozenset({"rolled_back" if clean else "lost_tail", "torn", "metadata"})
        return frozenset({"rolled_back", "lost_tail", "torn", "metadata"})

    def _restore(self, guest: Guest, snapshot: Guest) -> frozenset[str]:
        self._off(guest)
        guest.media = {volume: medium.snapshot() for volume, medium in snapshot.media.items()}
        known = guest.machine.instance_id
        instance = self.name("i") if known else ""
        guest.machine = Machine(machine_id=guest.machine.machine_id, instance_id=instance)
        guest.boot_up(self.name("boot"), self.now)
        return frozenset(
            {"restored", "torn", "metadata"} if known else {"rolled_back", "lost_tail", "torn", "metadata"}
        )

    def _memory_rollback(self, guest: Guest, snapshot: Guest, *, noticed: bool) -> frozenset[str]:
        self._lose_connection(guest)
        before, truth = snapshot.twin(), (guest.told, guest.births)
        if before.boot != guest.boot:
            return self._rollback(
                guest, snapshot, clean=False
            )  # of a machine that has booted since: no memory of it
        for name in ("media", "running", "session", "keepers", "awaited", "mounts", "previous_boot"):
            if hasattr(before, name):
                setattr(guest, name, getattr(before, name))
        guest.told, guest.births = truth
        guest.booted_at += self.now - snapshot.reachable_at
        guest.connected = False
        if guest.running:
            guest.session.disconnected(getattr(guest, "connection", 0))
            if noticed:
                guest.notice(ReadCause.FORK)
        # It cannot be told from a second machine where its records overtake the read that goes before them.
        kinds = {"memory_rollback", "fork", "torn", "metadata"}
        return frozenset(kinds | {"rolled_back"} if noticed else kinds | {"rolled_back", "lost_tail"})

    def _reformat(self, guest: Guest, snapshot: Guest) -> frozenset[str]:
        others = [volume for volume in guest.media if volume != ROOT]
        if not others:
            return self._reboot(guest, snapshot)
        volume = self.rng.choice(others)
        reboot = self.rng.random() < 0.5
        if reboot:
            self._off(guest)
        old = guest.media[volume]
        new = self.name("fs") if old.filesystem_id else ""
        guest.media[volume] = Medium(new, lies=old.lies, reorders=old.reorders)
        if reboot:
            guest.boot_up(self.name("boot"), self.now)
        elif guest.running:
            guest.keepers[volume].wanted.append(ReadCause.MOUNT)
            guest.mounts += 1
        if not new:
            return frozenset({"deleted"})
        return frozenset() if volume in guest.temporary else frozenset({"reformatted"})

    def _clone(self, guest: Guest, snapshot: Guest) -> frozenset[str]:
        clone = snapshot.twin()
        clone.media = {volume: medium.snapshot() for volume, medium in snapshot.media.items()}
        if clone.machine.instance_id and self.rng.random() < 0.7:
            clone.machine = Machine(machine_id=clone.machine.machine_id, instance_id=self.name("i"))
        clone.reachable_at = self.now
        clone.boot_up(self.name("boot"), self.now)
        self._settle_in(clone)
        return frozenset({"fork"})

    def _clone_with_memory(self, guest: Guest, snapshot: Guest) -> frozenset[str]:
        clone = guest.twin()
        clone.connected = False
        if clone.running:
            clone.session.disconnected(getattr(clone, "connection", 0))
            for one in (guest, clone):
                if self.rng.random() < 0.5:
                    one.notice(ReadCause.FORK)
        self._settle_in(clone)
        return frozenset({"fork"})

    def _misreads(self, guest: Guest) -> bool:
        """Once in a chapter, and only where nothing worse happens: two such reads are as good as a loss."""
        may = guest in self.may_misread
        self.may_misread = [one for one in self.may_misread if one is not guest]
        return may

    # ---- machines ------------------------------------------------------------------------------------------------

    def _maybe_die(self) -> None:
        if self.chance(self.steps_may_kill):
            raise AgentDied

    def _beat(self, guest: Guest) -> None:
        self.after(BEAT_SECONDS, lambda: self._beat(guest))
        calm = self.weather is CALM
        if guest.running and self.chance(self.weather.agent_crash):
            self._off(guest)
        elif self.chance(self.weather.reboot):
            deed = self._reboot if self.chance(0.5) else self._guest_crash
            deed(guest, guest)
        if guest.running and self.weather is STORM and self.chance(0.01):
            guest.notice(ReadCause.RESUME)
        if guest.connected and self.chance(self.weather.disconnect):
            self._lose_connection(guest)
            if self.chance(0.3):
                guest.reachable_at = self.now + self.rng.uniform(10.0, 200.0)
        try:
            if not guest.running and (calm or self.chance(0.4)):
                guest.start(self.now)
            if not guest.running:
                return
            if not guest.connected and self.now >= guest.reachable_at:
                self._connect(guest)
            for payload in guest.turn(self.now):
                self.send_up(guest.name, payload)
        except AgentDied:
            self._off(guest)

    def _connect(self, guest: Guest) -> None:
        """The broker knows one client of a name: a second one throws the first one off."""
        other = self.sessions.get(guest.name)
        if other is not None and other is not guest and other.connected:
            self._lose_connection(other)
            other.reachable_at = self.now + self.rng.uniform(0.0, 60.0)
        self.sessions[guest.name] = guest
        guest.will = guest.connect(self.now)

    def _lose_connection(self, guest: Guest) -> None:
        if guest.connected:
            will = guest.will
            self.after(self.rng.random() * 8, lambda: self.send_up(guest.name, will))
        if guest.running:
            guest.disconnect()
        guest.connected = False

    def hear(self, node: str, payload: bytes) -> None:
        """To whom the broker talks to under that name."""
        guest = self.sessions.get(node)
        if guest is not None and guest.running and guest.connected:
            try:
                guest.heard(payload, self.now)
            except AgentDied:
                self._off(guest)

    def feed(self, event: object) -> None:
        """As every scene; and somebody looks at the collector after each."""
        super().feed(event)  # type: ignore[arg-type]  # the scene's own union
        self.reckoning.looked()
