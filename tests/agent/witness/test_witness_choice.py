"""Which volumes are witnessed, where their chain lies, and what is said of the others."""

from pathlib import Path

import pytest

from holdfast_agent.probes.mountinfo import parse_mountinfo
from holdfast_agent.probes.volume_choice import choose_volumes
from holdfast_agent.witness.survey import Survey, witness_section
from holdfast_agent.witness.witness_choice import Candidate, WitnessConfig, WitnessPlan, choose

MACHINE = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
23 22 0:21 / /tmp rw - tmpfs tmpfs rw
24 22 8:17 / /srv rw - xfs /dev/sdb1 rw
25 22 8:33 / /media/iso ro - iso9660 /dev/sr0 ro
26 22 8:49 / /archive ro - ext4 /dev/sdd1 ro
27 22 0:40 / /net rw - nfs4 server:/x rw
31 22 0:42 / /home/ann/box rw - fuse.sshfs ann@box: rw
32 22 0:43 / /mnt/backing rw - fuse nbdfuse rw
28 22 0:41 / /pool rw - btrfs /dev/sde rw
29 22 8:17 / /mirror rw - xfs /dev/sdb1 rw
30 22 0:50 / /merged rw - overlay overlay rw,lowerdir=/a,upperdir=/srv/b,workdir=/srv/c
"""
IN_UNIT = MACHINE.replace("/ / rw,relatime", "/ / ro,relatime") + (
    "40 22 8:1 /var/lib/holdfast-agent /var/lib/holdfast-agent rw - ext4 /dev/sda1 rw\n"
)


def plan(
    config: WitnessConfig | None = None, *, own: str = MACHINE, state: str = "/var/lib/a"
) -> WitnessPlan:
    volumes = choose_volumes(parse_mountinfo(MACHINE), parse_mountinfo(own))
    return choose(volumes, parse_mountinfo(own), config or WitnessConfig(), Path(state), "ii")


def test_every_writable_local_filesystem_is_witnessed_once_and_of_the_others_it_is_said_why_not() -> None:
    chosen = plan()

    assert sorted(chosen.witnessed) == ["/", "/pool", "/srv"]
    assert {name: reason.partition(":")[0] for name, reason in chosen.refused.items()} == {
        "/tmp": "in memory",
        "/media/iso": "read-only",
        "/archive": "read-only",
        "/net": "on another machine; witness.network = true witnesses it all the same",
        "/home/ann/box": "on another machine; witness.network = true witnesses it all the same",
        "/mnt/backing": "another process answers for it (FUSE); witness.network = true witnesses it all the same",
        "/merged": "an overlay",
    }


def test_network_filesystem_is_witnessed_when_that_is_wanted() -> None:
    chosen = plan(WitnessConfig(network=True))

    assert chosen.witnessed["/net"].network


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (WitnessConfig(include=("/srv",)), ["/srv"]),
        (WitnessConfig(exclude=("/p*",)), ["/", "/srv"]),
        (WitnessConfig(include=("/p*", "/srv"), exclude=("/srv",)), ["/pool"]),
        (WitnessConfig(state_dir_only=True), ["/"]),
    ],
)
def test_choice_is_the_users(config: WitnessConfig, names: list[str]) -> None:
    assert sorted(plan(config).witnessed) == names


def test_interval_is_that_of_the_mountpoint_where_one_is_named() -> None:
    chosen = plan(WitnessConfig(interval=60.0, intervals={"/srv": 15.0}))

    assert {name: volume.interval for name, volume in chosen.witnessed.items()} == {
        "/": 60.0,
        "/srv": 15.0,
        "/pool": 60.0,
    }


def test_chain_lies_on_the_volume_and_where_the_state_folder_is_may_lie_in_that() -> None:
    """Inside its unit an agent can write nowhere but in its state folder."""
    chosen = plan(own=IN_UNIT, state="/var/lib/holdfast-agent")
    in_state = Candidate(Path("/var/lib/holdfast-agent/witness/chain"), Path("/var/lib/holdfast-agent"))

    assert chosen.witnessed["/"].candidates == (Candidate(Path("/.holdfast/ii/chain"), Path("/")), in_state)
    assert chosen.witnessed["/srv"].candidates == (Candidate(Path("/srv/.holdfast/ii/chain"), Path("/srv")),)


def test_with_state_dir_only_nothing_is_written_elsewhere() -> None:
    """What `holdfast up` promises."""
    chosen = plan(WitnessConfig(state_dir_only=True), state="/pool/try/agent")

    assert {name: volume.candidates for name, volume in chosen.witnessed.items()} == {
        "/pool": (Candidate(Path("/pool/try/agent/witness/chain"), Path("/pool/try/agent")),)
    }


def test_a_volume_is_wanted_unless_the_configuration_or_its_kind_leaves_it_out() -> None:
    """What somebody chose is no trouble; a volume that the agent cannot get to is."""
    seen = MACHINE.replace("28 22 0:41 / /pool rw - btrfs /dev/sde rw\n", "")
    chosen = plan(WitnessConfig(exclude=("/srv",)), own=seen)

    section = witness_section(Survey(plan=chosen), {}, at=0.0, mono=0.0, period=60.0)
    wanted = {each.name: each.facts["witness_wanted"] for each in section.resources}

    assert {name for name, value in wanted.items() if value} == {"/", "/pool"}
    assert wanted.keys() >= {"/srv", "/tmp", "/net", "/mnt/backing", "/archive"}
