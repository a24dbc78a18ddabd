"""What people have already: a real Prometheus scrapes the collector, a real Alertmanager hears of its alerts."""

import json
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests import needs
from tests.collector.alertmanager import AlertmanagerProcess
from tests.ports import free_port
from tests.receiver import Receiver
from tests.system.stack import Stack, alertmanager
from tests.waiting import wait_for

pytestmark = pytest.mark.system

NODE = "vm-1"
SCRAPE = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- {{job_name: holdfast, static_configs: [{{targets: ['{target}']}}]}}
"""


class Prometheus:
    """A Prometheus of the test's own."""

    def __init__(self, folder: Path, target: str) -> None:
        program = needs.tool("prometheus", package="prometheus")
        folder.mkdir(parents=True)
        (folder / "prometheus.yml").write_text(SCRAPE.format(target=target), encoding="utf-8")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result vector; empty while Prometheus is not up."""
        try:
            asked = f"{self.url}/api/v1/query?{urlencode({'query': expression})}"
            with urllib.request.urlopen(asked, timeout=10) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
                return found
        except (urllib.error.URLError, OSError):
            return []

    def targets(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/api/v1/targets", timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["activeTargets"]
            return found

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=30)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Collector and agent of this machine, with the shipped rules."""
    with Stack(tmp_path / "stack") as running:
        running.agent(NODE).start()
        running.wait_reported(NODE, "volumes")
        yield running


def test_prometheus_scrapes_the_facts_of_this_machine(tmp_path: Path, stack: Stack) -> None:
    """No relabelling, no errors, and its own `up` and ours agree."""
    prometheus = Prometheus(tmp_path / "prometheus", stack.collector.url.removeprefix("http://"))
    try:
        volumes = wait_for(
            lambda: prometheus.query(f'holdfast_volume_size_bytes{{node="{NODE}"}}'),
            60,
            "volumes in Prometheus",
        )
        up = prometheus.query("up")
        node_up = prometheus.query(f'holdfast_node_up{{node="{NODE}"}}')
        (target,) = prometheus.targets()
    finally:
        prometheus.close()

    assert (target["health"], target["lastError"]) == ("up", "")
    assert ([row["value"][1] for row in up], [row["value"][1] for row in node_up]) == (["1"], ["1"])
    assert {row["metric"]["mountpoint"]: float(row["value"][1]) for row in volumes} == {
        resource["name"]: float(resource["facts"]["size_bytes"])
        for resource in (stack.collector.node(NODE) or {})["resources"]
        if resource["kind"] == "volume" and "size_bytes" in resource["facts"]
    }


@pytest.mark.parametrize("accept", ["text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0"])
def test_the_page_is_what_was_asked_for(stack: Stack, accept: str) -> None:
    """Prometheus asks for OpenMetrics first; both are offered."""
    kind, page = stack.collector.page("/metrics", accept)

    assert kind.startswith(accept.partition(";")[0])
    assert page.endswith("# EOF\n") == ("openmetrics" in accept)


def test_promtool_has_nothing_to_say(stack: Stack) -> None:
    """It knows the naming rules by heart."""
    promtool = needs.tool("promtool", package="prometheus")
    page = stack.collector.page("/metrics", "text/plain")[1]

    checked = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_alertmanager_hears_of_a_silent_node_and_of_its_return(tmp_path: Path, receiver: Receiver) -> None:
    """From the will of a killed agent to the page, and back when the agent is."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "silent.yaml").write_text(
        "rules:\n  - alert: NodeSilent\n    id: T-62\n    resource: node\n"
        '    when: not reporting and session != "stopped"\n    for: 1s\n    severity: page\n'
        '    summary: "{node} is silent"\n'
    )
    with AlertmanagerProcess(tmp_path / "am", receiver.url) as manager:
        told = alertmanager(manager.url)
        with Stack(tmp_path / "stack", receivers=[told], rules=rules, shipped_rules=False) as stack:
            agent = stack.agent(NODE)
            agent.start()
            stack.wait_reported(NODE, "volumes")
            agent.kill()
            fired = wait_for(lambda: [post.json() for post in receiver.taken], 90, "the page")
            agent.start()
            wait_for(lambda: len(receiver.taken) > 1, 120, "the end of it")

    ended = receiver.taken[-1].json()
    (alert,) = fired[0]["alerts"]
    assert (fired[0]["status"], ended["status"]) == ("firing", "resolved")
    assert alert["labels"] == {
        "alertname": "NodeSilent",
        "severity": "page",
        "node": NODE,
        "resource_kind": "node",
        "resource": NODE,
        "rule_id": "T-62",
    }
    assert alert["annotations"]["summary"] == f"{NODE} is silent"
