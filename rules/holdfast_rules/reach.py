"""Which answers a condition can give when some facts are never sent: the lint against a fleet.

Three-valued, like the rules themselves: `fstype == "zfs" or scrub_age > 5` goes on working without `scrub_age`,
`fstype == "zfs" and scrub_age > 5` never holds. Like `dead`, it calls nothing impossible that is possible.
"""

from collections.abc import Callable

from holdfast_rules.dead import constant
from holdfast_rules.tree import (
    Compared,
    Constant,
    Each,
    Gathered,
    Joined,
    Named,
    Negated,
    Node,
    Remembered,
    Within,
    children,
)

Answer = bool | None
Sent = Callable[[str, str], bool]
"""(kind, fact) → whether anybody sends it."""

_ANY: frozenset[Answer] = frozenset({True, False, None})
_UNKNOWN: frozenset[Answer] = frozenset({None})


def can_hold(root: Node, sent: Sent) -> bool:
    """Whether a condition can be true when only these facts are ever known."""
    return True in _answers(root, sent)


def facts_of(root: Node) -> list[tuple[str, str]]:
    """(kind, fact) of all that a condition reads, those of many resources included, in order of appearance."""
    found: dict[tuple[str, str], None] = {}
    waiting = [root]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, Named | Each | Remembered):
            found[(node.fact.resource.value, node.fact.name)] = None
        waiting[:0] = children(node)
    return list(found)


def _answers(node: Node, sent: Sent) -> frozenset[Answer]:
    match node:
        case Constant(value=value):
            return frozenset({bool(value)})
        case Negated(item=item):
            return frozenset(None if answer is None else not answer for answer in _answers(item, sent))
        case Joined(word=word, items=items):
            return _joined([_answers(item, sent) for item in items], decides=word == "or")
        case Gathered(function="any", item=item, chosen=chosen):
            holds = True in _answers(item, sent) and (chosen is None or True in _answers(chosen, sent))
            return _ANY if holds else frozenset({False, None})
        case Gathered():
            return _ANY
        case _:
            return _ANY if _known(node, sent) else _UNKNOWN


def _joined(parts: list[frozenset[Answer]], *, decides: bool) -> frozenset[Answer]:
    """`or` is decided by one True, `and` by one False; they are the other only when all are."""
    found: set[Answer] = set()
    if any(decides in part for part in parts):
        found.add(decides)
    if all((not decides) in part for part in parts):
        found.add(not decides)
    if any(None in part for part in parts):
        found.add(None)
    return frozenset(found)


def _known(node: Node, sent: Sent) -> bool:
    """Whether a part that touches unknown is unknown may be known at all."""
    if isinstance(node, Named | Each | Remembered):
        return sent(node.fact.resource.value, node.fact.name)
    if isinstance(node, Gathered):
        return True  # of no resources at all there are none, which is known
    if isinstance(node, Compared | Within) and constant(node) is not None:
        return True
    return all(_known(child, sent) for child in children(node))
