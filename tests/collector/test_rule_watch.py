"""Changed rule packs are noticed when they have stood still, and once."""

from pathlib import Path

from holdfast_collector.rule_watch import RuleWatch


def test_a_change_counts_when_it_has_stood_still_and_once(tmp_path: Path) -> None:
    pack = tmp_path / "mine.yaml"
    pack.write_text("rules: []")
    folders = [str(tmp_path), str(tmp_path / "nowhere")]
    watch = RuleWatch(folders)

    said = [watch.changed(folders)]
    for text in ("rules: [ ]", "rules: [  ]", None, None):
        if text is not None:
            pack.write_text(text)
        said.append(watch.changed(folders))
    pack.unlink()
    said += [watch.changed(folders) for _ in range(3)]

    assert said == [False, False, False, True, False, False, True, False]


def test_what_is_no_pack_does_not_count(tmp_path: Path) -> None:
    watch = RuleWatch([str(tmp_path)])
    (tmp_path / "mine.yaml~").write_text("rules: []")

    assert not any(watch.changed([str(tmp_path)]) for _ in range(3))
