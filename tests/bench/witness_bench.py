"""What witnessing a volume costs: bytes and writes at the device, time and CPU per record, beside the bare disk.

    python -m tests.bench.witness_bench [--records 2000] [--rounds 3] [--folder DIR] [--filesystems ext4,xfs,btrfs]

Ours is a record as the agent's keeper appends it: composed, hashed, the file opened, compared, written past the cache,
synchronised, closed. The peer is the least a program can do: one file held open, 4 KiB written past the cache over
blocks that are there, fdatasync. `pg_test_fsync` (postgresql) is asked as well where it is installed. As root, each
filesystem is a loop device of its own; else, and for the first row, the folder is measured as it is.
"""

import argparse
import contextlib
import mmap
import os
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from holdfast_agent.probes.mountinfo import parse_mountinfo
from holdfast_agent.witness.volume_chain import VolumeChain, Who
from holdfast_agent.witness.volume_standing import StandingBoard
from holdfast_agent.witness.witness_choice import Candidate, WitnessedVolume
from holdfast_wire import Machine, ReadCause
from tests import needs
from tests.bench.figures import milliseconds, percentile, print_heading, print_table
from tests.rigs.loop_disk import LoopDisk

SLOT_BYTES = 4096
SECTOR_BYTES = 512
SLOTS = 2048


class Run(Struct):
    """One subject on one place, over all rounds."""

    taken: list[float]
    cpu_seconds: float = 0.0
    device_writes: int = 0
    device_bytes: int = 0


def device_counters(folder: Path) -> tuple[int, int]:
    """Writes and bytes written, of the device that holds the folder; zeros where there is none."""
    _, source = mount_of(folder)
    with contextlib.suppress(OSError, IndexError):
        # By the source: btrfs has a device number of its own, which no block device has.
        stat = (Path("/sys/class/block") / Path(source).resolve().name / "stat").read_text().split()
        return int(stat[4]), int(stat[6]) * SECTOR_BYTES
    return 0, 0


def mount_of(folder: Path) -> tuple[str, str]:
    """major:minor and source, as mountinfo has them, of the mount that holds the folder."""
    mounts = parse_mountinfo(Path("/proc/self/mountinfo").read_text("utf-8", "replace"))
    holding = [mount for mount in mounts if folder.is_relative_to(mount.mountpoint)]
    deepest = max(holding, key=lambda mount: len(mount.mountpoint))
    return deepest.number, deepest.source


def witness(folder: Path, records: int) -> Iterator[float]:
    """Seconds of each record, as the keeper's thread would append it."""
    volume = WitnessedVolume(
        volume=str(folder),
        path=str(folder),
        number=mount_of(folder)[0],
        fstype="",
        source="",
        mount_root="/",
        network=False,
        interval=60.0,
        slots_max=SLOTS,
        candidates=(Candidate(folder / ".holdfast" / "bench" / "chain", folder),),
    )
    who = Who(install_id="bench", boot_id="bench", epoch=1, machine=Machine())
    board = StandingBoard()
    chain = VolumeChain(volume, who, "", lambda said: None, board)
    chain.read(ReadCause.AGENT_START)
    assert chain.open, board.trouble()
    yield 0.0  # from here on it is counted
    for _ in range(records):
        began = time.perf_counter()
        chain.append()
        yield time.perf_counter() - began
    with board.changing() as standing:
        assert standing.records_total == records, standing.failed_reason


def bare(folder: Path, records: int) -> Iterator[float]:
    """Seconds of each pwrite and fdatasync on one open file."""
    path = folder / "bare"
    with path.open("wb") as file:
        file.write(bytes(SLOTS * SLOT_BYTES))
        file.flush()
        os.fsync(file.fileno())
    buffer = mmap.mmap(-1, SLOT_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_DIRECT)
    try:
        yield 0.0
        for number in range(records):
            buffer[:8] = number.to_bytes(8, "little")
            began = time.perf_counter()
            os.pwrite(descriptor, buffer, number % SLOTS * SLOT_BYTES)
            os.fdatasync(descriptor)
            yield time.perf_counter() - began
    finally:
        os.close(descriptor)


SUBJECTS: dict[str, Callable[[Path, int], Iterator[float]]] = {
    "holdfast record": witness,
    "O_DIRECT write + fdatasync": bare,
}


def measure(subject: Callable[[Path, int], Iterator[float]], folder: Path, records: int, run: Run) -> None:
    """One round, added to `run`."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=folder) as own:
        going = subject(Path(own), records)
        next(going)
        writes, size = device_counters(folder)
        cpu = resource.getrusage(resource.RUSAGE_SELF)
        run.taken += list(going)
        spent = resource.getrusage(resource.RUSAGE_SELF)
        run.cpu_seconds += spent.ru_utime + spent.ru_stime - cpu.ru_utime - cpu.ru_stime
        after = device_counters(folder)
        run.device_writes += after[0] - writes
        run.device_bytes += after[1] - size


def pg_test_fsync(folder: Path) -> str:
    """Its own figure for fdatasync of 8 KiB, operations per second; empty where it is not installed."""
    found = needs.find("pg_test_fsync") or next(
        (str(path) for path in Path("/usr/lib/postgresql").glob("*/bin/pg_test_fsync")), None
    )
    if found is None:
        return ""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=folder) as own:
        done = subprocess.run(
            [found, "-s", "1", "-f", f"{own}/file"], capture_output=True, text=True, check=False
        )
    said = re.search(r"fdatasync\s+([\d.]+) ops/sec", done.stdout)
    return said[1] if said else ""


@contextlib.contextmanager
def places(folder: Path, filesystems: list[str]) -> Iterator[dict[str, Path]]:
    """Where to measure: the folder as it is, and a loop device for each filesystem."""
    with contextlib.ExitStack() as held:
        found = {"folder": folder}
        own = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=folder)))
        for filesystem in filesystems if os.geteuid() == 0 else []:
            disk = held.enter_context(LoopDisk(own, filesystem, size_bytes=512 << 20))
            found[f"{filesystem} on loop"] = disk.mountpoint
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=2000, help="per round, subject and place")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on the disk to measure")
    parser.add_argument("--filesystems", default="ext4,xfs,btrfs", help="as root: loop devices to measure")
    asked = parser.parse_args()
    print_heading(f"Witness: records of 4 KiB, {asked.rounds} rounds of {asked.records}")
    with places(asked.folder.resolve(), [name for name in asked.filesystems.split(",") if name]) as where:
        rows = []
        for place, folder in where.items():
            runs = {name: Run(taken=[]) for name in SUBJECTS}
            for _ in range(asked.rounds):
                for name, subject in SUBJECTS.items():
                    measure(subject, folder, asked.records, runs[name])
            for name, run in runs.items():
                count = len(run.taken)
                rows.append(
                    [
                        place,
                        name,
                        milliseconds(percentile(run.taken, 0.5)),
                        milliseconds(percentile(run.taken, 0.99)),
                        f"{run.cpu_seconds / count * 1e6:.0f} µs",
                        f"{run.device_writes / count:.2f}",
                        f"{run.device_bytes / count:,.0f}",
                        f"{run.device_bytes / count * 1440 / 1e6:.1f} MB",
                    ]
                )
            if said := pg_test_fsync(folder):
                rows.append([place, "pg_test_fsync, fdatasync", f"{said} per second", "", "", "", "", ""])
        print_table(
            ["place", "subject", "p50", "p99", "CPU", "device writes", "device bytes", "a day at 60 s"], rows
        )


if __name__ == "__main__":
    main()
