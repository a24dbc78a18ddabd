"""How late each fact and each event is at worst, drawn from what the probes declare; `doctor` and the README show it.

Whatever a poll states is seen when it looks next. What a watch hears of is seen at once, with that look behind it for
when nothing told.
"""

from collections.abc import Iterable

from msgspec import Struct

from holdfast_agent.probe import Poll, Watch
from holdfast_agent.registry import ProbeKind

EVENT = "event"
"""Stands where a fact has its kind of resource."""

Subject = tuple[str, str]
"""(kind of resource, fact), or (`event`, its type)."""


class Detection(Struct, frozen=True, kw_only=True):
    """One way in which some of a probe's subjects are seen."""

    subjects: tuple[Subject, ...]
    """Empty: which resources there are, and none of their facts."""
    told_by: str = ""
    """What tells at once; empty where it takes a look."""
    within_seconds: float = 0.0
    """How long it takes at most."""
    because: str = ""
    """Why longer than until the next look."""


def detections(kind: ProbeKind, period: float) -> list[Detection]:
    """All ways in which a probe sees: its looks, every `period` seconds, and whatever tells it."""
    told = [each for class_ in kind.classes if issubclass(class_, Watch) for each in class_.told_by]
    heard = {name for each in told for name in each.events}
    events = [name for name in kind.events if name not in heard]
    lags = [each for class_ in kind.classes if issubclass(class_, Poll) for each in class_.lags]
    late = {pair for each in lags for pair in each.facts}
    stated = (pair for pair in kind.emits if pair not in late)
    looked = (*stated, *((EVENT, name) for name in events)) if kind.looks else ()
    return [
        *([Detection(subjects=looked, within_seconds=period)] if looked else []),
        *(
            Detection(subjects=each.facts, within_seconds=period * each.looks + each.seconds, because=each.by)
            for each in lags
        ),
        *(
            Detection(subjects=(*each.facts, *((EVENT, name) for name in each.events)), told_by=each.by)
            for each in told
        ),
    ]


def sentences(found: list[Detection], every: Iterable[Subject]) -> list[str]:
    """A line for each way, with the fewest words that name its subjects among `every` one of the probe's."""
    whole = tuple(every)
    return [
        f"at once by {each.told_by}: {_named(each.subjects, whole)}"
        if each.told_by
        else f"after {each.within_seconds:g} s at most by looking{each.because and f' ({each.because})'}: "
        f"{_named(each.subjects, whole)}"
        for each in found
    ]


def subjects(kind: ProbeKind) -> tuple[Subject, ...]:
    """Everything a probe may say."""
    return (*kind.emits, *((EVENT, name) for name in kind.events))


def _named(chosen: tuple[Subject, ...], whole: tuple[Subject, ...]) -> str:
    """`every fact`, `every fact but …`, `every fact of the volume`, or their names; events besides, by name."""
    facts = [each for each in whole if each[0] != EVENT]
    has = [each for each in chosen if each[0] != EVENT]
    rest = [each for each in facts if each not in has]
    kinds = sorted({kind for kind, _ in has})
    said = []
    if has and not rest:
        said.append("every fact")
    elif has and len(kinds) == 1 and all(kind != kinds[0] for kind, _ in rest):
        said.append(f"every fact of a {kinds[0].replace('_', ' ')}")
    elif has and len(rest) < len(has):
        said.append(f"every fact but {_names(rest)}")
    elif has:
        said.append(_names(has))
    events = [name for kind, name in chosen if kind == EVENT]
    if len(events) > 1 and len(events) == sum(kind == EVENT for kind, _ in whole):
        said.append("every event")
    elif events:
        said.append(f"event{'s' if len(events) > 1 else ''} {', '.join(events)}")
    return ", ".join(said) or "what comes and goes"


def _names(chosen: list[Subject]) -> str:
    return ", ".join(dict.fromkeys(name for _, name in chosen))
