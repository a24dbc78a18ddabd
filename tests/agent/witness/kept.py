"""A volume's chain on a real filesystem, kept by the real code in the test's own thread."""

from pathlib import Path

from holdfast_agent.core.testimony import Confirmed, ReadBack, Testimony
from holdfast_agent.probe import boot_clock
from holdfast_agent.probes.mountinfo import parse_mountinfo
from holdfast_agent.probes.volume_choice import choose_volumes
from holdfast_agent.witness.volume_chain import VolumeChain, Who
from holdfast_agent.witness.volume_standing import StandingBoard
from holdfast_agent.witness.witness_choice import WitnessConfig, WitnessedVolume, choose
from holdfast_wire import Machine
from holdfast_wire.message import Value

INSTALL_ID = "0f9c2b7e5a1d4c3e"
WHO = Who(
    install_id=INSTALL_ID,
    boot_id="74c03f3e-df88-4cf8-ae83-4538bd0bd963",
    epoch=3,
    machine=Machine(machine_id="m", instance_id="i"),
)


def volume_at(mountpoint: Path, config: WitnessConfig | None = None) -> WitnessedVolume:
    """As the agent chooses it on this machine now."""
    mounts = parse_mountinfo(Path("/proc/self/mountinfo").read_text("utf-8", "replace"))
    plan = choose(
        choose_volumes(mounts, mounts), mounts, config or WitnessConfig(), Path("/nowhere"), INSTALL_ID
    )
    return plan.witnessed[str(mountpoint)]


class Kept:
    """One agent's keeping of one volume; a second one on the same volume is the agent started again."""

    def __init__(
        self,
        mountpoint: Path,
        *,
        remembered: str = "",
        who: Who = WHO,
        volume: WitnessedVolume | None = None,
    ) -> None:
        """`volume`: of a kind that the agent would not choose by itself."""
        self.said: list[Testimony] = []
        self.board = StandingBoard()
        self.volume = volume or volume_at(mountpoint)
        self.path = self.volume.candidates[0].path
        self.chain = VolumeChain(self.volume, who, remembered, self.said.append, self.board)

    @property
    def facts(self) -> dict[str, Value]:
        return self.board.facts(60.0, boot_clock())

    @property
    def confirmed(self) -> list[Confirmed]:
        return [said for said in self.said if isinstance(said, Confirmed)]

    @property
    def reports(self) -> list[ReadBack]:
        return [said for said in self.said if isinstance(said, ReadBack)]
