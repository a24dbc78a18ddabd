"""Events onto the books: the row, the count on its resource, and the samples of it that rules look back on."""

from collections.abc import Mapping

from holdfast_collector.core.effect import Commit
from holdfast_collector.core.fold import Folded, fold_event
from holdfast_collector.core.node import Node, ResourceKey
from holdfast_collector.core.record import EventRow, State
from holdfast_rules import RuleSet, Series
from holdfast_wire import Event
from holdfast_wire.message import Value


def count_event(node: Node, event: Event, at: float, rules: RuleSet, commit: Commit) -> Folded:
    """Take an agent's event."""
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
    return _count(node, row, rules, commit)


def state_event(
    node: Node,
    type_: str,
    key: ResourceKey,
    summary: str,
    fields: Mapping[str, Value],
    at: float,
    rules: RuleSet,
    commit: Commit,
) -> Folded:
    """Take an event that the collector itself concluded. Its position is 0.0, which no agent's message has."""
    row = EventRow(
        node=node.name,
        install_id=node.record.install_id,
        epoch=0,
        seq=0,
        received_at=at,
        at=at,
        type=type_,
        resource_kind=key[0],
        resource=key[1],
        summary=summary,
        fields=dict(fields),
    )
    return _count(node, row, rules, commit)


def _count(node: Node, row: EventRow, rules: RuleSet, commit: Commit) -> Folded:
    commit.events.append(row)
    folded = fold_event(node, row)
    for key in folded.touched:
        count = node.counts[key][row.type]
        commit.counts[(node.name, *key, row.type)] = count
        sample_count(node, key, row.type, count.total, row.received_at, rules)
    return folded


def sample_count(node: Node, key: ResourceKey, type_: str, total: int, at: float, rules: RuleSet) -> None:
    """Remember a count's growth, with the value before the first event: `delta` must see the very first one."""
    seconds = rules.windows(key[0]).get(f"{type_}_total")
    if seconds is None:
        return
    history = (*key, f"{type_}_total")
    series = node.histories.get(history)
    if series is None:
        series = node.histories[history] = Series(seconds)
        series.append(at, float(total - 1))
    series.widen(seconds)
    series.append(at, float(total))


def restore_histories(nodes: Mapping[str, Node], state: State, rules: RuleSet) -> None:
    """Counts grew when their events came; the events of the rules' windows are on record."""
    later: dict[tuple[str, str, str, str], int] = {}
    for event in state.recent:
        place = (event.node, event.resource_kind, event.resource, event.type)
        later[place] = later.get(place, 0) + 1
    for event in state.recent:
        place = (event.node, event.resource_kind, event.resource, event.type)
        node = nodes.get(event.node)
        count = node.counts.get(place[1:3], {}).get(event.type) if node else None
        if node is not None and count is not None:
            later[place] -= 1
            sample_count(node, place[1:3], event.type, count.total - later[place], event.received_at, rules)
