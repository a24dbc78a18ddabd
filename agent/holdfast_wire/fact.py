"""The vocabulary: every kind of resource, every fact and every event, with type, unit and help.

One declaration feeds the codec's checks, the rule compiler's, the Prometheus page and the documentation. A probe may
state only what is declared here, and a rule may ask only for what is declared here. The words themselves are in
`vocabulary/`, one file per kind of resource.
"""

from msgspec import structs

from holdfast_wire.declaration import INT, STR, EventType, Fact, FactType, Origin, ResourceKind
from holdfast_wire.vocabulary import (
    collector,
    device,
    group,
    node,
    probe,
    service,
    state_path,
    volume,
    witness,
)

__all__ = [
    "EVENT_TYPES",
    "FACTS",
    "FACTS_OF",
    "EventType",
    "Fact",
    "FactType",
    "Origin",
    "ResourceKind",
]

_KINDS = (node, device, volume, witness, service, state_path, probe, collector, group)

EVENT_TYPES: dict[str, EventType] = {type_.name: type_ for kind in _KINDS for type_ in kind.EVENTS}


def _event_facts() -> list[Fact]:
    declared = []
    for type_ in EVENT_TYPES.values():
        total = f"{type_.name}_total"
        declared.append(
            Fact(
                resource=type_.resource,
                name=total,
                type=INT,
                help=f"{type_.help} Counted by the collector since it first knew the resource.",
                metric=f"holdfast_{type_.resource.value}_{total}",
                counter=True,
                origin=Origin.COLLECTOR,
            )
        )
        declared.append(
            Fact(
                resource=type_.resource,
                name=f"{type_.name}_last",
                type=STR,
                help=f"The newest {type_.name} event in its own words.",
                origin=Origin.COLLECTOR,
            )
        )
    return declared


_DECLARED: list[Fact] = [*(fact for kind in _KINDS for fact in kind.FACTS), *_event_facts()]

_VALUES: dict[tuple[str, str], tuple[str, ...]] = {
    ("node", "session"): ("connected", "lost", "stopped"),
    **{
        (kind, "verdict"): ("durable", "unknown", "at_risk", "not_durable", "lost")
        for kind in ("node", "volume", "service", "group")
    },
    ("device", "medium"): device.MEDIA,
    ("volume", "witness_loss"): (
        "",
        "lost_tail",
        "rolled_back",
        "restored",
        "memory_rollback",
        "torn",
        "reformatted",
        "metadata",
    ),
    ("volume", "witness_missing_reason"): ("", "reformatted", "deleted", "mount_missing", "wrong_disk"),
    ("state_path", "role"): (
        "data",
        "wal",
        "binlog",
        "tablespace",
        "keys",
        "backup",
        "config",
        "log",
        "temp",
        "cache",
        "runtime",
    ),
    ("state_path", "confidence"): ("high", "medium", "low"),
    ("state_path", "container_volume"): (
        "",
        "named",
        "anonymous",
        "bind",
        "empty_dir",
        "persistent",
        "projected",
        "host_path",
    ),
    ("probe", "status"): ("ok", "no_data", "unsupported", "denied", "timeout", "error"),
}

FACTS: tuple[Fact, ...] = tuple(
    structs.replace(fact, values=_VALUES.get((fact.resource.value, fact.name), ())) for fact in _DECLARED
)
"""Every declared fact, in the order of documentation."""

FACTS_OF: dict[str, dict[str, Fact]] = {
    kind.value: {fact.name: fact for fact in FACTS if fact.resource is kind} for kind in ResourceKind
}
"""Kind of resource → name of fact → declaration."""

# Prometheus wants counters to end in _total, and the fixed names of the product keep their unit last.
assert all(fact.metric.endswith("_total") for fact in FACTS if fact.counter), (
    "a counter's name ends in _total"
)
assert len({(fact.resource, fact.name) for fact in FACTS}) == len(FACTS), "a fact is declared twice"
