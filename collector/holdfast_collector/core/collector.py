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

from collections.abc import Iterable, Sequence

from msgspec import structs

from holdfast_collector.core.causality import beneath
from holdfast_collector.core.chain import ChainRecord
from holdfast_collector.core.counting import restore_histories
from holdfast_collector.core.deadlines import Deadlines
from holdfast_collector.core.effect import Commit, Effect, Forgot, Noted, Publish, Refreshed, Rejected
from holdfast_collector.core.event import (
    Acknowledged,
    BrokerChanged,
    CoreEvent,
    Delivered,
    GroupsReplaced,
    NodeForgotten,
    Received,
    ReceiversReplaced,
    RestoreAnnounced,
    RulesReplaced,
    Ticked,
)
from holdfast_collector.core.fold import (
    Claim,
    Folded,
    Order,
    claim,
    first_record,
    fold_death,
    fold_report,
)
from holdfast_collector.core.health import health
from holdfast_collector.core.judge import Court
from holdfast_collector.core.lives import heard
from holdfast_collector.core.node import Node, ResourceKey
from holdfast_collector.core.once import Once
from holdfast_collector.core.record import (
    NodeRecord,
    Notice,
    Receiver,
    Resolved,
    RestoreWindow,
    State,
    Tracked,
)
from holdfast_collector.core.rulings import Rulings, rule_anew
from holdfast_collector.core.seen import SeenMessages
from holdfast_collector.core.standing import Standing
from holdfast_collector.core.sweep import Sweep
from holdfast_collector.core.testimony import Testimony
from holdfast_rules import RuleSet
from holdfast_wire import (
    Birth,
    ChainReport,
    Death,
    Event,
    Position,
    Refusal,
    Report,
    Resend,
    UpMessage,
    Witness,
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
        self.rulings = Rulings()
        """The verdict on every resource. To be read by others."""
        self._blank = Commit()
        self._grace_seconds_max = 0.0
        self._seen = SeenMessages(state.seen)
        self._deadlines = Deadlines(self.nodes, lambda: self.listening_since, started_at)
        self._testimony = Testimony(self.nodes, self._court)
        self._standing = Standing(self.nodes, self._court)
        self._once = Once(self._seen, self._court, self._testimony, self._standing)
        self._kept: set[str] = set()
        """Nodes whose record is on disk."""
        self._sweep = Sweep(self._court, self.nodes, self._restate, started_at)
        self._saved_at = started_at
        self._own = Node(
            NodeRecord(node=SELF, install_id="", boot_id="", position=Position(0, 0)), started_at
        )
        self._court.rest_groups_on(self._own, self._beneath_group)
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

    def explained(self, alert_key: str) -> list[Tracked]:
        """The alerts that this one explains and keeps quiet, the deepest first."""
        return self._court.explained(alert_key)

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
        return health(
            self.nodes,
            self.outbox,
            at,
            broker_connected=self.broker_connected,
            warm=at >= self.warm_at,
            behind_agents=self._testimony.behind_agents,
        )

    def chains(self, node: str) -> tuple[ChainRecord, ...]:
        """What is remembered of a node's chains, closed ones included, by volume and age; none when it is not known."""
        known = self.nodes.get(node)
        records = known.chains.values() if known is not None else ()
        return tuple(sorted(records, key=lambda record: (record.volume, record.began_at)))

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
                self._acknowledge(event, commit, effects)
            case RulesReplaced():
                self._merge(self._court.replace_rules(event.rules, event.at), commit, effects)
                self._sweep.begin_anew()
                self._sweep.turn(event.at, warm=event.at >= self.warm_at, commit=commit, effects=effects)
                self._court.tell(event.at, commit, effects)
            case ReceiversReplaced():
                self._court.replace_receivers(event.receivers, event.at, commit)
            case NodeForgotten():
                self._forget(event, commit, effects)
            case GroupsReplaced():
                self.rulings.groups.replace(event.groups)
            case RestoreAnnounced():
                self._announce(event, commit, effects)
        rule_anew(self.rulings, self._court, self.nodes, event.at, event.at >= self.warm_at, commit, effects)
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
                detail = f"{NODES_MAX} nodes are known"
                effects.append(Rejected(event.node, "over_capacity", detail, event.payload))
                return
            node = self.nodes[event.node] = Node(first_record(message, event.at), event.at)
            effects.append(Noted(node.name, "node met", f"installation {message.install_id}"))
        before = node.record
        match claim(node, message, event.at, warm=event.at >= self.warm_at):
            case Claim.RIVAL:
                node.claimants[message.install_id] = event.at
                detail = f"installation {message.install_id}; {before.install_id} still has the name"
                effects.append(Rejected(event.node, "second_claimant", detail, event.payload))
                return
            case Claim.SUCCESSOR:
                detail = f"from installation {before.install_id} to {message.install_id}"
                effects.append(Noted(node.name, "node taken over", detail))
                self._succeed(node, message.install_id, message.boot_id, Position(message.epoch, 0))
            case Claim.HOLDER:
                pass
        heard(node.lives, message, event.at)
        folded = self._fold(node, message, event, commit, effects)
        if folded is not None:
            folded.add(self._standing.heard(node, before, message, event.at, commit))
            self._settle(node, folded, event.at, commit, effects)
        # A heartbeat that moves nothing but its position is not written: after a restart an older position only
        # means that a late report may count once, and the next one mends it.
        if node.record is not before or commit.seen or node.name not in self._kept:
            self._keep(node, commit)

    def _fold(
        self, node: Node, message: UpMessage, event: Received, commit: Commit, effects: list[Effect]
    ) -> Folded | None:
        match message:
            case Report():
                return self._report(node, message, event, effects)
            case Birth() | Event() | Witness() | ChainReport():
                return self._once.take(node, message, event, commit, effects)
            case Death():
                folded = fold_death(node, message, event.at)
                if folded is None:
                    effects.append(Rejected(event.node, "late", "the end of an older session", event.payload))
                return folded

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
        place = self._standing.place(node, report, event.at)
        if place is Order.RIVAL:
            detail = f"boot {report.boot_id}; boot {node.record.boot_id} still reports under this name"
            effects.append(Rejected(event.node, "second_claimant", detail, event.payload))
            return Folded(set(), set(), [], [])
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

    # ---- settling ------------------------------------------------------------------------------------------------

    def _settle(self, node: Node, folded: Folded, at: float, commit: Commit, effects: list[Effect]) -> None:
        """Facts changed: add them up, look at them, and judge."""
        effects.extend(Noted(node.name, noted, detail) for noted, detail in folded.noted)
        self._grace_seconds_max = max(self._grace_seconds_max, node.grace_seconds)
        changed = node.rebuild(folded.touched)
        self.rulings.note(node, changed)
        node.sample(changed.keys() | folded.observed, self._court.in_force(node.name).affected, at)
        self._court.judge(node, changed, at, warm=at >= self.warm_at, commit=commit, effects=effects)
        self._deadlines.arm(node)
        effects.append(Refreshed(node.name))

    def _keep(self, node: Node, commit: Commit) -> None:
        node.record = structs.replace(node.record, position=node.position, last_report_at=node.last_report_at)
        self._kept.add(node.name)
        commit.nodes[node.name] = node.record

    # ---- time ----------------------------------------------------------------------------------------------------

    def _ticked(self, at: float, commit: Commit, effects: list[Effect]) -> None:
        for name, keys in self._deadlines.overdue(at).items():
            node = self.nodes[name]
            changed = node.rebuild(keys)
            if ("node", name) in keys:
                self._keep(
                    node, commit
                )  # when it was last heard must outlast a restart: its records may be hours old
            self.rulings.note(node, changed)
            self._court.judge(node, changed, at, warm=at >= self.warm_at, commit=commit, effects=effects)
            effects.append(Refreshed(name))
        self._tick_standing(at, commit, effects)
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
            self._testimony.expire(at, commit)
            self._prune(at, commit)

    def _tick_standing(self, at: float, commit: Commit, effects: list[Effect]) -> None:
        for name in self._standing.overdue(at):
            node = self.nodes[name]
            before = node.record
            folded = self._standing.tick(node, at, commit)
            if folded.touched or folded.noted:
                self._settle(node, folded, at, commit, effects)
            if node.record is not before:
                self._keep(node, commit)

    def _restate(self, node: Node, at: float, commit: Commit, effects: list[Effect]) -> None:
        """Facts that time alone changes: how long nothing was tested, who is still heard of."""
        touched = self._testimony.restate(node, at) | self._standing.restate(node, at)
        if touched:
            self._settle(node, Folded(touched, set(), [], []), at, commit, effects)

    def _judge_self(self, at: float, commit: Commit, effects: list[Effect]) -> None:
        key = ("collector", "collector")
        self._own.resources[key] = self.health(at)
        self._own.observed[key] = at
        self._own.sample([key], self._court.in_force(SELF).affected, at)
        warm = at >= self.warm_at
        self._court.judge_whole(self._own, key, at, warm=warm, commit=commit, effects=effects)
        if self.rulings.groups.settled:
            self._judge_groups(at, warm, commit, effects)

    def _judge_groups(self, at: float, warm: bool, commit: Commit, effects: list[Effect]) -> None:
        """The rules on groups: what rests on several nodes has its place with the collector."""
        known = self.rulings.groups.facts(self._court.pages)
        for key in [key for key in self._own.resources if key[0] == "group" and key[1] not in known]:
            del self._own.resources[key]
        self._merge(self._court.end_groups(self.rulings.groups.declared, at), commit, effects)
        for name, facts in known.items():
            key = ("group", name)
            self._own.resources[key], self._own.observed[key] = facts, at
            self._own.sample([key], self._court.in_force(SELF).affected, at)
            self._court.judge_whole(self._own, key, at, warm=warm, commit=commit, effects=effects)

    def _beneath_group(self, name: str) -> Iterable[tuple[str, ResourceKey]]:
        """(node, resource) of a group's copies and of all that they rest on."""
        declared = self.rulings.groups.declared.get(name)
        for member, service in declared.group.members if declared is not None else ():
            node = self.nodes.get(member)
            place = ("service", service)
            for resource in {place, *beneath(node.resources, place)} if node is not None else ():
                yield member, resource

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
        restore_histories(self.nodes, state, self.rules)
        self._testimony.restore(state.chains, state.windows, self.started_at)
        self._standing.restore(self.started_at)
        for node in self.nodes.values():
            self._grace_seconds_max = max(self._grace_seconds_max, node.grace_seconds)
            node.rebuild({("node", node.name), *node.counts, *node.testified})
            self._deadlines.arm(node)
        self._court.restore(state.alerts, state.resolved)
        self.rulings.restore(state.verdicts, self.nodes)

    def _acknowledge(self, event: Acknowledged, commit: Commit, effects: list[Effect]) -> None:
        """An operator took over, and with an alert takes note of what waits for a word and is kept quiet by it."""
        waiting = [row.key for row in self.explained(event.key) if self._court.waits_for_a_word(row.alert)]
        for alert_key in (event.key, *waiting):
            tracked = self.alerts.get(alert_key)
            if tracked is not None:
                self._take_note(tracked, event, commit, effects)

    def _take_note(
        self, tracked: Tracked, event: Acknowledged, commit: Commit, effects: list[Effect]
    ) -> None:
        """Of an alert, and of what its rule reads."""
        self._merge(self._court.acknowledge(tracked.key, event.reason, event.at), commit, effects)
        rule = self.rules.by_id.get(tracked.alert.rule_id)
        if rule is None:
            return
        node = self.nodes.get(tracked.alert.node, self._own)
        before, touched = node.record, set[ResourceKey]()
        match tracked.alert.kind:
            case "volume":
                touched = self._testimony.acknowledge(
                    node, tracked.alert.resource, rule.names, event.reason, event.at, commit
                )
            case "node":
                touched = self._standing.excuse(node, rule.names, event.at)
            case "collector" if "behind_agents" in rule.names:
                self._testimony.excuse_collector(commit)
        if touched:
            self._settle(node, Folded(touched, set(), [], []), event.at, commit, effects)
        if node.record is not before:
            self._keep(node, commit)

    def _announce(self, event: RestoreAnnounced, commit: Commit, effects: list[Effect]) -> None:
        node = self.nodes.get(event.node)
        if node is not None:
            window = RestoreWindow(node=event.node, since=event.at, until=event.until, reason=event.reason)
            self._testimony.announce(node, window, commit)
            effects.append(Noted(node.name, "restore announced", event.reason))

    def _forget(self, event: NodeForgotten, commit: Commit, effects: list[Effect]) -> None:
        node = self.nodes.pop(event.node, None)
        if node is None:
            return
        self._testimony.forget(node)
        self._standing.forget(node)
        self._merge(self._court.forget(event.node, event.at), commit, effects)
        self._kept.discard(event.node)
        self._deadlines.forget(event.node)
        self._seen.forget_node(event.node)
        self.rulings.forget(event.node)
        commit.nodes[event.node] = None
        effects.append(Forgot(event.node))
