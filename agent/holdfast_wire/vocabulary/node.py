"""What is said of a node: the machine itself, and how the collector hears of it."""

from holdfast_wire.declaration import BOOL, FLOAT, INT, STR, EventType, Fact, Origin, ResourceKind, facts
from holdfast_wire.vocabulary import node_health

FACTS: list[Fact] = [
    *node_health.HEALTH,
    *facts(
        ResourceKind.NODE,
        Origin.AGENT,
        [
            ("boot_timestamp_seconds", FLOAT, "seconds", "m", "When the machine booted, Unix time."),
            (
                "uptime_seconds",
                FLOAT,
                "seconds",
                "m",
                "How long the machine has been up, time in suspend included.",
            ),
            ("boot_dirty", BOOL, "", "m", "The machine's previous run ended without an orderly shutdown."),
            ("boot_dirty_evidence", STR, "", "", "What shows how the previous run ended."),
            ("boot_count", INT, "", "", "Boots this agent has seen on this machine."),
            ("clock_synchronized", BOOL, "", "m", "The kernel's clock is disciplined by a time source."),
            (
                "clock_error_seconds",
                FLOAT,
                "seconds",
                "m",
                "The kernel's estimate of the largest error of its clock.",
            ),
            ("clock_steps_total", INT, "", "c", "Times the wall clock was stepped since the agent started."),
            (
                "clock_step_seconds",
                FLOAT,
                "seconds",
                "m",
                "The newest step of the wall clock; negative means backwards.",
            ),
            ("suspended_seconds", FLOAT, "seconds", "m", "Time this boot spent suspended."),
            ("memory_bytes", INT, "bytes", "m", "Physical memory."),
            ("memory_available_bytes", INT, "bytes", "m", "Memory that can be had without swapping."),
            (
                "dirty_bytes",
                INT,
                "bytes",
                "m",
                "Written data that waits for its device: lost if the machine stops now.",
            ),
            (
                "io_pressure_some_ratio",
                FLOAT,
                "ratio",
                "m",
                "Share of the last minute in which at least one task waited for I/O.",
            ),
            (
                "io_pressure_full_ratio",
                FLOAT,
                "ratio",
                "m",
                "Share of the last minute in which every task that could run waited for I/O.",
            ),
            (
                "hung_tasks_total",
                INT,
                "",
                "c",
                "Tasks the kernel found blocked for minutes since the machine booted.",
            ),
            ("os_name", STR, "", "l", "The operating system as it calls itself."),
            ("kernel", STR, "", "l", "The kernel release."),
            ("architecture", STR, "", "l", "The machine's architecture."),
            ("machine_id", STR, "", "l", "The operating system installation's id; clones share it."),
            ("boot_id", STR, "", "", "The kernel's id of this boot."),
            ("vendor", STR, "", "l", "Who made the machine, by its firmware: often names the cloud."),
            ("product", STR, "", "l", "The machine's model by its firmware."),
        ],
    ),
    *facts(
        ResourceKind.NODE,
        Origin.COLLECTOR,
        [
            ("reporting", BOOL, "", "", "A report came within three intervals, and no will came since."),
            (
                "session",
                STR,
                "",
                "",
                "How the newest session stands: connected, lost (a will came) or stopped (it said goodbye).",
            ),
            ("spool_messages", INT, "", "m", "Durable messages the agent still has to deliver."),
            ("spool_dropped_total", INT, "", "c", "Durable messages the agent lost for want of room."),
            (
                "spool_in_memory",
                BOOL,
                "",
                "m",
                "The agent's spool disk fails; what it must deliver is in memory only.",
            ),
            (
                "claimants",
                INT,
                "",
                "m",
                "Machines that speak under this name now; more than one is one too many.",
            ),
            (
                "identity_changed",
                BOOL,
                "",
                "m",
                "The machine has another instance or machine id than before; until an operator takes note.",
            ),
            (
                "machine_id_shared",
                BOOL,
                "",
                "m",
                "Another node that reports has the same machine id: a copy.",
            ),
        ],
    ),
    *facts(
        ResourceKind.NODE,
        Origin.COLLECTOR,
        [
            (
                "verdict",
                STR,
                "",
                "",
                "What is said of the node: the worst of its stateful services: durable, unknown, at_risk, not_durable or lost.",
            ),
        ],
    ),
]
EVENTS: tuple[EventType, ...] = (
    *node_health.EVENTS,
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
        name="reboot_fate",
        resource=ResourceKind.NODE,
        origin=Origin.COLLECTOR,
        help="What a boot turned out to be, and what came through it.",
    ),
    EventType(
        name="clock_step",
        resource=ResourceKind.NODE,
        help="The wall clock was set, or the machine was suspended and woke with another time.",
    ),
    EventType(
        name="session_taken_over",
        resource=ResourceKind.NODE,
        help="The broker gave the agent's session to another client of the same name: a clone, or a second machine.",
    ),
)
