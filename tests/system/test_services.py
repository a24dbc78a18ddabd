"""Services of a real systemd, killed: the signal on the bus becomes a page, and its recovery the end of it."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from tests import needs
from tests.bench.boxed_services import BoxedServices
from tests.receiver import Receiver
from tests.rigs.systemd_box import SystemdBox
from tests.system.stack import Stack, hurried_rules, matching, notices, webhook
from tests.waiting import wait_for

pytestmark = pytest.mark.system

NODE = "vm-1"
RECENT = "15s"
"""The window in which restarts count as a loop; ten minutes as shipped."""

ALWAYS = """[Unit]
Description=Comes back whatever happens
StartLimitIntervalSec=0
[Service]
ExecStart=/bin/sleep infinity
Restart=always
RestartSec=100ms
[Install]
WantedBy=multi-user.target
"""
THRICE = """[Unit]
Description=Comes back three times
StartLimitIntervalSec=1h
StartLimitBurst=3
[Service]
ExecStart=/bin/false
Restart=always
RestartSec=100ms
[Install]
WantedBy=multi-user.target
"""
JOB = """[Unit]
Description=Does its work and ends
[Service]
Type=oneshot
ExecStart=/bin/false
"""


class Ward(NamedTuple):
    """A machine under watch."""

    box: SystemdBox
    stack: Stack
    hook: Receiver

    def start(self, name: str, text: str) -> None:
        """Install, enable and start a unit; returns when the collector has heard of it. It may fail at once."""
        self.box.unit(name, text)
        self.box.run("systemctl", "enable", name)
        self.box.run("systemctl", "start", name, check=False)
        self.stack.wait(lambda: self.facts(name), f"{name} to be known")

    def facts(self, name: str) -> dict[str, Any]:
        return self.stack.collector.facts(NODE, "service", name)

    def kill(self, name: str) -> None:
        """SIGKILL to its main process."""
        self.box.run("systemctl", "kill", "--kill-whom=main", f"--signal={signal.SIGKILL.value}", name)

    def restarts(self, name: str) -> int:
        """As systemd counts them."""
        return int(self.box.run("systemctl", "show", "--property=NRestarts", "--value", name))

    def kill_and_wait_for_return(self, name: str) -> None:
        before = self.restarts(name)
        self.kill(name)
        wait_for(
            lambda: self.restarts(name) > before and self.state(name) == "active",
            what=f"systemd to start {name} again",
        )

    def state(self, name: str) -> str:
        return self.box.run("systemctl", "show", "--property=ActiveState", "--value", name).strip()

    def told(self, alertname: str, name: str) -> dict[str, Any]:
        """The notice about the unit, as the webhook got it."""
        return self.stack.wait(
            lambda: notices(self.hook, alertname=alertname, resource=name, status="firing"),
            f"{alertname} about {name} to reach the webhook",
        )[-1]

    def told_of_the_end(self, page: dict[str, Any]) -> None:
        self.stack.wait(
            lambda: notices(self.hook, key=page["key"], status="resolved"),
            f"the end of {page['alertname']} about {page['resource']} to reach the webhook",
            90.0,
        )

    def everything_told_of(self, name: str) -> list[tuple[str, str]]:
        """(alert, status), once nothing about the unit is pending or fires any more."""
        self.stack.wait(
            lambda: all(alert["state"] == "resolved" for alert in self.stack.collector.alerts(resource=name)),
            f"{name} to be well",
            60.0,
        )
        return [(notice["alertname"], notice["status"]) for notice in notices(self.hook, resource=name)]

    def events(self, name: str, type_: str) -> dict[str, Any]:
        """What the collector has counted of one kind of event."""
        shown = (self.stack.collector.node(NODE) or {})["events"]
        return next(iter(matching(shown, {"resource": name, "type": type_})), {"total": 0})


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """A systemd of the test's own, an agent on its bus, a collector in a hurry."""
    needs.root()
    folder = tmp_path_factory.mktemp("services")
    rules = hurried_rules(folder / "rules", window=RECENT)
    with ExitStack() as held:
        hook = held.enter_context(Receiver())
        stack = held.enter_context(Stack(folder, receivers=[webhook(hook)], rules=rules, shipped_rules=False))
        box = held.enter_context(SystemdBox(folder))
        agent = stack.agent(NODE, wrap=BoxedServices(box, 1).watched_by)
        agent.start()
        # Before the box goes: to an agent, a systemd that is gone is news.
        held.callback(agent.close)
        stack.wait_reported(NODE, "services_systemd")
        yield Ward(box, stack, hook)


