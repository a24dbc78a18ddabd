"""`holdfast-agent run` as a service manager sees it: a real process, a real mosquitto, real signals and sockets."""

import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast_agent import app
from holdfast_wire import (
    Ack,
    Acknowledgement,
    Birth,
    ChainReport,
    Death,
    DeathReason,
    Event,
    Expect,
    Expected,
    Report,
    Witness,
    decode_up,
)
from holdfast_wire.codec import content_digest
from holdfast_wire.message import Value
from holdfast_wire.topic import up_topic
from tests.agent.peer import Peer
from tests.broker import Broker
from tests.rigs.fuse_disk import FuseDisk
from tests.rigs.loop_disk import LoopDisk
from tests.system.stack import Child, command
from tests.waiting import wait_for

CONFIG = """\
node = "n"
interval = "1s"
state_dir = "{folder}/state"
[broker]
urls = ["{url}"]
will_delay = "0s"
[log]
level = "{level}"
format = "json"
[witness]  # tests of its own have it
enabled = false
[probes.host]
period = "1s"
[probes.kernel_log]  # the kernel's lines on the machine of the test are none of its business
enabled = false
"""


class Agent(Child):
    """The agent as installed, with a configuration and a state folder of the test's own."""

    def __init__(self, folder: Path, url: str, environment: dict[str, str] | None = None) -> None:
        self.config = folder / "agent.toml"
        self.folder = folder
        self.configure(url)
        arguments = [command("holdfast-agent"), "run", "--config", str(self.config)]
        super().__init__("agent", arguments, folder, environment)

    def configure(self, url: str, *, level: str = "info", more: str = "") -> None:
        self.config.write_text(CONFIG.format(folder=self.folder, url=url, level=level) + more)


@pytest.fixture
def agent(tmp_path: Path, broker: Broker) -> Iterator[Agent]:
    agent = Agent(tmp_path, broker.url)
    try:
        yield agent
    finally:
        agent.close()


@pytest.fixture
def peer(broker: Broker) -> Iterator[Peer]:
    with Peer(broker.port) as peer:
        yield peer


def births(peer: Peer) -> list[Birth]:
    return [message for message in peer.up("n") if isinstance(message, Birth)]


def deaths(peer: Peer) -> list[DeathReason]:
    return [message.reason for message in peer.up("n") if isinstance(message, Death)]


def reports(peer: Peer, epoch: int = 1) -> list[Report]:
    return [message for message in peer.up("n") if isinstance(message, Report) and message.epoch == epoch]


def acknowledge_birth(peer: Peer, epoch: int) -> Birth:
    """Acknowledge as a collector would until run `epoch` has told its birth and has nothing left to deliver."""

    def all_told() -> Birth | None:
        for topic, payload in list(peer.messages):
            message = decode_up("n", payload) if topic == up_topic("n") else None
            if isinstance(message, Birth | Event):
                held = Acknowledgement(message.epoch, message.seq, content_digest(payload))
                peer.tell("n", Ack(install_id=message.install_id, messages=[held]))
        born = [birth for birth in births(peer) if birth.epoch == epoch]
        told = reports(peer, epoch)
        return born[0] if born and told and told[-1].spool.messages == 0 else None

    return wait_for(
        all_told, what=lambda: f"the birth of run {epoch} and an empty spool: {reports(peer)[-1:]}"
    )


# Ends


def test_stopped_agent_says_so_and_its_next_birth_says_clean(agent: Agent, peer: Peer) -> None:
    agent.start()
    first = acknowledge_birth(peer, 1)
    code = agent.stop()
    wait_for(lambda: deaths(peer), what="the goodbye")
    agent.start()
    second = acknowledge_birth(peer, 2)

    assert (code, deaths(peer)) == (0, [DeathReason.STOPPED])
    assert (first.previous_stop, second.previous_stop) == ("first", "clean")
    assert second.install_id == first.install_id
    assert agent.said("agent stopped")[0]["goodbye_taken"] is True


def test_killed_agent_is_called_lost_and_its_next_birth_says_dirty(agent: Agent, peer: Peer) -> None:
    agent.start()
    acknowledge_birth(peer, 1)
    agent.kill()
    wait_for(lambda: deaths(peer), what="the will")
    agent.start()
    second = acknowledge_birth(peer, 2)

    assert (deaths(peer), second.previous_stop) == ([DeathReason.LOST], "dirty")


def test_stop_in_spite_of_a_broker_that_hangs_is_clean(agent: Agent, broker: Broker) -> None:
    """What hangs outside must not make systemd kill the agent, or the next birth would call the stop dirty."""
    agent.start()
    wait_for(lambda: agent.said("broker connected"), what="a connection")
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        code = agent.stop()
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    with Peer(broker.port) as peer:
        agent.start()
        second = acknowledge_birth(peer, 2)

    assert (code, agent.said("agent stopped")[0]["goodbye_taken"]) == (0, False)
    assert second.previous_stop == "clean"


