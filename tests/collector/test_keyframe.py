"""A node enters a replay as it was: all that is known of it, and all that later messages build on."""

from typing import Any

from holdfast_collector.core.event import BrokerChanged, Received
from holdfast_collector.core.keyframe import Keyframe, ReplayedCollector, keyframe
from holdfast_collector.core.node import Node
from holdfast_collector.core.record import State
from holdfast_collector.samples.slice import HEADER, Known, Slice, pack, unpack
from holdfast_wire import encode
from holdfast_wire.message import ReadCause
from tests.collector.fleet import WARM, Desk, section
from tests.collector.visited import probe
from tests.collector.witnessed import Witnessed, desk, lived


def over_the_disk(known: Keyframe, at: float) -> Keyframe:
    """As it comes back from there."""
    frame = pack(Slice(number=0, began_at=at, ended_at=at, connected=True, events=[Known(at, known)]))
    (event,) = unpack(frame[: HEADER.size], frame[HEADER.size :]).events
    assert isinstance(event, Known)
    return event.keyframe


def replayed(upon: Desk, at: float) -> ReplayedCollector:
    """A core that all nodes have entered."""
    core = ReplayedCollector(State(), rules=upon.rules, started_at=WARM - 60.0)
    core.handle(BrokerChanged(WARM - 60.0, connected=True))
    for node in upon.collector.nodes.values():
        core.adopt(over_the_disk(keyframe(node), at), at)
    return core


def known(node: Node) -> dict[str, Any]:
    """What can be seen of a node, but for the verdicts, which rest on a moment's alerts."""
    return {
        "resources": {
            key: {name: value for name, value in facts.items() if name != "verdict"}
            for key, facts in node.resources.items()
        },
        # The node's own standing is added up anew, and is observed then.
        "observed": {key: at for key, at in node.observed.items() if key[0] != "node"},
        "position": node.position,
        "last_report_at": node.last_report_at,
        "reporting": node.reporting,
        "spool": node.spool,
        "unheld": node.unheld,
        "counts": node.counts,
        "chains": node.chains,
        "lives": node.lives,
        "owners": node.owners,
        "gone": [key for key in node.resources if node.gone(key)],
    }


def test_node_is_the_same_in_the_replay() -> None:
    """Services that no later report repeats, events that were counted, a volume's chain, a machine that another shares."""
    upon, agent, other = desk(), Witnessed(), Witnessed(node="n2", install="install-2")
    at = lived(upon, other)
    at = lived(upon, agent, records=3, at=at)
    upon.feed(
        agent.report(
            section({"a.service": {"up": False}}, mono=at - agent.began_at), mono=at - agent.began_at
        ),
        at,
    )
    upon.feed(agent.event(), at)
    mono = at - agent.began_at
    upon.feed(agent.report(held=(section({"a.service": {"up": False}}, mono=mono),), mono=mono), at)

    core = replayed(upon, at)

    facts = core.nodes["n1"].resources
    assert known(core.nodes["n1"]) == known(upon.collector.nodes["n1"])
    assert facts[("service", "a.service")]["unit_failed_total"] == 1
    assert facts[("node", "n1")]["machine_id_shared"] is True


def test_promise_of_before_the_replay_is_held_against_the_volume() -> None:
    """The chain came with the keyframe: what is missing after the boot is a loss."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent)
    core = replayed(upon, at)
    agent.disk.cut(90)
    agent.reboot(at)

    for message in (agent.born(at), agent.read(at), agent.read(at + 5.0, ReadCause.AGAIN)):
        core.handle(Received(at + 5.0, "n1", encode(message)))

    assert core.nodes["n1"].resources[("volume", "/srv")]["witness_lost"] is True


def test_node_that_is_known_learns_what_it_lacks_and_stays_as_it_is() -> None:
    """One of its sections came before the replay knew it; what it said since is newer than the keyframe."""
    upon, agent = desk(), Witnessed()
    at = lived(upon, agent, records=1)
    core = replayed(upon, at)
    mono = at - agent.began_at
    older, other = (
        section({"a.service": {"up": False}}, mono=mono),
        probe("jobs", ("service", "b", {"up": True})),
    )
    upon.feed(agent.report(older, other, mono=mono), at)
    upon.feed(agent.event("c.service"), at)
    newer = agent.report(section({"a.service": {"up": True}}, mono=mono), held=(other,), mono=mono)
    core.handle(Received(at, "n1", encode(newer)))

    core.adopt(keyframe(upon.collector.nodes["n1"]), at)

    services = {
        name: facts for (kind, name), facts in core.nodes["n1"].resources.items() if kind == "service"
    }
    assert {name: facts["up"] for name, facts in services.items()} == {"a.service": True, "b": True}
    assert core.nodes["n1"].unheld == frozenset()
