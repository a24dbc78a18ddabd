"""The verdict on services that hold copies of one state: what survives when copies fail one by one."""

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from holdfast_rules.verdict import Reason, Ruling, Value, Verdict, in_order


class Group(Struct, frozen=True, kw_only=True):
    """Services that hold copies of one state, as the operator declared them."""

    name: str
    members: tuple[tuple[str, str], ...]
    """(node, service)"""
    copies_required: int
    """How many copies must be durable for the group to be: its replication factor."""
    quorum: int
    """How many it needs to keep what it acknowledges."""


class Member(Struct, frozen=True, kw_only=True):
    """One copy of a group's state."""

    node: str
    service: str
    ruling: Ruling | None
    """None: nothing is known of the service."""
    fault_domain: str = ""
    """Zone, rack or host. Empty: not known, and then each node is taken for its own."""


def rule_group(group: Group, members: Sequence[Member]) -> Ruling:
    """The verdict on replicated state: what survives when copies fail one by one.

    Copies in one fault domain are one copy. Copies lift a medium that does not last, never what all of them would carry
    out alike: a dropped table is dropped everywhere, so the lift ends at class 3.
    """
    standing = _domains(member for member in members if _stands(member))
    lost = [member for member in members if _verdict(member) is Verdict.LOST]
    blind = [member for member in members if _verdict(member) is Verdict.UNKNOWN]
    verdict, text = _group_verdict(group, len(standing), len(lost), len(blind), len(members))
    reasons = [reason for member in members if member.ruling for reason in member.ruling.reasons[:1]]
    own = Reason(verdict=verdict, kind="group", resource=group.name, text=text)
    speaks = verdict is not Verdict.DURABLE
    return Ruling(
        kind="group",
        resource=group.name,
        verdict=verdict,
        reasons=(own, *in_order(reasons, "group")) if speaks else (),
        durability_class=3 if len(standing) >= max(2, group.copies_required) else None,
    )


def _group_verdict(group: Group, standing: int, lost: int, blind: int, members: int) -> tuple[Verdict, str]:
    have = f"{standing} of {members} copies stand in fault domains of their own"
    if standing >= group.copies_required and not lost:
        return Verdict.DURABLE, have
    if standing == 0:
        if blind:
            return Verdict.UNKNOWN, f"nothing is known of {blind} of {members} copies, and no other stands"
        if lost:
            return Verdict.LOST, f"{lost} of {members} copies lost state, and no other stands"
        return Verdict.AT_RISK, f"none of {members} copies is in order"
    if standing + blind >= group.copies_required and not lost and standing >= group.quorum:
        return Verdict.UNKNOWN, f"{have}; nothing is known of {blind}"
    short = "a quorum" if standing < group.quorum else f"the {group.copies_required} required"
    return Verdict.AT_RISK, f"{have}, fewer than {short}" if not lost else f"{have}; {lost} lost state"


def count(group: Group, members: Sequence[Member], pages: Callable[[str, str], bool]) -> dict[str, Value]:
    """The facts of a group, as `holdfast_wire` declares them. `pages`: whether a rule (node, id) calls people at night.

    A copy that is at risk by a ticket, a missing line in a unit, is still a copy that answers: only where a page fires is
    it counted as gone when the quorum is asked for.
    """
    return {
        "verdict": rule_group(group, members).verdict.value,
        "copies": len(members),
        "copies_required": group.copies_required,
        "quorum": group.quorum,
        "copies_standing": len(_domains(member for member in members if _stands(member))),
        "copies_left": len(_domains(member for member in members if _left(member, pages))),
        "copies_unknown": sum(_verdict(member) is Verdict.UNKNOWN for member in members),
        "copies_lost": sum(_verdict(member) is Verdict.LOST for member in members),
        "fault_domains": len(_domains(members)),
        "copies_troubled": ", ".join(
            f"{member.node}/{member.service}" for member in members if not _stands(member)
        ),
    }


def _verdict(member: Member) -> Verdict:
    return Verdict.UNKNOWN if member.ruling is None else member.ruling.verdict


def _stands(member: Member) -> bool:
    # A copy on a host's own disk counts: that its host may vanish is what the other copies are for.
    return _verdict(member) in {Verdict.DURABLE, Verdict.NOT_DURABLE}


def _left(member: Member, pages: Callable[[str, str], bool]) -> bool:
    if member.ruling is None or _verdict(member) is not Verdict.AT_RISK:
        return _stands(member)
    return not any(reason.rule_id and pages(member.node, reason.rule_id) for reason in member.ruling.reasons)


def _domains(members: Iterable[Member]) -> set[str]:
    return {member.fault_domain or f"node {member.node}" for member in members}
