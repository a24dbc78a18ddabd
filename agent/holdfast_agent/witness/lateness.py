"""How late what is said of a witness is at worst: as `detection` says it of probes."""

from holdfast_agent.detection import Detection, Subject
from holdfast_agent.probe import facts_of
from holdfast_agent.probes.mount_watch_linux import MOUNT
from holdfast_agent.witness.volume_keeper import JITTER, SYNCFS_SECONDS
from holdfast_agent.witness.volume_standing import EMITS, STUCK_AFTER_SECONDS
from holdfast_agent.witness.witnessing import PLAN_SECONDS

SUBJECTS: tuple[Subject, ...] = facts_of("volume", *EMITS)
_OF_A_RECORD = facts_of(
    "volume",
    "witness_fsync_last_seconds",
    "witness_fsync_p50_seconds",
    "witness_fsync_p99_seconds",
    "witness_failed",
    "witness_failed_reason",
    "write_probe_error",
    "witness_records_total",
    "witness_written_bytes_total",
)
_OF_SYNCFS = facts_of("volume", "writeback_failed", "writeback_failed_reason")
_OF_A_CALL = facts_of("volume", "witness_stuck_seconds")
_OF_THE_PLAN = tuple(pair for pair in SUBJECTS if pair not in (*_OF_A_RECORD, *_OF_SYNCFS, *_OF_A_CALL))


def witness_detections(record_seconds: float, report_seconds: float) -> list[Detection]:
    """`record_seconds`: from record to record, as configured; `report_seconds`: from report to report."""
    rows = (
        (_OF_THE_PLAN, PLAN_SECONDS, "volumes are gone through once a minute"),
        (_OF_A_RECORD, record_seconds * (1 + JITTER), "with every record"),
        (_OF_SYNCFS, SYNCFS_SECONDS, "syncfs is asked once a minute"),
        (_OF_A_CALL, STUCK_AFTER_SECONDS, "a call that does not return"),
    )
    looked = [
        Detection(subjects=subjects, within_seconds=round(seconds + report_seconds, 3), because=because)
        for subjects, seconds, because in rows
    ]
    return [*looked, Detection(subjects=_OF_THE_PLAN, told_by=MOUNT)]
