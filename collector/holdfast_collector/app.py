"""The composition root: reads nothing but what it is given, builds every part once, runs them, ends them in order.

broker ─▶ Source ─▶ Engine ─▶ Release ─┬─▶ Notifiers ─▶ receivers
                      │  ▲             ├─▶ Exposition, Hub ─▶ WebServer
                      ▼  └─ Delivered ─┴─▶ Source.publish ─▶ agents
                    Store
"""

import asyncio
import signal
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path

import structlog

from holdfast_collector import log
from holdfast_collector.clock import Clock
from holdfast_collector.config import Config, ReceiverConfig, labels, mqtt_tls, read_secret
from holdfast_collector.context import REJECTIONS_MAX, Context, Rejection
from holdfast_collector.core.collector import Collector
from holdfast_collector.core.effect import Rejected
from holdfast_collector.core.event import (
    BrokerChanged,
    Delivered,
    GroupsReplaced,
    ReceiversReplaced,
    RulesReplaced,
)
from holdfast_collector.core.judge import RESOLVED_SECONDS
from holdfast_collector.core.record import Notice, Receiver
from holdfast_collector.data_directory import DATABASE, held
from holdfast_collector.engine import Engine
from holdfast_collector.errors import ConfigInvalid, Fenced, ListenFailed, StoreCorrupt, StoreError
from holdfast_collector.exposition import Exposition
from holdfast_collector.group_config import declared
from holdfast_collector.hub import Hub
from holdfast_collector.ingest import PARTITION
from holdfast_collector.ingest.mqtt import SessionOptions
from holdfast_collector.ingest.source import Source
from holdfast_collector.notifiers.dispatch import Dispatch
from holdfast_collector.own_metrics import OwnMetrics
from holdfast_collector.release import Release
from holdfast_collector.rule_watch import LOOK_SECONDS, RuleWatch
from holdfast_collector.samples.recorder import Recorder
from holdfast_collector.store import Loaded
from holdfast_collector.store.sqlite import SqliteStore
from holdfast_collector.supervision import Supervisor
from holdfast_collector.web.app import application
from holdfast_collector.web.server import WebServer
from holdfast_rules import AlertState, PackError, RuleSet
from holdfast_wire.message import Value
from holdfast_wire.topic import UP_FILTER

RECENT_SECONDS_MIN = 86_400.0
"""Events read back at start; more where a rule looks further back. A reload may bring such a rule later."""
STOP_SECONDS = 3.0
"""How long each part may take to end; the whole stays below the five seconds that operators are promised."""


