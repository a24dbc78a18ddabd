"""`holdfast rules check` and `holdfast rules test`, as an operator meets them."""

from pathlib import Path

import pytest

from holdfast import rules_command
from holdfast_collector.packs import load_rules, shipped_packs, shipped_tests, user_packs
from holdfast_rules import NodeLabels, PackError

PACK = """\
rules:
  - {alert: SrvFull, resource: volume, when: free_ratio < 0.1, severity: page, summary: full}
"""
TEST = """\
tests:
  - {name: full is full, rule: SrvFull, resource: /srv, every: 1m, facts: {free_ratio: 0.05}, expect: {1m: STATE}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.yaml").write_text(PACK)
    (tmp_path / "own.test.yaml").write_text(TEST.replace("STATE", "firing"))
    return tmp_path


def test_the_shipped_packs_are_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert rules_command.check([]) == 0
    assert rules_command.test([]) == 0
    printed = capsys.readouterr().out
    assert f"{len(load_rules().rules)} rules in {len(shipped_packs())} files: good" in printed
    assert "tests passed" in printed


def test_a_good_pack_is_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rules_command.check([str(folder)]) == 0
    assert capsys.readouterr().out == "1 rule in 1 file: good\n  page   volume      SrvFull\n"


@pytest.mark.parametrize("name", ["", "own.yaml", "own.test.yaml"])
def test_the_tests_beside_a_pack_are_found_by_folder_pack_or_test(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rules_command.test([str(folder / name)]) == 0
    assert capsys.readouterr().out == "1 test passed\n"


def test_a_failed_test_is_bad_news(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "own.test.yaml").write_text(TEST.replace("STATE", "inactive"))

    assert rules_command.test([str(folder)]) == 1
    printed = capsys.readouterr().out
    assert f"{folder}/own.test.yaml:2: SrvFull: full is full" in printed
    assert "at 1m: expected inactive, is firing (holds)" in printed
    assert "1 of 1 test failed" in printed


def test_a_pack_without_tests_is_bad_news(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "own.test.yaml").unlink()

    assert rules_command.test([str(folder)]) == 1
    assert "there are no tests here" in capsys.readouterr().out


def test_mistakes_are_all_printed_with_their_places_and_end_in_two(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "own.yaml").write_text(PACK.replace("free_ratio", "free_rati").replace("page", "pager"))

    assert rules_command.check([str(folder)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{folder}/own.yaml:2:46: SrvFull: `free_rati` is not a fact of a volume; did you mean `free_ratio`?",
        f"{folder}/own.yaml:2:73: SrvFull: `severity` is one of page, ticket, info; 'pager' is not; did you mean `page`?",
        "2 mistakes",
    ]
    assert rules_command.test([str(folder)]) == 2


def test_a_mistake_in_a_test_ends_in_two(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "own.test.yaml").write_text(TEST.replace("STATE", "burning"))

    assert rules_command.test([str(folder)]) == 2
    assert "an alert is inactive, pending, firing; 'burning' it never is" in capsys.readouterr().err


def test_files_that_cannot_be_read_are_mistakes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bytes.yaml").write_bytes(b"\xff\xfe")

    assert rules_command.check([str(folder / "nowhere.yaml")]) == 2
    assert rules_command.check([str(folder / "bytes.yaml")]) == 2
    printed = capsys.readouterr().err
    assert f"{folder}/nowhere.yaml:1:1: there is no such file" in printed
    assert f"{folder}/bytes.yaml:1:1: cannot be read" in printed


def test_the_collector_takes_the_shipped_rules_and_the_operators(folder: Path) -> None:
    rules = load_rules([folder, folder / "nowhere"])

    assert set(rules.by_name) == {*load_rules().by_name, "SrvFull"}
    assert rules.by_name["SrvFull"].file == str(folder / "own.yaml")


def test_the_operators_mistakes_keep_the_rules_from_loading(folder: Path) -> None:
    (folder / "own.yaml").write_text(PACK.replace("SrvFull", "VolumeFull"))

    with pytest.raises(PackError, match=r"`alert` VolumeFull is taken, at shipped/volumes.yaml"):
        load_rules([folder])


def test_each_shipped_pack_has_its_tests_beside_it() -> None:
    assert {name.replace(".test.yaml", ".yaml") for name in shipped_tests()} == set(shipped_packs())


def test_a_file_named_twice_is_read_once(folder: Path) -> None:
    assert list(user_packs([folder, folder / "own.yaml"])) == [str(folder / "own.yaml")]


def test_labels_of_nodes_reach_the_rules(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("where: [{labels: {role: cache}, disable: [VolumeFilling]}]")
    rules = load_rules([tmp_path], labels=[NodeLabels(("cache-*",), {"role": "cache"})])

    assert "VolumeFilling" in rules.of_node("web-1").by_name
    assert "VolumeFilling" not in rules.of_node("cache-1").by_name


def test_packs_are_exported_with_what_had_to_be_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = PACK + "  - {alert: SrvOld, resource: volume, when: age(dead) > 5, severity: info, summary: old}\n"
    (folder / "own.yaml").write_text(pack)

    assert rules_command.export([str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "\n# left out: SrvOld: `age(…)` has no like\n" in printed
    assert "\n  - alert: SrvFull\n    expr: holdfast_volume_free_ratio < 0.1\n" in printed
    (folder / "own.yaml").write_text("rules: 5")
    assert rules_command.export([str(folder)]) == 2
