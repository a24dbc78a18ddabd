"""Virtual time, an unreliable network, a disk that outlives crashes, and a receiver that sometimes refuses.

One seed is one history: the same seed gives the same calls in the same order, so a failure is replayed by its number.
Who lives in a scene, and what befalls them, is said by its subclasses.
"""

import heapq
import random
from collections.abc import Callable
from copy import deepcopy
from typing import Protocol

from msgspec import Struct

from holdfast_collector.core.chain import ChainRecord
from holdfast_collector.core.collector import Collector
from holdfast_collector.core.effect import Commit, Effect, Publish, Transitioned, Turned
from holdfast_collector.core.event import BrokerChanged, CoreEvent, Delivered, Received, Ticked
from holdfast_collector.core.record import (
    EventCount,
    HeldVerdict,
    NodeRecord,
    Notice,
    Receiver,
    RestoreWindow,
    Seen,
    State,
    Tracked,
)
from holdfast_rules import RuleSet, load
from holdfast_wire import encode


class Weather(Struct, frozen=True, kw_only=True):
    """How bad the world is, as probabilities per occasion."""

    loss: float = 0.1
    duplication: float = 0.1
    truncation: float = 0.02
    delay_seconds_max: float = 3.0
    """Reordering comes from it: what is sent later may arrive earlier."""
    collector_crash: float = 0.02
    """At each of the three places around a commit."""
    agent_crash: float = 0.01
    reboot: float = 0.01
    disconnect: float = 0.02
    flip: float = 0.08
    refusal: float = 0.1
    lost_reply: float = 0.05


CALM = Weather(
    loss=0, duplication=0, truncation=0, delay_seconds_max=0.01, collector_crash=0, agent_crash=0, reboot=0,
    disconnect=0, flip=0, refusal=0, lost_reply=0,
)  # fmt: skip


class Disk:
    """The collector's store: what a commit left there is there after any crash, and nothing else is."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeRecord] = {}
        self.alerts: dict[str, Tracked] = {}
        self.notices: dict[str, Notice] = {}
        self.seen: dict[tuple[str, str, int, int, str], Seen] = {}
        self.counts: dict[tuple[str, str, str, str], EventCount] = {}
        self.chains: dict[tuple[str, str], ChainRecord | None] = {}
        self.windows: dict[str, RestoreWindow | None] = {}
        self.verdicts: dict[tuple[str, str, str], HeldVerdict] = {}
        self.turns: list[Turned] = []
        self.events: list[str] = []
        self.state = State()

    def commit(self, commit: Commit) -> None:
        """One transaction."""
        for name, record in commit.nodes.items():
            if record is None:
                del self.nodes[name]
            else:
                self.nodes[name] = record
        for key, tracked in commit.alerts.items():
            if tracked is None:
                self.alerts.pop(key, None)
            else:
                self.alerts[key] = tracked
        for notice in commit.notices:
            self.notices[notice.id] = notice
        for notice_id in commit.taken:
            self.notices.pop(notice_id, None)
        for seen in commit.seen:
            self.seen[(seen.node, seen.install_id, seen.epoch, seen.seq, seen.digest)] = seen
        self.counts.update(commit.counts)
        self.state.resolved.extend(commit.resolved)
        self.state.recent.extend(commit.events)
        # What the collector itself concludes has no position among the machines' messages.
        self.events.extend(f"{row.node}/{row.epoch}.{row.seq}" for row in commit.events if row.epoch)
        self.chains.update(commit.chains)
        self.windows.update(commit.windows)
        self.turns.extend(commit.turns)
        for place, held in commit.verdicts.items():
            if held is None:
                self.verdicts.pop(place, None)
            else:
                self.verdicts[place] = held
        self.state.next_episode = commit.next_episode or self.state.next_episode

    def load(self) -> State:
        """What a starting collector finds."""
        return deepcopy(
            State(
                nodes=list(self.nodes.values()),
                alerts=list(self.alerts.values()),
                resolved=self.state.resolved,
                notices=list(self.notices.values()),
                seen=list(self.seen.values()),
                counts=list(self.counts.values()),
                recent=self.state.recent,
                chains=[record for record in self.chains.values() if record is not None],
                windows=[window for window in self.windows.values() if window is not None],
                verdicts=list(self.verdicts.values()),
                next_episode=self.state.next_episode,
            )
        )

    def turns_of(self) -> dict[tuple[str, str, str], list[tuple[str | None, str | None]]]:
        """(node, kind, resource) → its turns in order, as (before, after)."""
        found: dict[tuple[str, str, str], list[tuple[str | None, str | None]]] = {}
        for turn in self.turns:
            found.setdefault((turn.node, turn.kind, turn.resource), []).append((turn.before, turn.after))
        return found


class Crash(Exception):
    """The collector's process ends here and now."""


