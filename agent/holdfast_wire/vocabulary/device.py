"""What is said of a block device."""

from holdfast_wire.declaration import BOOL, FLOAT, INT, STR, EventType, Fact, Origin, ResourceKind, facts
from holdfast_wire.vocabulary.device_health import HEALTH

MEDIA = (
    "azure_data_disk", "azure_ephemeral_os_disk", "azure_local_nvme", "azure_os_disk", "azure_temporary", "ebs_volume", "ec2_instance_store",
    "ec2_xen_disk", "gcp_local_ssd", "gcp_persistent_disk", "local_disk", "memory", "network_disk", "optical",
    "persistent_memory", "unknown", "virtual_disk",
)  # fmt: skip
"""What a disk can be."""

FACTS: list[Fact] = [
    *facts(
        ResourceKind.DEVICE,
        Origin.AGENT,
        [
            ("type", STR, "", "l", "disk, part, lvm, crypt, raid1, mpath, loop, …, as lsblk names it."),
            ("medium", STR, "", "l", "What a disk is; absent for a device that rests on others."),
            ("model", STR, "", "l", "A disk's model."),
            ("serial", STR, "", "l", "A disk's serial number; of an EBS volume its id."),
            ("transport", STR, "", "l", "How a disk is connected: nvme, sata, virtio, iscsi, …"),
            ("size_bytes", INT, "bytes", "m", "The device's size."),
            ("rotational", BOOL, "", "", "A disk that turns, or says so."),
            ("read_only", BOOL, "", "m", "The device refuses writes."),
            ("parents", STR, "", "", "The devices it rests on directly, with commas."),
            ("leaf_devices", STR, "", "", "The disks it ends on, with commas."),
            (
                "durability_class",
                INT,
                "",
                "m",
                "What it survives, 0 to 4 as of a volume; absent where nobody knows.",
            ),
            ("durability_class_reason", STR, "", "", "Why that is its class, or why it has none."),
            ("durability_class_declared", BOOL, "", "", "The class comes from the operator."),
            (
                "queue_io_timeout_seconds",
                FLOAT,
                "seconds",
                "m",
                "After this long the kernel gives a request up.",
            ),
            (
                "host_cache",
                STR,
                "",
                "",
                "Azure's cache on the host before the disk: None, ReadOnly, ReadWrite.",
            ),
        ],
    ),
    *facts(
        ResourceKind.DEVICE,
        Origin.AGENT,
        [
            (
                "stalled_seconds",
                FLOAT,
                "seconds",
                "m",
                "For how long at least requests have been in flight without one completing; 0: they complete.",
            ),
            ("requests_stalled", INT, "", "", "How many requests wait while none completes."),
            ("scsi_errors_total", INT, "", "", "Requests the SCSI layer saw fail since it found the disk."),
            ("scsi_timeouts_total", INT, "", "", "Requests that timed out, likewise."),
            (
                "request_errors_total",
                INT,
                "",
                "c",
                "Requests to the device that the kernel's trace saw fail since the agent began to count; at least so many.",
            ),
            ("request_error_last", STR, "", "", "The newest of them: what was asked, where, and the error."),
            (
                "pool_state",
                STR,
                "",
                "",
                "How a ZFS pool stands: ONLINE, DEGRADED, FAULTED, UNAVAIL, SUSPENDED, …",
            ),
            ("pool_trouble", STR, "", "", "Its devices that are not well, in words; empty: all are."),
            ("pool_devices_troubled", INT, "", "", "How many these are."),
            ("pool_data_errors", INT, "", "", "Blocks of which the pool has no good copy left."),
            ("pool_capacity_ratio", FLOAT, "ratio", "m", "How full the pool is."),
            (
                "pool_scrub_age_seconds",
                FLOAT,
                "seconds",
                "m",
                "When its newest complete scrub ended, as an age.",
            ),
            ("pool_resilvering", BOOL, "", "", "The pool copies onto a new or returned device."),
            ("backing_file", STR, "", "", "The file behind a loop device."),
            (
                "backing_missing_bytes",
                INT,
                "bytes",
                "",
                "What the file lacks of the device's size: it was cut.",
            ),
            ("backing_deleted", BOOL, "", "", "The file was deleted; it lives until the device is detached."),
            ("backing_unallocated_bytes", INT, "bytes", "", "What the file has no blocks for yet."),
            ("backing_free_bytes", INT, "bytes", "", "What is free on the filesystem the file lies on."),
        ],
    ),
    *HEALTH,
]
EVENTS: tuple[EventType, ...] = (
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
        name="nvme_warning",
        resource=ResourceKind.DEVICE,
        help="An NVMe told by itself of an internal error, degraded reliability, heat or spare blocks running out.",
    ),
)
