"""What people get wrong, through the commands they use: every mistake at once, with file, place and nearest name.

Whoever is called out of bed by a bad configuration has one look at the terminal. Nothing may be started before: no
connection to the broker, no socket, no state folder.
"""

import socket
import subprocess
from pathlib import Path
from typing import NamedTuple, Self

import pytest

from tests.system.stack import command, environment

pytestmark = pytest.mark.system

AGENT = """\
node = "DB 1"
intervall = "5s"
interval = "5"
state_dir = "state"

[broker]
urls = ["mqtt://127.0.0.1:{port}", "http://127.0.0.1:{port}"]
pasword_file = "/x"
password_file = "/nowhere/password"
keepalive = "1s"

[probes.volums]
enabled = true

[probes.kernel_log]
period = "soon"
"""
AGENT_MISTAKES = """\
agent.toml:2: intervall: no such key; did you mean 'interval'?
agent.toml:3: interval: '5' is no duration: write it with its unit, e.g. "30s", "5m", "7d"
agent.toml:8: broker.pasword_file: no such key; did you mean 'password_file'?
agent.toml:12: probes.volums: no such key; did you mean 'volumes'?
agent.toml:16: probes.kernel_log.period: 'soon' is no duration: write it with its unit, e.g. "30s", "5m", "7d"
agent.toml:1: node: 'DB 1': it cannot name a node; write one that matches [a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?
agent.toml:10: broker.keepalive: is 1; must be between 5s and 1h
agent.toml:4: state_dir: 'state' is no absolute path
agent.toml:7: broker.urls: 'http://127.0.0.1:{port}' is no broker: write mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS
agent.toml:9: broker.password_file: needs username beside it
agent.toml:9: broker.password_file: /nowhere/password: No such file or directory
"""

COLLECTOR = """\
data_dri = "{folder}/data"
[mqtt]
brokers = ["mqtt://127.0.0.1:{port}", "mqt://127.0.0.1:{port}"]
receive_maximum = 5

[http]
listen = "0.0.0.0:{port}"

[[receiver]]
name = "oncall"
kind = "webhook"
url = "https://hooks.example/holdfast"

[[receiver]]
name = "oncall"
kind = "alertmanger"
severities = ["pages", "ticket"]
"""
COLLECTOR_MISTAKES = """\
collector.toml:1: data_dri: no such key; did you mean 'data_dir'?
collector.toml:16: receiver[2].kind: 'alertmanger' is none of webhook, alertmanager; did you mean 'alertmanager'?
collector.toml:17: receiver[2].severities: 'pages' is none of page, ticket, info; did you mean 'page'?
collector.toml:3: mqtt.brokers: 'mqt://127.0.0.1:{port}': the scheme is one of mqtt, mqtts; did you mean 'mqtt'?
collector.toml:4: mqtt.receive_maximum: between 20 and 65535
collector.toml:7: http.listen: beyond loopback needs TLS: set cert_file and key_file, or stay on 127.0.0.1
collector.toml:7: http.listen: beyond loopback needs authentication: set token_file or client_ca_file
collector.toml:15: receiver[2].name: 'oncall' names another receiver already
8 mistakes; nothing was started
"""

PACK = """\
disable: [NodeStoped]
rules:
  - alert: SrvFilling
    resource: volume
    when: free_ration < 0.2 and mountpont == "/srv"
    for: 10 minutes
    severity: pages
    summary: "{node}: {mountpoin} fills"
  - alert: srv
    resource: volum
    when: free_ratio < 5
    severity: page
    sumary: low
  - alert: SrvLow
    resource: volume
    when: free_ratio < 5
    severity: page
    inhibited_by: [SrvFiling]
    summary: low
"""
PACK_MISTAKES = """\
rules/srv.yaml:1:11: there is no alert NodeStoped to disable; did you mean NodeStopped?
rules/srv.yaml:5:11: SrvFilling: `free_ration` is not a fact of a volume; did you mean `free_ratio`?
rules/srv.yaml:5:33: SrvFilling: `mountpont` is not a fact of a volume; did you mean `mountpoint`?
rules/srv.yaml:6:10: SrvFilling: '10 minutes' is not a duration; write it like 90s, 5m, 1h30m or 2d
rules/srv.yaml:7:15: SrvFilling: `severity` is one of page, ticket, info; 'pages' is not; did you mean `page`?
rules/srv.yaml:8:23: SrvFilling: {mountpoin} is not a fact of a volume; did you mean {mountpoint}?
rules/srv.yaml:9:5: srv: `summary` is missing
rules/srv.yaml:9:12: srv: `alert` is CamelCase, like VolumeAlmostFull; 'srv' is not
rules/srv.yaml:10:15: srv: `resource` is one of node, device, volume, service, state_path, probe, collector, group; 'volum' is not; did you mean `volume`?
rules/srv.yaml:13:5: srv: there is no key `sumary` here; did you mean `summary`?
rules/srv.yaml:16:11: SrvLow: `free_ratio < 5` always holds: free_ratio lies between 0 and 1
rules/srv.yaml:18:20: SrvLow: `inhibited_by` names SrvFiling, which no pack has; did you mean SrvFilling?
"""


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    said: str
    """On standard error; there was nothing on standard output."""


