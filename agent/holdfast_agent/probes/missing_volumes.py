"""Volumes that lasting state is on, or should be: a mount that went is one fault, however many paths led there."""

from collections.abc import Iterable

from holdfast_agent.probes.state_roles import LASTING
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind

_TEXT_MAX = 300


def missing_volumes(stated: Iterable[Resource]) -> list[Resource]:
    """By the state paths of services: of each volume whether nothing is mounted on it, and whose state is missed there."""
    missed: dict[str, dict[str, list[str]]] = {}
    there: set[str] = set()
    for resource in stated:
        facts = resource.facts
        needed = facts.get("required_class")
        if resource.kind != ResourceKind.STATE_PATH or not isinstance(needed, int) or needed < LASTING:
            continue
        if facts.get("confidence") == "low":
            continue
        if missing := str(facts.get("missing_mountpoint", "")):
            roles = missed.setdefault(missing, {}).setdefault(str(facts.get("service", "")), [])
            roles.append(str(facts.get("role", "state")))
        elif place := str(facts.get("mountpoint", "")):
            there.add(place)
    return [
        *(_volume(name, missing_under_state=False) for name in sorted(there - missed.keys())),
        *(
            _volume(name, missing_under_state=True, missing_for=_whose(services))
            for name, services in sorted(missed.items())
        ),
    ]


def _volume(name: str, **facts: bool | str) -> Resource:
    return Resource(kind=ResourceKind.VOLUME, name=name[:512], facts=dict(facts))


def _whose(services: dict[str, list[str]]) -> str:
    """`pg.service (data, wal), redis.service (data)`"""
    said = [f"{name} ({', '.join(dict.fromkeys(roles))})" for name, roles in sorted(services.items())]
    return ", ".join(said)[:_TEXT_MAX]
