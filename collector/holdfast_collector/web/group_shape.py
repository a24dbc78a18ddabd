"""The shapes of groups in the JSON API."""

from msgspec import Struct

from holdfast_collector.core.collector import Collector
from holdfast_collector.core.groups import DeclaredGroup
from holdfast_rules.verdict import Reason, Verdict


class MemberShape(Struct, frozen=True, kw_only=True):
    """One copy of a group's state."""

    node: str
    service: str
    fault_domain: str
    """Empty: none is declared, and its node is its own."""
    verdict: Verdict | None
    """Null: nothing is known of the service."""


class GroupShape(Struct, frozen=True, kw_only=True):
    """A group."""

    name: str
    verdict: Verdict | None
    """Null: not all of its members have been heard of since the collector started."""
    since: float | None
    last: Verdict | None
    reasons: tuple[Reason, ...]
    durability_class: int | None
    copies_required: int
    quorum: int
    fault_domain_label: str
    members: list[MemberShape]


def group_shapes(collector: Collector) -> list[GroupShape]:
    """All groups, in the order they were declared."""
    return [_shape(collector, one) for one in collector.rulings.groups.declared.values()]


def _shape(collector: Collector, declared: DeclaredGroup) -> GroupShape:
    group = declared.group
    ruled = collector.rulings.groups.rulings.get(group.name)
    members = []
    for node, service in group.members:
        held = collector.rulings.of(node).get(("service", service))
        members.append(
            MemberShape(
                node=node,
                service=service,
                fault_domain=declared.fault_domains.get(node, ""),
                verdict=held.ruling.verdict if held else None,
            )
        )
    return GroupShape(
        name=group.name,
        verdict=ruled.ruling.verdict if ruled else None,
        since=ruled.since if ruled else None,
        last=ruled.ruling.last if ruled else None,
        reasons=ruled.ruling.reasons if ruled else (),
        durability_class=ruled.ruling.durability_class if ruled else None,
        copies_required=group.copies_required,
        quorum=group.quorum,
        fault_domain_label=declared.fault_domain_label,
        members=members,
    )
