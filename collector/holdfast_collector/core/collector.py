"""The owner of all state: events in, effects out, the same for the same, in the same order.

    decode ── refusal ─▶ Rejected
      │
    claim, order, identity ── not to be taken ─▶ Rejected
      │
    fold   the message into its node        (fold.py)
      │
    judge  what changed, by the rules       (judge.py)
      │
      ▼
    one Commit with state, alerts and outbox, and behind it the acknowledgement

Liveness comes from three witnesses: the will, the silence, and the sequence. Time reaches the core as `Ticked` only.
"""

import heapq
from collections.abc import Sequence

from msgspec import structs

from holdfast_collector.core.effect import Commit, Effect, Forgot, Noted, Publish, Refreshed, Rejected
from holdfast_collector.core.event import (
    Acknowledged,
    BrokerChanged,
    CoreEvent,
    Delivered,
    NodeForgotten,
    Received,
    ReceiversReplaced,
    RulesReplaced,
    Ticked,
)
from holdfast_collector.core.fold import (
    Claim,
    Folded,
    Order,
    claim,
    first_record,
    fold_birth,
    fold_death,
    fold_event,
    fold_report,
    order,
)
from holdfast_collector.core.judge import Court
from holdfast_collector.core.node import Node, ResourceKey
from holdfast_collector.core.record import (
    EventRow,
    NodeRecord,
    Notice,
    Receiver,
    Resolved,
    Seen,
    State,
    Tracked,
)
from holdfast_collector.core.seen import SeenMessages
from holdfast_collector.core.sweep import Sweep
from holdfast_rules import RuleSet, Series
from holdfast_wire import (
    Ack,
    Acknowledgement,
    Birth,
    Death,
    Event,
    Position,
    Refusal,
    Report,
    Resend,
    content_digest,
    decode_up,
)
from holdfast_wire.message import Value

NODES_MAX = 50_000
"""Beyond this one collector's page is of no use to a Prometheus; see the README on sizing."""
WARM_UP_SECONDS_MIN = 30.0
WARM_UP_SECONDS_MAX = 600.0
"""One node that reports once a day must not keep the whole fleet's alerts from resolving."""
RESEND_AGAIN_SECONDS = 5.0
"""A section that was asked for is asked for again when it has not come after this long."""
PENDING_SAVED_SECONDS = 10.0
"""How much observed time of a pending alert a crash may cost, at most."""

SELF = ""
"""The collector's own place among the nodes: no node can have this name."""


