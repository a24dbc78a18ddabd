"""What is said of a volume: one mounted filesystem."""

from holdfast_wire.declaration import BOOL, FLOAT, INT, STR, EventType, Fact, Origin, ResourceKind, facts

FACTS: list[Fact] = [
    *facts(
        ResourceKind.VOLUME,
        Origin.AGENT,
        [
            ("mountpoint", STR, "", "l", "Where the filesystem is mounted."),
            ("source", STR, "", "l", "What is mounted: a device, a server's export, a pseudo source."),
            ("fstype", STR, "", "l", "The filesystem's type."),
            (
                "device",
                STR,
                "",
                "l",
                "The kernel's name of the block device, e.g. sda1; empty when there is none.",
            ),
            ("options", STR, "", "", "The mount's own options, then the filesystem's."),
            ("size_bytes", INT, "bytes", "m", "The filesystem's size."),
            (
                "free_bytes",
                INT,
                "bytes",
                "m",
                "What an ordinary user may still write; the reserve of root not included.",
            ),
            ("free_ratio", FLOAT, "ratio", "m", "free_bytes over size_bytes."),
            ("inodes", INT, "", "m", "Inodes the filesystem can have; absent where it has no such limit."),
            ("inodes_free", INT, "", "m", "Inodes left."),
            ("inodes_free_ratio", FLOAT, "ratio", "m", "inodes_free over inodes."),
            ("read_only", BOOL, "", "m", "Mounted read-only, by the mount or by the filesystem."),
            (
                "dead",
                BOOL,
                "",
                "m",
                "The filesystem has shut down or gone into emergency read-only: it still looks mounted rw.",
            ),
            ("writable", BOOL, "", "m", "Nothing that can be seen without writing says that writes fail."),
            ("expected_writable", BOOL, "", "", "fstab says rw, or it was mounted rw in this boot."),
            ("unwritable_reason", STR, "", "", "Why it is not writable, in words; empty when it is."),
            (
                "filesystem_errors_total",
                INT,
                "",
                "c",
                "Errors the filesystem has recorded in its superblock (ext4).",
            ),
            ("reachable", BOOL, "", "m", "The filesystem answers; false for a network mount that hangs."),
            ("network", BOOL, "", "", "The filesystem lives on another machine."),
            ("volatile", BOOL, "", "m", "The filesystem lives in memory: nothing on it survives a reboot."),
            (
                "durability_class",
                INT,
                "",
                "m",
                "What its medium survives, D0 to D4: 0 volatile, 1 goes with the host; absent where nobody knows.",
            ),
            (
                "durability_class_known",
                BOOL,
                "",
                "m",
                "Its medium shows its class, or the operator declared it.",
            ),
        ],
    ),
]
EVENTS: tuple[EventType, ...] = ()
