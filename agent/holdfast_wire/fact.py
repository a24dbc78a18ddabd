"""The vocabulary: every kind of resource, every fact and every event, with type, unit and help.

One declaration feeds the codec's checks, the rule compiler's, the Prometheus page and the documentation. A probe may
state only what is declared here, and a rule may ask only for what is declared here.
"""

from enum import StrEnum

from msgspec import Struct, structs


class ResourceKind(StrEnum):
    """What has facts. `probe` and `collector` are holdfast watching itself."""

    NODE = "node"
    DEVICE = "device"
    VOLUME = "volume"
    SERVICE = "service"
    PROBE = "probe"
    COLLECTOR = "collector"


class FactType(StrEnum):
    """The type of a fact's value. A `float` fact also takes whole numbers."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    STR = "str"

    @property
    def python_types(self) -> frozenset[type]:
        """The exact types of values that state such a fact."""
        match self:
            case FactType.BOOL:
                return frozenset({bool})
            case FactType.INT:
                return frozenset({int})
            case FactType.FLOAT:
                return frozenset({float, int})
            case FactType.STR:
                return frozenset({str})


class Origin(StrEnum):
    """Who states a fact."""

    AGENT = "agent"
    COLLECTOR = "collector"


class Fact(Struct, frozen=True, kw_only=True):
    """The declaration of one fact."""

    resource: ResourceKind
    name: str
    type: FactType
    unit: str = ""
    """`seconds`, `bytes`, `ratio`, … as in the name's last part; empty for bool, text and plain counts."""
    help: str
    values: tuple[str, ...] = ()
    """The closed set of a text fact, where there is one. Others pass the codec: a newer agent may know more."""
    metric: str = ""
    """The Prometheus family that carries the fact. Empty: not exported."""
    label: bool = False
    """A text fact that becomes a label of `holdfast_<resource>_info`."""
    counter: bool = False
    """Only ever grows, but for restarts of what it counts."""
    origin: Origin = Origin.AGENT


class EventType(Struct, frozen=True, kw_only=True):
    """The declaration of one kind of event.

    The collector counts events of each type per resource as the fact `<name>_total`, and keeps the newest one's
    summary as `<name>_last`, so that a rule can ask `delta(kernel_data_loss_total, "1h") > 0`.
    """

    name: str
    resource: ResourceKind
    help: str


def _facts(
    resource: ResourceKind, origin: Origin, rows: list[tuple[str, FactType, str, str, str]]
) -> list[Fact]:
    """Rows of name, type, unit, flags, help. Flags: `m` metric, `c` counter metric, `l` label of the info metric."""
    declared = []
    for name, type_, unit, flags, help_ in rows:
        metric = f"holdfast_{resource.value}_{name}" if "m" in flags or "c" in flags else ""
        declared.append(
            Fact(
                resource=resource,
                name=name,
                type=type_,
                unit=unit,
                help=help_,
                metric=metric,
                label="l" in flags,
                counter="c" in flags,
                origin=origin,
            )
        )
    return declared


_B, _I, _F, _S = FactType.BOOL, FactType.INT, FactType.FLOAT, FactType.STR

EVENT_TYPES: dict[str, EventType] = {
    type_.name: type_
    for type_ in (
        EventType(
            name="kernel_data_loss",
            resource=ResourceKind.DEVICE,
            help="The kernel says that data it had accepted did not reach the device, or that a filesystem gave up.",
        ),
        EventType(
            name="kernel_filesystem_error",
            resource=ResourceKind.DEVICE,
            help="The kernel found a filesystem's structures damaged.",
        ),
        EventType(
            name="kernel_io_error",
            resource=ResourceKind.DEVICE,
            help="A request to a block device failed.",
        ),
        EventType(
            name="kernel_device_reset",
            resource=ResourceKind.DEVICE,
            help="A device did not answer and was reset, or a request timed out.",
        ),
        EventType(
            name="kernel_recovery",
            resource=ResourceKind.DEVICE,
            help="A filesystem replayed its journal: it had not been unmounted cleanly.",
        ),
        EventType(
            name="kernel_hung_task",
            resource=ResourceKind.NODE,
            help="A task was blocked for minutes, usually on I/O.",
        ),
        EventType(
            name="kernel_oom_kill",
            resource=ResourceKind.NODE,
            help="The kernel killed a process for want of memory.",
        ),
        EventType(
            name="kernel_vm_fork",
            resource=ResourceKind.NODE,
            help="The hypervisor resumed this machine from a copy of its memory: a clone or a rollback.",
        ),
        EventType(
            name="kernel_log_gap",
            resource=ResourceKind.NODE,
            help="Kernel log lines were overwritten before they were read; what they said is unknown.",
        ),
        EventType(
            name="boot",
            resource=ResourceKind.NODE,
            help="The machine booted; the fields say whether the previous run ended cleanly, and the evidence.",
        ),
        EventType(
            name="clock_step",
            resource=ResourceKind.NODE,
            help="The wall clock was set, or the machine was suspended and woke with another time.",
        ),
        EventType(
            name="unit_failed",
            resource=ResourceKind.SERVICE,
            help="A unit entered the failed state; the fields carry systemd's result and the exit status.",
        ),
        EventType(
            name="unit_restarted",
            resource=ResourceKind.SERVICE,
            help="systemd started a unit again after it ended unexpectedly.",
        ),
        EventType(
            name="unit_oom_kill",
            resource=ResourceKind.SERVICE,
            help="A unit ended because the kernel killed one of its processes for want of memory.",
        ),
    )
}


