"""Rules held against a fleet: which of them nothing there can make fire, and why. Answers of `/api/v1/facts` in, words out."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from holdfast_rules import Rule, RuleSet
from holdfast_rules.reach import can_hold, facts_of
from holdfast_wire.declaration import ON_NO_NODE

Level = Literal["dead", "partly", "idle"]
REASONS_SHOWN = 3
ALERTS_SHOWN = 8


class Remark(Struct, frozen=True, kw_only=True):
    """One thing that a rule's author should know."""

    level: Level
    """`dead`: it does nothing here. `partly`: it judges less than it seems to. `idle`: there is nothing to judge yet."""
    place: str
    """The pack, with the line where it is known."""
    alert: str
    """Empty for a `where`, and for all rules of a kind."""
    message: str
    cure: str = ""

    @property
    def lines(self) -> list[str]:
        """What, and below it what would help."""
        who = f"{self.alert}: " if self.alert else ""
        cure = [f"    {self.cure}"] if self.cure else []
        return [f"{self.place}: {self.level}: {who}{self.message}", *cure]


def remarks(rules: RuleSet, own: Sequence[Rule], files: Sequence[str], answer: Any) -> list[Remark]:
    """What is to be said of the rules `own`, and of the `where` in these files."""
    kinds = answer["kinds"]
    found: list[Remark] = []
    idle: dict[str, list[Rule]] = {}
    for rule in own:
        if rule.resource in ON_NO_NODE:
            continue
        if rule.resource not in kinds:
            idle.setdefault(rule.resource, []).append(rule)
        else:
            found += _of_rule(rule, kinds, answer["unknown"])
    found += [_idle(kind, waiting) for kind, waiting in sorted(idle.items())]
    return [*found, *_of_wheres(rules, files, answer)]


def _of_rule(rule: Rule, kinds: Mapping[str, Any], unknown: Sequence[Any]) -> Iterator[Remark]:
    def sent(kind: str, fact: str) -> bool:
        return kind in ON_NO_NODE or fact in kinds.get(kind, {"facts": {}})["facts"]

    tree = rule.expression.tree
    absent = [(kind, fact) for kind, fact in facts_of(tree) if not sent(kind, fact)]
    if absent:
        names = ", ".join(f"{kind}.{fact}" for kind, fact in absent)
        dead = not can_hold(tree, sent)
        yield Remark(
            level="dead" if dead else "partly",
            place=rule.file,
            alert=rule.alert,
            message=f"{'cannot fire: ' if dead else ''}no live node sends {names}",
            cure=_cure(absent, unknown, kinds),
        )
    for kind, fact in facts_of(tree):
        if (kind, fact) in absent or kind not in kinds or kind != rule.resource:
            continue
        row, all_ = kinds[kind]["facts"][fact], kinds[kind]
        if row["nodes"] < all_["nodes"]:
            yield Remark(
                level="partly",
                place=rule.file,
                alert=rule.alert,
                message=(
                    f"{kind}.{fact} is sent by {row['nodes']} of {all_['nodes']} nodes that have a {kind}"
                    f" ({row['resources']} of {all_['resources']} resources); elsewhere it is unknown"
                ),
                cure=_cure([(kind, fact)], unknown, {}),
            )


def _cure(absent: Sequence[tuple[str, str]], unknown: Sequence[Any], kinds: Mapping[str, Any]) -> str:
    """Why that is so, as the agents say."""
    names = {fact for _, fact in absent}
    told = [row for row in unknown if row["name"] and row["name"] in names]
    denied = [row for row in unknown if not row["name"] and row["status"] in {"denied", "error", "timeout"}]
    rows = (told or denied)[:REASONS_SHOWN]
    if rows:
        return "; ".join(
            f"probe {row['probe']} {'' if row['status'] == 'ok' else row['status'] + ' '}on"
            f" {row['nodes']} {'node' if row['nodes'] == 1 else 'nodes'} (e.g. {row['example']}): {row['reason']}"
            for row in rows
        )
    missing = sorted({kind for kind, _ in absent if kind not in kinds}) if kinds else []
    if missing:
        return f"no live node has a {' or a '.join(missing)}"
    return "no agent says why: it may be too old for this fact, or its machines may have nothing of the sort"


def _idle(kind: str, rules: Sequence[Rule]) -> Remark:
    alerts = [rule.alert for rule in rules]
    more = f" and {len(alerts) - ALERTS_SHOWN} more" if len(alerts) > ALERTS_SHOWN else ""
    return Remark(
        level="idle",
        place=", ".join(dict.fromkeys(rule.file for rule in rules)),
        alert="",
        message=f"no live node has a {kind}: nothing to judge for {', '.join(alerts[:ALERTS_SHOWN])}{more}",
    )


def _of_wheres(rules: RuleSet, files: Sequence[str], answer: Any) -> Iterator[Remark]:
    for selection in rules.variants.selections if rules.variants is not None else ():
        if selection.file not in files:
            continue
        if not any(selection.matches(name, answer["labels"].get(name, {})) for name in answer["names"]):
            asked = [f"nodes {', '.join(selection.nodes)}"] if selection.nodes else []
            asked += [f"{label} = {' or '.join(values)}" for label, values in selection.labels.items()]
            yield Remark(
                level="dead",
                place=f"{selection.file}:{selection.line}",
                alert="",
                message=f"this `where` means no node that the collector knows ({'; '.join(asked)})",
                cure="compare with `holdfast status` and with [[node_labels]] of the collector's configuration",
            )
