"""What the real disks of `tests/system` showed of the collector's memory, as the shortest story of each."""

from holdfast_collector.core.record import State
from holdfast_wire import ReadCause
from tests.collector.witnessed import Disk, Witnessed, desk, facts, lived


def test_a_restored_collector_is_known_by_the_next_witness() -> None:
    """Agents read their chains once a day, and by then the next witness would have made the memory look whole."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 50)
    node = upon.collector.nodes["n1"]
    copy = State(nodes=[node.record], chains=list(node.chains.values()))
    at = lived(upon, agent, 50, at)
    restored = desk(state=copy, started_at=at)

    restored.feed(agent.witness(at, acknowledged_seq=100), at)

    assert restored.collector.health(at)["behind_agents"] is True
    assert facts(restored)["witness_seq"] == 101
    assert not any(facts(restored)[name] for name in ("witness_lost", "witness_suspected", "witness_forked"))


def test_what_the_answer_to_a_read_told_does_not_show_a_restored_collector() -> None:
    """A record that only the read brought: its machine counts it as held from the answer on."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, 50)
    agent.disk.append(at)
    upon.feed(agent.read(at, ReadCause.AGENT_START, acknowledged_seq=50), at)

    upon.feed(agent.witness(at + 60, acknowledged_seq=51), at + 60)

    assert upon.collector.health(at + 60)["behind_agents"] is False


def test_another_machines_disk_stays_the_wrong_disk_when_a_chain_of_our_own_lies_beside() -> None:
    """The agent begins one at once; the filesystem is still not ours, and our own was not formatted."""
    upon = desk()
    owner, finder = Witnessed(), Witnessed(Disk(chain_id="c2" * 16), node="n2", install="install-2")
    at = lived(upon, owner, 5)
    lived(upon, finder, 5)
    finder.disk, finder.owner = owner.disk, "install-1"
    finder.disk.filesystem = "of-the-other-machine"
    upon.feed(finder.read(at, ReadCause.MOUNT), at, "n2")
    finder.disk, finder.owner = Disk(chain_id="c3" * 16, filesystem="of-the-other-machine"), "install-2"
    upon.feed(finder.witness(at + 1), at + 1, "n2")

    for later in (60, 120):
        upon.feed(finder.read(at + later, ReadCause.AGENT_START), at + later, "n2")

    said = facts(upon, node="n2")
    assert (said["witness_missing_reason"], said["witness_lost"], said["witness_suspected"]) == (
        "wrong_disk",
        False,
        False,
    )
