"""`[[group]]`: services that hold copies of one state, as the operator declares them."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from holdfast_collector.core.groups import DeclaredGroup
from holdfast_rules import NodeLabels
from holdfast_rules.group import Group
from holdfast_rules.variants import labels_of
from holdfast_wire import topic
from holdfast_wire.configuring import Path, Reading, nearest

NAME_LENGTH_MAX = 100


class GroupConfig(Struct, frozen=True, kw_only=True):
    """One group."""

    name: str = ""
    members: tuple[str, ...] = ()
    """`NODE/SERVICE`, e.g. `db-1/postgresql@15-main.service`."""
    copies_required: int = 0
    """How many copies must stand; 0: all."""
    quorum: int = 0
    """How many it needs to keep what it acknowledges; 0: more than half of its members."""
    fault_domain_label: str = ""
    """The node label that names a node's zone, rack or host; empty: each node is its own."""


def check_groups(
    reading: Reading[Any], groups: Sequence[GroupConfig], node_labels: Sequence[NodeLabels]
) -> None:
    """Refuse what cannot be meant, with its place."""
    names: set[str] = set()
    for index, group in enumerate(groups):
        place: Path = ("group", index)
        if not (group.name.isprintable() and 0 < len(group.name) <= NAME_LENGTH_MAX):
            reading.refuse((*place, "name"), f"every group needs a name of at most {NAME_LENGTH_MAX} letters")
        elif group.name in names:
            reading.refuse((*place, "name"), f"{group.name!r} names another group already")
        names.add(group.name)
        _check_members(reading, place, group)
        _check_counts(reading, place, group)
        _check_domains(reading, place, group, node_labels)


def declared(groups: Sequence[GroupConfig], node_labels: Sequence[NodeLabels]) -> tuple[DeclaredGroup, ...]:
    """The groups of a checked configuration as the core judges them."""
    found = []
    for group in groups:
        members = tuple(_split(member) for member in group.members)
        label = group.fault_domain_label
        domains = {node: labels_of(node, node_labels)[label] for node, _ in members} if label else {}
        found.append(
            DeclaredGroup(
                group=Group(
                    name=group.name,
                    members=members,
                    copies_required=group.copies_required or len(members),
                    quorum=group.quorum or min(len(members) // 2 + 1, group.copies_required or len(members)),
                ),
                fault_domain_label=label,
                fault_domains=domains,
            )
        )
    return tuple(found)


def _split(member: str) -> tuple[str, str]:
    node, _, service = member.partition("/")
    return node, service


def _check_members(reading: Reading[Any], place: Path, group: GroupConfig) -> None:
    if not group.members and not reading.refused((*place, "members")):
        reading.refuse((*place, "members"), 'name the copies, e.g. ["db-1/postgresql.service"]')
    for member in group.members:
        node, service = _split(member)
        if not topic.node_name_valid(node) or not service:
            reading.refuse(
                (*place, "members"),
                f"{member!r} is no NODE/SERVICE, e.g. db-1/postgresql.service, as the node's page names both",
            )
    for member in sorted({one for one in group.members if group.members.count(one) > 1}):
        reading.refuse((*place, "members"), f"{member!r} stands here twice: one copy is one copy")


def _check_counts(reading: Reading[Any], place: Path, group: GroupConfig) -> None:
    copies = len(group.members)
    if not 0 <= group.copies_required <= max(copies, 1):
        reading.refuse((*place, "copies_required"), f"1 to {copies}, as many as it has members")
    elif not 0 <= group.quorum <= (group.copies_required or max(copies, 1)):
        limit = group.copies_required or copies
        reading.refuse((*place, "quorum"), f"1 to {limit}, no more than copies_required")


def _check_domains(
    reading: Reading[Any], place: Path, group: GroupConfig, node_labels: Sequence[NodeLabels]
) -> None:
    label = group.fault_domain_label
    if not label:
        return
    known = {name for row in node_labels for name in row.labels}
    if label not in known:
        reading.refuse(
            (*place, "fault_domain_label"),
            f"no [[node_labels]] gives the label {label!r}{nearest(label, known)}",
        )
        return
    nodes = dict.fromkeys(_split(member)[0] for member in group.members)
    for node in nodes:
        if not labels_of(node, node_labels).get(label):
            reading.refuse(
                (*place, "fault_domain_label"),
                f"no [[node_labels]] gives {node} the label {label!r}: its copy might share a domain unseen",
            )
