"""The life cycle of an alert: a finding over time, as a table.

    state      signal    next       transition
    ---------  --------  ---------  ----------
    inactive   holding   pending    pending     the condition is met, not yet for as long as the rule's `for`
    inactive   ripe      firing     fired       `for: 0s`: at once
    inactive   others    inactive   –
    pending    holding   pending    –           observed time adds up
    pending    ripe      firing     fired       met for `for`
    pending    clearing  inactive   cancelled   nobody was told, nobody needs to be
    pending    between   inactive   cancelled   `clear_when` is for what fires
    pending    gone      inactive   cancelled
    pending    blind     pending    –           neither forwards nor back
    firing     gone      inactive   resolved    clear for `keep_firing_for`, and acknowledged where it must be
    firing     others    firing     –           blind above all: no data is never health

`for` and `keep_firing_for` count **observed** time only: what lies between two findings of the same kind, one right
after the other and no further apart than the caller's limit. Time in which nobody looked, because the node was silent
or the collector was down, proves nothing.

What an acknowledgement does to a sticky alert: it lets it leave, once the condition is clear. When the condition comes
back before it has left, that is something new, and needs a new acknowledgement.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, Protocol

from msgspec import Struct, field, structs

from holdfast_rules.finding import Finding


class AlertState(StrEnum):
    """Where an alert stands. Resolved is not a state but the transition out of firing."""

    INACTIVE = "inactive"
    """There is no alert; never seen in an `Alert`."""
    PENDING = "pending"
    FIRING = "firing"


class Transition(StrEnum):
    """What one judgement did to an alert."""

    NONE = "none"
    PENDING = "pending"
    FIRED = "fired"
    RESOLVED = "resolved"
    CANCELLED = "cancelled"


class Signal(StrEnum):
    """A finding, weighed with how long it has lasted."""

    BLIND = "blind"
    """Nothing is known."""
    HOLDING = "holding"
    """The condition is met, but not yet for long enough."""
    RIPE = "ripe"
    """The condition has been met for as long as the rule wants."""
    CLEARING = "clearing"
    """The condition is not met, but not yet for long enough, or an acknowledgement is wanted."""
    BETWEEN = "between"
    """The condition is not met, and what the rule wants to see before it clears is not met either."""
    GONE = "gone"
    """Nothing keeps the alert any more."""


class Alert(Struct, frozen=True, kw_only=True):
    """A finding over time for one rule and one resource."""

    rule_id: str
    alertname: str
    severity: str
    node: str
    kind: str
    resource: str
    state: AlertState
    episode: int
    """Numbers the alerts of one collector: a new one for each stretch from pending to its end."""
    pending_since: float
    held_seconds: float = 0.0
    """Observed time for which the condition has held."""
    judged_at: float
    last_finding: Finding
    fired_at: float | None = None
    cleared_since: float | None = None
    """When a firing alert's condition was first seen not to hold; None while it holds."""
    cleared_seconds: float = 0.0
    """Observed time for which it was clear, without a break that was seen: while it holds or `clear_when` does not,
    it is 0."""
    acknowledged: str = ""
    """An operator's reason; empty: nobody has taken note."""
    acknowledged_at: float | None = None
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


class Step(NamedTuple):
    """What a judgement leaves behind. `alert` is None when inactive; what resolved is what the caller passed in."""

    alert: Alert | None
    transition: Transition


