"""The loop around the core: effects leave after the commit, in order, once; a failing disk only makes them wait."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holdfast_collector import engine as engine_module
from holdfast_collector.config import Retention
from holdfast_collector.core.collector import Collector
from holdfast_collector.core.effect import Effect, Noted, Publish, Rejected, Transitioned
from holdfast_collector.core.event import BrokerChanged, CoreEvent, NodeForgotten, Received
from holdfast_collector.core.record import Receiver, State
from holdfast_collector.engine import Engine, Released
from holdfast_collector.errors import Fenced
from holdfast_collector.own_metrics import OwnMetrics
from holdfast_collector.store.sqlite import SqliteStore
from holdfast_rules import load
from holdfast_wire import UpMessage, encode
from tests.collector.fleet import RULES, Agent, section
from tests.waiting import wait_until

T0 = 1_700_000_000.0


class Clockwork:
    """The test's own time."""

    def __init__(self) -> None:
        self.at = T0

    def __call__(self) -> float:
        return self.at


class Bench:
    """An engine at work on a real store, and what it let go."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = Clockwork()
        self.store = SqliteStore.open(path)
        self.epoch = self.store.take("main")
        self.collector = Collector(
            State(), rules=load({"rules.yaml": RULES}), receivers=[Receiver(name="hook")], started_at=T0
        )
        self.released: list[Released] = []
        self.on_disk: list[int] = []
        """How many durable messages another reader of the file saw when each batch was released."""
        self.engine = Engine(
            self.collector,
            self.store,
            epoch=self.epoch,
            now=self.now,
            retention=Retention(),
            metrics=OwnMetrics("0", T0),
            released=self._release,
        )

    def _release(self, batch: Released) -> None:
        self.released.append(batch)
        self.on_disk.append(len(self.stored().seen))

    def stored(self) -> State:
        """What is on the disk, read by somebody else."""
        reader = SqliteStore.open(self.path)
        try:
            return reader.load(events_since=0.0, resolved_since=0.0).state
        finally:
            reader.close()

    @property
    def effects(self) -> list[Effect]:
        """Everything released, the watchdog's own alert aside."""
        return [
            effect
            for batch in self.released
            for effect in batch.effects
            if not (isinstance(effect, Transitioned) and effect.tracked.alert.alertname == "Watchdog")
        ]

    def of_kind(self, kind: type[Any]) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    async def break_disk(self) -> None:
        """From now on SQLite refuses every commit, with its own error for a disk that became read-only."""
        await self.engine._in_thread(self.store._db.pragma, "query_only", True)

    async def mend_disk(self) -> None:
        await self.engine._in_thread(self.store._db.pragma, "query_only", False)


@contextlib.asynccontextmanager
async def at_work(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "collector.db")
    task = asyncio.create_task(bench.engine.run())
    try:
        yield bench
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await bench.engine.close()


def received(message: UpMessage, at: float = T0) -> Received:
    return Received(at, message.node, encode(message))


async def test_effects_leave_when_their_commit_is_on_the_disk_and_not_before(tmp_path: Path) -> None:
    async with at_work(tmp_path) as bench:
        await bench.engine.batch("main", [received(Agent().birth())])

        assert len(bench.stored().seen) == 1
    assert bench.on_disk[0] == 1
    assert len(bench.of_kind(Publish)) == 1


async def test_whatever_arrives_during_a_commit_shares_the_next_one(tmp_path: Path) -> None:
    agents = [Agent(f"n{number}", install=f"i{number}") for number in range(50)]
    async with at_work(tmp_path) as bench:
        await asyncio.gather(*[bench.engine.batch("main", [received(one.birth())]) for one in agents])

        batches = [batch for batch in bench.released if batch.effects]
        assert len(bench.stored().seen) == 50
    assert [len(batch.commits) for batch in batches] == [1]


async def test_failing_disk_holds_everything_back_and_the_same_batch_goes_out_once_when_it_is_mended(
    tmp_path: Path,
) -> None:
    """No acknowledgement while nothing can be kept; no second effect of what was tried several times."""
    agent = Agent()
    async with at_work(tmp_path) as bench:
        await bench.break_disk()
        waiting = asyncio.ensure_future(bench.engine.batch("main", [received(agent.birth())]))
        await wait_until(lambda: bench.engine.unwritable)
        later = asyncio.ensure_future(bench.engine.batch("main", [received(agent.event())]))

        assert "readonly" in bench.engine.unwritable
        assert (waiting.done(), bench.effects, bench.engine.working) == (False, [], False)

        await bench.mend_disk()
        await waiting
        await later
        assert (bench.engine.unwritable, len(bench.of_kind(Publish)), len(bench.stored().seen)) == ("", 2, 2)


