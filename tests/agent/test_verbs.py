"""What a person at the machine asks the agent: the commands as installed, on the machine that runs the test.

What is seen depends on the machine; what is tested is what must hold on every one of them.
"""

import contextlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from holdfast_agent.command.doctor import unstated
from holdfast_agent.detection import detections, sentences, subjects
from holdfast_agent.registry import probe_kinds
from holdfast_wire import Ack, Acknowledgement, Birth, Resource, Section, SectionStatus, decode_up
from holdfast_wire.codec import content_digest
from holdfast_wire.topic import up_topic
from tests import needs
from tests.agent.peer import Peer
from tests.broker import Broker
from tests.ports import free_port
from tests.system.stack import command, environment
from tests.waiting import TIMEOUT_SECONDS, wait_for

README = Path(__file__).parents[2] / "agent" / "README.md"


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class Asked:
    """The agent's command with a configuration of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "agent.toml"
        self.configure("mqtt://127.0.0.1:1")

    def configure(self, url: str, more: str = "") -> None:
        self.config.write_text(
            f'node = "n"\nstate_dir = "{self.folder}/state"\n[broker]\nurls = ["{url}"]\n{more}'
        )

    def __call__(self, *arguments: str) -> Ran:
        done = subprocess.run(
            self.arguments(*arguments), capture_output=True, text=True, env=environment(), check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def arguments(self, *arguments: str) -> list[str]:
        return [command("holdfast-agent"), *arguments, "--config", str(self.config)]


@pytest.fixture
def ask(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


# Looking


def test_once_prints_the_machine_its_volumes_and_every_probe(ask: Asked) -> None:
    ran = ask("once")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("n  ")
    probes = ran.out[ran.out.index("PROBE ") :]
    assert set(probe_kinds()) <= set(re.findall(r"^(\w+)", probes, re.MULTILINE))
    assert not (ask.folder / "state").exists()  # nothing is remembered


def test_once_shows_each_volumes_class_and_why(ask: Asked) -> None:
    """A declared class has a mark, so that nobody takes it for what the medium shows."""
    ask.configure("mqtt://127.0.0.1:1", '[probes.devices]\nclasses = { "/" = "D3" }\n')

    out = ask("once").out
    assert re.search(r"^VOLUME .* CLASS +STATE +WITNESSED$", out, re.MULTILINE)
    assert re.search(r"^/ .* D3! ", out, re.MULTILINE)
    assert "declared D3 in the configuration" in " ".join(out.split())


def test_once_json_is_the_sections_of_the_contract(ask: Asked) -> None:
    ran = ask("once", "--json")

    seen = json.loads(ran.out)
    sections = msgspec.convert(seen["sections"], list[Section])
    assert (ran.code, seen["node"]) == (0, "n")
    assert [section.probe for section in sections] == [*sorted(probe_kinds()), "witness"]


def test_once_check_is_one_line_and_its_word_fits_the_code(ask: Asked) -> None:
    ran = ask("once", "--check")

    words = ["OK", "WARNING", "CRITICAL", "UNKNOWN"]
    assert ran.out.count("\n") == 1
    assert ran.out.startswith(f"HOLDFAST {words[ran.code]}: ")


def test_once_check_without_any_probe_is_unknown_and_not_fine(ask: Asked) -> None:
    ask.configure(
        "mqtt://127.0.0.1:1", "".join(f"[probes.{name}]\nenabled = false\n" for name in probe_kinds())
    )

    assert ask("once", "--check") == Ran(3, "HOLDFAST UNKNOWN: no probe gave any facts\n", "")


def test_doctor_has_a_verdict_for_every_probe_and_the_state_folder(ask: Asked) -> None:
    ran = ask("doctor")

    verdicts = re.findall(r"^(\w[\w ]*?)  +(\S+)", ran.out, re.MULTILINE)
    assert [name for name, _ in verdicts] == [*probe_kinds(), "witness", "state folder"]
    bad = {word for _, word in verdicts} - {"works", "unsupported"}
    assert ran.code == (1 if bad else 0)


def test_doctor_says_how_late_every_probe_is_by_the_periods_in_force(ask: Asked) -> None:
    ask.configure("mqtt://127.0.0.1:1", '[probes.md]\nperiod = "7m"\n')
    said = " ".join(ask("doctor").out.split())

    for name, kind in probe_kinds().items():
        period = 420.0 if name == "md" else kind.timing(10.0)[0]
        for sentence in sentences(detections(kind, period), subjects(kind)):
            assert sentence in said
    assert "after 420 s at most by looking: every fact" in said
    assert "after 82 s at most by looking (with every record): witness_fsync_last_seconds" in said


def test_doctor_says_what_a_disabled_probe_costs(ask: Asked) -> None:
    ask.configure("mqtt://127.0.0.1:1", "[probes.volumes]\nenabled = false\n")

    assert "disabled" in (out := ask("doctor").out)
    assert f"without it, {probe_kinds()['volumes'].cost}" in " ".join(out.split())


def test_doctor_names_the_facts_that_stay_unknown_and_none_that_are_missing_or_stated() -> None:
    """Working is not the same as knowing: a machine with virtual disks alone has a working probe and no verdict."""
    section = Section(
        probe="smart",
        status=SectionStatus.OK,
        observed_at=0.0,
        mono=0.0,
        period_seconds=300.0,
        duration_seconds=0.0,
        missing={"sdb.smart_passed": "may not be asked"},
        resources=[Resource(kind="device", name="vda", facts={"smart_available": False})],
    )
    unknown = unstated(section, probe_kinds()["smart"])

    assert "smart_failing" in unknown
    assert not {"smart_available", "smart_passed"} & set(unknown)


def test_doctor_warns_root_that_the_agents_user_may_see_less(ask: Asked) -> None:
    needs.root()
    (ask.folder / "state").mkdir()
    os.chown(ask.folder / "state", 12345, 12345)

    assert "the agent runs as user id 12345 and may see less" in " ".join(ask("doctor").out.split())


# Configuration


def test_check_config_prints_every_value_with_its_origin(ask: Asked) -> None:
    ran = ask("check-config")

    assert (ran.code, ran.err) == (0, "")
    rows = dict(re.split(r" +# (?=\S+$|default$|environment)", line) for line in ran.out.splitlines())
    assert rows['node = "n"'] == f"{ask.config}:1"
    assert rows['interval = "10s"'] == "default"


def test_check_config_warns_of_a_broker_across_the_network_without_tls(ask: Asked) -> None:
    ask.configure("mqtt://broker.example")

    ran = ask("check-config")
    assert (ran.code, ran.err) == (
        0,
        "warning: all facts travel unencrypted to mqtt://broker.example:1883: use mqtts://\n",
    )


@pytest.mark.parametrize("verb", ["run", "once", "doctor", "check-config", "test-connection"])
def test_wrong_configuration_ends_every_verb_with_code_2(ask: Asked, verb: str) -> None:
    ask.configure("mqtt://127.0.0.1:1", 'urs = "x"\n')

    ran = ask(verb)
    assert ran == Ran(2, "", f"{ask.config}:5: broker.urs: no such key; did you mean 'urls'?\n")


# Recording


def test_record_prints_what_a_probe_read(ask: Asked) -> None:
    ran = ask("record", "volumes")

    assert (ran.code, ran.err, json.loads(ran.out)["probe"]) == (0, "", "volumes")


def test_record_of_an_unknown_probe_names_the_known_ones(ask: Asked) -> None:
    ran = ask("record", "volums")

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("no probe 'volums'; did you mean 'volumes'?")


# The way to the collector


def test_connection_without_a_listener_is_said_with_a_remedy(ask: Asked) -> None:
    port = free_port()
    ask.configure(f"mqtt://127.0.0.1:{port}")

    ran = ask("test-connection")
    assert ran.code == 1
    assert "  tcp        FAILED  Connection refused\n" in ran.out
    assert f"check that a broker listens on port {port}, and firewalls" in ran.out


def test_connection_works_when_a_collector_acknowledges(ask: Asked, broker: Broker) -> None:
    ask.configure(broker.url)
    asking = subprocess.Popen(
        ask.arguments("test-connection"), stdout=subprocess.PIPE, text=True, env=environment()
    )
    with Peer(broker.port) as peer, asking, contextlib.ExitStack() as ending:
        ending.callback(asking.kill)
        wait_for(lambda: acknowledged(peer), what="the birth of the short run")
        out, _ = asking.communicate(timeout=TIMEOUT_SECONDS)

    steps = re.findall(r"^  (\w+) +(\w+)  ", out, re.MULTILINE)
    assert asking.returncode == 0, out
    assert steps == [(step, "ok") for step in ("name", "tcp", "mqtt", "subscribe", "publish", "collector")]


def acknowledged(peer: Peer) -> bool:
    """Answer every birth that came, as a collector; whether there was one."""
    found = False
    for topic, payload in list(peer.messages):
        birth = decode_up("n", payload) if topic == up_topic("n") else None
        if isinstance(birth, Birth):
            held = Acknowledgement(birth.epoch, birth.seq, content_digest(payload))
            peer.tell("n", Ack(install_id=birth.install_id, messages=[held]))
            found = True
    return found


def test_connection_that_may_not_publish_says_which_topic(ask: Asked, tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic read holdfast/v1/n/down\n")
    refusing = Broker(tmp_path / "broker", lines=[f"acl_file {acl}"]).start()
    try:
        ask.configure(refusing.url)
        ran = ask("test-connection")
    finally:
        refusing.stop()

    assert ran.code == 1
    assert "  publish    FAILED  holdfast/v1/n/up refused: Not authorized\n" in ran.out


# The page


def test_every_probe_is_in_the_readme_with_its_cost() -> None:
    text = README.read_text(encoding="utf-8").partition("| probe |")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", text, re.MULTILINE))

    assert rows == {kind.name: kind.cost for kind in probe_kinds().values()}


def test_every_verb_is_in_the_readme_and_every_verb_there_exists(ask: Asked) -> None:
    text = README.read_text(encoding="utf-8").partition("| `holdfast-agent …` |")[2].partition("\n\n")[0]
    described = re.findall(r"^\| `([a-z-]+)", text, re.MULTILINE)
    shown = subprocess.run([command("holdfast-agent"), "--help"], capture_output=True, text=True, check=True)

    assert described == re.findall(r"^    ([a-z-]+)(?:  |$)", shown.stdout, re.MULTILINE)
