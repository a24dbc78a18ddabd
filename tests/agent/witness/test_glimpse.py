"""What `doctor` says a witness costs, and whom it believes."""

from pathlib import Path

import pytest

from holdfast_agent.config import AgentConfig
from holdfast_agent.witness.glimpse import cost, glimpse
from holdfast_agent.witness.witness_choice import WitnessConfig
from tests.agent.witness.test_volume_chain import begun
from tests.rigs.loop_disk import LoopDisk


def test_cost_is_a_days_records_and_a_years() -> None:
    """At one a minute, on a device to which 70 MB a day are written by all together."""
    said = cost("ext4", 60.0, 70_560_000, 86_400.0)

    assert str(said) == (
        "7.1 MB and 3168 writes a day, 2.6 GB a year, 10.00% of all that was written there since boot"
    )


def test_cost_on_btrfs_counts_the_trees_it_writes_anew() -> None:
    assert cost("btrfs", 60.0, None, 0.0).bytes_per_day == 1440 * 74_000


def test_share_is_left_out_where_nobody_counts() -> None:
    assert str(cost("ext4", 60.0, None, 100.0)).endswith("GB a year")


@pytest.mark.system
def test_glimpse_shows_how_a_volume_is_read_and_writes_nothing(tmp_path: Path) -> None:
    with LoopDisk(tmp_path, "ext4") as disk:
        name = str(disk.mountpoint)
        config = AgentConfig(state_dir=str(tmp_path / "state"), witness=WitnessConfig(include=(name,)))
        before = glimpse(config)
        left = sorted(path.name for path in disk.mountpoint.iterdir())
        kept = begun(disk.mountpoint)
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "install_id").write_text(kept.path.parent.name)
        after = glimpse(config)

        assert left == ["lost+found"]
        assert before.said[name].facts["witness_enabled"] is True
        assert "witness_mode" not in before.said[name].facts
        assert after.said[name].facts["witness_mode"] == "direct"
        assert name in after.costs


@pytest.mark.system
def test_dead_filesystem_is_said_and_spoils_no_other_volume(tmp_path: Path) -> None:
    """XFS that has shut down answers every question with EIO."""
    with LoopDisk(tmp_path, "xfs") as disk:
        name = str(disk.mountpoint)
        disk.shut_down()
        config = AgentConfig(state_dir=str(tmp_path / "state"), witness=WitnessConfig(include=(name,)))
        said = glimpse(config).said[name]

        assert said.facts["witness_reason"] == "its chain cannot be read (Input/output error)"
        assert (said.facts["witness_enabled"], said.denied) == (False, False)
