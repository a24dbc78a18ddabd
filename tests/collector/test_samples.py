"""What is recorded comes back as it was, goes when it is old or too much, and is damaged one slice at a time."""

import os
import resource
import threading
from pathlib import Path
from typing import Self

import pytest
from msgspec import structs

from holdfast_collector.config import Retention
from holdfast_collector.core.event import (
    Acknowledged,
    BrokerChanged,
    Delivered,
    NodeForgotten,
    Received,
    RestoreAnnounced,
    Ticked,
)
from holdfast_collector.core.keyframe import keyframe
from holdfast_collector.core.node import Node
from holdfast_collector.own_metrics import OwnMetrics
from holdfast_collector.samples.files import FOLDER, Damage, SampleFiles, files, parse, read
from holdfast_collector.samples.recorder import SLICE_BYTES, WAITING_MAX, Recorder
from holdfast_collector.samples.slice import (
    HEADER,
    Known,
    Recorded,
    Slice,
    SliceUnusable,
    framed,
    pack,
    unpack,
)
from tests.collector.fleet import T0
from tests.collector.records import chain_record, node_record
from tests.waiting import wait_for

MIB = 1024 * 1024
LOST = "holdfast_collector_samples_lost_total"


def piece(number: int = 0, began_at: float = T0, seconds: float = 60.0, events: int = 30) -> Slice:
    """A slice of incompressible messages."""
    return Slice(
        number=number,
        began_at=began_at,
        ended_at=began_at + seconds * (events - 1) / events,
        connected=True,
        events=[Received(began_at + seconds * n / events, "n1", os.urandom(64)) for n in range(events)],
    )


def test_every_kind_of_event_comes_back_as_it_was() -> None:
    node = Node(node_record(), T0)
    node.chains = {"c": chain_record()}
    events: list[Recorded] = [
        BrokerChanged(T0, connected=True),
        Received(T0 + 0.25, "n2", b"\x00 no JSON"),
        Received(T0 + 1.0, "n1", b"{}"),
        Known(T0 + 1.0, keyframe(node)),
        Acknowledged(T0 + 2.0, "install/R-1/volume:/1", "Größe geprüft"),
        RestoreAnnounced(T0 + 3.0, "n1", T0 + 900.0, "drill"),
        NodeForgotten(T0 + 4.0, "n2"),
        BrokerChanged(T0 + 5.0, connected=False),
    ]
    one = Slice(number=3, began_at=T0, ended_at=T0 + 5.0, connected=False, events=events)

    (back,) = parse(pack(one), "x")

    assert back == one


def test_files_hold_an_hour_each_and_are_read_by_time(tmp_path: Path) -> None:
    samples = SampleFiles(tmp_path / FOLDER)
    for minute in range(150):
        one = piece(minute, T0 + 60.0 * minute, events=2)
        samples.append(pack(one), one.began_at, 1024 * MIB)

    found = list(read(tmp_path / FOLDER, T0 + 3500.0, T0 + 3700.0))

    assert [file[0] for file in files(tmp_path / FOLDER)] == [T0, T0 + 3600.0, T0 + 7200.0]
    assert [part.number for part in found if isinstance(part, Slice)] == [58, 59, 60, 61]


def test_what_is_old_goes_by_whole_files(tmp_path: Path) -> None:
    samples = SampleFiles(tmp_path / FOLDER)
    for hour in range(5):
        samples.append(pack(piece(hour, T0 + 3600.0 * hour)), T0 + 3600.0 * hour, 1024 * MIB)

    dropped = samples.prune(T0 + 2.5 * 3600.0, 1024 * MIB)

    assert dropped == []
    assert [file[0] for file in files(tmp_path / FOLDER)] == [T0 + 7200.0, T0 + 10_800.0, T0 + 14_400.0]


def test_too_much_drops_the_oldest_and_says_which(tmp_path: Path) -> None:
    """And never the file that is being written, however small the room."""
    samples = SampleFiles(tmp_path / FOLDER)
    limit = 64_000
    dropped: list[str] = []
    for number in range(40):
        one = piece(number, T0 + 60.0 * number, events=60)
        samples.append(pack(one), one.began_at, limit)
        dropped += samples.prune(0.0, limit)

    kept = samples.kept()
    samples.prune(T0 + 1e6, 1)
    assert len(files(tmp_path / FOLDER)) == 1
    assert 0.7 * limit < kept.bytes <= limit
    assert dropped
    assert dropped[0] == f"{int(1000 * T0):014}.samples"
    assert kept.since > T0


