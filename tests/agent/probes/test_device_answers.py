"""Answers that only root may have: asked for in one process, read in another, old or forbidden ones refused."""

import os
import stat
from pathlib import Path

import msgspec
import pytest

from holdfast_agent.__main__ import main
from holdfast_agent.errors import Denied
from holdfast_agent.probe import ProbeContext
from holdfast_agent.probes.device_answers_linux import (
    SMART_PERIOD_SECONDS,
    Answer,
    Answers,
    DeviceAnswers,
    ask,
    ask_smart,
    smart_disks,
    stored,
)


def put(root: Path, answers: Answers) -> None:
    folder = root / "run" / "holdfast-devices"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lvm.json").write_bytes(msgspec.json.encode(answers))


def source(root: Path, now: float) -> DeviceAnswers:
    asked_itself: Answers = {"lvs": Answer(status=0, output="asked itself", asked=now)}
    return DeviceAnswers(
        ProbeContext(node="n", rootfs=root, boot_clock=lambda: now), "lvm", lambda before: asked_itself
    )


def test_a_fresh_answer_is_taken(tmp_path: Path) -> None:
    put(tmp_path, {"lvs": Answer(status=0, output="yes", asked=1000.0)})

    assert source(tmp_path, 1100.0).get(600.0)["lvs"].output == "yes"


@pytest.mark.parametrize("asked", [100.0, 2000.0], ids=["old", "of another boot"])
def test_an_old_answer_is_no_answer(tmp_path: Path, asked: float) -> None:
    """What was true an hour ago must not pass for health; and a time that has not come yet is another boot's."""
    put(tmp_path, {"lvs": Answer(status=0, output="yes", asked=asked)})
    answers = source(tmp_path, 1100.0)

    if os.geteuid() == 0:
        assert answers.get(600.0)["lvs"].output == "asked itself"
    else:
        with pytest.raises(Denied, match=r"holdfast-devices\.timer"):
            answers.get(600.0)


def test_without_rights_and_without_a_helper_it_is_denied_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(Denied, match=r"enable holdfast-devices\.timer"):
        source(tmp_path, 1100.0).get(600.0)


def test_half_a_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "lvm.json").write_bytes(b'{"lvs": {"sta')

    assert stored(tmp_path, "lvm") == {}


def test_a_program_is_asked_in_english_and_its_status_kept() -> None:
    answer = ask(("sh", "-c", "echo $LC_ALL; echo wrong >&2; exit 5"))

    assert (answer.status, answer.output, answer.error) == (5, "C\n", "wrong")


def test_a_program_that_hangs_is_left_behind() -> None:
    answer = ask(("sleep", "600"), seconds=0.05)

    assert (answer.status, answer.error) == (-1, "sleep did not answer within 0.05 s")


def test_a_program_that_is_not_there_is_said_so() -> None:
    assert ask(("no-such-program",)).error == "no-such-program is not installed"


def test_only_disks_that_can_keep_a_record_are_asked(tmp_path: Path) -> None:
    for name in ("sda", "vda", "nvme0n1", "nvme0c0n1", "loop0", "dm-0", "md0", "xvda", "zram0", "sr0"):
        (tmp_path / "block" / name).mkdir(parents=True)

    assert smart_disks(tmp_path) == ["sda", "nvme0n1"]


def test_a_record_is_read_once_an_hour(tmp_path: Path) -> None:
    (tmp_path / "block" / "sdzz").mkdir(parents=True)
    first = ask_smart({}, tmp_path)
    again = ask_smart(first, tmp_path)
    old = {"sdzz": msgspec.structs.replace(first["sdzz"], asked=first["sdzz"].asked - SMART_PERIOD_SECONDS)}

    assert first == again
    assert ask_smart(old, tmp_path)["sdzz"].asked > old["sdzz"].asked


def test_the_verb_leaves_its_answers_for_the_group_alone(tmp_path: Path) -> None:
    code = main(["ask-devices", str(tmp_path)])

    assert code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lvm.json", "mapper.json", "smart.json"]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o007 for path in tmp_path.iterdir()} == {0}
    assert list(stored(tmp_path, "lvm")) == ["lvs"]


def test_the_verb_says_where_it_may_not_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["ask-devices", str(tmp_path / "absent")])

    assert code == 1
    assert "lvm.json: No such file or directory" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything; CI runs this as another user, too")
def test_a_file_that_others_own_is_denied_with_its_name(tmp_path: Path) -> None:
    put(tmp_path, {"lvs": Answer(status=0, asked=1000.0)})
    (tmp_path / "run" / "holdfast-devices" / "lvm.json").chmod(0)

    with pytest.raises(Denied, match=r"lvm\.json may not be read"):
        source(tmp_path, 1100.0).get(600.0)