async def test_nobody_is_called_silent_for_the_time_the_disk_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reports of that time waited in the broker: the silence was ours."""
    monkeypatch.setattr(engine_module, "DEAF_SECONDS", 1e-6)
    services = section({"a.service": {"up": True}})
    async with at_work(tmp_path) as bench:
        await bench.engine.submit(BrokerChanged(T0, connected=True))
        bench.now.at = T0 + 100.0
        await bench.engine.batch("main", [received(Agent().report(services), at=T0 + 100.0)])
        await bench.break_disk()
        stalled = asyncio.ensure_future(
            bench.engine.batch("main", [received(Agent("n2").birth(), at=T0 + 101.0)])
        )
        await wait_until(lambda: bench.engine.unwritable)
        bench.now.at = T0 + 4000.0
        await bench.mend_disk()
        await stalled
        ticks = len(bench.released) + 2
        await wait_until(lambda: len(bench.released) >= ticks)

        assert bench.collector.nodes["n1"].reporting is True


async def test_newer_owner_of_the_store_ends_the_engine_and_nothing_is_released(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "collector.db")
    SqliteStore.open(bench.path).take("main")
    task = asyncio.create_task(bench.engine.run())
    waiting = asyncio.ensure_future(bench.engine.batch("main", [received(Agent().birth())]))

    with pytest.raises(Fenced, match="belongs to owner 2 now, this is owner 1"):
        await task

    assert (waiting.done(), bench.released) == (False, [])
    waiting.cancel()
    await bench.engine.close()


async def test_message_that_crashes_the_core_is_rejected_and_blinds_us_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of ours must not become an outage that any node can cause, again at each redelivery."""
    poison = received(Agent("n2", install="i2").birth())
    handle = Collector.handle

    def fragile(self: Collector, event: CoreEvent) -> list[Effect]:
        if event == poison:
            raise ZeroDivisionError("planted")
        return handle(self, event)

    monkeypatch.setattr(Collector, "handle", fragile)
    async with at_work(tmp_path) as bench:
        await bench.engine.batch("main", [poison, received(Agent().birth())])

        assert [(row.node, row.reason) for row in bench.of_kind(Rejected)] == [("n2", "crashed")]
        assert [publish.node for publish in bench.of_kind(Publish)] == ["n1"]


async def test_node_forgotten_and_met_again_in_one_batch_keeps_only_what_came_after(tmp_path: Path) -> None:
    agent, reborn = Agent(), Agent(install="install-2")
    async with at_work(tmp_path) as bench:
        work = [
            bench.engine.batch("main", [received(agent.birth()), received(agent.event())]),
            bench.engine.submit(NodeForgotten(T0, "n1")),
            bench.engine.batch("main", [received(reborn.birth())]),
        ]
        await asyncio.gather(*work)

        stored = bench.stored()
    assert ([row.install_id for row in stored.seen], stored.recent, stored.counts) == (["install-2"], [], [])
    assert [row.install_id for row in stored.nodes] == ["install-2"]


async def test_time_never_runs_backwards_for_the_core(tmp_path: Path) -> None:
    services = section({"a.service": {"up": True}})
    agent = Agent()
    async with at_work(tmp_path) as bench:
        await bench.engine.batch("main", [received(agent.report(services), at=T0 + 50.0)])
        await bench.engine.batch("main", [received(agent.report(services), at=T0 + 20.0)])

        assert bench.collector.nodes["n1"].last_report_at == T0 + 50.0


async def test_time_passes_without_any_event(tmp_path: Path) -> None:
    """The watchdog fires from a tick alone, and its notice is in the outbox on the disk."""
    async with at_work(tmp_path) as bench:
        await wait_until(lambda: bench.stored().notices)

        assert [row.alert.alertname for row in bench.stored().notices] == ["Watchdog"]


async def test_what_nobody_looks_back_on_is_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent()
    async with at_work(tmp_path) as bench:
        await bench.engine.batch("main", [received(agent.event())])
        bench.now.at = T0 + Retention().events + 1.0
        bench.engine._prune_at = 0.0
        await bench.engine.batch("main", [received(agent.event(), at=bench.now.at)])
        await wait_until(lambda: len(bench.stored().recent) == 1)

        assert [row.seq for row in bench.stored().recent] == [2]
        assert bench.of_kind(Noted)
