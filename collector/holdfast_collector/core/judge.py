"""Rules over resources: findings advance alerts, and alerts become notices.

The court owns every alert. It is asked to judge a resource when its facts changed, and once a tick to judge again
what has an alert already or depends on time. It answers with what must be committed, in the same transaction as the
message that caused it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import structs

from holdfast_collector.core.affected import Affected, Asked
from holdfast_collector.core.causality import DEPTH, named, order
from holdfast_collector.core.docket import Beneath, Docket
from holdfast_collector.core.effect import Commit, Effect, Transitioned
from holdfast_collector.core.node import Node, ResourceKey, ResourceSubject
from holdfast_collector.core.quiet import before_its_end, left_to_its_cause, to_tell
from holdfast_collector.core.record import Notice, Receiver, Resolved, Tracked
from holdfast_rules import (
    Alert,
    AlertState,
    Finding,
    Rule,
    RuleSet,
    Transition,
    acknowledge,
    advance,
    key,
)
from holdfast_rules.verdict import Firing, Verdict

GAP_SECONDS_MIN = 30.0
"""Two judgements this far apart still count as one observation: a restarted collector loses no pending time."""
RESOLVED_SECONDS = 86_400.0
"""How long a resolved alert stays to be looked at."""


Judged = dict[ResourceKey, frozenset[str]]
"""Where rules have just been judged: resource → their ids."""
_NONE: frozenset[str] = frozenset()


class InForce(NamedTuple):
    """The rules of one node."""

    rules: RuleSet
    affected: Affected


class Court:
    """All alerts, and the rules that make them."""

    def __init__(self, rules: RuleSet, receivers: Sequence[Receiver], next_episode: int) -> None:
        self.rules = rules
        """As they are where no pack says otherwise."""
        self._in_force: dict[str, InForce] = {}
        """By node."""
        self._affected: dict[int, InForce] = {}
        """By the identity of a rule set that `_in_force` holds."""
        self.receivers = tuple(receivers)
        self.next_episode = next_episode
        self._docket = Docket()
        self.resolved: dict[str, Resolved] = {}
        self._untold: dict[str, tuple[Transition, Node]] = {}
        """Keys of alerts that fire and nobody was told of, as judged since the last `tell` → and their nodes."""
        self._left: dict[str, Node] = {}
        """The nodes where an alert ended since then, by name: what it explained may be another one's part."""

    def rest_groups_on(self, own: Node, beneath: Beneath) -> None:
        """Say on which node groups are, and where to look for what explains their alerts."""
        self._docket.groups_on, self._docket.beneath_group = own, beneath

    @property
    def alerts(self) -> dict[str, Tracked]:
        """Pending and firing alerts by key."""
        return self._docket.alerts

    def restore(self, tracked: Iterable[Tracked], resolved: Iterable[Resolved]) -> None:
        """Take up what the store kept."""
        for row in tracked:
            self._docket.put(row)
        self.resolved = {row.key: row for row in resolved}

    def in_force(self, node: str) -> InForce:
        """The rules of a node."""
        found = self._in_force.get(node)
        if found is None:
            rules = self.rules.of_node(node)
            found = self._affected.setdefault(id(rules), InForce(rules, Affected(rules)))
            self._in_force[node] = found
        return found

    # ---- judging -------------------------------------------------------------------------------------------------

    def judge(
        self,
        node: Node,
        changed: Mapping[ResourceKey, frozenset[str]],
        at: float,
        *,
        warm: bool,
        commit: Commit,
        effects: list[Effect],
    ) -> None:
        """Judge what changed, and whatever else on the node has an alert: its evidence may just have been renewed."""
        judged = self._judge_changed(node, changed, at, warm=warm, commit=commit, effects=effects)
        self.judge_again(node, at, warm=warm, commit=commit, effects=effects, but=judged)
        self.tell(at, commit, effects)

    def _judge_changed(
        self,
        node: Node,
        changed: Mapping[ResourceKey, frozenset[str]],
        at: float,
        *,
        warm: bool,
        commit: Commit,
        effects: list[Effect],
    ) -> Judged:
        """Judge the rules that read one of the changed facts. Returns where: resource → ids of rules."""
        judged: Judged = {}
        affected = self.in_force(node.name).affected
        for resource_key, names in changed.items():
            asked = affected.by(resource_key[0], names)
            if asked.rules:
                self._ask(node, resource_key, asked, at, warm, commit, effects)
                before = judged.get(resource_key)
                judged[resource_key] = asked.ids if before is None else before | asked.ids
            for rule in asked.elsewhere:
                places = node.resting_on(rule.resource, resource_key)
                self._ask_elsewhere(node, rule, places, judged, at, warm, commit, effects)
        for rule in self._surveying(node, changed, affected):
            places = [place for place in node.resources if place[0] == rule.resource]
            self._ask_elsewhere(node, rule, places, judged, at, warm, commit, effects)
        return judged

    def _ask(
        self,
        node: Node,
        key: ResourceKey,
        asked: Asked,
        at: float,
        warm: bool,
        commit: Commit,
        effects: list[Effect],
    ) -> None:
        subject = ResourceSubject(node, key)
        findings = asked.judge(subject, at)
        if Finding.HOLDS not in findings and node.name not in self._docket.by_node:
            return  # nearly every answer about a healthy fleet ends here
        for rule, finding in zip(asked.rules, findings, strict=True):
            self._weigh(node, subject, rule, finding, at, warm, commit, effects)

    def _ask_elsewhere(
        self,
        node: Node,
        rule: Rule,
        places: Iterable[ResourceKey],
        judged: Judged,
        at: float,
        warm: bool,
        commit: Commit,
        effects: list[Effect],
    ) -> None:
        """Judge one rule where it has not been judged yet."""
        for place in places:
            if rule.id not in judged.get(place, _NONE):
                subject = ResourceSubject(node, place)
                self._weigh(node, subject, rule, rule.judge(subject, at), at, warm, commit, effects)
                judged[place] = judged.get(place, _NONE) | {rule.id}

    def _surveying(
        self, node: Node, changed: Mapping[ResourceKey, frozenset[str]], affected: Affected
    ) -> list[Rule]:
        """The rules about many resources whose answer the change may change, or what is known to be missing."""
        found: dict[str, Rule] = {}
        if not changed and node.unheld == node.unheld_before:
            return []  # what is known of whom follows from the probes' own facts, and from what was asked for
        node.unheld_before = node.unheld
        for kind in affected.surveyed:
            for (changed_kind, _), names in changed.items():
                if changed_kind == kind:
                    found.update((rule.id, rule) for rule in affected.surveying(kind, names))
            whole = node.whole(kind)
            if node.wholes.get(kind) is not whole:
                node.wholes[kind] = whole
                found.update((rule.id, rule) for rule in affected.surveying(kind, None))
        return list(found.values())

    def judge_whole(
        self, node: Node, key: ResourceKey, at: float, *, warm: bool, commit: Commit, effects: list[Effect]
    ) -> None:
        """Judge every rule of one resource."""
        subject = ResourceSubject(node, key)
        rules = self.in_force(node.name).rules
        for rule, finding in zip(rules.of_kind(key[0]), rules.judge(subject, at), strict=True):
            self._weigh(node, subject, rule, finding, at, warm, commit, effects)

    def judge_by_time(
        self, node: Node, at: float, *, warm: bool, commit: Commit, effects: list[Effect]
    ) -> None:
        """Judge the rules of a node's resources whose answer may change by time alone."""
        affected = self.in_force(node.name).affected
        for resource_key in list(node.resources):
            asked = affected.timed(resource_key[0])
            if asked.rules:
                self._ask(node, resource_key, asked, at, warm, commit, effects)

    def judge_again(
        self,
        node: Node,
        at: float,
        *,
        warm: bool,
        commit: Commit,
        effects: list[Effect],
        but: Judged | None = None,
    ) -> None:
        """Judge a node's alerts once more, except those just judged: time passed, or evidence was renewed."""
        judged = but or {}
        rules = self.in_force(node.name).rules
        for alert_key in list(self._docket.by_node.get(node.name, ())):
            tracked = self.alerts.get(alert_key)
            if tracked is None:
                continue
            resource_key = (tracked.alert.kind, tracked.alert.resource)
            rule = rules.by_id.get(tracked.alert.rule_id)
            if rule is not None and rule.id not in judged.get(resource_key, _NONE):
                subject = ResourceSubject(node, resource_key)
                self._weigh(node, subject, rule, rule.judge(subject, at), at, warm, commit, effects)

    def firing_on(self, node: str) -> dict[ResourceKey, list[Firing]]:
        """The alerts that fire on a node's resources and say something of their verdict."""
        found: dict[ResourceKey, list[Firing]] = {}
        for alert_key in self._docket.by_node.get(node, ()):
            alert = self.alerts[alert_key].alert
            rule = self.rules.by_id.get(alert.rule_id)
            if rule is not None and rule.verdict and alert.state is AlertState.FIRING:
                found.setdefault((alert.kind, alert.resource), []).append(
                    Firing(
                        rule_id=rule.id,
                        alert=alert.alertname,
                        effect=Verdict(rule.verdict),
                        text=alert.annotations.get("summary", alert.alertname),
                        since=alert.fired_at,
                    )
                )
        return found

    def nodes_with_alerts(self) -> list[str]:
        """The nodes that have alerts, pending or firing."""
        return list(self._docket.by_node)

    def pending(self) -> dict[str, Tracked | None]:
        """Pending alerts with the time observed so far, to be saved now and then."""
        return {row.key: row for row in self.alerts.values() if row.alert.state is AlertState.PENDING}

    def _weigh(
        self,
        node: Node,
        subject: ResourceSubject,
        rule: Rule,
        finding: Finding,
        at: float,
        warm: bool,
        commit: Commit,
        effects: list[Effect],
    ) -> None:
        tracked = self._docket.at(node.name, subject.kind, subject.name, rule.id)
        if tracked is None and finding is not Finding.HOLDS:
            return
        if finding is Finding.UNKNOWN and node.gone(subject.key):
            finding = Finding.CLEAR
        elif finding is Finding.CLEAR and tracked is not None and tracked.alert.state is AlertState.FIRING:
            finding = rule.clearing(subject, at)
        if finding is Finding.CLEAR and tracked is not None and self._docket.stands_on(tracked, rule):
            finding = Finding.BETWEEN
        unwatched = not warm or (rule.timed and node.reporting is False)
        if finding in {Finding.CLEAR, Finding.BETWEEN} and unwatched:
            # Until a full grace period has passed nothing resolves: what clears it may be an old report. And a window
            # without events proves nothing while nobody is there to report one.
            finding = Finding.UNKNOWN
        alert = left_to_its_cause(tracked, rule, finding, at) if tracked else None
        told = alert.annotations if alert is not None and alert.state is AlertState.FIRING else None
        step = advance(
            rule,
            alert,
            (node.name, subject.kind, subject.name),
            finding,
            at,
            gap_seconds_max=max(GAP_SECONDS_MIN, node.grace_seconds),
            episode_next=self.next_episode,
            # What people were told stays as it was told: an alert does not change its words at every message.
            annotations=rule.annotations(subject, at) if told is None else told,
        )
        self._apply(node, rule, tracked, step.alert, step.transition, at, commit, effects)

    def _apply(
        self,
        node: Node,
        rule: Rule,
        tracked: Tracked | None,
        alert: Alert | None,
        transition: Transition,
        at: float,
        commit: Commit,
        effects: list[Effect],
    ) -> None:
        if tracked is None and alert is not None:
            self.next_episode += 1
            commit.next_episode = self.next_episode
            tracked = Tracked(key=key(node.record.install_id or "collector", alert), alert=alert)
        if tracked is None:
            return
        if alert is not None:
            tracked = structs.replace(tracked, alert=alert)
        if transition in (Transition.RESOLVED, Transition.CANCELLED):
            self._leave(tracked, transition, at, commit)
            self._left[node.name] = node
        if alert is not None:
            self._docket.put(tracked)
            if to_tell(rule, tracked):
                self._untold.setdefault(tracked.key, (transition, node))
        if transition is not Transition.NONE:
            if alert is not None:
                commit.alerts[tracked.key] = tracked
            if transition is not Transition.FIRED:
                effects.append(Transitioned(tracked, transition))

    # ---- notices -------------------------------------------------------------------------------------------------

    def tell(self, at: float, commit: Commit, effects: list[Effect]) -> None:
        """Announce what fires and nobody was told of, but for what another alert explains.

        Called when everything that one event changes has been judged, for the explanation may come with what it explains.
        """
        untold, self._untold = self._untold, {}
        left, self._left = self._left, {}
        told: set[str] = set()
        changed: list[Tracked] = []
        standing = [self.alerts[alert_key] for alert_key in untold if alert_key in self.alerts]
        # The deepest first, and of paths the outer one: whether it was told decides what it explains.
        for before in sorted(standing, key=lambda row: order(row.alert)):
            alert_key = before.key
            node = untold[alert_key][1]
            cause = self._docket.cause(before, node, self.in_force(node.name).rules)
            if cause is None and before_its_end(before, node, self.resolved):
                continue
            tracked = structs.replace(
                before,
                notified=cause is None,
                inhibited_by=cause.alert.alertname if cause else "",
                explained_by=cause.key if cause else "",
            )
            if cause is None:
                told.add(alert_key)
            if tracked != before:
                self._docket.put(tracked)
                changed.append(tracked)
        nodes = [untold[key][1] for key in told if self.alerts[key].alert.kind in DEPTH] + list(left.values())
        changed += self._docket.told_before_their_cause(told, nodes, lambda name: self.in_force(name).rules)
        commit.alerts.update({row.key: row for row in changed})
        self._name_explained(changed, commit)
        for alert_key in untold:
            if alert_key in told:
                commit.notices.extend(self._notices(self.alerts[alert_key], "firing", at))
            if untold[alert_key][0] is Transition.FIRED and alert_key in self.alerts:
                effects.append(Transitioned(self.alerts[alert_key], Transition.FIRED))

    def _name_explained(self, changed: Iterable[Tracked], commit: Commit) -> None:
        """Write into alerts what they explain. Who is told later, or again, reads it; nobody is told anew for it."""
        for cause_key in dict.fromkeys(cause.key for row in changed for cause in self._docket.causes(row)):
            cause = self.alerts[cause_key]
            said = {**cause.alert.annotations, "explains": named(self.explained(cause_key))}
            if not self.explained(cause_key):
                del said["explains"]
            cause = structs.replace(cause, alert=structs.replace(cause.alert, annotations=said))
            self._docket.put(cause)
            commit.alerts[cause_key] = cause

    def explained(self, alert_key: str) -> list[Tracked]:
        """The alerts that this one keeps quiet, the deepest first."""
        return self._docket.explained(alert_key)

    def _leave(self, tracked: Tracked, transition: Transition, at: float, commit: Commit) -> None:
        """An episode is over: off the books, and told to those who heard of it."""
        self._docket.remove(tracked)
        commit.alerts[tracked.key] = None
        commit.alerts.update({effect.key: effect for effect in self._docket.set_free(tracked.key)})
        self._name_explained([tracked], commit)
        if transition is Transition.CANCELLED:
            return
        resolved = Resolved(key=tracked.key, alert=tracked.alert, at=at, notified=tracked.notified)
        self.resolved[tracked.key] = resolved
        commit.resolved.append(resolved)
        if tracked.notified:
            commit.notices.extend(self._notices(tracked, "resolved", at))

    def _notices(self, tracked: Tracked, status: str, at: float) -> list[Notice]:
        return [
            Notice(
                id=f"{tracked.key}:{status}:{receiver.name}",
                key=tracked.key,
                receiver=receiver.name,
                status=status,
                created_at=at,
                alert=tracked.alert,
                resolved_at=at if status == "resolved" else 0.0,
            )
            for receiver in self.receivers
            if tracked.alert.severity in receiver.severities
            and (status == "firing" or receiver.takes_resolved)
        ]

    # ---- operators -----------------------------------------------------------------------------------------------

    def acknowledge(self, alert_key: str, reason: str, at: float) -> tuple[Commit, list[Effect]]:
        """Note that an operator took over. What nobody can observe any more leaves on an operator's word."""
        commit, effects = Commit(), list[Effect]()
        tracked = self.alerts.get(alert_key)
        if tracked is None:
            return commit, effects
        tracked = structs.replace(tracked, alert=acknowledge(tracked.alert, reason, at))
        self._docket.put(tracked)
        commit.alerts[alert_key] = tracked
        if tracked.alert.last_finding is Finding.UNKNOWN:
            self._leave(tracked, Transition.RESOLVED, at, commit)
            effects.append(Transitioned(tracked, Transition.RESOLVED))
        return commit, effects

    def pages(self, node: str, rule_id: str) -> bool:
        """Whether a rule, as it is in force on a node, calls people at night."""
        rule = self.in_force(node).rules.by_id.get(rule_id)
        return rule is not None and rule.severity == "page"

    def waits_for_a_word(self, alert: Alert) -> bool:
        """Whether an alert of this kind ends only when somebody has taken note of it."""
        rule = self.in_force(alert.node).rules.by_id.get(alert.rule_id)
        return rule is not None and rule.sticky

    def replace_rules(self, rules: RuleSet, at: float) -> tuple[Commit, list[Effect]]:
        """Put another rule set in force. Alerts of rules that are no more, or are not the same any more, end, once."""
        self.rules = rules
        self._in_force.clear()
        self._affected.clear()
        return self._end([row for row in self.alerts.values() if self._orphaned(row.alert)], at)

    def _orphaned(self, alert: Alert) -> bool:
        """No rule of the alert's node makes such alerts. Its labels are its identity to receivers: none may change."""
        rule = self.in_force(alert.node).rules.by_id.get(alert.rule_id)
        return rule is None or (rule.alert, rule.resource, rule.severity) != (
            alert.alertname,
            alert.kind,
            alert.severity,
        )

    def replace_receivers(self, receivers: Sequence[Receiver], at: float, commit: Commit) -> None:
        """Tell these from now on; and those that are new, of all that fires and was announced."""
        known = {receiver.name for receiver in self.receivers}
        self.receivers = tuple(receivers)
        for tracked in self.alerts.values():
            if tracked.notified and tracked.alert.state is AlertState.FIRING:
                notices = self._notices(tracked, "firing", at)
                commit.notices.extend(notice for notice in notices if notice.receiver not in known)

    def forget(self, node: str, at: float) -> tuple[Commit, list[Effect]]:
        """End every alert of a node that was taken out of service."""
        self._in_force.pop(node, None)
        return self._end([row for row in self.alerts.values() if row.alert.node == node], at)

    def end_groups(self, standing: Mapping[str, object], at: float) -> tuple[Commit, list[Effect]]:
        """End every alert of a group that is not declared any more."""
        rows = [row for row in self.alerts.values() if row.alert.kind == "group"]
        return self._end([row for row in rows if row.alert.resource not in standing], at)

    def _end(self, rows: list[Tracked], at: float) -> tuple[Commit, list[Effect]]:
        commit, effects = Commit(), list[Effect]()
        for tracked in rows:
            firing = tracked.alert.state is AlertState.FIRING
            transition = Transition.RESOLVED if firing else Transition.CANCELLED
            self._leave(tracked, transition, at, commit)
            effects.append(Transitioned(tracked, transition))
        return commit, effects

    def expire(self, at: float) -> None:
        """Let go of what resolved long ago; the store has its own clock for the same."""
        for alert_key in [k for k, row in self.resolved.items() if at - row.at > RESOLVED_SECONDS]:
            del self.resolved[alert_key]
