"""What is said of a node's exposure: what waits in memory, standstills, copies, state out of sight, whose machine it is."""

from holdfast_wire.declaration import BOOL, FLOAT, INT, STR, EventType, Fact, Origin, ResourceKind, facts

HEALTH: list[Fact] = facts(
    ResourceKind.NODE,
    Origin.AGENT,
    [
        ("written_back_bytes_total", INT, "bytes", "c", "Dirty memory that was written to its device since boot."),
        ("dirty_expire_seconds", FLOAT, "seconds", "m", "How old written data may become before the kernel writes it out."),
        ("swap_bytes", INT, "bytes", "m", "Swap space."),
        ("swap_free_ratio", FLOAT, "ratio", "m", "Free swap space over swap space; absent without any."),
        ("swap_devices", STR, "", "", "The disks that swap lies on."),
        ("swap_temporary", BOOL, "", "m", "They are all temporary disks or memory, which is right for swap."),
        ("freezes_total", INT, "", "c", "Times the machine stood still, or slept, since the agent started."),
        ("freeze_seconds", FLOAT, "seconds", "m", "How long the newest standstill lasted."),
        ("services_out_of_sight", INT, "", "m", "Services that keep state where the agent may not look."),
        ("preemptible", BOOL, "", "m", "Its cloud may take the machine back at any time: Spot, low priority, preemptible."),
        ("preemptible_reason", STR, "", "", "What says so, or that it is not."),
        ("preemptible_declared", BOOL, "", "", "It is the operator's word."),
        ("cloud_instance_id", STR, "", "", "The instance its cloud says this machine is: vmId, instance-id, instance/id."),
        ("cloud_instance_changed", BOOL, "", "m", "In this boot the same agent is on another instance than before."),
        ("cloud_instance_before", STR, "", "", "The cloud and the instance that it was before; empty without a change."),
        ("services_out_of_sight_right", STR, "", "", "The right it lacks for that; empty when there is none out of sight."),
    ],
)  # fmt: skip
EVENTS: tuple[EventType, ...] = (
    EventType(
        name="freeze",
        resource=ResourceKind.NODE,
        help="The machine, or the agent alone, stood still or slept for longer than five seconds.",
    ),
    EventType(
        name="vm_generation_change",
        resource=ResourceKind.NODE,
        help="The hypervisor announced that this machine goes on from a copy: a clone or a rollback.",
    ),
)
