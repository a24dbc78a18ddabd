"""Alertmanager, API v2: every peer of a cluster is told everything, and told again while it holds.

Alertmanager keeps no alerts over a restart and takes silence for recovery, so the truth is asserted, not announced:

- Each peer has a lane of its own; one that is away delays no other. What was decided goes out at once, in order.
- Every `resend` seconds a lane asserts all that fires, with `endsAt` four such periods ahead, and for fifteen minutes
  all that resolved: a resolve that is lost in a peer's crash would otherwise never be notified.
- A notice is delivered when the first peer has taken it: that peer tells the others, and so does the next assertion.
- A batch with one alert that Alertmanager cannot take is answered 400 although the others were taken: such a batch is
  halved until the culprit is alone, and only that one is given up.

The `Watchdog` is asserted only while the collector does its whole work, and for little more than two periods ahead:
when it ends, somebody should be told by whoever watches for it.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec import Struct

from holdfast_collector.config import ReceiverConfig
from holdfast_collector.core.record import Notice
from holdfast_collector.notifiers import Counted, NoticeDone, rfc3339
from holdfast_collector.notifiers.health import ReceiverHealth
from holdfast_collector.notifiers.http import Answer, Outcome, Poster
from holdfast_collector.notifiers.lane import BACKOFF_SECONDS_MAX, RETRY_AFTER_SECONDS_MAX
from holdfast_rules import Alert

WATCHDOG = "Watchdog"
RESOLVED_SECONDS = 900.0
"""How long a resolve is asserted. Prometheus does the same, for the same reason."""
BATCH_MAX = 200
"""Alerts in one request; 10,000 in one were measured to work, but take Alertmanager 1.7 s."""
_PERIODS_AHEAD = 4.0
_WATCHDOG_PERIODS_AHEAD = 2.5
_REFUSED_MAX = 1_000


class Assertion(Struct, frozen=True, kw_only=True):
    """An alert as it stands: firing, or resolved at a time."""

    key: str
    alert: Alert
    resolved_at: float = 0.0
    """0: it fires."""


View = Callable[[], Iterable[Assertion]]
"""All that a receiver should believe now: what fires and was announced, and what resolved lately."""


class Alertmanager:
    """Tells one Alertmanager, or all peers of a cluster."""

    def __init__(
        self,
        receiver: ReceiverConfig,
        *,
        external_url: str,
        view: View,
        done: NoticeDone,
        counted: Counted,
        now: Callable[[], float],
    ) -> None:
        """Reads the receiver's secrets. Raises OSError when one of them is gone. `now` is the wall clock."""
        self.name = receiver.name
        self._done = done
        self._counted = counted
        self._now = now
        self._poster = Poster(receiver)
        self._refusals: dict[str, set[str]] = {}
        """Notice id → peers that refused it, while others have not answered."""
        self._delivered: set[str] = set()
        """Ids that one peer has taken, and that others may still have in their queues."""
        self._peers = [
            _Peer(
                url.rstrip("/") + "/api/v2/alerts",
                receiver=receiver,
                external_url=external_url,
                poster=self._poster,
                view=view,
                now=now,
                settled=self._settled,
                delivered=self._delivered,
            )
            for url in receiver.urls
        ]

    def add(self, notice: Notice) -> None:
        for peer in self._peers:
            peer.add(notice)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as lanes:
                for peer in self._peers:
                    lanes.create_task(peer.run())
        finally:
            await self._poster.close()

    def _settled(self, peer: "_Peer", notice: Notice, answer: Answer) -> None:
        """A peer took a notice, or refused it, or could not be told yet."""
        taken = answer.outcome is Outcome.TAKEN
        age = max(0.0, self._now() - notice.created_at) if taken else None
        self._counted(self.name, answer.outcome.value, age)
        if answer.outcome is Outcome.FAILED or notice.id in self._delivered:
            self._forget(notice)
            return
        if taken:
            self._delivered.add(notice.id)
            self._refusals.pop(notice.id, None)
            self._done(notice, "")
        else:
            refused_by = self._refusals.setdefault(notice.id, set())
            refused_by.add(peer.url)
            if len(refused_by) == len(self._peers):
                del self._refusals[notice.id]
                self._done(notice, answer.detail)
        self._forget(notice)

    def _forget(self, notice: Notice) -> None:
        if not any(peer.holds(notice) for peer in self._peers):
            self._delivered.discard(notice.id)


