"""The alerts that stand, findable by what they are about, and which of them explains which."""

from collections.abc import Callable, Collection, Iterable, Iterator

from msgspec import structs

from holdfast_collector.core.causality import DEPTH, around, began_together, beneath, may_explain, order, root
from holdfast_collector.core.node import Node, ResourceKey
from holdfast_collector.core.quiet import on_its_own, stands_on
from holdfast_collector.core.record import Tracked
from holdfast_rules import AlertState, Rule, RuleSet

COLLECTOR = ""
"""The node of the collector's own alerts."""

AlertPlace = tuple[str, str, str, str]
"""(node, kind, resource, rule id): where there is at most one alert."""
Beneath = Callable[[str], Iterable[tuple[str, ResourceKey]]]
"""Group → (node, resource) of all that its copies rest on."""


class Docket:
    """Pending and firing alerts."""

    def __init__(self) -> None:
        self.alerts: dict[str, Tracked] = {}
        """By key."""
        self._places: dict[AlertPlace, str] = {}
        self.by_node: dict[str, set[str]] = {}
        """Node → keys of its alerts; nodes without any are not in it. To be read by others."""
        self._firing: dict[tuple[str, str], dict[str, str]] = {}
        """(node, alert name) → `kind:name` of the resources on which it fires → the alert's key."""
        self._on: dict[tuple[str, ResourceKey], set[str]] = {}
        """(node, resource) → keys of what fires there, of the kinds that can be a cause."""
        self._effects: dict[str, set[str]] = {}
        """Key of the cause → keys of what it keeps quiet."""
        self.groups_on: Node | None = None
        """The node that groups are on, if there may be any."""
        self.beneath_group: Beneath = lambda _: ()

    def at(self, node: str, kind: str, resource: str, rule_id: str) -> Tracked | None:
        """The alert of a rule about a resource."""
        held = self._places.get((node, kind, resource, rule_id))
        return self.alerts[held] if held else None

    def put(self, tracked: Tracked) -> None:
        """Take an alert in, or what became of it."""
        alert = tracked.alert
        self._unexplain(tracked.key)
        if tracked.explained_by:
            self._effects.setdefault(tracked.explained_by, set()).add(tracked.key)
        self.alerts[tracked.key] = tracked
        self._places[(alert.node, alert.kind, alert.resource, alert.rule_id)] = tracked.key
        self.by_node.setdefault(alert.node, set()).add(tracked.key)
        if alert.state is AlertState.FIRING:
            firing = self._firing.setdefault((alert.node, alert.alertname), {})
            firing[f"{alert.kind}:{alert.resource}"] = tracked.key
            if alert.kind in DEPTH:
                self._on.setdefault((alert.node, (alert.kind, alert.resource)), set()).add(tracked.key)

    def remove(self, tracked: Tracked) -> None:
        """An alert's episode is over."""
        alert = tracked.alert
        self._unexplain(tracked.key)
        del self.alerts[tracked.key]
        del self._places[(alert.node, alert.kind, alert.resource, alert.rule_id)]
        self.by_node[alert.node].discard(tracked.key)
        if not self.by_node[alert.node]:
            del self.by_node[alert.node]
        firing = self._firing.get((alert.node, alert.alertname))
        if firing is not None:
            firing.pop(f"{alert.kind}:{alert.resource}", None)
            if not firing:
                del self._firing[(alert.node, alert.alertname)]
        place = (alert.node, (alert.kind, alert.resource))
        if place in self._on:
            self._on[place].discard(tracked.key)
            if not self._on[place]:
                del self._on[place]

    def _unexplain(self, key: str) -> None:
        before = self.alerts.get(key)
        if before is not None:
            effects = self._effects.get(before.explained_by, set())
            effects.discard(key)
            if not effects:
                self._effects.pop(before.explained_by, None)

    # ---- causes --------------------------------------------------------------------------------------------------

    def cause(self, tracked: Tracked, node: Node, rules: RuleSet) -> Tracked | None:
        """The alert that explains this one, if any does: as its rule says, or else by what lies beneath."""
        alert = tracked.alert
        place = (alert.kind, alert.resource)
        rule = rules.by_id.get(alert.rule_id)
        if rule is None:
            return None
        named = self._named(rule, tracked, node, place) if rule.inhibited_by else None
        if named is not None:
            return named
        resting: Iterable[tuple[str, ResourceKey]] = (
            self.beneath_group(alert.resource)
            if alert.kind == "group"
            else ((alert.node, other) for other in beneath(node.resources, place))
        )
        keys = [key for other in resting for key in self._on.get(other, ())]
        for other in around(node.resources, place):
            outer = self.at(alert.node, *other, alert.rule_id)
            keys += [outer.key] if outer is not None else []
        return root(
            (self.alerts[key], cause)
            for key in keys
            if (cause := rules.by_id.get(self.alerts[key].alert.rule_id)) is not None
            and may_explain(self.alerts[key], cause, alert, rule)
        )

    def told_before_their_cause(
        self, told: Collection[str], nodes: Iterable[Node], rules_of: Callable[[str], RuleSet]
    ) -> list[Tracked]:
        """The alerts that people were told of before one of `told`, their cause: not told again, but named as its part.

        `nodes`: where something was told, or ended. A group's copies may be there, so groups are looked at as well.
        """
        found = []
        looked_at = {node.name: node for node in nodes}
        if looked_at and self.groups_on is not None:
            looked_at[self.groups_on.name] = self.groups_on
        for name, node in looked_at.items():
            for alert_key in sorted(self.by_node.get(name, ())):
                before = self.alerts[alert_key]
                if not before.notified or alert_key in told or before.alert.state is not AlertState.FIRING:
                    continue
                cause = self.cause(before, node, rules_of(name))
                if cause is not None and cause.key != before.explained_by:
                    found.append(structs.replace(before, explained_by=cause.key))
                    self.put(found[-1])
        return found

    def _named(self, rule: Rule, tracked: Tracked, node: Node, place: ResourceKey) -> Tracked | None:
        """What the rule names: on the same resource, or on one it rests on, its node included.

        An alert of the collector concerns the whole fleet, and explains what began when it did: a node that falls
        silent an hour into an outage has a reason of its own.
        """
        wanted = {f"{place[0]}:{place[1]}", *node.rests_on(place)}
        for name in rule.inhibited_by:
            resources = self._firing.get((node.name, name), {})
            for resource in sorted(wanted & resources.keys()):
                return self.alerts[resources[resource]]
            for key in self._firing.get((COLLECTOR, name), {}).values():
                if began_together(tracked.alert, self.alerts[key].alert):
                    return self.alerts[key]
        return None

    def causes(self, tracked: Tracked) -> Iterator[Tracked]:
        """The alert that explains this one, the one that explains that, and so on to the root."""
        seen = {tracked.key}
        cause = self.alerts.get(tracked.explained_by)
        while cause is not None and cause.key not in seen:
            seen.add(cause.key)
            yield cause
            cause = self.alerts.get(cause.explained_by)

    def stands_on(self, tracked: Tracked, rule: Rule) -> bool:
        """Whether the memory of an event must stand for what it keeps quiet, though its window is over."""
        return rule.remembers and stands_on(tracked, self._effects_of(tracked.key))

    def set_free(self, key: str) -> list[Tracked]:
        """An alert ended. What was told before it, and was its part, is nobody's any more; returns that."""
        freed = on_its_own(self._effects_of(key))
        for effect in freed:
            self.put(effect)
        return freed

    def _effects_of(self, key: str) -> list[Tracked]:
        return [self.alerts[effect] for effect in sorted(self._effects.get(key, ()))]

    def explained(self, key: str) -> list[Tracked]:
        """All that an alert keeps quiet, directly or by way of another, the deepest first."""
        found: dict[str, Tracked] = {}
        waiting = list(self._effects.get(key, ()))
        while waiting:
            effect = waiting.pop()
            if effect != key:
                found[effect] = self.alerts[effect]
                waiting.extend(self._effects.get(effect, ()))
        return sorted(found.values(), key=lambda row: order(row.alert))