def _stop_seconds() -> float:
    beforehand = app.WITNESS_STOP_SECONDS + app.GOODBYE_SECONDS
    return beforehand + app.SPOOL_CLOSE_SECONDS + 2 * app.LAST_WRITES_SECONDS


def test_every_part_of_the_stop_has_its_bound_within_the_promise() -> None:
    """agent/README.md promises 5 s, and the unit's TimeoutStopSec is 10 s."""
    assert _stop_seconds() <= 5.0


def test_stop_without_any_broker_is_clean(agent: Agent, broker: Broker, peer: Peer) -> None:
    """Births wait on disk, in order, and none is told as if the agent had crashed."""
    broker.stop()
    agent.start()
    wait_for(lambda: agent.said("broker connection failed"), what="a failed connection")
    code = agent.stop()

    assert (code, agent.said("agent stopped")[0]["undelivered"] > 0) == (0, True)


def test_second_agent_on_one_state_folder_is_refused(agent: Agent) -> None:
    """It would look like a cloned machine."""
    agent.start()
    wait_for(lambda: agent.said("agent started"), what="the first agent")
    second = Child("second", agent.arguments, agent.folder).start()
    wait_for(lambda: second.ended_unasked, what="the second agent to end")

    assert second.log == f"another agent is running on the state folder {agent.folder}/state\n"
    assert agent.running


# Losing the broker


def test_birth_of_an_agent_without_broker_arrives_when_there_is_one(agent: Agent, broker: Broker) -> None:
    broker.kill()
    agent.start()
    wait_for(lambda: agent.said("broker connection failed"), what="a failed connection")
    broker.start()
    with Peer(broker.port) as peer:
        first = acknowledge_birth(peer, 1)

    assert (first.epoch, first.previous_stop) == (1, "first")


def test_agent_reports_on_after_its_broker_was_killed(agent: Agent, broker: Broker) -> None:
    """On the new connection everything is told again: the broker, and what it held, may be new."""
    agent.start()
    with Peer(broker.port) as peer:
        acknowledge_birth(peer, 1)
    broker.kill()
    wait_for(lambda: agent.said("broker disconnected"), what="the loss to be seen")
    broker.start()
    with Peer(broker.port) as after:
        report = wait_for(lambda: reports(after), what="a report")[0]
        wait_for(lambda: {"host", "volumes"} <= told(after), what="every section again")

    assert (report.epoch, report.connection > 1) == (1, True)


def told(peer: Peer) -> set[str]:
    return {section.probe for report in reports(peer) for section in report.sections}


# Configuration


def test_bad_configuration_changes_nothing_and_is_told(agent: Agent, broker: Broker, peer: Peer) -> None:
    agent.start()
    acknowledge_birth(peer, 1)
    agent.configure(broker.url, more='[probes.volums]\nperiod = "5"\n')
    agent.send(signal.SIGHUP)
    rejected = wait_for(lambda: agent.said("configuration rejected"), what="the rejection")[0]
    before = len(reports(peer))
    wait_for(lambda: len(reports(peer)) > before, what="a further report")

    assert rejected["level"] == "error"
    assert rejected["kept"] == "the one in use"
    assert rejected["mistakes"] == [f"{agent.config}:16: probes.volums: no such key; did you mean 'volumes'?"]
    assert (reports(peer)[-1].interval_seconds, agent.said("configuration applied")) == (1.0, [])


def test_good_configuration_is_applied_to_the_running_agent(agent: Agent, broker: Broker, peer: Peer) -> None:
    agent.start()
    acknowledge_birth(peer, 1)
    agent.configure(broker.url, more="[probes.volumes]\nenabled = false\n")
    agent.send(signal.SIGHUP)
    wait_for(lambda: "volumes" not in marked(peer), what="a report without the disabled probe")

    applied = agent.said("configuration applied")[0]
    assert (applied["probes_restarted"], applied["reconnected"], applied["needs_restart"]) == (
        ["volumes"],
        False,
        [],
    )
    assert "host" in marked(peer)
    assert len(births(peer)) == 1


def marked(peer: Peer) -> set[str]:
    """The probes that the newest report knows of."""
    return set(reports(peer)[-1].marks)


def test_agent_moves_to_another_broker_without_being_called_lost(
    agent: Agent, tmp_path: Path, peer: Peer
) -> None:
    other = Broker(tmp_path / "other").start()
    try:
        agent.start()
        acknowledge_birth(peer, 1)
        with Peer(other.port) as there:
            agent.configure(other.url)
            agent.send(signal.SIGHUP)
            wait_for(lambda: reports(there), what="a report on the other broker")

        assert deaths(peer) == []
        assert agent.said("broker disconnected")[0]["reason"] == "the configuration changed"
    finally:
        other.stop()