class Collector:
    """The core. One instance per partition; not safe to share between threads."""

    def __init__(
        self, state: State, *, rules: RuleSet, receivers: Sequence[Receiver] = (), started_at: float
    ) -> None:
        self.started_at = started_at
        self.listening_since: float | None = None
        """Since when the collector hears everybody. None while it has no broker: then silence says nothing."""
        self.nodes: dict[str, Node] = {}
        self.outbox: dict[str, Notice] = {notice.id: notice for notice in state.notices}
        self._court = Court(rules, receivers, state.next_episode)
        self._blank = Commit()
        self._grace_seconds_max = 0.0
        self._seen = SeenMessages(state.seen)
        self._deadlines: list[tuple[float, str, str]] = []
        """(when, node, probe): a section goes stale, or with an empty probe the node falls silent."""
        self._armed: dict[str, set[str]] = {}
        """Node → probes that have an entry among the deadlines; the empty one stands for the node itself."""
        self._kept: set[str] = set()
        """Nodes whose record is on disk."""
        self._sweep = Sweep(self._court, self.nodes, started_at)
        self._saved_at = started_at
        self._own = Node(
            NodeRecord(node=SELF, install_id="", boot_id="", position=Position(0, 0)), started_at
        )
        self._restore(state)

    # ---- what others may read ------------------------------------------------------------------------------------

    @property
    def broker_connected(self) -> bool:
        """Whether the ingest holds a session with a broker."""
        return self.listening_since is not None

    @property
    def own(self) -> Node:
        """The collector's own place among the nodes, with the one resource it has."""
        return self._own

    @property
    def rules(self) -> RuleSet:
        """As they are where no pack says otherwise; `of_node` tells a node's."""
        return self._court.rules

    @property
    def alerts(self) -> dict[str, Tracked]:
        """Pending and firing alerts by key."""
        return self._court.alerts

    @property
    def resolved(self) -> dict[str, Resolved]:
        """Alerts that resolved within the last day, by key."""
        return self._court.resolved

    @property
    def warm_at(self) -> float:
        """When the collector has watched long enough to call anybody silent or anything resolved."""
        return self.started_at + max(WARM_UP_SECONDS_MIN, min(self._grace_seconds_max, WARM_UP_SECONDS_MAX))

    def health(self, at: float) -> dict[str, Value]:
        """The facts of the collector itself, by the names of `holdfast_wire.fact`."""
        oldest = min((notice.created_at for notice in self.outbox.values()), default=at)
        return {
            "broker_connected": self.broker_connected,
            "warm": at >= self.warm_at,
            "nodes": len(self.nodes),
            "nodes_reporting": sum(node.reporting is True for node in self.nodes.values()),
            "outbox_notices": len(self.outbox),
            "outbox_age_seconds": max(0.0, at - oldest),
        }

    # ---- events --------------------------------------------------------------------------------------------------

    def handle(self, event: CoreEvent) -> list[Effect]:
        """What `event` changes. At most one of the effects is a `Commit`, and it comes first."""
        # Most events commit nothing, and a commit is a dozen containers: an untouched one serves again.
        commit = self._blank
        effects: list[Effect] = []
        match event:
            case Received():
                try:
                    self._received(event, commit, effects)
                except BaseException:
                    # The shell drops the commit with the exception. Were the message remembered as seen, its next
                    # copy would be acknowledged without ever having taken effect.
                    self._seen.untake(commit.seen)
                    self._blank = Commit()
                    raise
            case Ticked():
                self._ticked(event.at, commit, effects)
            case Delivered():
                if self.outbox.pop(event.notice_id, None) is not None:
                    commit.taken.append(event.notice_id)
            case BrokerChanged():
                self.listening_since = event.at if event.connected else None
            case Acknowledged():
                self._merge(self._court.acknowledge(event.key, event.reason, event.at), commit, effects)
            case RulesReplaced():
                self._merge(self._court.replace_rules(event.rules, event.at), commit, effects)
                self._sweep.begin_anew()
                self._sweep.turn(event.at, warm=event.at >= self.warm_at, commit=commit, effects=effects)
                self._court.tell(event.at, commit, effects)
            case ReceiversReplaced():
                self._court.replace_receivers(event.receivers, event.at, commit)
            case NodeForgotten():
                self._forget(event, commit, effects)
        if commit.empty:
            return effects
        self._blank = Commit()
        for notice in commit.notices:
            self.outbox[notice.id] = notice
        return [commit, *effects]

    def _merge(self, outcome: tuple[Commit, list[Effect]], commit: Commit, effects: list[Effect]) -> None:
        commit.merge(outcome[0])
        effects.extend(outcome[1])

    # ---- messages ------------------------------------------------------------------------------------------------

    def _received(self, event: Received, commit: Commit, effects: list[Effect]) -> None:
        message = decode_up(event.node, event.payload)
        if isinstance(message, Refusal):
            effects.append(Rejected(event.node, message.reason.value, message.detail, event.payload))
            return
        node = self.nodes.get(event.node)
        if node is None:
            if len(self.nodes) >= NODES_MAX:
                effects.append(
                    Rejected(event.node, "over_capacity", f"{NODES_MAX} nodes are known", event.payload)
                )
                return
            node = self.nodes[event.node] = Node(first_record(message, event.at), event.at)
            effects.append(Noted(node.name, "node met", f"installation {message.install_id}"))
        before = node.record
        match claim(node, message, event.at, warm=event.at >= self.warm_at):
            case Claim.RIVAL:
                node.claimants[message.install_id] = event.at
                detail = (
                    f"installation {message.install_id}; {before.install_id} still reports under this name"
                )
                effects.append(Rejected(event.node, "second_claimant", detail, event.payload))
                return
            case Claim.SUCCESSOR:
                detail = f"from installation {before.install_id} to {message.install_id}"
                effects.append(Noted(node.name, "node taken over", detail))
                self._succeed(node, message.install_id, message.boot_id, Position(message.epoch, 0))
            case Claim.HOLDER:
                pass
        match message:
            case Report():
                folded = self._report(node, message, event, effects)
            case Birth() | Event():
                folded = self._durable(node, message, event, commit, effects)
            case Death():
                folded = fold_death(node, message, event.at)
                if folded is None:
                    effects.append(Rejected(event.node, "late", "the end of an older session", event.payload))
        if folded is not None:
            self._settle(node, folded, event.at, commit, effects)
        # A heartbeat that moves nothing but its position is not written: after a restart an older position only
        # means that a late report may count once, and the next one mends it.
        if node.record is not before or commit.seen or node.name not in self._kept:
            self._keep(node, commit)

    def _succeed(self, node: Node, install_id: str, boot_id: str, position: Position) -> None:
        node.claimants.pop(install_id, None)
        node.position = position
        node.record = structs.replace(
            node.record,
            install_id=install_id,
            boot_id=boot_id,
            boots=(boot_id,),
            connection=0,
            floor=Position(0, 0),
            birth=None,
        )

    def _report(self, node: Node, report: Report, event: Received, effects: list[Effect]) -> Folded | None:
        place = order(node, report)
        if place in {Order.LATE, Order.SAME}:
            newest = node.position
            detail = f"{report.epoch}.{report.seq} after {newest.epoch}.{newest.seq}"
            effects.append(Rejected(event.node, "late", detail, event.payload))
            return None
        folded = fold_report(node, report, event.at)
        wanted = [
            probe for probe in folded.lacking if event.at - node.asked.get(probe, 0.0) >= RESEND_AGAIN_SECONDS
        ]
        if wanted:
            node.asked.update(dict.fromkeys(wanted, event.at))
            effects.append(Publish(node.name, Resend(install_id=report.install_id, probes=wanted)))
        return folded

    def _durable(
        self, node: Node, message: Birth | Event, event: Received, commit: Commit, effects: list[Effect]
    ) -> Folded | None:
        """A message that must take effect once. Acknowledged whenever its effect is committed, now or before."""
        digest = content_digest(event.payload)
        position = (message.epoch, message.seq)
        digests = self._seen.digests(node.name, message.install_id, position)
        ack = Publish(
            node.name,
            Ack(
                install_id=message.install_id, messages=[Acknowledgement(message.epoch, message.seq, digest)]
            ),
        )
        if digest in digests:
            effects.append(ack)
            effects.append(Rejected(node.name, "duplicate", f"{position[0]}.{position[1]}", event.payload))
            return None
        known_boot = message.boot_id in node.record.boots
        if not digests and known_boot and message.position < node.record.floor:
            # The agent has promised never to send it again, and nobody remembers it: a replay. Not acknowledged,
            # so should it be real after all, its sender still has it.
            detail = (
                f"{position[0]}.{position[1]} is before {node.record.floor.epoch}.{node.record.floor.seq}"
            )
            effects.append(Rejected(node.name, "replayed", detail, event.payload))
            return None
        if digests:
            detail = (
                f"{position[0]}.{position[1]} was another message before: a clone, or a rolled-back machine"
            )
            effects.append(Noted(node.name, "twin message taken", detail))
        row = Seen(node.name, message.install_id, message.epoch, message.seq, digest, event.at)
        self._seen.take(row)
        commit.seen.append(row)
        effects.append(ack)
        if isinstance(message, Birth):
            return fold_birth(node, message, event.at)
        return self._event(node, message, event.at, commit)

    def _event(self, node: Node, event: Event, at: float, commit: Commit) -> Folded:
        row = EventRow(
            node=node.name,
            install_id=event.install_id,
            epoch=event.epoch,
            seq=event.seq,
            received_at=at,
            at=event.at,
            type=event.type,
            resource_kind=event.resource_kind,
            resource=node.name if event.resource_kind == "node" else event.resource,
            summary=event.summary,
            fields=event.fields,
        )
        commit.events.append(row)
        folded = fold_event(node, event, at)
        for key in folded.touched:
            count = node.counts[key][event.type]
            commit.counts[(node.name, *key, event.type)] = count
            self._count_sample(node, key, event.type, count.total, at)
        return folded

    def _count_sample(self, node: Node, key: ResourceKey, type_: str, total: int, at: float) -> None:
        """Remember a count's growth, with the value before the first event: `delta` must see the very first one."""
        seconds = self._court.in_force(node.name).rules.windows(key[0]).get(f"{type_}_total")
        if seconds is None:
            return
        history = (*key, f"{type_}_total")
        series = node.histories.get(history)
        if series is None:
            series = node.histories[history] = Series(seconds)
            series.append(at, float(total - 1))
        series.widen(seconds)
        series.append(at, float(total))

    # ---- settling ------------------------------------------------------------------------------------------------

    def _settle(self, node: Node, folded: Folded, at: float, commit: Commit, effects: list[Effect]) -> None:
        """Facts changed: add them up, look at them, and judge."""
        effects.extend(Noted(node.name, noted, detail) for noted, detail in folded.noted)
        changed = node.rebuild(folded.touched)
        node.sample(changed.keys() | folded.observed, self._court.in_force(node.name).affected, at)
        self._court.judge(node, changed, at, warm=at >= self.warm_at, commit=commit, effects=effects)
        self._arm(node)
        effects.append(Refreshed(node.name))

    def _keep(self, node: Node, commit: Commit) -> None:
        node.record = structs.replace(node.record, position=node.position, last_report_at=node.last_report_at)
        self._kept.add(node.name)
        commit.nodes[node.name] = node.record

    # ---- time ----------------------------------------------------------------------------------------------------

    def _arm(self, node: Node) -> None:
        """Have time look after the node's liveness and each section's freshness. Entries renew themselves."""
        self._grace_seconds_max = max(self._grace_seconds_max, node.grace_seconds)
        armed = self._armed.setdefault(node.name, set())
        if "" not in armed or not node.sections.keys() <= armed:
            for probe in {"", *node.sections} - armed:
                armed.add(probe)
                heapq.heappush(self._deadlines, (self._deadline(node, probe), node.name, probe))

    def _deadline(self, node: Node, probe: str) -> float:
        if probe:
            return node.sections[probe].stale_at
        return max(node.last_report_at, self.started_at, self.listening_since or 0.0) + node.grace_seconds

    def _ticked(self, at: float, commit: Commit, effects: list[Effect]) -> None:
        for name, keys in self._overdue(at).items():
            node = self.nodes[name]
            changed = node.rebuild(keys)
            self._court.judge(node, changed, at, warm=at >= self.warm_at, commit=commit, effects=effects)
            effects.append(Refreshed(name))
        warm = at >= self.warm_at
        for name in self._court.nodes_with_alerts():
            if name in self.nodes:
                self._court.judge_again(self.nodes[name], at, warm=warm, commit=commit, effects=effects)
        self._sweep.turn(at, warm=warm, commit=commit, effects=effects)
        self._judge_self(at, commit, effects)
        self._court.tell(at, commit, effects)
        if at - self._saved_at >= PENDING_SAVED_SECONDS:
            self._saved_at = at
            commit.alerts.update(self._court.pending())
            self._court.expire(at)
            self._prune(at, commit)

    def _overdue(self, at: float) -> dict[str, set[ResourceKey]]:
        """Nodes that fell silent and sections that went stale since the last tick, as resources to add up anew."""
        touched: dict[str, set[ResourceKey]] = {}
        while self._deadlines and self._deadlines[0][0] <= at:
            _, name, probe = heapq.heappop(self._deadlines)
            node = self.nodes.get(name)
            if node is None or (probe and probe not in node.sections):
                self._armed.get(name, set()).discard(probe)
                continue
            due = self._deadline(node, probe)
            if not probe and self.listening_since is None:
                due = at + node.grace_seconds
            if due > at:
                heapq.heappush(self._deadlines, (due, name, probe))
                continue
            self._armed[name].discard(probe)
            if probe:
                held = node.sections[probe]
                held.stale = True
                touched.setdefault(name, set()).update(held.stated.keys() | {("probe", probe)})
            else:
                node.reporting = False
                touched.setdefault(name, set()).add(("node", name))
        return touched

    def _judge_self(self, at: float, commit: Commit, effects: list[Effect]) -> None:
        key = ("collector", "collector")
        self._own.resources[key] = self.health(at)
        self._own.observed[key] = at
        self._own.sample([key], self._court.in_force(SELF).affected, at)
        warm = at >= self.warm_at
        self._court.judge_whole(self._own, key, at, warm=warm, commit=commit, effects=effects)

    def _prune(self, at: float, commit: Commit) -> None:
        for node in self.nodes.values():
            floor = (node.record.floor.epoch, node.record.floor.seq)
            commit.forgotten.extend(self._seen.prune(node.name, node.record.install_id, floor, at))

    # ---- beginnings and ends -------------------------------------------------------------------------------------

    def _restore(self, state: State) -> None:
        for record in state.nodes:
            self.nodes[record.node] = Node(record, self.started_at)
            self._kept.add(record.node)
        for count in state.counts:
            node = self.nodes.get(count.node)
            if node is not None:
                node.counts.setdefault((count.resource_kind, count.resource), {})[count.type] = count
        self._restore_histories(state)
        for node in self.nodes.values():
            node.rebuild([("node", node.name), *node.counts])
            self._arm(node)
        self._court.restore(state.alerts, state.resolved)

    def _restore_histories(self, state: State) -> None:
        """Counts grew when their events came; the events of the rules' windows are on record."""
        later: dict[tuple[str, str, str, str], int] = {}
        for event in state.recent:
            place = (event.node, event.resource_kind, event.resource, event.type)
            later[place] = later.get(place, 0) + 1
        for event in state.recent:
            place = (event.node, event.resource_kind, event.resource, event.type)
            node = self.nodes.get(event.node)
            count = node.counts.get(place[1:3], {}).get(event.type) if node else None
            if node is not None and count is not None:
                later[place] -= 1
                self._count_sample(
                    node, place[1:3], event.type, count.total - later[place], event.received_at
                )

    def _forget(self, event: NodeForgotten, commit: Commit, effects: list[Effect]) -> None:
        if self.nodes.pop(event.node, None) is None:
            return
        self._merge(self._court.forget(event.node, event.at), commit, effects)
        self._kept.discard(event.node)
        self._armed.pop(event.node, None)
        self._seen.forget_node(event.node)
        commit.nodes[event.node] = None
        effects.append(Forgot(event.node))