def _event_facts() -> list[Fact]:
    declared = []
    for type_ in EVENT_TYPES.values():
        total = f"{type_.name}_total"
        declared.append(
            Fact(
                resource=type_.resource,
                name=total,
                type=_I,
                help=f"{type_.help} Counted by the collector since it first knew the resource.",
                metric=f"holdfast_{type_.resource.value}_{total}",
                counter=True,
                origin=Origin.COLLECTOR,
            )
        )
        declared.append(
            Fact(
                resource=type_.resource,
                name=f"{type_.name}_last",
                type=_S,
                help=f"The newest {type_.name} event in its own words.",
                origin=Origin.COLLECTOR,
            )
        )
    return declared


_DECLARED: list[Fact] = [
    *_facts(
        ResourceKind.NODE,
        Origin.AGENT,
        [
            ("boot_timestamp_seconds", _F, "seconds", "m", "When the machine booted, Unix time."),
            (
                "uptime_seconds",
                _F,
                "seconds",
                "m",
                "How long the machine has been up, time in suspend included.",
            ),
            ("boot_dirty", _B, "", "m", "The machine's previous run ended without an orderly shutdown."),
            ("boot_dirty_evidence", _S, "", "", "What shows how the previous run ended."),
            ("boot_count", _I, "", "", "Boots this agent has seen on this machine."),
            ("clock_synchronized", _B, "", "m", "The kernel's clock is disciplined by a time source."),
            (
                "clock_error_seconds",
                _F,
                "seconds",
                "m",
                "The kernel's estimate of the largest error of its clock.",
            ),
            ("clock_steps_total", _I, "", "c", "Times the wall clock was stepped since the agent started."),
            (
                "clock_step_seconds",
                _F,
                "seconds",
                "m",
                "The newest step of the wall clock; negative means backwards.",
            ),
            ("suspended_seconds", _F, "seconds", "m", "Time this boot spent suspended."),
            ("memory_bytes", _I, "bytes", "m", "Physical memory."),
            ("memory_available_bytes", _I, "bytes", "m", "Memory that can be had without swapping."),
            (
                "dirty_bytes",
                _I,
                "bytes",
                "m",
                "Written data that waits for its device: lost if the machine stops now.",
            ),
            ("os_name", _S, "", "l", "The operating system as it calls itself."),
            ("kernel", _S, "", "l", "The kernel release."),
            ("architecture", _S, "", "l", "The machine's architecture."),
            ("machine_id", _S, "", "l", "The operating system installation's id; clones share it."),
            ("boot_id", _S, "", "", "The kernel's id of this boot."),
            ("vendor", _S, "", "l", "Who made the machine, by its firmware: often names the cloud."),
            ("product", _S, "", "l", "The machine's model by its firmware."),
        ],
    ),
    *_facts(
        ResourceKind.NODE,
        Origin.COLLECTOR,
        [
            ("reporting", _B, "", "", "A report came within three intervals, and no will came since."),
            (
                "session",
                _S,
                "",
                "",
                "How the newest session stands: connected, lost (a will came) or stopped (it said goodbye).",
            ),
            ("spool_messages", _I, "", "m", "Durable messages the agent still has to deliver."),
            ("spool_dropped_total", _I, "", "c", "Durable messages the agent lost for want of room."),
            (
                "spool_in_memory",
                _B,
                "",
                "m",
                "The agent's spool disk fails; what it must deliver is in memory only.",
            ),
        ],
    ),
    *_facts(
        ResourceKind.VOLUME,
        Origin.AGENT,
        [
            ("mountpoint", _S, "", "l", "Where the filesystem is mounted."),
            ("source", _S, "", "l", "What is mounted: a device, a server's export, a pseudo source."),
            ("fstype", _S, "", "l", "The filesystem's type."),
            (
                "device",
                _S,
                "",
                "l",
                "The kernel's name of the block device, e.g. sda1; empty when there is none.",
            ),
            ("options", _S, "", "", "The mount's own options, then the filesystem's."),
            ("size_bytes", _I, "bytes", "m", "The filesystem's size."),
            (
                "free_bytes",
                _I,
                "bytes",
                "m",
                "What an ordinary user may still write; the reserve of root not included.",
            ),
            ("free_ratio", _F, "ratio", "m", "free_bytes over size_bytes."),
            ("inodes", _I, "", "m", "Inodes the filesystem can have; absent where it has no such limit."),
            ("inodes_free", _I, "", "m", "Inodes left."),
            ("inodes_free_ratio", _F, "ratio", "m", "inodes_free over inodes."),
            ("read_only", _B, "", "m", "Mounted read-only, by the mount or by the filesystem."),
            (
                "dead",
                _B,
                "",
                "m",
                "The filesystem has shut down or gone into emergency read-only: it still looks mounted rw.",
            ),
            ("writable", _B, "", "m", "Nothing that can be seen without writing says that writes fail."),
            ("expected_writable", _B, "", "", "fstab says rw, or it was mounted rw in this boot."),
            ("unwritable_reason", _S, "", "", "Why it is not writable, in words; empty when it is."),
            (
                "filesystem_errors_total",
                _I,
                "",
                "c",
                "Errors the filesystem has recorded in its superblock (ext4).",
            ),
            ("reachable", _B, "", "m", "The filesystem answers; false for a network mount that hangs."),
            ("network", _B, "", "", "The filesystem lives on another machine."),
            ("volatile", _B, "", "m", "The filesystem lives in memory: nothing on it survives a reboot."),
        ],
    ),
    *_facts(
        ResourceKind.SERVICE,
        Origin.AGENT,
        [
            ("description", _S, "", "", "The unit's own description."),
            ("up", _B, "", "m", "The service is active; while it starts or reloads, too."),
            ("failed", _B, "", "m", "The service is in the failed state."),
            ("active_state", _S, "", "", "systemd's ActiveState, or Windows' service state."),
            ("sub_state", _S, "", "", "systemd's SubState."),
            (
                "result",
                _S,
                "",
                "",
                "systemd's Result of the newest run: success, exit-code, signal, oom-kill, …",
            ),
            ("exit_status", _I, "", "", "The main process's exit status, or the signal that ended it."),
            ("enabled", _B, "", "", "The service is meant to start at boot."),
            ("main_pid", _I, "", "", "The main process; 0 when there is none."),
            (
                "restarts_total",
                _I,
                "",
                "c",
                "Automatic restarts since the unit was loaded (systemd's NRestarts).",
            ),
            (
                "start_timestamp_seconds",
                _F,
                "seconds",
                "m",
                "When the service last became active, Unix time; 0 if never.",
            ),
            ("restart_looping", _B, "", "", "systemd is waiting to start the service again."),
            ("start_limit_hit", _B, "", "", "systemd has given up starting the service."),
        ],
    ),
    *_facts(
        ResourceKind.PROBE,
        Origin.COLLECTOR,
        [
            (
                "status",
                _S,
                "",
                "",
                "How the newest run ended: ok, no_data, unsupported, denied, timeout or error.",
            ),
            ("detail", _S, "", "", "Why, and what would change it."),
            ("working", _B, "", "", "The newest run gave facts, or there is nothing of the kind here."),
            ("duration_seconds", _F, "seconds", "", "How long the newest run took."),
            (
                "stale",
                _B,
                "",
                "",
                "The agent reports, but this probe has not finished a run within three periods.",
            ),
        ],
    ),
    *_facts(
        ResourceKind.COLLECTOR,
        Origin.COLLECTOR,
        [
            ("broker_connected", _B, "", "", "The collector holds a session with a broker."),
            ("warm", _B, "", "", "The collector has watched for a full grace period since it started."),
            ("nodes", _I, "", "", "Nodes the collector knows."),
            ("nodes_reporting", _I, "", "", "Nodes whose reports come."),
            ("outbox_notices", _I, "", "", "Notifications that wait for their receiver."),
            ("outbox_age_seconds", _F, "seconds", "", "How long the oldest of them has waited."),
        ],
    ),
    *_event_facts(),
]

_VALUES: dict[tuple[str, str], tuple[str, ...]] = {
    ("node", "session"): ("connected", "lost", "stopped"),
    ("probe", "status"): ("ok", "no_data", "unsupported", "denied", "timeout", "error"),
}

FACTS: tuple[Fact, ...] = tuple(
    structs.replace(fact, values=_VALUES.get((fact.resource.value, fact.name), ())) for fact in _DECLARED
)
"""Every declared fact, in the order of documentation."""

FACTS_OF: dict[str, dict[str, Fact]] = {
    kind.value: {fact.name: fact for fact in FACTS if fact.resource is kind} for kind in ResourceKind
}
"""Kind of resource → name of fact → declaration."""

# Prometheus wants counters to end in _total, and the fixed names of the product keep their unit last.
assert all(fact.metric.endswith("_total") for fact in FACTS if fact.counter), (
    "a counter's name ends in _total"
)
assert len({(fact.resource, fact.name) for fact in FACTS}) == len(FACTS), "a fact is declared twice"
