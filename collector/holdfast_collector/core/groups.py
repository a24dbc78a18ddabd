"""Verdicts on groups: services of several nodes that hold copies of one state, as the operator declared them.

A group is judged when the verdicts of a member's node were. After a start that waits until all members were heard of, or
the watch is over: of three copies the first one heard is no quorum, and no news.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from msgspec import Struct, field

from holdfast_collector.core.effect import Commit, Effect
from holdfast_collector.core.recollection import recalled, unseen
from holdfast_collector.core.record import HeldVerdict
from holdfast_collector.core.ruled import Ruled, anew, kept, turned
from holdfast_rules.group import Group, Member, count, rule_group
from holdfast_rules.verdict import Ruling
from holdfast_wire.message import Value

NO_NODE = ""
"""In the place of the node: a group lies on none."""

RulingOf = Callable[[str, str], Ruling | None]
"""(node, service) → the verdict on it."""


class DeclaredGroup(Struct, frozen=True, kw_only=True):
    """A group as configured."""

    group: Group
    fault_domain_label: str = ""
    fault_domains: dict[str, str] = field(default_factory=dict)
    """Node → the fault domain it is in. Without one each node is its own."""


class Groups:
    """All groups of one collector."""

    def __init__(self) -> None:
        self.rulings: Mapping[str, Ruled] = {}
        """By name, in the order they were declared. Never changed in place."""
        self.declared: Mapping[str, DeclaredGroup] = {}
        self.settled = False
        """Whether it was ever said which groups there are."""
        self._members: dict[str, list[Member]] = {}
        """Of those whose copies were all heard of, or waited for long enough, as last judged."""
        self._held: dict[str, HeldVerdict] = {}
        """Verdicts of before the start that await their evidence."""
        self._replaced = False
        self._by_node: dict[str, list[str]] = {}
        self._waiting: set[str] = set()
        """Declared, and not judged since the start."""

    def restore(self, held: Iterable[HeldVerdict]) -> None:
        """Take in what stood when the collector was last on."""
        self._held = {one.resource: one for one in held if (one.node, one.kind) == (NO_NODE, "group")}

    def replace(self, declared: Sequence[DeclaredGroup]) -> None:
        """These are declared from now on."""
        before, self.declared = self.declared, {one.group.name: one for one in declared}
        self._members = {
            name: members
            for name, members in self._members.items()
            if name in self.declared and self.declared[name] == before[name]
        }
        self._waiting = self.declared.keys() - self._members.keys()
        self._by_node = {}
        for name, one in self.declared.items():
            for node in dict.fromkeys(node for node, _ in one.group.members):
                self._by_node.setdefault(node, []).append(name)
        self._replaced = self.settled = True

    def facts(self, pages: Callable[[str, str], bool]) -> dict[str, dict[str, Value]]:
        """What rules ask of each group of which enough is known, by name."""
        return {
            name: count(self.declared[name].group, members, pages) for name, members in self._members.items()
        }

    def renew(
        self,
        judged: Collection[str],
        awaited: Collection[str],
        ruling_of: RulingOf,
        at: float,
        *,
        watched: bool,
        commit: Commit,
        effects: list[Effect],
    ) -> None:
        """Judge anew. `judged`: nodes whose verdicts just were; `awaited`: those that have not told all yet."""
        waiting = self._waiting if watched else ()
        if not (judged or waiting or self._replaced):
            return
        due = set(self.declared) if self._replaced else set(waiting)
        due.update(name for node in judged for name in self._by_node.get(node, ()))
        if not (due or self._replaced):
            return
        before, after = dict(self.rulings), {}
        for name, one in self.declared.items():
            if name not in due:
                after.update({name: before[name]} if name in before else {})
                continue
            members = [
                Member(
                    node=node,
                    service=service,
                    ruling=ruling_of(node, service),
                    fault_domain=one.fault_domains.get(node, ""),
                )
                for node, service in one.group.members
            ]
            heard = all(member.ruling is not None and member.node not in awaited for member in members)
            held = self._held.get(name)
            if watched or heard:
                self._waiting.discard(name)
                self._members[name] = members
                if held is not None:
                    del self._held[name]
                    before[name] = Ruled(ruling=recalled(held), since=held.since)
                after[name] = anew(before.get(name), rule_group(one.group, members), at)
            elif held is not None:
                after[name] = before[name] = Ruled(ruling=unseen(held), since=held.since)
            elif name in before:
                after[name] = before[name]
        if self._replaced:
            for name in self._held.keys() - self.declared.keys():
                held = self._held.pop(name)
                before[name] = Ruled(ruling=recalled(held), since=held.since)
        self._replaced = False
        self.rulings = after
        for name, turn in turned(NO_NODE, before, after, at):
            commit.turns.append(turn)
            commit.verdicts[(NO_NODE, "group", name)] = kept(NO_NODE, after.get(name))
            effects.append(turn)