class Watch(Protocol):
    """Who looks on, and fails the moment something impossible happens."""

    def committed(self) -> None: ...

    def crashed(self) -> None: ...

    def transitioned(self, effect: Transitioned) -> None: ...

    def posted(self, notice: Notice) -> None: ...


class Scene:
    """Network, collector and receiver under one seeded clock."""

    core: type[Collector] = Collector
    """Replaced by a broken one when the simulator itself is tested."""
    rules_text: str

    def __init__(self, seed: int, weather: Weather, watch: Watch) -> None:
        self.rng = random.Random(seed)
        self.weather = weather
        self.watch = watch
        self.now = 1_000_000.0
        self.steps: list[tuple[float, int, Callable[[], None]]] = []
        self.counted = 0
        self.disk = Disk()
        self.rules: RuleSet = load({"sim.yaml": self.rules_text})
        self.delivered: dict[str, int] = {}
        """Notice id → how often the receiver took it."""
        self.collector = self._start_collector()
        self.commits = 0
        self.crash_at: tuple[int, str] | None = None
        """Crash at this commit, at this place, when a test enumerates them."""
        self.after(1.0, self._tick)
        self.after(0.5, self._drain)

    def hear(self, node: str, payload: bytes) -> None:
        """An answer of the collector arrives on a node's down topic."""
        raise NotImplementedError

    # ---- time ----------------------------------------------------------------------------------------------------

    def after(self, seconds: float, step: Callable[[], None]) -> None:
        """Do something later."""
        self.counted += 1
        heapq.heappush(self.steps, (self.now + seconds, self.counted, step))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.steps and self.steps[0][0] <= end:
            self.now, _, step = heapq.heappop(self.steps)
            step()
        self.now = end

    def chance(self, probability: float) -> bool:
        """Whether something improbable happens now."""
        return self.rng.random() < probability

    # ---- network -------------------------------------------------------------------------------------------------

    def send_up(self, node: str, payload: bytes) -> None:
        """To the collector, perhaps."""
        if self.chance(self.weather.loss):
            return
        if self.chance(self.weather.truncation):
            payload = payload[: self.rng.randrange(len(payload))]
        for _ in range(2 if self.chance(self.weather.duplication) else 1):
            delay = self.rng.random() * self.weather.delay_seconds_max
            self.after(delay, lambda: self.feed(Received(self.now, node, payload)))

    def send_down(self, effect: Publish) -> None:
        """To the agent, perhaps."""
        payload = encode(effect.message)
        if self.chance(self.weather.loss):
            return
        for _ in range(2 if self.chance(self.weather.duplication) else 1):
            self.after(
                self.rng.random() * self.weather.delay_seconds_max, lambda: self.hear(effect.node, payload)
            )

    # ---- collector -----------------------------------------------------------------------------------------------

    def _start_collector(self) -> Collector:
        started = self.core(
            self.disk.load(), rules=self.rules, receivers=[Receiver(name="hook")], started_at=self.now
        )
        started.handle(BrokerChanged(self.now, connected=True))
        return started

    def feed(self, event: CoreEvent) -> None:
        """Let the collector handle one event, and crash around the commit when it is time to."""
        try:
            self.perform(self.collector.handle(event))
        except Crash:
            self.watch.crashed()
            self.collector = self._start_collector()

    def perform(self, effects: list[Effect]) -> None:
        """What the shell does: commit first, then everything else."""
        for effect in effects:
            if isinstance(effect, Commit):
                self.commits += 1
                self._maybe_crash("before")
                self.disk.commit(effect)
                self._maybe_crash("after")
        self.watch.committed()
        for effect in effects:
            match effect:
                case Publish():
                    self.send_down(effect)
                    self._maybe_crash("between")
                case Transitioned():
                    self.watch.transitioned(effect)
                case _:
                    pass

    def _maybe_crash(self, place: str) -> None:
        if self.crash_at == (self.commits, place) or self.chance(self.weather.collector_crash):
            raise Crash

    def _tick(self) -> None:
        self.after(1.0, self._tick)
        self.feed(Ticked(self.now))

    def _drain(self) -> None:
        """The notifier: oldest first, at least once, in order per key."""
        self.after(0.5, self._drain)
        for notice in list(self.collector.outbox.values())[:20]:
            if notice.id not in self.disk.notices or self.chance(self.weather.refusal):
                continue
            self.watch.posted(notice)
            self.delivered[notice.id] = self.delivered.get(notice.id, 0) + 1
            if not self.chance(self.weather.lost_reply):
                self.feed(Delivered(self.now, notice.id))
