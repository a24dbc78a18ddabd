"""Looks which volumes there are to be witnessed, and makes the section that says how each stands."""

import sys
from pathlib import Path

from msgspec import Struct, field

from holdfast_agent.probes.mountinfo import Mount, parse_mountinfo
from holdfast_agent.probes.volume_choice import choose_volumes
from holdfast_agent.witness.witness_choice import NOT_VISIBLE, WitnessConfig, WitnessPlan, choose
from holdfast_wire import Resource, Section, SectionStatus
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

SECTION = "witness"
COST = (
    "nobody knows whether what volumes were told to keep is still there after a crash, a restore or a clone"
)


class Survey(Struct, frozen=True, kw_only=True):
    """The machine's volumes as the witness sees them."""

    plan: WitnessPlan = WitnessPlan(witnessed={}, refused={})
    mountpoints: frozenset[str] = frozenset()
    """Of everything that is mounted, volumes or not."""
    trouble: str = ""
    """Why nothing can be witnessed here at all."""


class VolumeSaid(Struct, frozen=True, kw_only=True):
    """What one volume's keeper reports."""

    facts: dict[str, Value] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    denied: bool = False


def survey(
    config: WitnessConfig, state_folder: Path, install_id: str, procfs: Path = Path("/proc")
) -> Survey:
    """Look now. Touches /proc alone: a dead disk cannot hold it up."""
    if sys.platform != "linux":
        return Survey(trouble="volumes are witnessed on Linux only")
    machine, own = _mounts(procfs, "1"), _mounts(procfs, "self")
    if not own:
        return Survey(trouble=f"{procfs}/self/mountinfo cannot be read")
    known = {mount.number for mount in machine}
    extra = [mount for mount in own if mount.number not in known and mount.fstype not in ("tmpfs", "ramfs")]
    volumes = choose_volumes([*machine, *extra] if machine else own, own)
    return Survey(
        plan=choose(volumes, own, config, state_folder, install_id),
        mountpoints=frozenset(mount.mountpoint for mount in (machine or own)),
    )


def witness_section(
    found: Survey, said: dict[str, VolumeSaid], *, at: float, mono: float, period: float
) -> Section:
    """The section `witness`: every volume, witnessed or not, and why not."""
    resources: list[Resource] = []
    missing: dict[str, str] = {}
    for name, reason in found.plan.refused.items():
        facts: dict[str, Value] = {
            "witness_wanted": reason == NOT_VISIBLE,
            "witness_enabled": False,
            "witness_reason": reason,
        }
        resources.append(Resource(kind=ResourceKind.VOLUME, name=name, facts=facts))
    for name in found.plan.witnessed:
        volume = said.get(name, VolumeSaid())
        resources.append(
            Resource(kind=ResourceKind.VOLUME, name=name, facts=volume.facts | {"witness_wanted": True})
        )
        missing |= volume.missing
    status, detail = SectionStatus.OK, ""
    if found.trouble:
        status, detail = SectionStatus.UNSUPPORTED, found.trouble
    elif not found.plan.witnessed:
        status, detail = SectionStatus.NO_DATA, "no volume here shall be witnessed"
    elif all(said.get(name, VolumeSaid()).denied for name in found.plan.witnessed):
        status, detail = SectionStatus.DENIED, next(iter(missing.values()), "")
    return Section(
        probe=SECTION,
        status=status,
        observed_at=at,
        mono=mono,
        period_seconds=period,
        duration_seconds=0.0,
        detail=detail,
        missing=missing,
        resources=sorted(resources, key=lambda each: each.name),
    )


def _mounts(procfs: Path, process: str) -> tuple[Mount, ...]:
    try:
        return parse_mountinfo((procfs / process / "mountinfo").read_text("utf-8", "replace"))
    except OSError:
        return ()
