"""md RAID: what each array lacks and what it does about it, from sysfs.

`array_state` stays `clean` when a member fails (measured), so `degraded` and `sync_action` are what counts; the
attributes are described in the kernel's Documentation/admin-guide/md.rst. RAID 0 and linear have neither; theirs is
`array_state`, which turns to `broken` when a member is gone (kernels since 5.4).

The watch waits on /proc/mdstat, which wakes pollers when a member fails, a recovery starts or ends, an array comes or
goes. It is there only while the md module is loaded.
"""

import asyncio
import contextlib
import os
import select
import sys

from msgspec import Struct

from holdfast_agent.probe import Emit, NoData, Observation, Poll, Refresh, Signal, Unsupported, Watch
from holdfast_agent.probes.paced_refresh import paced
from holdfast_agent.probes.sysfs_linux import attributes, names_in, number
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

_ATTRIBUTES = (
    "array_state", "degraded", "sync_action", "sync_completed", "mismatch_cnt", "level", "consistency_policy",
    "raid_disks", "metadata_version",
)  # fmt: skip
_PARITY = frozenset({"raid4", "raid5", "raid6"})
_STOPPED = frozenset({"inactive", "broken", "clear", "suspended"})
_FILLING = frozenset({"recover", "reshape"})
MODULE_AWAITED_SECONDS = 60.0
"""How often it is seen whether md has been loaded meanwhile."""


class MdRaw(Struct, frozen=True, kw_only=True):
    """What was read of the arrays."""

    arrays: dict[str, dict[str, str]]
    """Kernel name → attribute of its `md` folder → text; those that are not there are absent."""
    members: dict[str, dict[str, str]]
    """Kernel name → member → its state: `in_sync`, `faulty`, `spare`, …, several with commas."""


class Md(Poll[MdRaw], Watch):
    """md arrays."""

    name = "md"
    platforms = frozenset({"linux"})
    cost = "nobody knows that a RAID has lost a disk"
    period_seconds = 30.0
    timeout_seconds = 5.0
    emits = tuple(
        ("device", fact)
        for fact in (
            "raid_level", "raid_state", "raid_running", "raid_disks", "raid_missing_disks", "raid_recovering",
            "raid_action", "raid_sync_ratio", "raid_mismatches", "raid_parity", "raid_write_hole", "raid_members",
        )
    )  # fmt: skip
    told_by = (
        Signal(
            by="a change of an array",
            facts=tuple(pair for pair in emits if pair[1] not in ("raid_sync_ratio", "raid_mismatches")),
        ),
    )

    def read(self) -> MdRaw:
        block = self.context.sysfs / "block"
        if not block.is_dir():
            raise Unsupported(f"there is no {block}")
        arrays, members = {}, {}
        for array in names_in(block, "md*"):
            folder = block / array / "md"
            found = attributes(folder, _ATTRIBUTES)
            if found:
                arrays[array] = found
                members[array] = {
                    member.removeprefix("dev-"): attributes(folder / member, ["state"]).get("state", "")
                    for member in names_in(folder, "dev-*")
                }
        return MdRaw(arrays=arrays, members=members)

    def interpret(self, raw: MdRaw) -> Observation:
        missing: dict[str, str] = {}
        resources = [
            Resource(
                kind=ResourceKind.DEVICE,
                name=array,
                facts=_facts(array, found, raw.members.get(array, {}), missing),
            )
            for array, found in sorted(raw.arrays.items())
            if not _container(found)
        ]
        if not resources:
            raise NoData("there is no md array")
        return Observation(resources=resources, missing=missing)

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Look at once when an array changes."""
        if sys.platform != "linux":
            raise Unsupported("only Linux has md")
        mdstat = self.context.procfs / "mdstat"
        while not mdstat.exists():  # noqa: ASYNC110  # nothing tells that a file of /proc appears
            await asyncio.sleep(MODULE_AWAITED_SECONDS)
        loop = asyncio.get_running_loop()
        look = paced(refresh)
        with contextlib.ExitStack() as held:
            file = os.open(mdstat, os.O_RDONLY | os.O_CLOEXEC)
            held.callback(os.close, file)
            changes = held.enter_context(select.epoll())
            changes.register(file, select.EPOLLPRI)
            # The kernel takes an event for seen when the file has been read to its end (md_seq_show).
            _read_through(file)

            def changed() -> None:
                if changes.poll(0):
                    _read_through(file)
                    look()

            loop.add_reader(changes.fileno(), changed)
            held.callback(loop.remove_reader, changes.fileno())
            refresh()  # what changed before we waited
            await asyncio.Event().wait()


def _container(found: dict[str, str]) -> bool:
    """A firmware RAID's container holds arrays and is none: always inactive, without a level."""
    external = found.get("metadata_version", "").startswith("external:")
    return external and found.get("level", "") in ("", "container")


def _facts(
    array: str, found: dict[str, str], members: dict[str, str], missing: dict[str, str]
) -> dict[str, Value]:
    facts: dict[str, Value] = {}
    level, state = found.get("level", ""), found.get("array_state", "")
    if level:
        facts |= {"raid_level": level, "raid_parity": level in _PARITY}
    if state:
        facts |= {"raid_state": state, "raid_running": state not in _STOPPED}
    else:
        missing[f"{array}.raid_running"] = "the kernel shows no array_state"
    for fact, name in (
        ("raid_disks", "raid_disks"),
        ("raid_missing_disks", "degraded"),
        ("raid_mismatches", "mismatch_cnt"),
    ):
        value = number(found.get(name))
        if value is not None:
            facts[fact] = value
    if action := found.get("sync_action", ""):
        facts |= {"raid_action": action, "raid_recovering": action in _FILLING}
    ratio = sync_ratio(found.get("sync_completed", ""))
    if ratio is not None:
        facts["raid_sync_ratio"] = ratio
    policy = found.get("consistency_policy")
    if level in _PARITY and policy:
        # A journal or a partial parity log closes it; a bitmap or a resync only finds that it may have happened.
        facts["raid_write_hole"] = policy not in ("journal", "ppl")
    if members:
        facts["raid_members"] = ", ".join(f"{name} {state or '?'}" for name, state in sorted(members.items()))
    return facts


def sync_ratio(text: str) -> float | None:
    """`1234 / 5678` sectors → how far it is; None for `none`, `delayed` and what a newer kernel may say."""
    done, slash, whole = (part.strip() for part in text.partition("/"))
    if not slash or not done.isdigit() or not whole.isdigit() or int(whole) == 0:
        return None
    return round(min(1.0, int(done) / int(whole)), 4)


def _read_through(file: int) -> None:
    os.lseek(file, 0, os.SEEK_SET)
    while os.read(file, 65536):
        pass