def test_damaged_slice_is_named_and_the_next_one_is_read(tmp_path: Path) -> None:
    pieces = [piece(number, T0 + 60.0 * number) for number in range(3)]
    frames = [bytearray(pack(one)) for one in pieces]
    frames[1][len(frames[1]) // 2] ^= 0x10

    found = list(parse(b"".join(frames), "f.samples"))

    assert [found[0], found[2]] == [pieces[0], pieces[2]]
    assert str(found[1]) == (
        f"f.samples, byte {len(frames[0])}: its checksum does not fit; {len(frames[1])} bytes are left out"
    )


@pytest.mark.parametrize("place", [0, 4, 5, 8, 12, 20])
def test_damaged_header_costs_its_slice_only(place: int) -> None:
    """Its length may point anywhere, even beyond the end."""
    pieces = [piece(number, T0 + 60.0 * number) for number in range(3)]
    frames = [bytearray(pack(one)) for one in pieces]
    frames[1][place] ^= 0x40

    found = list(parse(b"".join(frames), "f.samples"))

    assert [found[0], found[-1]] == [pieces[0], pieces[2]]
    assert [type(one) for one in found[1:-1]] == [Damage]


def test_unfinished_slice_at_the_end_is_no_damage() -> None:
    """It is being written now, or its writer was killed: that much may be lost."""
    whole, torn = pack(piece()), pack(piece(1, T0 + 60.0))

    found = [
        list(parse(whole + torn[:cut], "f")) for cut in (1, 3, HEADER.size, HEADER.size + 1, len(torn) - 1)
    ]

    assert found == [[unpack(whole[: HEADER.size], whole[HEADER.size :])]] * 5


def test_slice_that_another_release_wrote_is_told() -> None:
    """A whole frame of rows we do not know."""
    strange = framed(b"no zlib", T0, T0)

    with pytest.raises(SliceUnusable, match="a newer release wrote it"):
        unpack(strange[: HEADER.size], strange[HEADER.size :])


def test_write_that_the_disk_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    """The folder's place is taken by a file: as good as a disk that fails, and it heals."""
    samples = SampleFiles(tmp_path / FOLDER)
    (tmp_path / FOLDER).touch()

    with pytest.raises(OSError, match=FOLDER):
        samples.append(pack(piece()), T0, 1024 * MIB)
    (tmp_path / FOLDER).unlink()
    samples.append(pack(piece(1)), T0, 1024 * MIB)

    assert [part.number for part in read(tmp_path / FOLDER, 0.0, T0 + 99.0) if isinstance(part, Slice)] == [1]


def test_disk_that_fills_up_within_a_slice_leaves_whole_slices_only(tmp_path: Path) -> None:
    """The limit of a file's size stands for the full disk: the kernel takes a part, then refuses."""
    samples = SampleFiles(tmp_path / FOLDER)
    first, second = pack(piece()), pack(piece(1))
    samples.append(first, T0, 1024 * MIB)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(first) + 100, limits[1]))
    try:
        with pytest.raises(OSError, match="the disk took a part only"):
            samples.append(second, T0 + 60.0, 1024 * MIB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    samples.append(second, T0 + 60.0, 1024 * MIB)

    assert [size for _, _, size in files(tmp_path / FOLDER)] == [len(first), len(second)]


class Bench:
    """A recorder over one node."""

    def __init__(self, folder: Path, **retention: float) -> None:
        self.folder = folder / FOLDER
        self.nodes = {"n1": Node(node_record("n1"), T0)}
        self.metrics = OwnMetrics("0", T0)
        self.recorder = Recorder(
            folder,
            self.nodes,
            retention=structs.replace(Retention(), **retention),
            metrics=self.metrics,
            now=lambda: T0,
        )

    def ticked(self, at: float) -> Self:
        """A second passes."""
        self.recorder.note(Ticked(at))
        return self

    def slices(self) -> list[Slice]:
        return [part for part in read(self.folder, 0.0, T0 + 1e6) if isinstance(part, Slice)]

    def metric(self, name: str) -> float:
        page = self.metrics.render(openmetrics=False).decode()
        return float(next(line.split()[1] for line in page.splitlines() if line.startswith(f"{name} ")))


def test_recorder_keeps_what_rules_depend_on_and_every_node_whole(tmp_path: Path) -> None:
    """What receivers took and that time passed is in no need of a record."""
    bench = Bench(tmp_path)

    for event in (
        BrokerChanged(T0, connected=True),
        Received(T0 + 1.0, "n1", b"a"),
        Delivered(T0 + 1.5, "notice"),
        Ticked(T0 + 2.0),
        Ticked(T0 + 3.0),
    ):
        bench.recorder.note(event)
    bench.recorder.close()

    assert [slice_.events for slice_ in bench.slices()] == [
        [
            BrokerChanged(T0, connected=True),
            Received(T0 + 1.0, "n1", b"a"),
            Known(T0 + 2.0, keyframe(bench.nodes["n1"])),
        ]
    ]
    assert bench.metric("holdfast_collector_samples_bytes") == sum(size for _, _, size in files(bench.folder))
    assert bench.metric("holdfast_collector_samples_oldest_timestamp_seconds") == T0


def test_slice_reaches_from_the_end_of_the_last_one_to_the_newest_tick(tmp_path: Path) -> None:
    """A collector that hears nobody says so: a replay must not end where the last agent fell silent."""
    bench = Bench(tmp_path)
    bench.recorder.note(Received(T0 + 1.0, "n1", bytes(SLICE_BYTES)))
    bench.ticked(T0 + 90.0)
    bench.recorder.close()

    assert [(one.began_at, one.ended_at) for one in bench.slices()] == [(T0, T0 + 1.0), (T0 + 1.0, T0 + 90.0)]


def test_slices_are_cut_by_size_and_know_whether_there_was_a_broker(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.recorder.note(BrokerChanged(T0, connected=True))
    for _ in range(3):
        bench.recorder.note(Received(T0 + 1.0, "n1", bytes(SLICE_BYTES)))
        wait_for(lambda: len(bench.slices()) > 0)
    bench.recorder.close()

    assert [(one.number, one.connected) for one in bench.slices() if one.events] == [
        (0, False),
        (1, True),
        (2, True),
    ]


def test_recording_that_is_switched_off_leaves_no_trace(tmp_path: Path) -> None:
    """What agents said is not kept against the operator's wish: older files go, too."""
    SampleFiles(tmp_path / FOLDER).append(pack(piece()), T0, 1024 * MIB)
    bench = Bench(tmp_path, samples=0.0)

    bench.recorder.note(Received(T0 + 1.0, "n1", b"a"))
    bench.ticked(T0 + 2.0)
    bench.recorder.close()

    assert list(bench.folder.iterdir()) == []


def test_node_that_is_met_later_has_its_keyframe_at_once(tmp_path: Path) -> None:
    """Not an hour later; and everybody's comes again each hour."""
    bench = Bench(tmp_path)
    for second in (0.0, 1.0, 2.0):
        bench.ticked(T0 + second)
    bench.nodes["n2"] = Node(node_record("n2"), T0)
    for second in (3.0, 4.0, 3601.0, 3602.0, 3603.0):
        bench.ticked(T0 + second)
    bench.recorder.close()

    known = [
        (event.at - T0, event.keyframe.record.node)
        for one in bench.slices()
        for event in one.events
        if isinstance(event, Known)
    ]
    assert known == [(0.0, "n1"), (3.0, "n2"), (3601.0, "n2"), (3602.0, "n1")]


def test_disk_that_refuses_is_counted_and_shows_in_the_numbers(tmp_path: Path) -> None:
    """A replay sees that something is missing between the slices before and after."""
    bench = Bench(tmp_path)
    bench.folder.touch()
    bench.recorder.note(Received(T0, "n1", bytes(SLICE_BYTES)))
    wait_for(lambda: bench.ticked(T0 - 1e6).metric(LOST))
    bench.folder.unlink()
    bench.recorder.note(Received(T0 + 60.0, "n1", bytes(SLICE_BYTES)))
    bench.recorder.close()

    assert bench.metric(LOST) == 1.0
    assert [one.number for one in bench.slices() if one.events] == [1]


def test_disk_that_is_slower_than_the_fleet_costs_samples_not_memory(tmp_path: Path) -> None:
    """Its thread hangs, as in a write that does not return."""
    bench = Bench(tmp_path)
    gate = threading.Event()
    bench.recorder._thread.submit(gate.wait)
    for _ in range(WAITING_MAX + 3):
        bench.recorder.note(Received(T0, "n1", bytes(SLICE_BYTES)))
    gate.set()
    bench.recorder.close()

    assert bench.metric(LOST) == 3.0
    assert [one.number for one in bench.slices()] == list(range(WAITING_MAX))
