"""What the agent says of a volume's witness: the records it keeps there, and what they cost to keep."""

from holdfast_wire.declaration import BOOL, FLOAT, INT, STR, EventType, Fact, Origin, ResourceKind, facts

FACTS: list[Fact] = [
    *facts(
        ResourceKind.VOLUME,
        Origin.AGENT,
        [
            (
                "witness_wanted",
                BOOL,
                "",
                "",
                "The configuration asks for records on a volume like this, and nothing about it speaks against them.",
            ),
            (
                "witness_enabled",
                BOOL,
                "",
                "m",
                "Records are kept on the volume, to be missed if they are lost.",
            ),
            ("witness_reason", STR, "", "", "Why no records are kept on the volume; empty when they are."),
            (
                "witness_mode",
                STR,
                "",
                "",
                "How records are read back: direct, past the cache, or buffered, which proves less.",
            ),
            (
                "witness_interval_seconds",
                FLOAT,
                "seconds",
                "",
                "How often a record is written, give or take a fifth.",
            ),
            (
                "witness_fsync_last_seconds",
                FLOAT,
                "seconds",
                "m",
                "How long the newest record took to be written and synchronised.",
            ),
            ("witness_fsync_p50_seconds", FLOAT, "seconds", "m", "The median of that over the last hour."),
            (
                "witness_fsync_p99_seconds",
                FLOAT,
                "seconds",
                "m",
                "The 99th percentile of that over the last hour.",
            ),
            (
                "witness_failed",
                BOOL,
                "",
                "m",
                "Writing or synchronising a record failed since the volume was mounted: other data may be lost too.",
            ),
            ("witness_failed_reason", STR, "", "", "The first such error and the call that gave it."),
            (
                "witness_stuck_seconds",
                FLOAT,
                "seconds",
                "m",
                "How long the volume has not answered the agent's present call; 0 when it answers.",
            ),
            (
                "writeback_failed",
                BOOL,
                "",
                "m",
                "Some file of the filesystem lost data when it was written out, since the volume was mounted (syncfs).",
            ),
            ("writeback_failed_reason", STR, "", "", "What syncfs said."),
            (
                "write_probe_error",
                STR,
                "",
                "",
                "The error of the newest record, e.g. EROFS or EIO; empty when it was written.",
            ),
            ("witness_records_total", INT, "", "c", "Records written since the agent started."),
            (
                "witness_written_bytes_total",
                INT,
                "bytes",
                "c",
                "Bytes of them, and of the ring when it was made.",
            ),
        ],
    ),
]
EVENTS: tuple[EventType, ...] = ()
