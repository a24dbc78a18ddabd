"""All receivers together: who gets which notice, who is told what again, and what happens when receivers change."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

import structlog

from holdfast_collector.config import ReceiverConfig
from holdfast_collector.core.collector import Collector
from holdfast_collector.core.record import Notice
from holdfast_collector.errors import ConfigInvalid
from holdfast_collector.notifiers import Counted, NoticeDone, Notifier
from holdfast_collector.notifiers.alertmanager import RESOLVED_SECONDS, WATCHDOG, Alertmanager, Assertion
from holdfast_collector.notifiers.webhook import Webhook
from holdfast_rules import AlertState


class Dispatch:
    """The notifiers of all configured receivers."""

    def __init__(
        self,
        collector: Collector,
        *,
        works: Callable[[], bool],
        done: NoticeDone,
        counted: Counted,
        now: Callable[[], float],
    ) -> None:
        """`works` says whether the collector does its whole work: only then the Watchdog is asserted.

        `done` is told of each notice that is off our hands.
        """
        self._collector = collector
        self._works = works
        self._told = done
        self._counted = counted
        self._now = now
        self._notifiers: dict[str, Notifier] = {}
        self._waiting: dict[str, Notice] = {}
        """Committed notices that nobody has taken yet, by id: what new notifiers must begin with."""
        self._replaced = asyncio.Event()
        self._log = structlog.get_logger()

    def replace(self, receivers: Sequence[ReceiverConfig], external_url: str) -> None:
        """Have these receivers from now on, each with the notices that wait for it.

        Raises ConfigInvalid when a secret cannot be read, and nothing changes.
        """
        try:
            made = [self._notifier(receiver, external_url) for receiver in receivers]
        except OSError as error:
            raise ConfigInvalid([f"receiver: {error}"]) from error
        self._notifiers = {notifier.name: notifier for notifier in made}
        for notice in list(self._waiting.values()):
            self.dispatch(notice)
        self._replaced.set()
        if not made:
            cure = "add a [[receiver]]: until then nobody is told of alerts"
            self._log.warning("no receiver configured", cure=cure)

    def dispatch(self, notice: Notice) -> None:
        """Have a committed notice delivered."""
        self._waiting[notice.id] = notice
        notifier = self._notifiers.get(notice.receiver)
        if notifier is None:
            self._log.error("notice without a receiver", notice=notice.id, receiver=notice.receiver)
            self._done(notice, "no receiver of this name is configured any more")
        else:
            notifier.add(notice)

    async def run(self) -> None:
        """Deliver until cancelled. Raises what is a mistake of ours."""
        while True:
            self._replaced.clear()
            working = [asyncio.create_task(notifier.run()) for notifier in self._notifiers.values()]
            replaced = asyncio.create_task(self._replaced.wait())
            try:
                await asyncio.wait({*working, replaced}, return_when=asyncio.FIRST_COMPLETED)
                for task in working:
                    assert not task.done() or task.exception(), "a notifier ended by itself"
                    if task.done():
                        task.result()
            finally:
                replaced.cancel()
                for task in working:
                    task.cancel()
                await asyncio.gather(*working, replaced, return_exceptions=True)

    def _done(self, notice: Notice, refused: str) -> None:
        self._waiting.pop(notice.id, None)
        self._told(notice, refused)

    def _notifier(self, receiver: ReceiverConfig, external_url: str) -> Notifier:
        if receiver.kind == "webhook":
            return Webhook(
                receiver, external_url=external_url, done=self._done, counted=self._counted, now=self._now
            )
        return Alertmanager(
            receiver,
            external_url=external_url,
            view=lambda: self._believed(receiver),
            done=self._done,
            counted=self._counted,
            now=self._now,
        )

    def _believed(self, receiver: ReceiverConfig) -> Iterator[Assertion]:
        """What an Alertmanager is to be told again: what fires and was announced, and what resolved lately."""
        works = self._works()
        for tracked in self._collector.alerts.values():
            alert = tracked.alert
            announced = tracked.notified and alert.state is AlertState.FIRING
            if announced and alert.severity in receiver.severities and (works or alert.alertname != WATCHDOG):
                yield Assertion(key=tracked.key, alert=alert)
        since = self._now() - RESOLVED_SECONDS
        for row in self._collector.resolved.values() if receiver.resolved else ():
            if row.notified and row.at >= since and row.alert.severity in receiver.severities:
                yield Assertion(key=row.key, alert=row.alert, resolved_at=row.at)
