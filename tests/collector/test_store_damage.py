"""The store on a disk that lies, fills up or loses power: never silently empty, never half a commit."""

import errno
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_collector.core.effect import Commit
from holdfast_collector.core.record import State
from holdfast_collector.errors import StoreCorrupt, StoreUnwritable
from holdfast_collector.store.sqlite import SqliteStore
from tests import needs
from tests.collector.records import alert, event_row, key, node_record, notice, seen, tracked


def load(store: SqliteStore) -> State:
    return store.load(events_since=0.0, resolved_since=0.0).state


def filled(path: Path) -> None:
    store = SqliteStore.open(path)
    names = [f"node-{number}" for number in range(300)]
    commit = Commit(
        nodes={name: node_record(name) for name in names}, events=[event_row(1, name) for name in names]
    )
    store.commit("main", store.take("main"), [commit])
    store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "collector.db"


def test_damaged_file_is_set_aside_and_reported_and_the_store_works_on(path: Path) -> None:
    filled(path)
    content = bytearray(path.read_bytes())
    content[8192:12288] = bytes(4096)
    path.write_bytes(content)

    store = SqliteStore.open(path)

    (aside,) = path.parent.glob("collector.db.damaged-*")
    assert aside.read_bytes() == content
    assert "is damaged" in store.opening.loss
    assert aside.name in store.opening.loss
    store.commit("main", store.take("main"), [Commit(nodes={"db-1": node_record()})])
    assert load(store).nodes == [node_record()]


def test_file_that_is_no_database_is_set_aside(path: Path) -> None:
    path.write_bytes(b"these are not the pages you are looking for\n" * 200)

    store = SqliteStore.open(path)

    assert "is damaged" in store.opening.loss
    assert load(store) == State()


@pytest.mark.parametrize("how", ["deleted", "emptied"])
def test_database_that_vanished_is_reported(path: Path, how: str) -> None:
    """SQLite takes a missing or empty file for a new one. We do not: there was a memory here."""
    filled(path)
    if how == "deleted":
        path.unlink()
    else:
        path.write_bytes(b"")

    store = SqliteStore.open(path)

    assert store.opening.loss == f"{path} was there before and is gone: starting with an empty memory"


@pytest.mark.parametrize("seed", range(25))
def test_random_damage_is_never_taken_for_an_empty_memory(path: Path, seed: int) -> None:
    """Whatever is flipped or cut off: the rows are all there, or the loss is reported, or reading says so."""
    filled(path)
    draw = random.Random(seed)
    content = bytearray(path.read_bytes())
    if seed % 2:
        del content[draw.randrange(1, len(content)) :]
    else:
        for _ in range(8):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)

    store = SqliteStore.open(path)
    try:
        loaded = store.load(events_since=0.0, resolved_since=0.0)
    except StoreCorrupt:
        return

    complete = len(loaded.state.nodes) + len(loaded.unreadable) >= 300
    assert store.opening.loss or complete, (
        f"seed {seed}: {len(loaded.state.nodes)} of 300 nodes, and nothing said"
    )


def test_file_that_opens_but_cannot_be_read_is_replaced_with_its_reason(path: Path) -> None:
    filled(path)

    store = SqliteStore.replace(path, "database disk image is malformed")

    assert "malformed" in store.opening.loss
    assert load(store) == State()


WRITER = """
import sys
from pathlib import Path
from holdfast_collector.core.effect import Commit
from holdfast_collector.store.sqlite import SqliteStore
from tests.collector.records import alert, event_row, key, node_record, notice, seen, tracked

store = SqliteStore.open(Path(sys.argv[1]))
epoch = store.take("main")
for number in range(1, 100_000):
    of = alert(f"/{number}", episode=number)
    store.commit("main", epoch, [
        Commit(seen=[seen(number)], events=[event_row(number)], alerts={key(of): tracked(of)}),
        Commit(notices=[notice(of)], next_episode=number + 1),
    ])
    print(number, flush=True)
"""


@pytest.mark.parametrize("after", [1, 7, 40, 200])
def test_kill_at_any_moment_leaves_whole_commits_and_all_that_were_reported(path: Path, after: int) -> None:
    """The acknowledgement leaves when `commit` returns: what it acknowledges must be there, all of it or nothing."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        for _ in range(after):
            process.stdout.readline()
        process.kill()
        reported = [after, *(int(line) for line in process.stdout if line.strip())][-1]

    store = SqliteStore.open(path)
    state = load(store)

    count = len(state.seen)
    assert store.opening.loss == ""
    assert count in (reported, reported + 1)
    assert (len(state.recent), len(state.alerts), len(state.notices), state.next_episode) == (
        count,
        count,
        count,
        count + 1,
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 1 MiB of our own."""
    needs.root()
    mount = needs.tool("mount", package="mount")
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    needs.condition(done.returncode == 0, f"cannot mount a tmpfs here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


@pytest.mark.system
def test_full_disk_refuses_the_commit_and_takes_the_same_one_when_there_is_room(small_disk: Path) -> None:
    store = SqliteStore.open(small_disk / "collector.db")
    epoch = store.take("main")
    of = alert()
    commit = Commit(alerts={key(of): tracked(of)}, notices=[notice(of)], seen=[seen(1)])
    ballast = small_disk / "ballast"
    fill(ballast)

    with pytest.raises(StoreUnwritable):
        store.commit("main", epoch, [Commit(events=[event_row(1) for _ in range(1_000)]), commit])

    before = len(load(store).recent)
    ballast.unlink()
    store.commit("main", epoch, [Commit(events=[event_row(2)]), commit])
    state = load(store)
    assert (state.alerts, state.notices, len(state.recent)) == ([tracked(of)], [notice(of)], before + 1)
