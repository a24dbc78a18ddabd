"""What follows a commit: acknowledgements and notices leave, pages are renewed, people who watch are told."""

from collections import deque
from collections.abc import Callable

import structlog

from holdfast_collector.context import REJECTION_BYTES_MAX, Rejection, StreamItem
from holdfast_collector.core.effect import Forgot, Noted, Publish, Refreshed, Rejected, Transitioned, Turned
from holdfast_collector.core.record import Notice
from holdfast_collector.engine import Released
from holdfast_collector.exposition import Exposition
from holdfast_collector.hub import Hub
from holdfast_collector.own_metrics import OwnMetrics
from holdfast_rules import Transition
from holdfast_wire import Ack, Acknowledgement, DownMessage, encode

ACKNOWLEDGEMENTS_MAX = 500
"""In one message: some 25 KB. An agent that drains its spool gets a few of these instead of thousands of small ones."""


class Release:
    """Acts on durable batches. Every destination is one call that does not wait."""

    def __init__(
        self,
        *,
        exposition: Exposition,
        metrics: OwnMetrics,
        hub: Hub,
        rejections: deque[Rejection],
        publish: Callable[[str, bytes], None],
        dispatch: Callable[[Notice], None],
    ) -> None:
        self._exposition = exposition
        self._metrics = metrics
        self._hub = hub
        self._rejections = rejections
        self._publish = publish
        self._dispatch = dispatch
        self._log = structlog.get_logger()

    def __call__(self, batch: Released) -> None:
        """Let the batch's effects happen, pages first: they are what others wait for."""
        for commit in batch.commits:
            for notice in commit.notices:
                self._dispatch(notice)
        refreshed: dict[str, None] = {}
        publishes: list[Publish] = []
        for effect in batch.effects:
            match effect:
                case Refreshed():
                    refreshed[effect.node] = None
                case Publish():
                    publishes.append(effect)
                case Rejected():
                    self.rejected(batch.at, effect)
                case Forgot():
                    refreshed.pop(effect.node, None)
                    self._exposition.forgot(effect.node)
                case Transitioned():
                    self._transitioned(effect)
                    self._hub.tell(StreamItem(at=batch.at, happened=effect))
                case Turned():
                    self._turned(effect)
                    self._hub.tell(StreamItem(at=batch.at, happened=effect))
                case Noted():
                    self._log.info(effect.event, node=effect.node, detail=effect.detail)
                    self._hub.tell(StreamItem(at=batch.at, happened=effect))
        for node, message in _joined(publishes):
            self._publish(node, encode(message))
        for node in refreshed:
            self._exposition.refreshed(node)

    def rejected(self, at: float, effect: Rejected) -> None:
        """Count bytes that were not taken, and keep a sample for the operator."""
        self._metrics.rejected(effect.reason)
        self._rejections.append(
            Rejection(
                at=at,
                node=effect.node,
                reason=effect.reason,
                detail=effect.detail,
                bytes=len(effect.payload),
                payload=_printable(effect.payload[:REJECTION_BYTES_MAX]),
            )
        )

    def _turned(self, effect: Turned) -> None:
        # What an operator looks for when asking since when: services, nodes and groups. The rest is on the page.
        level = self._log.info if effect.kind in {"service", "node", "group"} else self._log.debug
        level(
            "verdict turned",
            node=effect.node,
            resource_kind=effect.kind,
            resource=effect.resource,
            before=effect.before and effect.before.value,
            after=effect.after and effect.after.value,
            reason=effect.reason,
        )

    def _transitioned(self, effect: Transitioned) -> None:
        alert = effect.tracked.alert
        told = effect.transition in {Transition.FIRED, Transition.RESOLVED}
        (self._log.info if told else self._log.debug)(
            f"alert {effect.transition.value}",
            key=effect.tracked.key,
            alert=alert.alertname,
            severity=alert.severity,
            node=alert.node,
            resource_kind=alert.kind,
            resource=alert.resource,
            summary=alert.annotations.get("summary", ""),
            inhibited_by=effect.tracked.inhibited_by,
        )


def _joined(publishes: list[Publish]) -> list[tuple[str, DownMessage]]:
    """The messages to send, with the acknowledgements of one agent put together."""
    acknowledged: dict[tuple[str, str], list[Acknowledgement]] = {}
    others: list[tuple[str, DownMessage]] = []
    for publish in publishes:
        message = publish.message
        if isinstance(message, Ack):
            acknowledged.setdefault((publish.node, message.install_id), []).extend(message.messages)
        else:
            others.append((publish.node, message))
    acks: list[tuple[str, DownMessage]] = [
        (node, Ack(install_id=install_id, messages=messages[start : start + ACKNOWLEDGEMENTS_MAX]))
        for (node, install_id), messages in acknowledged.items()
        for start in range(0, len(messages), ACKNOWLEDGEMENTS_MAX)
    ]
    return acks + others


def _printable(payload: bytes) -> str:
    """Hostile bytes as text that no terminal and no page acts on."""
    text = payload.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
