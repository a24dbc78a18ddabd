"""`/api/v1/explain`: why an alert fires on a resource, or does not, from the facts to what would end it."""

from collections.abc import Sequence

from msgspec import Struct

from holdfast_collector.core.collector import Collector
from holdfast_collector.core.node import Node, ResourceSubject
from holdfast_collector.web.evidence import Sources
from holdfast_collector.web.shapes import AlertShape, resolved_shape, standing_shape
from holdfast_rules import AlertState, Finding, Rule, duration
from holdfast_rules.errors import nearest
from holdfast_rules.explain import Part, clears_when, explain, unknown_leaves
from holdfast_wire.declaration import ON_NO_NODE

NAMED_MAX = 20
"""Resources that an answer lists for the visitor to choose from."""


class Unexplained(Exception):
    """There is nothing to explain, and why; `status` is HTTP's."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Explanation(Struct, frozen=True, kw_only=True):
    """Why a rule says what it says of one resource now."""

    at: float
    alert: str
    rule_id: str
    severity: str
    file: str
    """The pack that the rule, or what changed it for this node, comes from."""
    node: str
    resource_kind: str
    resource: str
    finding: str
    """What the rule says now: `holds`, `clear`, `between` or `unknown`."""
    state: str
    """`inactive`, `pending` or `firing`."""
    when: str
    clear_when: str
    for_seconds: float
    keep_firing_for_seconds: float
    condition: Part
    clear_condition: Part | None
    ends: list[str]
    """What has to happen for it to end, in order; what keeps it from firing, when it does not."""
    current: AlertShape | None
    history: list[AlertShape]
    """Episodes that ended within the last day, the newest first."""


def explanation(collector: Collector, alert: str, node: str, resource: str, at: float) -> Explanation:
    """Raises Unexplained with the nearest name, or the resources to choose from."""
    found, rule = _found(collector, alert, node)
    subject = ResourceSubject(found, (rule.resource, _resource(collector, found, rule, resource)))
    source = Sources(found, at)
    rows = [
        row
        for row in collector.alerts.values()
        if (row.alert.rule_id, row.alert.node, row.alert.resource) == (rule.id, found.name, subject.name)
    ]
    tracked = rows[0] if rows else None
    ended = [
        row
        for row in collector.resolved.values()
        if (row.alert.rule_id, row.alert.node, row.alert.resource) == (rule.id, found.name, subject.name)
    ]
    firing = tracked is not None and tracked.alert.state is AlertState.FIRING
    finding = rule.judge(subject, at)
    if finding is Finding.CLEAR and firing:
        finding = rule.clearing(subject, at)
    condition = explain(rule.expression.tree, rule.when, subject, at, source)
    clear = None if rule.clear is None else explain(rule.clear.tree, rule.clear_when, subject, at, source)
    current = None if tracked is None else standing_shape(tracked, collector)
    return Explanation(
        at=at,
        alert=rule.alert,
        rule_id=rule.id,
        severity=rule.severity,
        file=rule.file,
        node=found.name,
        resource_kind=rule.resource,
        resource=subject.name,
        finding=finding.value,
        state=tracked.alert.state.value if tracked else AlertState.INACTIVE.value,
        when=rule.when.strip(),
        clear_when=rule.clear_when.strip(),
        for_seconds=rule.for_seconds,
        keep_firing_for_seconds=rule.keep_firing_for_seconds,
        condition=condition,
        clear_condition=clear,
        ends=_ends(rule, finding, condition, clear, current),
        current=current,
        history=[resolved_shape(row) for row in sorted(ended, key=lambda row: -row.at)],
    )


def _found(collector: Collector, alert: str, node: str) -> tuple[Node, Rule]:
    rule = collector.rules.by_name.get(alert)
    if rule is not None and rule.resource in ON_NO_NODE:
        return collector.own, rule
    found = collector.nodes.get(node)
    if found is None:
        near = nearest(node, list(collector.nodes))
        raise Unexplained(404, f"no node {node[:100]!r} is known{f'; did you mean {near}?' if near else ''}")
    in_force = collector.rules.of_node(node).by_name
    if alert in in_force:
        return found, in_force[alert]
    if rule is not None:
        raise Unexplained(404, f"{alert} is disabled on {node}")
    near = nearest(alert, list(in_force))
    raise Unexplained(404, f"there is no alert {alert[:100]!r}{f'; did you mean {near}?' if near else ''}")


def _resource(collector: Collector, node: Node, rule: Rule, asked: str) -> str:
    """The resource that is meant: the one that was named, the only one, or the only one with such an alert."""
    known = sorted(name for kind, name in node.resources if kind == rule.resource)
    alerting = [
        row.alert.resource
        for row in collector.alerts.values()
        if row.alert.rule_id == rule.id and row.alert.node == node.name
    ]
    if asked:
        ended = any(
            (row.alert.rule_id, row.alert.node, row.alert.resource) == (rule.id, node.name, asked)
            for row in collector.resolved.values()
        )
        if asked in known or asked in alerting or ended:
            return asked
        near = nearest(asked, known)
        hint = f"; did you mean {near}?" if near else f"; there are {_some(known)}"
        raise Unexplained(404, f"{node.name} has no {rule.resource} {asked[:100]!r}{hint}")
    for names in (alerting, known):
        if len(names) == 1:
            return names[0]
    if not known:
        raise Unexplained(404, f"no {rule.resource} of {node.name} is known")
    raise Unexplained(
        400, f"{rule.alert} is judged once per {rule.resource}; say which: {_some(alerting or known)}"
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return (", ".join(names[:NAMED_MAX]) or "none") + more


def _ends(
    rule: Rule, finding: Finding, condition: Part, clear: Part | None, current: AlertShape | None
) -> list[str]:
    if current is None:
        return [] if finding is not Finding.UNKNOWN else [_blind(condition)]
    steps = []
    if finding is Finding.UNKNOWN:
        steps.append(_blind(condition if condition.value is None or clear is None else clear))
    if condition.value is True:
        steps.append(f"clear when {clears_when(rule.expression.tree, condition, rule.when)}")
    if current.state == AlertState.PENDING:
        return steps
    if clear is not None and clear.value is not True:
        steps.append(f"and only when {rule.clear_when.strip()}")
    if rule.remembers and current.explains_total:
        steps.append("and when what it explains is over")
    if rule.keep_firing_for_seconds:
        steps.append(f"and observed so for {duration.spell(rule.keep_firing_for_seconds)}")
    if rule.sticky and not current.acknowledged:
        steps.append("and acknowledged: it is sticky")
    return steps


def _blind(part: Part) -> str:
    names = dict.fromkeys(leaf.text for leaf in unknown_leaves(part))
    return f"unknown until somebody can say: {', '.join(names) or part.text}"
