"""The series of the witness: how old each volume's newest promise is, what was lost, what was survived, how fast it flushes."""

from collections.abc import Iterable

from holdfast_collector.core.chain import ChainRecord
from holdfast_collector.core.fsync_times import FsyncTimes
from holdfast_collector.core.node import Node
from holdfast_collector.core.survival import last_survived
from holdfast_collector.core.witness_facts import current, volumes_of
from holdfast_collector.text_format import Family, FamilyType, escape, labels


class WitnessSeries:
    """The families of the witness."""

    def __init__(self) -> None:
        self._lag = Family(
            "holdfast_witness_lag_seconds",
            FamilyType.GAUGE,
            "Since the volume's newest record was confirmed and committed here: what a crash now could take unseen.",
        )
        self._lost = Family(
            "holdfast_witness_lost_records_total",
            FamilyType.COUNTER,
            "Confirmed records that a volume did not keep, acknowledged losses included.",
        )
        self._tested = Family(
            "holdfast_durability_tested_timestamp_seconds",
            FamilyType.GAUGE,
            "When the volume last came whole through an event of the class, Unix time. Absent: never tested.",
        )
        self._fsync = Family(
            "holdfast_witness_fsync_seconds",
            FamilyType.HISTOGRAM,
            "How long the fsync of a record took, since this collector started.",
        )
        self.families = [self._lag, self._lost, self._tested, self._fsync]

    def write(self, node: Node) -> None:
        """Rewrite a node's lines, but for the ages."""
        by_volume = {
            volume: [record for record in records if record.volume == volume]
            for volume, records in volumes_of(node.chains).items()
        }
        self._lost.put(node.name, "".join(self._lost_line(node.name, *item) for item in by_volume.items()))
        self._tested.put(
            node.name, "".join(self._tested_lines(node.name, *item) for item in by_volume.items())
        )
        self._fsync.put(
            node.name, "".join(self._fsync_lines(node.name, *item) for item in node.fsyncs.items())
        )

    def write_lag(self, node: Node, now: float) -> None:
        """Rewrite the ages of a node's newest records."""
        if not node.chains and node.name not in self._lag.lines:
            return
        lines = []
        for volume, records in volumes_of(node.chains).items():
            newest = current([record for record in records if record.volume == volume])
            if newest is not None and newest.head_at:
                lag = max(0.0, now - newest.head_at)
                lines.append(f'{self._lag.opening}node="{node.name}",volume="{escape(volume)}"}} {lag:.3f}\n')
        self._lag.put(node.name, "".join(lines))

    def forget(self, node: str) -> None:
        """Remove all lines of a node."""
        for family in self.families:
            family.lines.pop(node, None)

    def _lost_line(self, node: str, volume: str, records: Iterable[ChainRecord]) -> str:
        lost = sum(breach.records for record in records for breach in record.losses)
        return f"{self._lost.opening}{labels(('node', node), ('volume', volume))}}} {lost}\n"

    def _tested_lines(self, node: str, volume: str, records: Iterable[ChainRecord]) -> str:
        return "".join(
            f"{self._tested.opening}{labels(('node', node), ('volume', volume), ('event', event))}}} {at:.3f}\n"
            for event, at in sorted(last_survived(records).items())
        )

    def _fsync_lines(self, node: str, volume: str, times: FsyncTimes) -> str:
        name, key = self._fsync.name, labels(("node", node), ("volume", volume))
        buckets = "".join(
            f'{name}_bucket{{{key},le="{bound!r}"}} {count}\n' for bound, count in times.cumulative()
        )
        return (
            f'{buckets}{name}_bucket{{{key},le="+Inf"}} {times.total}\n'
            f"{name}_sum{{{key}}} {times.total_seconds!r}\n{name}_count{{{key}}} {times.total}\n"
        )
