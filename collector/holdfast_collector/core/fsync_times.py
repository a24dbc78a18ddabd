"""How long fsyncs took on one volume, as a histogram that never forgets while the collector runs."""

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds in seconds: from an NVMe's flush to a path that hangs (catalogue E5)."""


class FsyncTimes:
    """Counts per bucket, as Prometheus wants them, from the witnesses that were committed."""

    __slots__ = ("counts", "total", "total_seconds")

    def __init__(self) -> None:
        self.counts = [0] * len(BOUNDS)
        """Observations within each bound and above the one before."""
        self.total = 0
        self.total_seconds = 0.0

    def add(self, seconds: float) -> None:
        """One fsync took so long."""
        self.total += 1
        self.total_seconds += seconds
        for place, bound in enumerate(BOUNDS):
            if seconds <= bound:
                self.counts[place] += 1
                return

    def cumulative(self) -> list[tuple[float, int]]:
        """(upper bound, observations up to it)."""
        seen, rows = 0, []
        for bound, count in zip(BOUNDS, self.counts, strict=True):
            seen += count
            rows.append((bound, seen))
        return rows
