"""What we say of a resource, and how that adds up from what it rests on (durability catalogue, F1 to F3).

    device ─▶ volume ─▶ state_path ─▶ service ─▶ node
                                         └─────▶ group

A verdict has reasons; the worst of them decides, and the one that lies deepest is the cause. Reasons come from three
places: alerts that fire on the resource, what its facts say by construction (a class below the one its role requires),
and the verdicts of what it rests on. Evidence that is needed and missing is a reason, too: for `unknown`, never for
`durable`. A good fact outvotes nothing, and what is unknown clears nothing that is worse.

Nothing here knows whether facts are fresh: stale ones are not handed in, and alerts do not resolve without evidence.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Literal

from msgspec import Struct, structs

Value = bool | int | float | str


class Verdict(StrEnum):
    """What we say of a resource, best first."""

    DURABLE = "durable"
    """Everything that must be known is known and fresh, the class suffices, and no rule objects."""
    UNKNOWN = "unknown"
    """Evidence is missing, stale or refused."""
    AT_RISK = "at_risk"
    """Durable by construction, and something fails or runs out now."""
    NOT_DURABLE = "not_durable"
    """By construction it will not survive what it is required to survive."""
    LOST = "lost"
    """State that was promised is gone, or damaged."""


_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}

Flush = Literal["honest", "unknown", "lying"]
Integrity = Literal["checked", "unchecked", "corrupt"]

CHECK_HOLDS_SECONDS = 35 * 86400.0
"""How long a scrub speaks for what it read (catalogue A-34 and A-35: monthly, and some days' grace)."""
_CHECKS = {"scrub_age_seconds": "scrub_uncorrectable_errors", "pool_scrub_age_seconds": "pool_data_errors"}
"""When the newest complete check of a filesystem was → what it found and could not mend, as facts."""
CHECK_AGES = tuple(_CHECKS)

ROLES_THAT_MAY_VANISH = frozenset({"temp", "cache", "runtime"})
"""Roles of a state path that require nothing: the right medium for them is the fastest."""


class Reason(Struct, frozen=True, kw_only=True):
    """Why a verdict is what it is: one piece of evidence, where it lies."""

    verdict: Verdict
    kind: str
    resource: str
    """The resource that the evidence is about: the deepest one, not the one that is judged."""
    rule_id: str = ""
    """The rule whose alert says so; empty: it follows from the facts themselves."""
    alert: str = ""
    text: str
    """One sentence for a person."""
    since: float | None = None
    """Collector's clock, Unix seconds; None where the facts alone say so."""


class Ruling(Struct, frozen=True, kw_only=True):
    """The verdict on one resource, with what led to it."""

    kind: str
    resource: str
    verdict: Verdict
    reasons: tuple[Reason, ...] = ()
    """Worst first; of equally bad ones, the deepest first. Empty: nothing speaks against it."""
    durability_class: int | None = None
    """0 to 4; None: not known, or not a thing that has one."""
    required_class: int | None = None
    flush: Flush = "unknown"
    integrity: Integrity = "unchecked"
    last: Verdict | None = None
    """What it was when evidence was last complete, where it is unknown now and was worse."""

    @property
    def cause(self) -> Reason | None:
        """What to mend first."""
        return self.reasons[0] if self.reasons else None


class Firing(Struct, frozen=True, kw_only=True):
    """An alert that fires on a resource, as far as verdicts care."""

    rule_id: str
    alert: str
    effect: Verdict
    """What the rule does to its resource's verdict while it holds."""
    text: str
    since: float | None = None


class Standing(Struct, frozen=True, kw_only=True):
    """One resource with all that is known of it now."""

    kind: str
    name: str
    facts: Mapping[str, Value]
    """Fresh facts only."""
    firing: Sequence[Firing] = ()
    required_class: int | None = None
    """Of a volume: the most that the state on it requires. None: as far as is known no state lies there."""


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of them; `durable` when there are none."""
    return max(verdicts, key=_RANK.__getitem__, default=Verdict.DURABLE)


def rule(standing: Standing, below: Sequence[Ruling] = (), last: Ruling | None = None) -> Ruling | None:
    """The verdict on one resource. `below`: the rulings on what it rests on, `last`: the one before.

    None where there is nothing to judge: a service without state, a node without stateful services, memory that nobody
    keeps state in.
    """
    if standing.kind not in _OWN_REASONS or not _judged(standing, below):
        return None
    reasons = [
        *(_fired(standing, firing) for firing in standing.firing),
        *_OWN_REASONS[standing.kind](standing, below),
        *(reason for ruling in below for reason in _inherited(standing, ruling)),
    ]
    return _ruling(standing, below, in_order(reasons, standing.kind), last)


# ---- what is judged, and by what of its own ----------------------------------------------------------------------


def _judged(standing: Standing, below: Sequence[Ruling]) -> bool:
    match standing.kind:
        case "service" | "node":
            return (
                bool(below)
                or standing.facts.get("stateful") is True
                or any(firing.effect is Verdict.LOST for firing in standing.firing)
            )
        case "state_path":
            facts = standing.facts
            # A file that is merely held open is a hint and no claim that state is kept there.
            return facts.get("role") not in ROLES_THAT_MAY_VANISH and facts.get("confidence") != "low"
        case "volume":
            # Memory keeps nothing: `durable` would be a lie, `not_durable` a complaint about every /tmp.
            return bool(
                standing.facts.get("durability_class") != 0 or standing.required_class or standing.firing
            )
        case _:
            return True


def _fired(standing: Standing, firing: Firing) -> Reason:
    return Reason(
        verdict=firing.effect,
        kind=standing.kind,
        resource=standing.name,
        rule_id=firing.rule_id,
        alert=firing.alert,
        text=firing.text,
        since=firing.since,
    )


def _said(standing: Standing, verdict: Verdict, text: str) -> Reason:
    return Reason(verdict=verdict, kind=standing.kind, resource=standing.name, text=text)


def _of_device(standing: Standing, below: Sequence[Ruling]) -> list[Reason]:
    if not standing.facts and not standing.firing:
        return [_said(standing, Verdict.UNKNOWN, "nothing is heard of it")]
    return []


def _of_volume(standing: Standing, below: Sequence[Ruling]) -> list[Reason]:
    facts = standing.facts
    reasons = []
    if "durability_class" not in facts:
        why = facts.get("durability_class_reason") or "the agent does not say what it is on"
        text = f"its durability class is not known: {why}; who knows declares it ([probes.devices] classes)"
        reasons.append(_said(standing, Verdict.UNKNOWN, text))
    if "writable" not in facts:
        reasons.append(_said(standing, Verdict.UNKNOWN, "whether it takes writes is not known"))
    own, required = facts.get("durability_class"), standing.required_class
    if isinstance(own, int) and required is not None and own < required:
        text = f"it has class D{own}, and state on it needs D{required}"
        reasons.append(_said(standing, Verdict.NOT_DURABLE, text))
    return reasons


def _of_state_path(standing: Standing, below: Sequence[Ruling]) -> list[Reason]:
    required = standing.facts.get("required_class")
    volumes = [ruling for ruling in below if ruling.kind == "volume"]
    if not volumes and not (required == 0 and "mountpoint" in standing.facts):
        return [_said(standing, Verdict.UNKNOWN, "the volume it lies on is not known")]
    if not isinstance(required, int):
        return [
            _said(standing, Verdict.UNKNOWN, "what it must survive is not known: its role is not declared")
        ]
    role = standing.facts.get("role", "state")
    return [
        _said(
            standing,
            Verdict.AT_RISK if role == "backup" else Verdict.NOT_DURABLE,
            f"{role} needs class D{required}, and {volume.resource} has D{volume.durability_class}",
        )
        for volume in volumes
        if volume.durability_class is not None and volume.durability_class < required
    ]


def _of_service(standing: Standing, below: Sequence[Ruling]) -> list[Reason]:
    if not below and standing.facts.get("stateful") is True:
        return [_said(standing, Verdict.UNKNOWN, "it keeps state, and where is not known")]
    return []


def _of_node(standing: Standing, below: Sequence[Ruling]) -> list[Reason]:
    if standing.facts.get("reporting") is not True:
        return [_said(standing, Verdict.UNKNOWN, "it does not report")]
    return []


_OWN_REASONS: dict[str, Callable[[Standing, Sequence[Ruling]], list[Reason]]] = {
    "device": _of_device,
    "volume": _of_volume,
    "state_path": _of_state_path,
    "service": _of_service,
    "node": _of_node,
}
"""Kind of resource → what its own facts say of it."""
JUDGED_FACTS: dict[str, tuple[str, ...]] = {
    "device": (),
    "volume": ("durability_class", "writable"),
    "state_path": ("role", "required_class", "mountpoint"),
    "service": ("stateful",),
    "node": ("reporting",),
}
"""Kind of resource → the facts of its own that must be known for a verdict."""
HEEDED_FACTS: dict[str, tuple[str, ...]] = {
    "device": ("pool_scrub_age_seconds", "pool_data_errors"),
    "volume": ("durability_tested", "witness_corrupt", "scrub_age_seconds", "scrub_uncorrectable_errors"),
}
"""Kind of resource → the facts of its own that add to a verdict where there are any."""
_DEPTH = {"device": 0, "volume": 1, "state_path": 2, "database": 2, "service": 3, "node": 4, "group": 5}


def _inherited(standing: Standing, ruling: Ruling) -> list[Reason]:
    """What a ruling below means up here."""
    if standing.kind == "state_path":
        # Whether the class suffices is for each path to say by itself: what another one needs there is not its need.
        above = [reason for reason in ruling.reasons if not _of_its_class(reason)]
        ruling = structs.replace(ruling, reasons=tuple(above))
    if standing.kind == "state_path" and standing.facts.get("role") == "log":
        # A log that is gone is a nuisance and no loss of what the service promised.
        return [_capped(reason, Verdict.AT_RISK) for reason in ruling.reasons]
    return list(ruling.reasons)


def _of_its_class(reason: Reason) -> bool:
    return reason.kind == "volume" and not reason.rule_id and reason.verdict is Verdict.NOT_DURABLE


def _capped(reason: Reason, limit: Verdict) -> Reason:
    if _RANK[reason.verdict] <= _RANK[limit]:
        return reason
    return Reason(
        verdict=limit,
        kind=reason.kind,
        resource=reason.resource,
        rule_id=reason.rule_id,
        alert=reason.alert,
        text=reason.text,
        since=reason.since,
    )


def in_order(reasons: Iterable[Reason], kind: str) -> tuple[Reason, ...]:
    """Worst first, then deepest, each once. The order does not depend on the order they came in."""
    depth = _DEPTH.get(kind, 0)
    found = sorted(
        reasons,
        key=lambda r: (
            -_RANK[r.verdict],
            _DEPTH.get(r.kind, depth),
            r.kind,
            r.resource,
            r.rule_id,
            r.text,
            r.alert,
            r.since or 0.0,
        ),
    )
    unique: dict[tuple[str, str, str, str], Reason] = {}
    for reason in found:
        unique.setdefault((reason.kind, reason.resource, reason.rule_id, reason.text), reason)
    return tuple(unique.values())


def _ruling(
    standing: Standing, below: Sequence[Ruling], reasons: tuple[Reason, ...], last: Ruling | None
) -> Ruling:
    verdict = worst(reason.verdict for reason in reasons)
    facts = standing.facts
    declared = facts.get("durability_class")
    classes = [ruling.durability_class for ruling in below if ruling.durability_class is not None]
    own_class = declared if isinstance(declared, int) else min(classes, default=None)
    required = facts.get("required_class")
    needs = [ruling.required_class for ruling in below if ruling.required_class is not None]
    if standing.required_class is not None:
        needs.append(standing.required_class)
    before = last.last or last.verdict if last is not None else Verdict.DURABLE
    faded = verdict is Verdict.UNKNOWN and _RANK[before] > _RANK[Verdict.UNKNOWN]
    return Ruling(
        kind=standing.kind,
        resource=standing.name,
        verdict=verdict,
        reasons=reasons,
        durability_class=own_class,
        required_class=required if isinstance(required, int) else max(needs, default=None),
        flush=_flush(standing, below),
        integrity=_integrity(standing, below),
        last=before if faded else None,
    )


def _flush(standing: Standing, below: Sequence[Ruling]) -> Flush:
    facts = standing.facts
    if facts.get("witness_loss") == "lost_tail" and facts.get("witness_lost") is True:
        return "lying"
    if any(ruling.flush == "lying" for ruling in below):
        return "lying"
    if standing.kind == "volume":
        # Surviving is proof for what was survived; a volume that never met a crash has proved nothing.
        return "honest" if facts.get("durability_tested") is True else "unknown"
    if below and all(ruling.flush == "honest" for ruling in below):
        return "honest"
    return "unknown"


def own_integrity(facts: Mapping[str, Value]) -> Integrity | None:
    """Whether a resource's content is what was written, by its own facts; None: they do not speak of it.

    Only a filesystem that keeps checksums can be checked. Damage that a check found, or the witness, outvotes its date.
    """
    found = [facts.get(errors) for errors in _CHECKS.values()]
    if facts.get("witness_corrupt") is True or any(isinstance(n, int) and n > 0 for n in found):
        return "corrupt"
    checks = [(facts[age], facts.get(errors)) for age, errors in _CHECKS.items() if age in facts]
    if not checks:
        return None
    # A check whose finding nobody knows has checked nothing.
    holds = all(errors == 0 and float(age) <= CHECK_HOLDS_SECONDS for age, errors in checks)
    return "checked" if holds else "unchecked"


def _integrity(standing: Standing, below: Sequence[Ruling]) -> Integrity:
    own = own_integrity(standing.facts)
    if own == "corrupt" or any(ruling.integrity == "corrupt" for ruling in below):
        return "corrupt"
    if own is not None:
        return own
    if below and all(ruling.integrity == "checked" for ruling in below):
        return "checked"
    return "unchecked"
