"""ZFS: how every pool stands, and which datasets make fsync lie (catalogue A-35).

The state comes from /proc/spl/kstat/zfs/POOL/state, which takes no lock: it can be read while a suspended pool lets
every `zpool` command hang. Everything else is asked of `zpool status -p`, `zpool list` and `zfs get`, each in a
child of its own that is left to its fate when it does not answer; while one hangs no other is sent. They need
/dev/zfs, no right.

`copies=2` keeps each block twice in the pool, on different disks only where there are several (zfsprops(7)). It mends bad
sectors; a pool of one disk dies with it, and a pool of several plain ones with any of them. So it changes no class:
that comes from the pool's layout alone (`zpool_layout`).

A pool is a device by its name: its datasets rest on it. `zpool events -f` tells of changes at once where the agent may
ask for them, which takes a program that runs for as long as there are pools; else a look finds them within 30 s.
"""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import Callable

from msgspec import Struct, field

from holdfast_agent.probe import (
    Emit,
    NoData,
    Observation,
    Poll,
    ProbeContext,
    Refresh,
    Signal,
    Watch,
    facts_of,
)
from holdfast_agent.probes.mount_watch_linux import MOUNT, mount_changes
from holdfast_agent.probes.mounted_linux import Mounted, read_mounted, text_of
from holdfast_agent.probes.paced_refresh import paced
from holdfast_agent.probes.zpool_events_linux import ZpoolEvents
from holdfast_agent.probes.zpool_status import Pool, parse_status
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

ANSWER_SECONDS = 3.0
_PATH = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin"
_QUESTIONS = {
    "status": ("zpool", "status", "-p"),
    "list": ("zpool", "list", "-Hp", "-o", "name,capacity"),
    "properties": (
        "zfs",
        "get",
        "-Hp",
        "-o",
        "name,property,value",
        "-t",
        "filesystem",
        "sync,logbias,copies",
    ),
}


class ZfsRaw(Struct, frozen=True, kw_only=True):
    """What kstat and the programs say."""

    mounted: Mounted
    at: float
    """Unix seconds."""
    states: dict[str, str] = field(default_factory=dict)
    """Pool → its state by kstat."""
    answers: dict[str, str] = field(default_factory=dict)
    """`status`, `list`, `properties` → what the program printed."""
    unanswered: dict[str, str] = field(default_factory=dict)
    """The same → why there is no answer, and the cure."""