class Doorbell:
    """The port everybody is told to use: it knows whether somebody came, and nobody else can listen there."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]

    def rang(self) -> bool:
        try:
            self._listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


def ran(folder: Path, *arguments: str) -> Ran:
    """Run one of our commands in the folder, to its end."""
    done = subprocess.run(
        [command(arguments[0]), *arguments[1:]],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert not done.stdout, done.stdout
    return Ran(done.returncode, done.stderr)


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("verb", ["check-config", "run"])
def test_bad_agent_configuration_is_refused_whole_before_anything_starts(verb: str, tmp_path: Path) -> None:
    with Doorbell() as broker:
        (tmp_path / "agent.toml").write_text(AGENT.replace("{port}", str(broker.port)))
        outcome = ran(tmp_path, "holdfast-agent", verb, "--config", "agent.toml")

        assert outcome == Ran(2, AGENT_MISTAKES.replace("{port}", str(broker.port)))
        assert (broker.rang(), contents(tmp_path)) == (False, {"agent.toml"})


@pytest.mark.parametrize("verb", ["check-config", "run"])
def test_bad_collector_configuration_is_refused_whole_before_anything_starts(
    verb: str, tmp_path: Path
) -> None:
    with Doorbell() as broker:
        text = COLLECTOR.replace("{port}", str(broker.port)).replace("{folder}", str(tmp_path))
        (tmp_path / "collector.toml").write_text(text)
        outcome = ran(tmp_path, "holdfast-collector", verb, "--config", "collector.toml")

        assert outcome == Ran(2, COLLECTOR_MISTAKES.replace("{port}", str(broker.port)))
        assert (broker.rang(), contents(tmp_path)) == (False, {"collector.toml"})


@pytest.mark.parametrize("verb", ["check-config", "run"])
def test_bad_rules_keep_the_collector_from_starting(verb: str, tmp_path: Path) -> None:
    with Doorbell() as broker:
        (tmp_path / "rules").mkdir()
        (tmp_path / "rules/srv.yaml").write_text(PACK)
        (tmp_path / "collector.toml").write_text(
            f'data_dir = "{tmp_path}/data"\n[mqtt]\nbrokers = ["mqtt://127.0.0.1:{broker.port}"]\n'
            '[http]\nlisten = "127.0.0.1:0"\n[rules]\ndirectories = ["rules"]\n'
        )
        outcome = ran(tmp_path, "holdfast-collector", verb, "--config", "collector.toml")

        assert outcome == Ran(2, PACK_MISTAKES + "12 mistakes; nothing was started\n")
        assert (broker.rang(), contents(tmp_path)) == (False, {"collector.toml", "rules", "rules/srv.yaml"})


@pytest.mark.parametrize("verb", ["check", "test"])
def test_bad_rules_are_refused_whole_by_the_operators_command(verb: str, tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/srv.yaml").write_text(PACK)

    assert ran(tmp_path, "holdfast", "rules", verb, "rules") == Ran(2, PACK_MISTAKES + "12 mistakes\n")


def test_bad_rule_tests_are_refused_with_their_places(tmp_path: Path) -> None:
    """A test that cannot be read would otherwise be a test that passes."""
    (tmp_path / "srv.yaml").write_text(
        'rules: [{alert: SrvLow, resource: volume, when: free_ratio < 0.2, severity: page, summary: "low"}]\n'
    )
    (tmp_path / "srv.test.yaml").write_text(
        "tests:\n"
        "  - {name: low, rule: SrvLow, resource: /srv, every: 5m, facts: {free_ration: 0.1}, expect: {0: fire}}\n"
        "  - {name: two, rule: SrvLo, resource: /srv, every: 5m, facts: {free_ratio: 0.1}, expect: {0: firing}}\n"
    )

    assert ran(tmp_path, "holdfast", "rules", "test", "srv.yaml") == Ran(
        2,
        "srv.test.yaml:2:66: low: `free_ration` is not a fact of a volume; did you mean free_ratio?\n"
        "srv.test.yaml:2:97: low: an alert is inactive, pending, firing; 'fire' it never is; did you mean firing?\n"
        "srv.test.yaml:3:23: two: there is no alert SrvLo; did you mean SrvLow?\n"
        "3 mistakes\n",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("holdfast-agent", "run", "--config", "nowhere.toml"),
        ("holdfast-collector", "run", "--config", "nowhere.toml"),
        ("holdfast", "rules", "check", "nowhere.yaml"),
    ],
)
def test_file_that_is_not_there_is_named(arguments: tuple[str, ...], tmp_path: Path) -> None:
    outcome = ran(tmp_path, *arguments)

    assert (outcome.code, outcome.said.splitlines()[0].partition(":")[0]) == (2, arguments[-1])
    assert "no such file" in outcome.said


@pytest.mark.parametrize(
    ("name", "verb"), [("holdfast-agent", "rnu"), ("holdfast-collector", "rnu"), ("holdfast", "upp")]
)
def test_verb_that_does_not_exist_is_the_users_mistake(name: str, verb: str, tmp_path: Path) -> None:
    outcome = ran(tmp_path, name, verb)

    assert (outcome.code, verb in outcome.said) == (2, True)


def test_text_that_is_no_toml_or_yaml_is_one_mistake_with_its_place(tmp_path: Path) -> None:
    """What would follow from the rest being unreadable is not reported: it may all be there."""
    (tmp_path / "holdfast.toml").write_text('log.level = "info"\nnode = vm-1\n')
    (tmp_path / "srv.yaml").write_text("rules:\n  - alert: SrvLow\n   resource: volume\n")

    assert [
        ran(tmp_path, "holdfast-agent", "check-config", "--config", "holdfast.toml").said.splitlines()[:1],
        ran(tmp_path, "holdfast-collector", "run", "--config", "holdfast.toml").said.splitlines(),
        ran(tmp_path, "holdfast", "rules", "check", "srv.yaml").said.splitlines(),
    ] == [
        ["holdfast.toml:2:8: no TOML: invalid value"],
        ["holdfast.toml:2:8: no TOML: invalid value", "1 mistake; nothing was started"],
        [
            "srv.yaml:3:4: not YAML: expected <block end>, but found '<block mapping start>'",
            "1 mistake",
        ],
    ]
