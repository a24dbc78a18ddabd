"""The ways to storage elsewhere: multipath maps, iSCSI sessions, states of SCSI devices.

A map that is down to one path works as if nothing had happened; one without any either keeps its requests waiting or
fails them, as `no_path_retry` says. How many paths there ought to be nobody writes down: the most that a map had in
this boot are taken for it.

The watch waits for the kernel's word of a device that comes, goes, or changes: device-mapper announces each path that
fails (`DM_ACTION=PATH_FAILED`).
"""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from holdfast_agent.probe import (
    Emit,
    NoData,
    Observation,
    Poll,
    ProbeContext,
    ProbeStop,
    Refresh,
    Signal,
    Watch,
    facts_of,
)
from holdfast_agent.probes.multipathd_linux import show_maps
from holdfast_agent.probes.paced_refresh import paced
from holdfast_agent.probes.sysfs_linux import attributes, names_in, number
from holdfast_agent.probes.uevent_linux import Uevent, take, uevents
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

_NOTE = "paths-expected"
_SUBSYSTEMS = frozenset({"block", "iscsi_session", "iscsi_connection", "scsi", ""})


class PathsRaw(Struct, frozen=True, kw_only=True):
    """What was read of paths."""

    maps: str | None = None
    """multipathd's own JSON; None when it does not run."""
    maps_trouble: str = ""
    scsi: dict[str, str] = {}
    """Kernel name → state of the SCSI device."""
    sessions: dict[str, dict[str, str]] = {}
    """`session1` → `state`, `recovery_tmo`, `targetname`."""
    session_disks: dict[str, list[str]] = {}
    """`session1` → kernel names of its disks."""
    multipath: dict[str, list[str]] = {}
    """`dm-3` → kernel names of its members, of maps that are multipath by their uuid."""


class _Expected(Struct, frozen=True):
    """The cursor's note."""

    boot_id: str
    maps: dict[str, int]
    """Map's uuid → the most paths it had."""


