"""What a probe is: the border between the agent and the machine it watches.

A probe lives in one file of `holdfast_agent.probes`; the folder is the registry. `volumes_linux.py` is looked at on
Linux only, `host.py` everywhere. The file defines a `Poll`, a `Watch`, one class that is both, or one of each with
the same `name`.

A **poll** is asked again and again. `read` touches the machine and returns plain data; it may block and may hang, for
it runs in a thread of its own under a time-out. `interpret` turns that data into facts and touches nothing, so that a
recording of any machine (`holdfast-agent record NAME`) is a test of it.

A **watch** runs on the event loop for as long as the agent does and reports what happens the moment it happens. It
must not block. When it ends or fails it is started again with growing pauses.

Neither keeps time, counts failures or formats messages: status, duration, time-outs and sending come from the runner.

    class Volumes(Poll[VolumesRaw]):
        name = "volumes"
        platforms = frozenset({"linux"})
        period_seconds = 10.0
        timeout_seconds = 5.0
        cost = "nobody knows whether a filesystem fills up or turns read-only"
        emits = (("volume", "size_bytes"), ("volume", "free_bytes"))

        def read(self) -> VolumesRaw: ...
        def interpret(self, raw: VolumesRaw) -> Observation: ...
"""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, get_args, get_origin

from msgspec import Struct, field

from holdfast_agent.core.happening import Happening
from holdfast_agent.errors import Denied, NoData, ProbeStop, Unsupported
from holdfast_wire import Resource, SectionStatus

__all__ = [
    "Cursors",
    "Denied",
    "Emit",
    "Happening",
    "Lag",
    "NoData",
    "NoSettings",
    "Observation",
    "Poll",
    "Probe",
    "ProbeContext",
    "ProbeStop",
    "Refresh",
    "Signal",
    "Unsupported",
    "Watch",
    "boot_clock",
    "facts_of",
]

Raw = TypeVar("Raw")


class Observation(Struct, frozen=True, kw_only=True):
    """What one poll saw."""

    resources: list[Resource] = field(default_factory=list)
    status: SectionStatus = SectionStatus.OK
    detail: str = ""
    """Why the status is not `ok`."""
    missing: dict[str, str] = field(default_factory=dict)
    """Facts or subjects that could not be had although the probe works → reason and cure."""
    events: list[Happening] = field(default_factory=list)
    """What the poll found to have happened since it last looked."""


class NoSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a probe that has none of its own."""


class Cursors(Protocol):
    """Small notes that outlive the agent: how far a log was read, what was last seen. One namespace per probe.

    Safe to use from any thread and never blocks. A crash may bring back an older note, or none: a probe that
    remembers what it has reported here reports it twice rather than not at all.
    """

    def load(self, name: str) -> bytes | None:
        """The newest note stored under `name` (`[a-z0-9_-]+`); None when there is none."""

    def store(self, name: str, note: bytes) -> None:
        """Replace the note. It is written to disk in the background, atomically."""


class _Forgetful:
    """Cursors of an agent that may not write: `once`, `doctor`, tests."""

    def __init__(self) -> None:
        self._notes: dict[str, bytes] = {}

    def load(self, name: str) -> bytes | None:
        return self._notes.get(name)

    def store(self, name: str, note: bytes) -> None:
        self._notes[name] = note


def boot_clock() -> float:
    """Seconds since boot, time in suspend included, where the system has such a clock (clock_gettime(2))."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class ProbeContext(Struct, frozen=True, kw_only=True):
    """All that a probe may know of its surroundings; given to its constructor.

    `ProbeContext(node="node-a")` is a working context for a test; point `procfs`, `sysfs`, `rootfs` at a recording.
    """

    node: str
    """The node's name: the resource name of facts and events about the node itself."""
    settings: Struct = field(default_factory=NoSettings)
    """An instance of the class's `settings_type`, from `[probes.NAME]` of the configuration."""
    cursors: Cursors = field(default_factory=_Forgetful)
    procfs: Path = Path("/proc")
    sysfs: Path = Path("/sys")
    rootfs: Path = Path("/")
    """Where `etc/os-release`, `etc/fstab` and `dev/kmsg` are found."""
    boot_id: str = ""
    """The kernel's id of this boot, or the agent's own where the system has none."""
    previous_stop: Literal["clean", "dirty", "first"] = "first"
    """How this agent's previous run ended."""
    wall_clock: Callable[[], float] = time.time
    """Unix seconds UTC. To be stated, never to be subtracted."""
    boot_clock: Callable[[], float] = boot_clock
    """Seconds since boot: for durations and rates."""


