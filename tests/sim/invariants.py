"""What must never be, whatever the weather."""

from typing import TYPE_CHECKING

from holdfast_collector.core.effect import Transitioned
from holdfast_collector.core.record import Notice
from holdfast_rules import AlertState, Transition
from holdfast_rules.verdict import Verdict

if TYPE_CHECKING:
    from tests.sim.world import World

LEGAL: dict[str, set[Transition]] = {
    "inactive": {Transition.PENDING, Transition.FIRED},
    "pending": {Transition.FIRED, Transition.CANCELLED},
    "firing": {Transition.RESOLVED},
}
AFTER: dict[Transition, str] = {
    Transition.PENDING: "pending",
    Transition.FIRED: "firing",
    Transition.CANCELLED: "inactive",
    Transition.RESOLVED: "inactive",
}


class Invariants:
    """Watches a world and fails the moment something impossible happens."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.states: dict[str, str] = {}
        self.verdicts: dict[tuple[str, str, str], Verdict | None] = {}
        self.turns_seen = 0

    def committed(self) -> None:
        """Nothing fires on disk that nobody was told, or is about to be told."""
        disk = self.world.disk
        for key, tracked in disk.alerts.items():
            if tracked.alert.state is AlertState.FIRING:
                notice = f"{key}:firing:hook"
                assert notice in disk.notices or notice in self.world.delivered, (
                    f"{key} fires and nobody is told"
                )

        self._history_is_whole()

    def _history_is_whole(self) -> None:
        """Each turn goes on where the one before ended, and the last one leads to the verdict that stands."""
        disk = self.world.disk
        for turn in disk.turns[self.turns_seen :]:
            place = (turn.node, turn.kind, turn.resource)
            stood = self.verdicts.get(place)
            assert turn.before == stood != turn.after, (
                f"{place}: {turn.before} to {turn.after} out of {stood}"
            )
            self.verdicts[place] = turn.after
        if len(disk.turns) > self.turns_seen:
            standing = {place: held.verdict for place, held in disk.verdicts.items()}
            assert {place: v for place, v in self.verdicts.items() if v is not None} == standing
        self.turns_seen = len(disk.turns)

    def crashed(self) -> None:
        """What the dead process alone knew is not held against the next one."""
        self.states = {
            key: "firing" if tracked.alert.state is AlertState.FIRING else "pending"
            for key, tracked in self.world.disk.alerts.items()
        }

    def transitioned(self, effect: Transitioned) -> None:
        """Only what the table knows."""
        key = effect.tracked.key
        state = self.states.get(key, "inactive")
        assert effect.transition in LEGAL[state], f"{key}: {effect.transition} out of {state}"
        self.states[key] = AFTER[effect.transition]

    def forgotten_by_agent(self, event_id: str) -> None:
        """What an agent deletes is on the collector's disk."""
        machine = next(machine for machine in self.world.machines if event_id.startswith(f"{machine.name}/"))
        if event_id in machine.happened:
            assert event_id in self.world.disk.events, f"{event_id} was acknowledged and is not committed"

    def posted(self, notice: Notice) -> None:
        """A resolve never overtakes its firing, and nothing is told that did not happen."""
        alert = notice.alert
        if notice.status == "resolved":
            assert f"{notice.key}:firing:hook" in self.world.delivered, (
                f"{notice.key} resolves before it fired"
            )
        machine = next(machine for machine in self.world.machines if machine.name == alert.node)
        if alert.kind == "service":
            assert machine.faults.get(alert.resource), (
                f"{alert.resource} never failed, but {notice.id} says so"
            )

    def healed(self) -> None:
        """With the network well and time to settle, the collector knows the truth and has told it."""
        world = self.world
        for machine in world.machines:
            assert not machine.spool, f"{machine.name} still holds {len(machine.spool)} messages"
            happened = sorted(machine.happened)
            events = sorted(event for event in world.disk.events if event.startswith(f"{machine.name}/"))
            assert events == happened, (
                f"{machine.name}: {set(events) ^ set(happened)} lost, invented or taken twice"
            )
        self._firing_is_truth()
        assert not world.collector.outbox, "the outbox is not drained"
        keys = [notice_id for notice_id in world.delivered if ":firing:" in notice_id]
        resolved = [notice_id for notice_id in world.delivered if ":resolved:" in notice_id]
        active = {key for key, row in world.collector.alerts.items() if row.notified}
        ended = {notice_id.rsplit(":resolved:", 1)[0] for notice_id in resolved}
        begun = {notice_id.rsplit(":firing:", 1)[0] for notice_id in keys}
        assert begun == ended | active, (
            f"{begun ^ (ended | active)} begun and not ended, or ended and not begun"
        )
        assert not ended & active, "an episode is over and goes on"

    def _firing_is_truth(self) -> None:
        firing = {
            (row.alert.alertname, row.alert.node, row.alert.resource)
            for row in self.world.collector.alerts.values()
            if row.alert.state is AlertState.FIRING
        }
        down = {
            ("ServiceDown", machine.name, service)
            for machine in self.world.machines
            for service, up in machine.up.items()
            if not up
        }
        observed = {place for place in firing if place[0] != "ServiceCrashed"}
        assert observed == down, f"firing {observed}, true {down}"