class Governs(Protocol):
    """As much of a rule as governs an alert's life."""

    @property
    def id(self) -> str: ...
    @property
    def alert(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def for_seconds(self) -> float: ...
    @property
    def keep_firing_for_seconds(self) -> float: ...
    @property
    def sticky(self) -> bool: ...


_I, _P, _F = AlertState.INACTIVE, AlertState.PENDING, AlertState.FIRING

TABLE: dict[tuple[AlertState, Signal], tuple[AlertState, Transition]] = {
    (_I, Signal.BLIND): (_I, Transition.NONE),
    (_I, Signal.HOLDING): (_P, Transition.PENDING),
    (_I, Signal.RIPE): (_F, Transition.FIRED),
    (_I, Signal.CLEARING): (_I, Transition.NONE),
    (_I, Signal.BETWEEN): (_I, Transition.NONE),
    (_I, Signal.GONE): (_I, Transition.NONE),
    (_P, Signal.BLIND): (_P, Transition.NONE),
    (_P, Signal.HOLDING): (_P, Transition.NONE),
    (_P, Signal.RIPE): (_F, Transition.FIRED),
    (_P, Signal.CLEARING): (_I, Transition.CANCELLED),
    (_P, Signal.BETWEEN): (_I, Transition.CANCELLED),
    (_P, Signal.GONE): (_I, Transition.CANCELLED),
    (_F, Signal.BLIND): (_F, Transition.NONE),
    (_F, Signal.HOLDING): (_F, Transition.NONE),
    (_F, Signal.RIPE): (_F, Transition.NONE),
    (_F, Signal.CLEARING): (_F, Transition.NONE),
    (_F, Signal.BETWEEN): (_F, Transition.NONE),
    (_F, Signal.GONE): (_I, Transition.RESOLVED),
}

_NOTHING = Step(None, Transition.NONE)


def advance(
    rule: Governs,
    alert: Alert | None,
    identity: tuple[str, str, str],
    finding: Finding,
    at: float,
    *,
    gap_seconds_max: float,
    episode_next: int,
    annotations: Mapping[str, str],
) -> Step:
    """Move an alert by one judgement of its rule.

    `identity` is (node, kind, resource). `gap_seconds_max` is how far apart two findings may be and still vouch for
    the time between them; three report intervals are usual. `episode_next` is used up exactly when there was no alert
    and now is one. `annotations` replace the old ones while the condition holds, and are ignored otherwise.
    """
    if alert is None:
        # Nearly every judgement of a healthy fleet ends here.
        if finding is not Finding.HOLDS:
            return _NOTHING
        alert = _begin(rule, identity, at, episode_next)
    judged = _judged(rule, alert, finding, at, gap_seconds_max, annotations)
    state, transition = TABLE[alert.state, _signal(rule, judged)]
    if state is AlertState.INACTIVE:
        return Step(None, transition)
    if transition is Transition.FIRED:
        return Step(structs.replace(judged, state=state, fired_at=at), transition)
    return Step(structs.replace(judged, state=state), transition)


def acknowledge(alert: Alert, reason: str, at: float) -> Alert:
    """The alert with an operator's note, which lets a sticky one leave."""
    assert reason, "an acknowledgement without a reason explains nothing later"
    return structs.replace(alert, acknowledged=reason, acknowledged_at=at)


def key(install_id: str, alert: Alert) -> str:
    """The stable name of one episode: `install/rule/kind:resource/episode`. Receivers deduplicate by it."""
    return f"{install_id}/{alert.rule_id}/{alert.kind}:{alert.resource}/{alert.episode}"


def _begin(rule: Governs, identity: tuple[str, str, str], at: float, episode: int) -> Alert:
    """An alert about to be judged for the first time."""
    node, kind, resource = identity
    labels = {
        "alertname": rule.alert,
        "severity": rule.severity,
        "node": node,
        "resource_kind": kind,
        "resource": resource,
        "rule_id": rule.id,
    }
    if kind == "service":
        labels["service"] = resource
    return Alert(
        rule_id=rule.id,
        alertname=rule.alert,
        severity=rule.severity,
        node=node,
        kind=kind,
        resource=resource,
        state=AlertState.INACTIVE,
        episode=episode,
        pending_since=at,
        judged_at=at,
        last_finding=Finding.UNKNOWN,
        labels=labels,
    )


def _judged(
    rule: Governs,
    alert: Alert,
    finding: Finding,
    at: float,
    gap_seconds_max: float,
    annotations: Mapping[str, str],
) -> Alert:
    """The alert with the finding and the observed time entered; its state is as before."""
    gap = max(0.0, at - alert.judged_at)
    # What lies between two findings of one kind is vouched for only by both of them, with nothing unknown between.
    observed = gap if alert.last_finding is finding and gap <= gap_seconds_max else 0.0
    match finding:
        case Finding.UNKNOWN:
            return structs.replace(alert, judged_at=at, last_finding=finding)
        case Finding.HOLDS:
            returned = rule.sticky and alert.cleared_since is not None
            return structs.replace(
                alert,
                judged_at=at,
                last_finding=finding,
                held_seconds=alert.held_seconds + observed,
                cleared_since=None,
                cleared_seconds=0.0,
                acknowledged="" if returned else alert.acknowledged,
                acknowledged_at=None if returned else alert.acknowledged_at,
                annotations=dict(annotations),
            )
        case Finding.BETWEEN:
            return structs.replace(
                alert,
                judged_at=at,
                last_finding=finding,
                cleared_since=at if alert.cleared_since is None else alert.cleared_since,
                cleared_seconds=0.0,
            )
        case Finding.CLEAR:
            return structs.replace(
                alert,
                judged_at=at,
                last_finding=finding,
                cleared_since=at if alert.cleared_since is None else alert.cleared_since,
                cleared_seconds=alert.cleared_seconds + observed,
            )


def _signal(rule: Governs, judged: Alert) -> Signal:
    match judged.last_finding:
        case Finding.UNKNOWN:
            return Signal.BLIND
        case Finding.HOLDS:
            return Signal.RIPE if judged.held_seconds >= rule.for_seconds else Signal.HOLDING
        case Finding.BETWEEN:
            return Signal.BETWEEN
        case Finding.CLEAR:
            kept = judged.cleared_seconds < rule.keep_firing_for_seconds
            return Signal.CLEARING if kept or (rule.sticky and not judged.acknowledged) else Signal.GONE