class _Peer:
    """The lane to one Alertmanager: one request at a time, so what is said later arrives later."""

    def __init__(
        self,
        url: str,
        *,
        receiver: ReceiverConfig,
        external_url: str,
        poster: Poster,
        view: View,
        now: Callable[[], float],
        settled: Callable[["_Peer", Notice, Answer], None],
        delivered: set[str],
    ) -> None:
        self.url = url
        self._resend = receiver.resend
        self._external_url = external_url
        self._poster = poster
        self._view = view
        self._now = now
        self._settled = settled
        self._delivered = delivered
        self._queue: deque[Notice] = deque()
        self._held: set[str] = set()
        self._announced: set[str] = set()
        """Keys of alerts announced since the newest assertion of everything began."""
        self._moved = asyncio.Event()
        self._assert_at = 0.0
        self._failures = 0
        self._refused: dict[str, None] = {}
        """Keys that this peer cannot take; asserting them again would only cost requests."""
        self._health = ReceiverHealth(receiver.name, url)

    def add(self, notice: Notice) -> None:
        self._queue.append(notice)
        self._held.add(notice.id)
        self._moved.set()

    def holds(self, notice: Notice) -> bool:
        """Whether the notice still waits for this peer."""
        return notice.id in self._held

    async def run(self) -> None:
        while True:
            self._moved.clear()
            if self._queue:
                pause = await self._announce()
            elif time.monotonic() >= self._assert_at:
                pause = await self._assert_all()
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._assert_at - time.monotonic()):
                        await self._moved.wait()
                continue
            if pause > 0:
                await asyncio.sleep(pause)
                self._skip_delivered()

    async def _announce(self) -> float:
        """Send the front of the queue, each alert at most once; how long to pause after it."""
        batch: dict[str, Notice] = {}
        while self._queue and len(batch) < BATCH_MAX and self._queue[0].key not in batch:
            notice = self._queue.popleft()
            batch[notice.key] = notice
        assertions = [
            Assertion(key=notice.key, alert=notice.alert, resolved_at=notice.resolved_at)
            for notice in batch.values()
        ]
        self._announced.update(batch)
        failed: list[Notice] = []
        pause = 0.0
        for assertion, answer in await self._post(assertions):
            notice = batch[assertion.key]
            if answer.outcome is Outcome.FAILED:
                failed.append(notice)
                pause = max(pause, self._pause(answer))
            else:
                self._held.discard(notice.id)
            self._settled(self, notice, answer)
        self._queue.extendleft(reversed(failed))
        return pause

    async def _assert_all(self) -> float:
        """Send all that should be believed now, news in between; how long to pause after it."""
        self._assert_at = time.monotonic() + self._resend
        self._announced.clear()
        assertions = [assertion for assertion in self._view() if assertion.key not in self._refused]
        for start in range(0, len(assertions), BATCH_MAX):
            pause = await self._announce() if self._queue else 0.0
            # What was announced since the view was taken has changed: the old word would undo the news.
            batch = [
                item for item in assertions[start : start + BATCH_MAX] if item.key not in self._announced
            ]
            for _, answer in await self._post(batch) if not pause else ():
                pause = max(pause, self._pause(answer) if answer.outcome is Outcome.FAILED else 0.0)
            if pause:
                self._assert_at = 0.0
                return pause
        return 0.0

    async def _post(self, assertions: Sequence[Assertion]) -> list[tuple[Assertion, Answer]]:
        """Send them, halving a refused batch until the culprits are alone. Every assertion with its own answer."""
        if not assertions:
            return []
        body = alertmanager_body(assertions, self._now(), self._resend, self._external_url)
        answer = await self._poster.post(self.url, body)
        if answer.outcome is Outcome.REFUSED and len(assertions) > 1:
            middle = len(assertions) // 2
            return [*await self._post(assertions[:middle]), *await self._post(assertions[middle:])]
        self._health.answered(answer)
        if answer.outcome is Outcome.FAILED:
            self._failures += 1
        else:
            self._failures = 0
        if answer.outcome is Outcome.REFUSED and len(self._refused) < _REFUSED_MAX:
            self._refused[assertions[0].key] = None
        return [(assertion, answer) for assertion in assertions]

    def _pause(self, answer: Answer) -> float:
        if answer.retry_after > 0:
            return min(answer.retry_after, RETRY_AFTER_SECONDS_MAX)
        return random.uniform(0.0, min(BACKOFF_SECONDS_MAX, 2.0 ** min(self._failures - 1, 10)))

    def _skip_delivered(self) -> None:
        """Let go of what another peer has taken: this one learns the state of things when it is back."""
        kept = [notice for notice in self._queue if notice.id not in self._delivered]
        if len(kept) < len(self._queue):
            for notice in self._queue:
                if notice.id in self._delivered:
                    self._held.discard(notice.id)
            self._queue = deque(kept)
            self._assert_at = 0.0


def alertmanager_body(assertions: Iterable[Assertion], now: float, resend: float, external_url: str) -> bytes:
    """The JSON array of `POST /api/v2/alerts`. Labels are the alert's identity and carry no time; see design §8."""
    alerts = []
    for assertion in assertions:
        alert = assertion.alert
        starts_at = alert.pending_since if alert.fired_at is None else alert.fired_at
        periods = _WATCHDOG_PERIODS_AHEAD if alert.alertname == WATCHDOG else _PERIODS_AHEAD
        # Alertmanager refuses an alert that ends when it starts.
        ends_at = (
            max(assertion.resolved_at, starts_at + 0.001) if assertion.resolved_at else now + periods * resend
        )
        alerts.append(
            {
                "labels": alert.labels,
                "annotations": alert.annotations,
                "startsAt": rfc3339(starts_at),
                "endsAt": rfc3339(ends_at),
                **({"generatorURL": external_url} if external_url else {}),
            }
        )
    return msgspec.json.encode(alerts)