def test_killed_service_pages_and_resolves_when_it_runs_again(ward: Ward) -> None:
    """Nobody starts it again: systemd was not told to."""
    name = "bench@0.service"
    ward.stack.wait(lambda: ward.facts(name).get("up"), f"{name} to be up")
    ward.kill(name)
    page = ward.told("ServiceFailed", name)
    failed = ward.stack.collector.metric("holdfast_service_up", node=NODE, service=name)
    ward.box.run("systemctl", "start", name)
    ward.told_of_the_end(page)

    assert page["labels"] == {
        "alertname": "ServiceFailed",
        "severity": "page",
        "node": NODE,
        "resource_kind": "service",
        "resource": name,
        "service": name,
        "rule_id": "R-39",
    }
    assert page["annotations"]["summary"] == f"{NODE}: {name} failed (signal)"
    assert page["annotations"]["description"] == (
        "A service of the bench: exit status 9. systemd will not start it again by itself."
    )
    assert (failed, ward.stack.collector.metric("holdfast_service_up", node=NODE, service=name)) == (0.0, 1.0)
    assert ward.events(name, "unit_failed")["last"] == f"{name} failed: signal, signal 9"
    assert ward.everything_told_of(name) == [("ServiceFailed", "firing"), ("ServiceFailed", "resolved")]


def test_restart_by_systemd_is_counted_and_pages_nobody_until_it_is_a_loop(ward: Ward) -> None:
    """Polls see a service that is up each time they look: it is the events and the count that tell."""
    name = "always.service"
    ward.start(name, ALWAYS)
    ward.kill_and_wait_for_return(name)
    ward.stack.wait(lambda: ward.events(name, "unit_restarted")["total"] == 1, "the restart to be counted")
    told_of_one = notices(ward.hook, resource=name)
    for _ in range(3):
        ward.kill_and_wait_for_return(name)
    page = ward.told("ServiceRestartLoop", name)
    ward.stack.wait(lambda: ward.events(name, "unit_restarted")["total"] == 4, "all to be counted")
    ward.told_of_the_end(page)

    assert told_of_one == []
    assert page["annotations"]["summary"] == f"{NODE}: {name} keeps crashing and being restarted"
    assert page["severity"] == "page"
    assert ward.events(name, "unit_restarted")["last"] == (f"systemd started {name} again; 4 restarts so far")
    assert ward.everything_told_of(name) == [
        ("ServiceRestartLoop", "firing"),
        ("ServiceRestartLoop", "resolved"),
    ]


def test_service_that_systemd_has_given_up_is_one_page(ward: Ward) -> None:
    """It failed, it was restarted, it failed again: what people must know is that nobody tries any more."""
    name = "thrice.service"
    ward.start(name, THRICE)
    page = ward.told("ServiceGaveUp", name)
    ward.box.unit(name, THRICE.replace("/bin/false", "/bin/sleep infinity"))
    ward.box.run("systemctl", "reset-failed", name)
    ward.box.run("systemctl", "start", name)
    ward.told_of_the_end(page)

    assert page["annotations"]["summary"] == f"{NODE}: systemd has given up starting {name}"
    assert "last with exit-code, exit status 1" in page["annotations"]["description"]
    assert {name for name, _ in ward.everything_told_of(name)} == {"ServiceGaveUp"}


def test_job_that_failed_is_a_ticket_and_wakes_nobody(ward: Ward) -> None:
    """Nobody enabled it: a timer's job, or something started by hand."""
    name = "job.service"
    ward.box.unit(name, JOB)
    ward.box.run("systemctl", "start", name, check=False)
    ticket = ward.told("ServiceJobFailed", name)
    ward.box.run("systemctl", "reset-failed", name)
    ward.told_of_the_end(ticket)

    assert (ticket["severity"], ticket["annotations"]["summary"]) == (
        "ticket",
        f"{NODE}: {name} failed (exit-code)",
    )
    assert ward.everything_told_of(name) == [("ServiceJobFailed", "firing"), ("ServiceJobFailed", "resolved")]