class App:
    """One collector, from start to end."""

    def __init__(
        self, config: Config, rules: RuleSet, *, version: str, environment: Mapping[str, str]
    ) -> None:
        """`config` and `rules` are valid: whoever reads them has told the user otherwise."""
        self._config = config
        self._now = Clock()
        self._started_at = self._now()
        self._supervisor = Supervisor(environment)
        self._stopping = asyncio.Event()
        self._hub = Hub()
        self._rejections: deque[Rejection] = deque(maxlen=REJECTIONS_MAX)
        self._broker_connected: bool | None = None
        self._broker_detail = "not connected yet"
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._metrics = OwnMetrics(version, self._started_at)
        self._log = structlog.get_logger()
        self._store, loaded = _open_store(Path(config.data_dir) / DATABASE, rules, self._started_at)
        self._epoch = self._store.take(PARTITION)
        self._quarantined = self._store.opening.loss
        self._collector = Collector(
            loaded.state,
            rules=rules,
            receivers=[_core_receiver(receiver) for receiver in config.receiver],
            started_at=self._started_at,
        )
        self._exposition = Exposition(
            self._collector.nodes,
            self._collector.alerts,
            self._metrics,
            self._collector.rulings,
            now=self._now,
        )
        self._dispatch = Dispatch(
            self._collector,
            works=lambda: not self.readiness(),
            done=self._done,
            counted=self._metrics.delivered,
            now=self._now,
        )
        self._release = Release(
            exposition=self._exposition,
            metrics=self._metrics,
            hub=self._hub,
            rejections=self._rejections,
            publish=lambda node, payload: self._source.publish(node, payload),
            dispatch=self._dispatch.dispatch,
        )
        self._recorder = self._make_recorder()
        self._engine = Engine(
            self._collector,
            self._store,
            epoch=self._epoch,
            now=self._now,
            retention=config.retention,
            metrics=self._metrics,
            released=self._release,
            taken=self._recorder.note,
        )
        self._source = Source(
            _session_options(config),
            self._engine,
            now=self._now,
            changed=self._broker_changed,
            refused=self._topic_refused,
            published=self._metrics.published,
        )
        self._context = self._make_context()
        self._web = WebServer(application(self._context), config.http)
        self._report_opening(loaded)

    @property
    def url(self) -> str:
        """Where the status page is, once `run` has called `started`."""
        return self._web.url

    @property
    def config(self) -> Config:
        """As last read."""
        return self._config

    def stop(self) -> None:
        """Let `run` return."""
        self._stopping.set()

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Work until `stop`. Raises ListenFailed at the start, and later Fenced, StoreCorrupt and mistakes of ours."""
        try:
            await self._web.start()
            for name in self._collector.nodes:
                self._exposition.refreshed(name)
            self._dispatch.replace(self._config.receiver, self._config.http.external_url)
            for notice in list(self._collector.outbox.values()):
                self._dispatch.dispatch(notice)
            self._spawn("notifiers", self._dispatch.run())
            groups = declared(self._config.group, labels(self._config))
            self._engine.post(GroupsReplaced(self._now(), groups))
            self._spawn("engine", self._engine.run())
            self._spawn("source", self._source.run())
            self._spawn("supervision", self._supervise())
            self._supervisor.ready(self._status())
            self._log.info(
                "collector started", url=self._web.url, epoch=self._epoch, nodes=len(self._collector.nodes)
            )
            started()
            await self._until_stopped()
        finally:
            await self._end()

    async def reload(self, reread: Callable[[], tuple[Config, RuleSet]]) -> None:
        """Take over a new configuration as far as a running collector can; a bad one changes nothing and is reported.

        Rules, groups, receivers, retention, log level and the certificate take effect at once. What
        cannot is named in the log, and takes effect at the next start.
        """
        self._supervisor.reloading()
        try:
            config, rules = reread()
            self._web.reread_certificate()
            self._dispatch.replace(config.receiver, config.http.external_url)
        except (ConfigInvalid, PackError, ListenFailed) as error:
            self._log.error("reload refused", mistakes=str(error).splitlines())
            self._supervisor.ready(self._status())
            return
        log.configure(config.log)
        old, self._config = self._config, config
        self._context.config = config
        self._engine.retention = self._recorder.retention = config.retention
        receivers = tuple(_core_receiver(row) for row in config.receiver)
        self._engine.post(ReceiversReplaced(self._now(), receivers))
        self._engine.post(RulesReplaced(self._now(), rules))
        self._engine.post(GroupsReplaced(self._now(), declared(config.group, labels(config))))
        waiting = [
            name for name in ("data_dir", "mqtt", "http") if getattr(old, name) != getattr(config, name)
        ]
        self._log.info("configuration reloaded", rules=len(rules.rules), at_next_start=waiting)
        self._supervisor.ready(self._status())

    # ---- what visitors are told ----------------------------------------------------------------------------------

    def readiness(self) -> list[str]:
        """Why the collector does not do its whole work; empty when it does."""
        reasons = []
        if not self._source.connected:
            reasons.append(f"no session with a broker: {self._broker_detail}")
        if self._engine.unwritable:
            reasons.append(f"the store does not commit: {self._engine.unwritable}")
        if not self._engine.moving:
            reasons.append("the store does not answer")
        return reasons

    def health(self) -> dict[str, Value]:
        """The core's facts of the collector, and the shell's."""
        facts = self._collector.health(self._now())
        facts["store_writable"] = not self._engine.unwritable
        facts["store_quarantined"] = bool(self._quarantined)
        return facts

    def _make_recorder(self) -> Recorder:
        return Recorder(
            Path(self._config.data_dir),
            self._collector.nodes,
            retention=self._config.retention,
            metrics=self._metrics,
            now=self._now,
        )

    def _make_context(self) -> Context:
        return Context(
            config=self._config,
            collector=self._collector,
            exposition=self._exposition,
            metrics=self._metrics,
            rejections=self._rejections,
            started_at=self._started_at,
            now=self._now,
            submit=self._engine.submit,
            happened=self._engine.happened,
            subscribe=self._hub.subscribe,
            readiness=self.readiness,
            health=self.health,
            stopping=self._stopping.is_set,
        )

    def _status(self) -> str:
        health = self.health()
        firing = sum(row.alert.state is AlertState.FIRING for row in self._collector.alerts.values())
        reasons = self.readiness()
        return (
            f"{health['nodes_reporting']} of {health['nodes']} nodes report, {firing} alerts fire, "
            f"{health['outbox_notices']} notices wait" + (f"; {'; '.join(reasons)}" if reasons else "")
        )

    # ---- what happens --------------------------------------------------------------------------------------------

    def _broker_changed(self, connected: bool, detail: str) -> None:
        """The session came up, went down, or could not be had once more, which is no news."""
        self._broker_detail = detail
        if connected:
            self._metrics.broker_session_begun()
            self._log.info("broker connected", detail=detail)
        elif self._broker_connected is not False:
            self._log.warning("broker lost", detail=detail)
        if connected is not self._broker_connected:
            self._broker_connected = connected
            self._engine.post(BrokerChanged(self._now(), connected))

    def _topic_refused(self, reason: str, topic: str, payload: bytes) -> None:
        self._release.rejected(self._now(), Rejected("", reason, topic, payload))

    def _done(self, notice: Notice, refused: str) -> None:
        self._engine.post(Delivered(self._now(), notice.id, refused))

    # ---- parts ---------------------------------------------------------------------------------------------------

    def _spawn(self, name: str, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        self._tasks[task] = name
        return task

    async def _supervise(self) -> None:
        """Tell the service manager that nothing hangs, as long as nothing does."""
        while True:
            if self._engine.moving:
                self._supervisor.ping()
            self._supervisor.status(self._status())
            await asyncio.sleep(self._supervisor.ping_seconds)

    async def _until_stopped(self) -> None:
        """Until somebody wants the end. None of the parts ends by itself: one that does takes all with it."""
        stop = asyncio.create_task(self._stopping.wait())
        try:
            while not self._stopping.is_set():
                await asyncio.wait({stop, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in self._tasks if task.done()]:
                    task.result()
                    raise AssertionError(f"{self._tasks[task]} ended by itself")
        finally:
            stop.cancel()

    async def _end(self) -> None:
        self._stopping.set()
        self._supervisor.stopping()
        self._hub.close()
        self._source.stop()
        sources = [task for task, name in self._tasks.items() if name == "source"]
        if sources:
            await asyncio.wait(sources, timeout=STOP_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._web.stop()
        try:
            await asyncio.wait_for(self._engine.close(), STOP_SECONDS)
        except TimeoutError:
            self._log.warning("store did not close in time")
        await self._put_samples_away()
        self._log.info("collector stopped")

    async def _put_samples_away(self) -> None:
        """What is recorded and not written yet; a disk that hangs must not keep us."""
        try:
            await asyncio.wait_for(asyncio.to_thread(self._recorder.close), STOP_SECONDS)
        except TimeoutError:
            self._log.warning("samples were not written in time")

    def _report_opening(self, loaded: Loaded) -> None:
        if self._quarantined:
            self._log.error("store set aside", detail=self._quarantined)
        for row in loaded.unreadable:
            self._log.error("record unreadable", row=row)


def run(
    config: Config,
    rules: RuleSet,
    *,
    version: str,
    environment: Mapping[str, str],
    reread: Callable[[], tuple[Config, RuleSet]],
) -> int:
    """Run a collector until SIGTERM or SIGINT; SIGHUP reloads. The exit code: 0, or 1 when the supervisor should know.

    Raises the errors that are the user's to mend: AlreadyRunning, ConfigInvalid, ListenFailed, StoreNewer.
    """
    log.configure(config.log)
    with held(Path(config.data_dir)):
        try:
            asyncio.run(_main(config, rules, version, environment, reread))
        except Fenced as error:
            structlog.get_logger().error("fenced off", detail=error.reason)
            return 1
        except StoreError as error:
            structlog.get_logger().error("store failed", detail=error.reason)
            return 1
    return 0


async def _main(
    config: Config,
    rules: RuleSet,
    version: str,
    environment: Mapping[str, str],
    reread: Callable[[], tuple[Config, RuleSet]],
) -> None:
    app = App(config, rules, version=version, environment=environment)
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def hang_up() -> None:
        task = loop.create_task(app.reload(reread))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    if sys.platform == "win32":
        signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(app.stop))
    else:
        loop.add_signal_handler(signal.SIGTERM, app.stop)
        loop.add_signal_handler(signal.SIGINT, app.stop)
        loop.add_signal_handler(signal.SIGHUP, hang_up)
    watching = loop.create_task(_watch_rules(app, reread))
    try:
        await app.run()
    finally:
        watching.cancel()


async def _watch_rules(app: App, reread: Callable[[], tuple[Config, RuleSet]]) -> None:
    """Reload when rule packs changed on disk, where that is wanted."""
    watch = RuleWatch(app.config.rules.directories)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if watch.changed(app.config.rules.directories) and app.config.rules.reload_on_change:
            await app.reload(reread)


def _open_store(path: Path, rules: RuleSet, at: float) -> tuple[SqliteStore, Loaded]:
    """The store and its memory. A file that opens but cannot be read is set aside like one that does not open."""

    recent = max(RECENT_SECONDS_MIN, rules.lookback_seconds)

    def load(store: SqliteStore) -> Loaded:
        return store.load(events_since=at - recent, resolved_since=at - RESOLVED_SECONDS)

    store = SqliteStore.open(path)
    try:
        return store, load(store)
    except StoreCorrupt as error:
        store.close()
        store = SqliteStore.replace(path, error.reason)
        return store, load(store)


def _session_options(config: Config) -> SessionOptions:
    mqtt = config.mqtt
    return SessionOptions(
        brokers=mqtt.brokers,
        client_id=mqtt.client_id,
        username=mqtt.username,
        password=read_secret(mqtt.password_file) if mqtt.password_file else "",
        tls=mqtt_tls(mqtt),
        keepalive_seconds=round(mqtt.keepalive),
        session_expiry_seconds=round(mqtt.session_expiry),
        receive_maximum=mqtt.receive_maximum,
        filters=(UP_FILTER,),
    )


def _core_receiver(receiver: ReceiverConfig) -> Receiver:
    return Receiver(name=receiver.name, severities=receiver.severities, takes_resolved=receiver.resolved)
