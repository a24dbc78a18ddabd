"""What the functions over many resources compute, and when they admit that they do not know.

A resource whose facts are unknown, or one that may exist unseen, could be either. So `any` says yes as soon as one is
known to be so, and no only when all resources are known not to be; a number lies between two bounds, and a comparison
with it is answered as soon as both bounds agree: three that are known to be full are three, whatever else there may be.
"""

from collections.abc import Callable, Iterator
from math import inf

from holdfast_rules.history import Lookup
from holdfast_rules.subject import Subject
from holdfast_wire.message import Value

Body = Callable[[Lookup, Subject], Value | None]
"""What is asked of each resource: (its `facts.get`, itself) → the answer."""
Range = tuple[float, float]
"""The least and the greatest that a number may be."""

NOWHERE: Range = (-inf, inf)
"""Nothing is known of it."""


def _each(
    subject: Subject, kind: str, resting: bool, body: Body, chosen: Body | None
) -> tuple[Iterator[tuple[Value | None, Value | None]], bool]:
    """(answer, whether it is one of those asked about) of each resource, and whether these are all."""
    subjects, complete = subject.others(kind, resting)
    return (
        (body(other.facts.get, other), True if chosen is None else chosen(other.facts.get, other))
        for other in subjects
    ), complete


def any_of(subject: Subject, kind: str, resting: bool, body: Body, chosen: Body | None = None) -> bool | None:
    """Whether it is so for one of them. Of none, no."""
    found, complete = _each(subject, kind, resting, body, chosen)
    answer: bool | None = False if complete else None
    for so, asked in found:
        if so is True and asked is True:
            return True
        if so is not False and asked is not False:
            answer = None
    return answer


def all_of(subject: Subject, kind: str, resting: bool, body: Body, chosen: Body | None = None) -> bool | None:
    """Whether it is so for each of them. Of none, yes."""
    found, complete = _each(subject, kind, resting, body, chosen)
    answer: bool | None = True if complete else None
    for so, asked in found:
        if so is False and asked is True:
            return False
        if so is not True and asked is not False:
            answer = None
    return answer


def count_of(subject: Subject, kind: str, resting: bool, body: Body, chosen: Body | None = None) -> Range:
    """For how many of them it is so."""
    found, complete = _each(subject, kind, resting, body, chosen)
    least, greatest = 0, 0
    for so, asked in found:
        least += so is True and asked is True
        greatest += so is not False and asked is not False
    return least, greatest if complete else inf


def least_of(subject: Subject, kind: str, resting: bool, body: Body, chosen: Body | None = None) -> Range:
    """The least of a number over them; of none, nobody knows."""
    found, complete = _each(subject, kind, resting, body, chosen)
    low, high = inf if complete else -inf, inf
    for value, asked in found:
        if asked is False:
            continue
        number = None if value is None or isinstance(value, str) else float(value)
        low = min(low, -inf if number is None else number)
        if number is not None and asked:
            high = min(high, number)
    return NOWHERE if low == inf else (low, high)


def greatest_of(subject: Subject, kind: str, resting: bool, body: Body, chosen: Body | None = None) -> Range:
    """The greatest of a number over them; of none, nobody knows."""
    found, complete = _each(subject, kind, resting, body, chosen)
    low, high = -inf, -inf if complete else inf
    for value, asked in found:
        if asked is False:
            continue
        number = None if value is None or isinstance(value, str) else float(value)
        high = max(high, inf if number is None else number)
        if number is not None and asked:
            low = max(low, number)
    return NOWHERE if high == -inf else (low, high)


def exact(bounds: Range) -> float | None:
    """The number itself, where the bounds leave no choice."""
    return bounds[0] if bounds[0] == bounds[1] else None


def above(bounds: Range, limit: float | None) -> bool | None:
    """Whether the number is greater than the limit."""
    if limit is None:
        return None
    return True if bounds[0] > limit else False if bounds[1] <= limit else None


def from_(bounds: Range, limit: float | None) -> bool | None:
    """Whether the number is the limit or greater."""
    if limit is None:
        return None
    return True if bounds[0] >= limit else False if bounds[1] < limit else None


def below(bounds: Range, limit: float | None) -> bool | None:
    """Whether the number is less than the limit."""
    answer = from_(bounds, limit)
    return None if answer is None else not answer


def up_to(bounds: Range, limit: float | None) -> bool | None:
    """Whether the number is the limit or less."""
    answer = above(bounds, limit)
    return None if answer is None else not answer