class Probe(ABC):
    """What polls and watches have in common. A subclass states every value without a default below."""

    name: ClassVar[str]
    """`[a-z][a-z0-9_]*`: the section, the configuration table, the metric label."""
    platforms: ClassVar[frozenset[str]]
    """Of `sys.platform`: `linux`, `win32`."""
    cost: ClassVar[str]
    """What nobody knows without this probe; completes the sentence "without it, …"."""
    emits: ClassVar[tuple[tuple[str, str], ...]] = ()
    """(kind of resource, fact) for every fact it may state; each is declared in `holdfast_wire.fact`."""
    events: ClassVar[tuple[str, ...]] = ()
    """The types of event it may report; each is declared in `holdfast_wire.fact.EVENT_TYPES`."""
    settings_type: ClassVar[type[Struct]] = NoSettings
    """A frozen Struct with `forbid_unknown_fields=True` and a default for every field."""

    def __init__(self, context: ProbeContext) -> None:
        self.context = context


def facts_of(kind: str, *names: str) -> tuple[tuple[str, str], ...]:
    """Facts of one kind of resource, as `emits` and `Signal` name them."""
    return tuple((kind, name) for name in names)


class Signal(Struct, frozen=True, kw_only=True):
    """Something of the world that tells a watch at once, and what it tells of."""

    by: str
    """Completes "at once by …"."""
    facts: tuple[tuple[str, str], ...] = ()
    """Of those that the poll of its name states, the ones that change when this happens. None: it tells only that a
    resource comes or goes."""
    events: tuple[str, ...] = ()
    """The types of event that are reported for it."""


class Lag(Struct, frozen=True, kw_only=True):
    """Why a look finds something older than itself: what it looks at is brought up to date less often."""

    by: str
    """What is done so seldom, as a clause."""
    facts: tuple[tuple[str, str], ...]
    seconds: float = 0.0
    """How old it may be."""
    looks: int = 1
    """How many looks it takes."""


class Poll(Probe, Generic[Raw]):
    """A probe that looks again and again."""

    period_seconds: ClassVar[float] = 10.0
    """How often it looks; never more often than a report comes (`interval`), and `[probes.NAME] period` overrides."""
    timeout_seconds: ClassVar[float] = 5.0
    """After this long the section says `timeout`. Nothing can stop the thread; it is not started a second time."""
    lags: ClassVar[tuple[Lag, ...]] = ()
    """The facts that take longer than a look."""
    raw_type: ClassVar[Any]
    """`Raw` as the subclass named it: what a recording is decoded to."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for parent in getattr(cls, "__orig_bases__", ()):
            if get_origin(parent) is Poll:
                cls.raw_type = get_args(parent)[0]

    @abstractmethod
    def read(self) -> Raw:
        """Touch the machine; return plain data that `msgspec.json` can encode. May block. Runs in a thread.

        Raises `Unsupported`, `Denied` or `NoData` to end without facts. OSErrors that are foreseen belong into the
        data, per subject; one that is let through becomes the status `error`, with its text.
        """

    @abstractmethod
    def interpret(self, raw: Raw) -> Observation:
        """The facts in `raw`. Touches nothing outside the arguments and the probe's own memory; may raise as `read`.

        Called once per `read`, in order, in the same thread.
        """


Emit = Callable[[Happening], Awaitable[None]]
Refresh = Callable[[], None]


class Watch(Probe):
    """A probe that is told, and tells at once."""

    told_by: ClassVar[tuple[Signal, ...]]
    """What tells it, and of what: `detection` makes of it how late each fact is. All else takes a look."""

    def check(self) -> None:
        """Whether the watch could run: raises `Unsupported`, `Denied` or `NoData` when it could not.

        Asked by `doctor`, and for the birth message. May block a little; runs in a thread.
        """

    @abstractmethod
    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Report until cancelled. To return is to fail: the watch is started again after a pause.

        `await emit(happening)` returns when the event is in the spool: on disk, or in memory with the agent saying so.
        `refresh()` makes the poll of the same name look now, and the report leave as soon as it has; many calls within
        20 ms are one. It may be called from the event loop only.
        """