class Paths(Poll[PathsRaw], Watch):
    """Multipath maps, iSCSI sessions and SCSI devices."""

    name = "paths"
    platforms = frozenset({"linux"})
    cost = "nobody knows that storage hangs on its last path"
    period_seconds = 30.0
    timeout_seconds = 15.0
    emits = tuple(
        ("device", fact)
        for fact in (
            "multipath_name", "paths", "paths_expected", "paths_active", "paths_failed", "queues_without_path",
            "multipath_member", "scsi_state", "iscsi_state", "iscsi_logged_in", "iscsi_target",
            "iscsi_recovery_seconds",
        )
    )  # fmt: skip
    told_by = (
        Signal(
            by="the kernel's announcements of disks, sessions and paths",
            facts=facts_of(
                "device", "multipath_name", "paths", "paths_active", "paths_failed", "multipath_member"
            ),
        ),
    )

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        self._expected = self._load()

    def read(self) -> PathsRaw:
        sysfs = self.context.sysfs
        block, iscsi = sysfs / "block", sysfs / "class" / "iscsi_session"
        maps, trouble = None, ""
        try:
            maps = show_maps(self.context.rootfs)
        except OSError as error:
            trouble = f"multipathd does not answer: {error.strerror or error}"
        sessions = names_in(iscsi)
        return PathsRaw(
            maps=maps,
            maps_trouble=trouble,
            scsi={
                name: found["state"]
                for name in names_in(block, "sd*")
                if (found := attributes(block / name / "device", ["state"]))
            },
            sessions={
                name: attributes(iscsi / name, ["state", "recovery_tmo", "targetname"]) for name in sessions
            },
            session_disks={name: _disks_of(iscsi / name / "device") for name in sessions},
            multipath={
                name: names_in(block / name / "slaves")
                for name in names_in(block, "dm-*")
                if attributes(block / name / "dm", ["uuid"]).get("uuid", "").startswith("mpath-")
            },
        )

    def interpret(self, raw: PathsRaw) -> Observation:
        missing: dict[str, str] = {}
        found: dict[str, dict[str, Value]] = {}
        for name, state in raw.scsi.items():
            found[name] = {"scsi_state": state, "multipath_member": _member(name, raw)}
        for session, stated in raw.sessions.items():
            for disk in raw.session_disks.get(session, []):
                found.setdefault(disk, {}).update(_session_facts(stated))
        maps = _maps(raw.maps)
        if raw.maps is not None and maps is None:
            missing["paths_active"] = f"multipathd said: {raw.maps[:200]}"
        seen: dict[str, int] = {}
        for each in maps or []:
            device = str(each.get("sysfs", ""))
            if device:
                found.setdefault(device, {}).update(self._map_facts(each, seen))
        for device in sorted(raw.multipath.keys() - found.keys()):
            missing[f"{device}.paths_active"] = (
                raw.maps_trouble or "multipathd does not run, so nobody tests the paths"
            )
        self._keep(seen)
        if not found and not missing:
            raise NoData("no storage here is reached by SCSI, iSCSI or several paths")
        resources = [
            Resource(kind=ResourceKind.DEVICE, name=name, facts=facts)
            for name, facts in sorted(found.items())
        ]
        return Observation(resources=resources, missing=missing)

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Look at once when the kernel announces a change."""
        loop = asyncio.get_running_loop()
        look = paced(refresh)

        def announced(event: Uevent) -> None:
            if event.get("SUBSYSTEM", "") in _SUBSYSTEMS and concerns_paths(event):
                look()

        with contextlib.ExitStack() as held:
            try:
                listener = held.enter_context(uevents())
            except ProbeStop:
                pass  # the poll finds it, only later
            else:
                loop.add_reader(listener.fileno(), take, listener, announced)
                held.callback(loop.remove_reader, listener.fileno())
            await asyncio.Event().wait()

    def _map_facts(self, each: dict[str, Any], seen: dict[str, int]) -> dict[str, Value]:
        paths = _paths_of(each)
        working = [path for path in paths if _works(path)]
        uuid = str(each.get("uuid", "") or each.get("name", ""))
        expected = max(len(paths), self._expected.get(uuid, 0))
        seen[uuid] = expected
        failed = sorted(str(path.get("dev", "?")) for path in paths if path not in working)
        facts: dict[str, Value] = {
            "multipath_name": str(each.get("name", "")),
            "paths": len(paths),
            "paths_active": len(working),
            "paths_expected": expected,
            "paths_failed": ", ".join(failed),
        }
        # `on`, `off`, `-`, or how many checks are left before it is off (libmultipath/print.c snprint_queueing).
        queueing = str(each.get("queueing", ""))
        if queueing:
            facts["queues_without_path"] = queueing == "on"
        return facts

    def _load(self) -> dict[str, int]:
        try:
            note = msgspec.json.decode(self.context.cursors.load(_NOTE) or b"null", type=_Expected | None)
        except msgspec.DecodeError:
            return {}
        return dict(note.maps) if note is not None and note.boot_id == self.context.boot_id else {}

    def _keep(self, seen: dict[str, int]) -> None:
        """A map that is not listed may come back with the paths that are left: what it had is kept."""
        if any(self._expected.get(uuid) != count for uuid, count in seen.items()):
            self._expected.update(seen)
            self.context.cursors.store(
                _NOTE, msgspec.json.encode(_Expected(self.context.boot_id, self._expected))
            )


def concerns_paths(event: Uevent) -> bool:
    """Whether an announcement may change what is said here; partitions and virtual disks come and go without."""
    name = event.get("DEVPATH", "").rpartition("/")[2]
    return not event or not name.startswith(("loop", "ram", "zram", "vd", "nvme"))


def _disks_of(session: Path) -> list[str]:
    """The disks below a session's device: target, LUN, block (drivers/scsi/scsi_transport_iscsi.c)."""
    real = Path(os.path.realpath(session))
    return sorted(path.name for path in real.glob("target*/*/block/*"))


def _member(name: str, raw: PathsRaw) -> bool:
    return any(name in members for members in raw.multipath.values())


def _session_facts(stated: dict[str, str]) -> dict[str, Value]:
    facts: dict[str, Value] = {}
    if state := stated.get("state", ""):
        facts |= {"iscsi_state": state, "iscsi_logged_in": state == "LOGGED_IN"}
    if target := stated.get("targetname", ""):
        facts["iscsi_target"] = target
    seconds = number(stated.get("recovery_tmo"))
    if seconds is not None:
        facts["iscsi_recovery_seconds"] = seconds
    return facts


def _maps(text: str | None) -> list[dict[str, Any]] | None:
    """multipathd's maps; None when its answer is none."""
    try:
        document = msgspec.json.decode(text or "")
    except msgspec.DecodeError:
        return None
    maps = document.get("maps") if isinstance(document, dict) else None
    return [each for each in maps if isinstance(each, dict)] if isinstance(maps, list) else None


def _paths_of(each: dict[str, Any]) -> list[dict[str, Any]]:
    groups = each.get("path_groups")
    found = (
        [group.get("paths") for group in groups if isinstance(group, dict)]
        if isinstance(groups, list)
        else []
    )
    return [path for paths in found if isinstance(paths, list) for path in paths if isinstance(path, dict)]


def _works(path: dict[str, Any]) -> bool:
    """To the kernel and to the checker. A `ghost` is the other controller's path: it waits to take over."""
    return path.get("dm_st") == "active" and path.get("chk_st") in ("ready", "ghost")
