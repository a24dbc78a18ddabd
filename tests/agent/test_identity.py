"""Who the agent is across restarts: no two runs share a position, and trouble is said instead of hidden."""

import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from holdfast_agent.cursors import CursorFolder
from holdfast_agent.errors import AlreadyRunning
from holdfast_agent.identity import Standing, StateFolder
from tests import needs


def run_once(folder: Path, *, clean: bool) -> Standing:
    state = StateFolder(folder)
    standing = state.open()
    if clean:
        state.close(clean=True)
    else:
        state.close(clean=False)
    return standing


def test_each_start_counts_and_knows_how_the_last_one_ended(tmp_path: Path) -> None:
    runs = [run_once(tmp_path / "state", clean=clean) for clean in (True, False, True)]

    assert [(run.epoch, run.previous_stop, run.detail) for run in runs] == [
        (1, "first", ""),
        (2, "clean", ""),
        (3, "dirty", ""),
    ]


def test_install_id_never_changes(tmp_path: Path) -> None:
    ids = {run_once(tmp_path, clean=True).install_id for _ in range(3)}

    assert len(ids) == 1


def test_two_installations_differ(tmp_path: Path) -> None:
    assert run_once(tmp_path / "a", clean=True).install_id != run_once(tmp_path / "b", clean=True).install_id


def test_start_is_counted_on_disk_before_it_is_used(tmp_path: Path) -> None:
    """A run that is killed at once must still have used its number up."""
    state = StateFolder(tmp_path)
    state.open()

    assert msgspec.json.decode((tmp_path / "run.json").read_bytes())["epoch"] == 1
    state.close(clean=False)


def test_second_agent_on_the_same_folder_is_turned_away(tmp_path: Path) -> None:
    """Two with one identity would look like a clone, and throw each other off the broker."""
    first = StateFolder(tmp_path)
    first.open()

    with pytest.raises(AlreadyRunning):
        StateFolder(tmp_path).open()
    first.close(clean=True)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b'{"epoch": "many", "stop": "clean"}'])
def test_damaged_counter_is_kept_aside_and_counted_past(tmp_path: Path, content: bytes) -> None:
    """To begin at 1 again would make every new message the twin of an old one."""
    install_id = run_once(tmp_path, clean=True).install_id
    (tmp_path / "run.json").write_bytes(content)
    standing = run_once(tmp_path, clean=True)

    assert (standing.install_id, standing.epoch > 1_600_000_000) == (install_id, True)
    assert "run.json is unreadable" in standing.detail
    assert (tmp_path / "run.json.corrupt").read_bytes() == content


def test_damaged_install_id_is_kept_aside_and_said(tmp_path: Path) -> None:
    run_once(tmp_path, clean=True)
    (tmp_path / "install_id").write_bytes(b"\0\0\0")
    standing = run_once(tmp_path, clean=True)

    assert (len(standing.install_id), standing.epoch) == (32, 2)
    assert "is no install id" in standing.detail


def test_folder_that_cannot_be_made_does_not_stop_the_agent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    state = StateFolder(tmp_path / "file" / "state")
    standing = state.open()

    assert "goes on from memory" in standing.detail
    assert standing.epoch > 1_600_000_000, "counted from the clock, so that it never repeats itself"
    assert not state.settle()


def test_identity_is_written_once_the_folder_takes_it_again(tmp_path: Path) -> None:
    blocker = tmp_path / "state"
    blocker.write_text("a file where the folder should be")
    state = StateFolder(blocker)
    standing = state.open()
    blocker.unlink()
    settled = state.settle()
    state.close(clean=True)
    again = run_once(blocker, clean=True)

    assert (settled, again.epoch, again.previous_stop) == (True, standing.epoch + 1, "clean")
    assert again.install_id == standing.install_id, "what was said to the collector must stay true"


def test_read_only_folder_keeps_the_install_id(tmp_path: Path) -> None:
    needs.root()
    folder = tmp_path / "state"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    try:
        install_id = run_once(folder, clean=True).install_id
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        standing = run_once(folder, clean=True)
    finally:
        subprocess.run(["umount", folder], check=True)

    assert (standing.install_id, standing.epoch > 1_600_000_000) == (install_id, True)
    assert "Read-only file system" in standing.detail


def test_state_is_for_the_agents_user_only(tmp_path: Path) -> None:
    run_once(tmp_path / "state", clean=True)

    modes = [os.stat(path).st_mode & 0o077 for path in (tmp_path / "state").iterdir()]
    assert (modes, os.stat(tmp_path / "state").st_mode & 0o077) == ([0] * len(modes), 0)


# The probes' notes


def test_note_survives_the_agent(tmp_path: Path) -> None:
    folder = CursorFolder(tmp_path)
    folder.of("kernel_log").store("position", b"old")
    folder.of("kernel_log").store("position", b"new")
    assert folder.flush(30.0)

    assert CursorFolder(tmp_path).of("kernel_log").load("position") == b"new"


def test_notes_of_different_probes_are_apart(tmp_path: Path) -> None:
    folder = CursorFolder(tmp_path)
    folder.of("a").store("position", b"1")

    assert (folder.of("a").load("position"), folder.of("b").load("position")) == (b"1", None)


def test_note_that_cannot_be_written_is_still_remembered(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = CursorFolder(tmp_path / "file")
    folder.of("a").store("position", b"1")
    assert folder.flush(30.0)

    assert (folder.of("a").load("position"), folder.failure != "") == (b"1", True)