class Zfs(Poll[ZfsRaw], Watch):
    """The pools and their datasets."""

    name = "zfs"
    platforms = frozenset({"linux"})
    cost = "nobody knows that a ZFS pool is degraded, full or has lost data, or that a dataset ignores fsync"
    period_seconds = 30.0
    timeout_seconds = 15.0
    emits = (
        *(
            ("device", fact)
            for fact in (
                "pool_state", "pool_trouble", "pool_devices_troubled", "pool_data_errors", "pool_capacity_ratio",
                "pool_scrub_age_seconds", "pool_resilvering",
            )
        ),
        ("volume", "zfs_sync_disabled"),
        ("volume", "zfs_logbias"),
        ("volume", "zfs_copies"),
    )  # fmt: skip
    told_by = (
        Signal(by=MOUNT),
        Signal(
            by="`zpool events`, which needs CAP_SYS_ADMIN",
            facts=facts_of(
                "device", "pool_state", "pool_trouble", "pool_devices_troubled", "pool_data_errors", "pool_scrub_age_seconds",
                "pool_resilvering",
            ),
        ),
    )  # fmt: skip

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        self._hanging: subprocess.Popen[str] | None = None
        self._imported: Callable[[], None] | None = None
        """Tells the watch that there are pools; from the poll's thread."""

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Look when something is mounted, and from the first pool on at ZFS's own events, too."""
        loop, imported, look = asyncio.get_running_loop(), asyncio.Event(), paced(refresh)
        self._imported = lambda: _in_loop(loop, imported.set)
        with mount_changes(self.context.procfs, look):
            await imported.wait()
            await ZpoolEvents(lambda: shutil.which("zpool", path=_PATH), look).follow()

    def read(self) -> ZfsRaw:
        folder = self.context.procfs / "spl" / "kstat" / "zfs"
        if not folder.is_dir():
            raise NoData("ZFS is not loaded")
        states = {path.parent.name: text_of(path).strip() for path in sorted(folder.glob("*/state"))}
        if states and self._imported is not None:
            self._imported()
        answers, unanswered = {}, {}
        for subject, command in _QUESTIONS.items() if states else ():
            said, why = self._ask(command)
            if why:
                unanswered[subject] = why
            else:
                answers[subject] = said
        return ZfsRaw(
            mounted=read_mounted(self.context),
            at=self.context.wall_clock(),
            states=states,
            answers=answers,
            unanswered=unanswered,
        )

    def interpret(self, raw: ZfsRaw) -> Observation:
        if not raw.states:
            raise NoData("no ZFS pool is imported")
        pools = {pool.name: pool for pool in parse_status(raw.answers.get("status", ""))}
        capacities = _pairs(raw.answers.get("list", ""))
        resources = [
            Resource(
                kind=ResourceKind.DEVICE,
                name=name,
                facts=_pool_facts(state, pools.get(name), capacities.get(name, ""), raw.at),
            )
            for name, state in raw.states.items()
        ]
        properties = _properties(raw.answers.get("properties", ""))
        for volume in raw.mounted.volumes():
            facts = _dataset_facts(properties.get(volume.mount.source, {}))
            if volume.mount.fstype == "zfs" and facts:
                name = volume.mount.mountpoint[:512]
                resources.append(Resource(kind=ResourceKind.VOLUME, name=name, facts=facts))
        missing = {f"zfs {subject}": why for subject, why in raw.unanswered.items()}
        for name, pool in pools.items():
            if pool.data_errors is None:
                missing[f"{name} data errors"] = (
                    "zpool may not say; run it as root, or delegate with `zfs allow`"
                )
        return Observation(resources=resources, missing=missing)

    def _ask(self, command: tuple[str, ...]) -> tuple[str, str]:
        """(what it printed, why it did not)."""
        if self._hanging is not None and self._hanging.poll() is None:
            return "", "an earlier command still hangs: a pool is suspended, or its disks do not answer"
        program = shutil.which(command[0], path=_PATH)
        if program is None:
            return "", f"{command[0]} is not installed (zfsutils-linux)"
        self._hanging = child = subprocess.Popen(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={"LC_ALL": "C", "TZ": "UTC"},
        )
        try:
            said, complaint = child.communicate(timeout=ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            return "", f"{' '.join(command)} did not answer within {ANSWER_SECONDS:g} s"
        if child.returncode != 0:
            what = complaint.strip().splitlines()[:1] or [f"exit status {child.returncode}"]
            return (
                "",
                f"{' '.join(command)}: {what[0]}; it needs /dev/zfs (DeviceAllow=/dev/zfs rw in the unit)",
            )
        return said, ""


def _in_loop(loop: asyncio.AbstractEventLoop, what: Callable[[], object]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: the agent ends
        loop.call_soon_threadsafe(what)


def _pool_facts(state: str, pool: Pool | None, capacity: str, at: float) -> dict[str, Value]:
    facts: dict[str, Value] = {"pool_state": state}
    if pool is not None:
        facts["pool_trouble"] = "; ".join(pool.troubled)[:1000]
        facts["pool_devices_troubled"] = len(pool.troubled)
        facts["pool_resilvering"] = pool.resilvering
        if pool.data_errors is not None:
            facts["pool_data_errors"] = pool.data_errors
        if pool.scrubbed_at is not None:
            facts["pool_scrub_age_seconds"] = max(0.0, at - pool.scrubbed_at)
    if capacity.rstrip("%").isdigit():
        facts["pool_capacity_ratio"] = int(capacity.rstrip("%")) / 100
    return facts


def _properties(text: str) -> dict[str, dict[str, str]]:
    """Dataset → property → value."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        columns = line.split("\t")
        if len(columns) == 3:
            found.setdefault(columns[0], {})[columns[1]] = columns[2]
    return found


def _dataset_facts(properties: dict[str, str]) -> dict[str, Value]:
    facts: dict[str, Value] = {}
    if sync := properties.get("sync"):
        facts["zfs_sync_disabled"] = sync == "disabled"
    if logbias := properties.get("logbias"):
        facts["zfs_logbias"] = logbias
    if (copies := properties.get("copies", "")).isdigit():
        facts["zfs_copies"] = int(copies)
    return facts


def _pairs(text: str) -> dict[str, str]:
    """Lines of two columns with a tab between them, as `-H` prints them."""
    split = (line.split("\t") for line in text.splitlines())
    return {columns[0]: columns[1] for columns in split if len(columns) == 2}
