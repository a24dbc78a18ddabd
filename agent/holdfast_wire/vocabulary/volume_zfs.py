"""What is said of a volume that is a ZFS dataset: its properties, as zfsprops(7) names them."""

from holdfast_wire.declaration import BOOL, INT, STR, Fact, Origin, ResourceKind, facts

ZFS: list[Fact] = facts(
    ResourceKind.VOLUME,
    Origin.AGENT,
    [
        ("zfs_sync_disabled", BOOL, "", "", "The dataset has sync=disabled: fsync returns before anything is written."),
        ("zfs_logbias", STR, "", "", "latency: a synchronous write goes to the log device, if there is one; throughput: past it. Either keeps what was synchronised."),
        ("zfs_copies", INT, "", "", "How often the pool keeps each block. 2 on one disk mends a bad sector and does not outlive the disk: it makes no class better."),
    ],
)  # fmt: skip
