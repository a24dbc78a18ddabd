"""What the collector may and must say of volumes, held against what really became of their promises."""

from math import inf
from typing import TYPE_CHECKING

from msgspec import json

from holdfast_collector.core.chain import LOSSES, Breach, BreachKind
from holdfast_collector.core.effect import Transitioned
from holdfast_collector.core.record import Notice
from holdfast_rules import AlertState, Transition

if TYPE_CHECKING:
    from tests.sim.ordeal import Ordeal, Outcome
    from tests.sim.scene import Disk


HARMLESS = {"nothing", "reboot", "guest_crash"}
TAKEN_WITHIN_SECONDS = 120.0
"""Two machines under one name throw each other off the broker, and each is heard every now and then."""


class Reckoning:
    """Watches an ordeal; `judge` at the end of each chapter."""

    def __init__(self, world: "Ordeal") -> None:
        self.world = world
        self.known: set[tuple[str, str, BreachKind, float]] = set()
        """Breaches of earlier chapters."""
        self.fired: set[tuple[str, str, str]] = set()
        """(alert, node, resource) that fired in this chapter."""
        self.claimants: dict[str, int] = {}
        """Node → the most machines that were seen under its name in this chapter."""
        self.forgotten: dict[tuple[str, str], tuple[int, range]] = {}
        """(node, chain_id) → the agent's epoch, and acknowledgements that it holds and the collector forgot."""
        self.ever_restored = False
        self.lost_before: set[tuple[str, str]] = set()
        """(node, volume) that lost something in an earlier chapter."""

    # ---- while it happens ----------------------------------------------------------------------------------------

    def committed(self) -> None:
        """Nothing fires on disk that nobody was told, or is about to be told."""
        disk = self.world.disk
        for key, tracked in disk.alerts.items():
            if tracked.alert.state is AlertState.FIRING:
                notice = f"{key}:firing:hook"
                assert notice in disk.notices or notice in self.world.delivered, f"{key}: nobody is told"

    def crashed(self) -> None:
        """Nothing of what is watched here lives in the collector's process."""

    def transitioned(self, effect: Transitioned) -> None:
        """Remember what fired."""
        if effect.transition is Transition.FIRED:
            alert = effect.tracked.alert
            self.fired.add((alert.alertname, alert.node, alert.resource))

    def posted(self, notice: Notice) -> None:
        """Of what is told only the alert matters, which was seen when it fired."""

    def looked(self) -> None:
        """Remember how many machines were seen under each name."""
        for name, node in self.world.collector.nodes.items():
            seen = node.testified.get(("node", name), {}).get("claimants", 1)
            self.claimants[name] = max(self.claimants.get(name, 1), int(seen))

    def collector_restored(self, copy: "Disk") -> None:
        """The collector goes back to a copy: which acknowledgements are forgotten with that?"""
        self.ever_restored = True
        for guest in self.world.guests:
            for keeper in guest.keepers.values() if guest.running else ():
                chain = copy.chains.get((guest.name, keeper.writer.chain_id)) if keeper.writer else None
                if keeper.writer and chain:
                    held = range(chain.told_seq + 1, keeper.writer.acknowledged_seq + 1)
                    self.forgotten[(guest.name, keeper.writer.chain_id)] = (guest.state.epoch, held)

    # ---- at the end of a chapter ---------------------------------------------------------------------------------

    def judge(self, outcomes: "list[Outcome]") -> None:
        """Guilty and innocent, each by the truth."""
        for outcome in outcomes:
            for volume in outcome.guest.media:
                self._judge(outcome, volume)
            if outcome.incident.value == "clone":
                name = outcome.guest.name
                assert self.claimants.get(name, 1) > 1, f"{name}: two machines live, one was ever seen"
        self._spools_are_empty()
        self._behind(outcomes)
        self._fates()
        self.lost_before |= {
            (one.guest.name, volume) for one in outcomes for volume in one.gone if one.gone[volume]
        }
        self.known |= {self._sign(node, volume, one) for node, volume, one in self._breaches()}
        self.fired.clear()
        self.forgotten.clear()
        self.claimants.clear()

    def _judge(self, outcome: "Outcome", volume: str) -> None:
        from tests.sim.ordeal import FORKS, Incident

        name = outcome.guest.name
        place = f"{name} {volume} after {outcome.incident}"
        new = [
            one
            for node, where, one in self._breaches()
            if (node, where) == (name, volume) and self._sign(node, where, one) not in self.known
        ]
        kinds = {one.kind.value for one in new}
        alerts = {alert for alert, node, resource in self.fired if (node, resource) == (name, volume)}
        if outcome.incident in FORKS:
            # What one of two copies of a memory wrote and the other does not find looks like a loss of either, and as
            # none of them booted, like no crash's.
            memory = {"fork", "memory_rollback", "rolled_back"}
            seen = {"fork"} if outcome.incident.value == "clone" else memory
            forgotten = self.world.restored_at and "WitnessForked" in alerts
            assert kinds & seen or forgotten, f"{place}: two machines write and nobody noticed, only {kinds}"
            return
        if not outcome.gone.get(volume):
            if self.ever_restored and (name, volume) in self.lost_before:
                return  # it had forgotten, and found out again
            assert not kinds, f"{place}: kept everything and is accused: {[one.evidence for one in new]}"
            assert not alerts, f"{place}: kept everything, and {alerts} fired"
            return
        if self.world.restored_at and not outcome.certain:
            return
        # A restored collector may have forgotten that it was told of another instance; or the read that explains why a
        # machine contradicts what it remembers, which looks like a second machine.
        forgot = {"restored"} if self.ever_restored else set()
        forgot |= {"fork"} if self.world.restored_at else set()
        assert kinds <= outcome.kinds | forgot, (
            f"{place}: {kinds} is not {set(outcome.kinds)}: {[one.evidence for one in new]}"
        )
        lost_at = min(
            (one.at for one in new if one.kind in LOSSES and one.kind is not BreachKind.METADATA), default=inf
        )
        # What was damaged may be told before a promise that was lost with it arrives, not after.
        twice = any(one.kind is BreachKind.CORRUPT and one.at >= lost_at for one in new)
        assert not twice, f"{place}: one event is told twice: {[one.evidence for one in new]}"
        if not outcome.kinds or not outcome.certain:
            return
        if outcome.proven.get(volume, 0.0) > self._forgetful_until(outcome):
            # Further damage is told once an operator took note of what is told already: until then one alert stands for both.
            told = any(
                one.kind is BreachKind.CORRUPT and one.open
                for node, where, one in self._breaches()
                if (node, where) == (name, volume)
            )
            assert kinds or told, f"{place}: {outcome.gone[volume]} records are gone, and nobody says so"
            losses = {kind.value for kind in LOSSES}
            called = alerts | {
                row.alert.alertname
                for row in self.world.collector.alerts.values()
                if (row.alert.node, row.alert.resource) == (name, volume)
            }
            assert "WitnessLost" in called or not kinds & losses, f"{place}: lost, and nobody is called"
        if outcome.incident is Incident.NOTHING:
            raise AssertionError(f"{place}: the simulator lost records by itself")

    def _forgetful_until(self, outcome: "Outcome") -> float:
        """Until when what the collector heard convicts nobody: it was restored, and found that out when a volume proved it."""
        restored = self.world.restored_at
        if restored > outcome.at:
            return self.world.now
        chains = [record for node in self.world.collector.nodes.values() for record in node.chains.values()]
        return max(
            (record.behind_at for record in chains if record.behind_at >= restored > 0.0), default=restored
        )

    def _breaches(self) -> list[tuple[str, str, Breach]]:
        return [
            (name, record.volume, breach)
            for name, node in sorted(self.world.collector.nodes.items())
            for record in node.chains.values()
            for breach in record.breaches
        ]

    def _sign(self, node: str, volume: str, breach: Breach) -> tuple[str, str, BreachKind, float]:
        return node, volume, breach.kind, breach.at

    def _spools_are_empty(self) -> None:
        if self.world.restored_at:
            return  # it may wait for a read that it has forgotten
        for guest in self.world.guests:
            young = self.world.now - TAKEN_WITHIN_SECONDS
            left = [
                position
                for position, message in guest.state.spool.items()
                if json.decode(message.payload)["sent_at"] < young
            ]
            assert not left, f"{guest.name}: {len(left)} messages were never taken, from {min(left)}"

    def _behind(self, outcomes: "list[Outcome]") -> None:
        behind = self.world.collector.health(self.world.now)["behind_agents"]
        for one in outcomes:
            for record in one.guest.told if one.incident.value in HARMLESS else ():
                # What the agent's end took before it stood in a record is known to nobody any more.
                epoch, held = self.forgotten.get((one.guest.name, record.chain_id), (0, range(0)))
                if record.epoch <= epoch and record.acknowledged_seq in held:
                    assert behind, (
                        f"the collector was restored, record {record.seq} tells, and it does not know"
                    )
        if not self.ever_restored:
            assert not behind, "the collector was never restored, and says so"

    def _fates(self) -> None:
        """Each boot that was heard of has one, the very first apart."""
        told: dict[tuple[str, str], int] = {}
        for row in self.world.disk.state.recent:
            if row.type == "reboot_fate" and row.fields["boot_id"] != row.fields["previous_boot_id"]:
                key = (row.node, str(row.fields["boot_id"]))
                told[key] = told.get(key, 0) + 1
        for key, count in told.items():
            assert count == 1, f"{key}: {count} times told what became of it"
        if self.ever_restored:
            return
        digests = {key[4] for key in self.world.disk.seen}
        for guest in self.world.guests:
            first = guest.births[0][0]
            # One that was over before it was heard of is in the words on the next.
            met = self.world.collector.nodes[guest.name].record.boots
            heard = {boot for boot, digest in guest.births if digest in digests and boot in met} - {first}
            lacking = sorted(boot for boot in heard if (guest.name, boot) not in told)
            assert not lacking, f"{guest.name}: nobody says what became of {lacking}"