def test_log_level_is_changed_alive(agent: Agent, broker: Broker) -> None:
    """Whoever looks into a trouble must not have to restart the agent and lose it."""
    agent.configure(broker.url, level="error")
    agent.start()
    with Peer(broker.port) as peer:
        wait_for(lambda: reports(peer), what="a report")
    agent.configure(broker.url, level="info")
    agent.send(signal.SIGHUP)
    wait_for(lambda: agent.said("configuration applied"), what="a line of the new level")

    assert agent.said("agent started") == []


def test_key_that_needs_a_restart_is_named_and_not_taken(agent: Agent, broker: Broker, peer: Peer) -> None:
    agent.start()
    acknowledge_birth(peer, 1)
    agent.config.write_text(agent.config.read_text().replace('node = "n"', 'node = "m"'))
    agent.send(signal.SIGHUP)
    applied = wait_for(lambda: agent.said("configuration applied"), what="the new configuration")[0]
    before = len(reports(peer))
    wait_for(lambda: len(reports(peer)) > before, what="a further report under the old name")

    assert applied["needs_restart"] == ["node"]
    assert {topic for topic, _ in peer.messages if topic.endswith("/up")} == {up_topic("n")}


def test_volumes_to_be_witnessed_are_changed_alive(
    agent: Agent, broker: Broker, peer: Peer, tmp_path: Path
) -> None:
    """A restart would do for one machine, not for a fleet."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with LoopDisk(tmp_path / "a", "ext4") as disk_a, LoopDisk(tmp_path / "b", "ext4") as disk_b:
        a, b = str(disk_a.mountpoint), str(disk_b.mountpoint)
        witnessing(agent, f'include = ["{a}"]')
        agent.start()
        first = wait_for(lambda: witnesses(peer, a), what="a record on the first volume")[0]
        witnessing(agent, f'include = ["{a}", "{b}"]\nexclude = ["{a}"]\ninterval = "2s"')
        agent.send(signal.SIGHUP)
        wait_for(lambda: witnesses(peer, b), what="a record on the second volume")
        last = wait_for(lambda: [one for one in witnesses(peer, a) if one.clean_stop], what="the last one")[0]
        facts = wait_for(lambda: excluded(peer, a), what="the first volume's facts to go")
        witnessing(agent, "enabled = false")
        agent.send(signal.SIGHUP)
        wait_for(lambda: [one for one in witnesses(peer, b) if one.clean_stop], what="the second one's last")
        wait_for(lambda: "witness" not in marked(peer), what="the section to go")
        wait_for(lambda: len(agent.said("configuration applied")) == 2, what="the second change")
        agent.stop()

        assert (last.chain_id, last == witnesses(peer, a)[-1]) == (first.chain_id, True)
        assert set(facts) == {"witness_enabled", "witness_reason", "witness_wanted"}
        (capability,) = [each for each in births(peer)[0].capabilities if each.name == "witness"]
        assert (capability.available, capability.reason) == (True, "")
        lines = agent.said("witness configured")
        assert [(line["begun"], line["ended"]) for line in lines] == [([b], [a]), ([], [b])]
        assert [line["needs_restart"] for line in agent.said("configuration applied")] == [[], []]


def test_pace_of_one_volume_and_what_another_process_answers_for_are_changed_alive(
    agent: Agent, peer: Peer, tmp_path: Path
) -> None:
    with LoopDisk(tmp_path / "a", "ext4") as disk, FuseDisk(tmp_path / "b") as fuse:
        a, b = str(disk.mountpoint), str(fuse.mountpoint)
        both = f'include = ["{a}", "{b}"]\ninterval = "1h"\n'
        witnessing(agent, both)
        agent.start()
        wait_for(lambda: witnesses(peer, a), what="the one record of an hour")
        wait_for(lambda: "witness.network" in str(said_of(peer, b)), what="the other volume to be left out")
        witnessing(agent, f'{both}network = true\nintervals = {{ "{a}" = "1s" }}')
        agent.send(signal.SIGHUP)
        wait_for(lambda: len(witnesses(peer, a)) >= 3, what="records at the new pace")
        wait_for(lambda: witnesses(peer, b), what="a record on the other volume")
        wait_for(lambda: said_of(peer, a).get("witness_interval_seconds") == 1.0, what="the pace to be told")
        witnessing(agent, both)
        agent.send(signal.SIGHUP)
        wait_for(lambda: witnesses(peer, b)[-1].clean_stop, what="the other volume's last record")
        wait_for(lambda: said_of(peer, a).get("witness_interval_seconds") == 3600.0, what="the old pace")
        agent.stop()

        lines = agent.said("witness configured")
        assert [(line["begun"], line["ended"]) for line in lines] == [([b], []), ([], [b])]
        assert [line["needs_restart"] for line in agent.said("configuration applied")] == [[], []]


def witnessing(agent: Agent, settings: str) -> None:
    """Put these settings of `[witness]` into the configuration."""
    head, section, rest = agent.config.read_text().partition("[witness]")
    after = rest[rest.index("[probes.host]") :]
    agent.config.write_text(f"{head}{section}\n{settings}\n{after}")


def witnesses(peer: Peer, volume: str) -> list[Witness]:
    """Those that came, once every read was answered, for which the agent waits."""
    for read in [one for one in peer.up("n") if isinstance(one, ChainReport)]:
        held = Expected(volume=read.identity.volume, chain_id=read.chain_id, head=read.head)
        peer.tell("n", Expect(install_id=read.install_id, chains=[held]))
    return [one for one in peer.up("n") if isinstance(one, Witness) and one.volume == volume]


def said_of(peer: Peer, volume: str) -> dict[str, Value]:
    """What the newest section of the witness says of a volume; empty while none does."""
    sections = [each for report in reports(peer) for each in report.sections if each.probe == "witness"]
    facts = [each.facts for each in sections[-1].resources if each.name == volume] if sections else []
    return facts[0] if facts else {}


def excluded(peer: Peer, volume: str) -> dict[str, Value]:
    """The same of a volume that the configuration excludes."""
    facts = said_of(peer, volume)
    return facts if facts.get("witness_reason") == "in witness.exclude" else {}


# systemd


class Manager:
    """Where a service manager listens: a datagram socket (sd_notify(3))."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)
        self._told: list[str] = []

    def told(self) -> list[str]:
        """Every message so far."""
        while True:
            try:
                self._told.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return self._told

    def heard(self, begins: str) -> Callable[[], list[str]]:
        return lambda: [each for each in self.told() if each.startswith(begins)]

    def stop_reading(self) -> None:
        """Fill its own queue: a blocking sender would wait from now on (unix(7))."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, contextlib.suppress(BlockingIOError):
            sender.setblocking(False)
            while True:
                sender.sendto(b"X=1", self._socket.getsockname())

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[Manager]:
    folder = tempfile.mkdtemp()  # not tmp_path: a socket's path holds at most 107 bytes (unix(7))
    manager = Manager(f"{folder}/notify" if request.param == "path" else f"@{folder}/notify")
    yield manager
    manager.close()
    shutil.rmtree(folder)


@pytest.fixture
def supervised(tmp_path: Path, broker: Broker, manager: Manager) -> Iterator[Agent]:
    agent = Agent(tmp_path, broker.url, {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "300000"})
    try:
        yield agent
    finally:
        agent.close()


def test_service_manager_is_told_of_the_whole_life(
    supervised: Agent, manager: Manager, broker: Broker
) -> None:
    supervised.start()
    wait_for(manager.heard("READY=1"), what="READY")
    wait_for(lambda: len(manager.heard("WATCHDOG=1")()) >= 3, what="three pings of the watchdog")
    status = wait_for(manager.heard(f"STATUS=connected to {broker.url}"), what="the status line")
    supervised.send(signal.SIGHUP)
    reloading = wait_for(manager.heard("RELOADING=1"), what="RELOADING")
    wait_for(lambda: len(manager.heard("READY=1")()) == 2, what="READY after the reload")
    supervised.stop()

    assert "probes; " in status[0]
    fields: dict[str, Any] = dict(line.split("=") for line in reloading[0].splitlines())
    assert int(fields["MONOTONIC_USEC"]) > 0  # Type=notify-reload tells the reload apart by it
    assert manager.heard("STOPPING=1")() == ["STOPPING=1"]
    assert manager.told().index("STOPPING=1") > manager.told().index("READY=1")


def test_readiness_is_told_when_the_birth_is_on_disk(supervised: Agent, manager: Manager, peer: Peer) -> None:
    """Units ordered after the agent may then rely on it: READY is not "the process exists"."""
    supervised.start()
    wait_for(manager.heard("READY=1"), what="READY")
    supervised.kill()
    supervised.start()
    acknowledge_birth(peer, 2)

    assert {birth.epoch: birth.previous_stop for birth in births(peer)} == {1: "first", 2: "dirty"}


def test_service_manager_that_reads_nothing_does_not_hold_up_the_agent(
    supervised: Agent, manager: Manager, peer: Peer
) -> None:
    """A machine in trouble has a slow PID 1, and is the one whose reports are needed."""
    manager.stop_reading()
    supervised.start()
    acknowledge_birth(peer, 1)
    wait_for(manager.heard("READY=1"), what="READY, late")
    manager.stop_reading()

    assert supervised.stop() == 0
