"""How long an alert is kept quiet, and what becomes of it when what explained it ends.

cause                            what it explained, and still fires
-------------------------------  -------------------------------------------------------------------------
stands                           kept quiet
stands, and this clears          ends, sticky or not: nobody was told of it, so nobody's word is waited for
the memory of an event, over     the memory stands on while an alert of its own severity needs it
ended, by a repair               told, or explained by another one, as soon as it was seen later than that
ended, and this was told before  stands for itself: it is nobody's part any more
"""

from collections.abc import Container, Iterable, Mapping

from msgspec import structs

from holdfast_collector.core.causality import DEPTH
from holdfast_collector.core.node import Node
from holdfast_collector.core.record import Resolved, Tracked
from holdfast_rules import Alert, AlertState, Finding, Rule, acknowledge


def to_tell(rule: Rule, tracked: Tracked) -> bool:
    """Whether it fires, nobody was told, and there is something to tell: what is clear is only waiting to leave.

    What is between fires by its rule's own word.

    A sticky alert does not leave by itself: its condition may have passed, somebody must still hear of it.
    """
    alert = tracked.alert
    return (
        alert.state is AlertState.FIRING
        and not tracked.notified
        and (alert.last_finding in {Finding.HOLDS, Finding.BETWEEN} or rule.sticky)
    )


def left_to_its_cause(tracked: Tracked, rule: Rule, finding: Finding, at: float) -> Alert:
    """The alert, which needs no word of its own any more when it clears while its cause keeps it quiet.

    A sticky alert waits for whoever was told of it. Of this one nobody was: they were told of its cause.
    """
    quiet = bool(tracked.inhibited_by) and not tracked.notified
    if rule.sticky and quiet and finding is Finding.CLEAR and not tracked.alert.acknowledged:
        return acknowledge(tracked.alert, f"it was part of {tracked.inhibited_by}", at)
    return tracked.alert


def before_its_end(tracked: Tracked, node: Node, resolved: Mapping[str, Resolved]) -> bool:
    """Whether all that is known of an explained alert is older than the first sight of its cause's end.

    The disk works again, and the probe that looks at what is on it comes round in a minute: until then nobody knows.
    """
    ended = resolved.get(tracked.explained_by)
    if ended is None or ended.alert.kind not in DEPTH or tracked.alert.last_finding is Finding.UNKNOWN:
        return False  # the silence of a node is the collector's own evidence
    end = ended.at if ended.alert.cleared_since is None else ended.alert.cleared_since
    seen_at = node.observed.get((tracked.alert.kind, tracked.alert.resource))
    return seen_at is not None and seen_at < end


def cause_over(tracked: Tracked, standing: Container[str]) -> bool:
    """Whether what explained an alert that is still kept quiet ended. `standing`: the keys of all alerts."""
    return bool(tracked.inhibited_by) and tracked.explained_by not in standing


def stands_on(cause: Tracked, effects: Iterable[Tracked]) -> bool:
    """Whether the memory of an event, whose window is over, must stand for what it keeps quiet.

    Otherwise the same fault would page again, an hour later. What asks less of people may be told then: a page that
    ends as a ticket is no second page.
    """
    return any(
        not effect.notified
        and effect.alert.severity == cause.alert.severity
        and effect.alert.state is AlertState.FIRING
        and effect.alert.last_finding is not Finding.CLEAR
        for effect in effects
    )


def on_its_own(effects: Iterable[Tracked]) -> list[Tracked]:
    """What was told before its cause, now that the cause ended."""
    return [structs.replace(effect, explained_by="") for effect in effects if effect.notified]
