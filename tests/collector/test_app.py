"""The whole collector as a process: it starts, serves, reloads, refuses and ends as operators are told."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_collector.store.sqlite import SqliteStore
from tests.broker import Broker
from tests.collector.running import ROOT, CollectorProcess, hand
from tests.ports import free_port
from tests.receiver import Receiver
from tests.waiting import wait_for, wait_until

pytestmark = pytest.mark.system

WEBHOOK = '[[receiver]]\nname = "hook"\nkind = "webhook"\nurl = "{url}"\ntimeout = "2s"\n'


@pytest.fixture
def collector(tmp_path: Path, broker: Broker, receiver: Receiver) -> Iterator[CollectorProcess]:
    made = CollectorProcess(tmp_path / "c", broker.url, receivers=WEBHOOK.format(url=receiver.url))
    yield made
    made.end(signal.SIGKILL)


def keys(receiver: Receiver) -> list[tuple[str, str, str]]:
    """(alert, node, status) of what the webhook acted on, in order."""
    bodies = [post.json() for post in receiver.taken]
    return [(body["alertname"], body["node"], body["status"]) for body in bodies]


async def test_event_reaches_the_webhook_and_its_sender_learns_that_it_is_kept(
    collector: CollectorProcess, broker: Broker, receiver: Receiver
) -> None:
    collector.start()
    async with hand(broker.url) as agent:
        await agent.deliver(agent.birth())
        await agent.deliver(agent.event())
        await wait_until(lambda: keys(receiver))

    assert keys(receiver) == [("JobFailed", "n1", "firing")]
    assert collector.end() == 0
    assert [
        len(collector.log(event)) for event in ("collector started", "alert fired", "collector stopped")
    ] == [1, 1, 1]


async def test_notice_survives_kill_9_and_goes_out_with_the_same_id(tmp_path: Path, broker: Broker) -> None:
    """The receiver is away, then the collector is killed: the page still comes."""
    port = free_port()
    collector = CollectorProcess(
        tmp_path / "c", broker.url, receivers=WEBHOOK.format(url=f"http://127.0.0.1:{port}")
    )
    collector.start()
    try:
        async with hand(broker.url) as agent:
            await agent.deliver(agent.birth())
            await agent.deliver(agent.event())
        collector.end(signal.SIGKILL)
        (key,) = [notice.id for notice in collector.stored().notices]
        with Receiver(port=port) as receiver:
            collector.start()
            wait_for(lambda: receiver.taken)
            wait_for(lambda: not collector.stored().notices)
            assert {post.json()["id"] for post in receiver.taken} == {key}
    finally:
        collector.end(signal.SIGKILL)


def test_second_collector_on_one_data_directory_is_refused(collector: CollectorProcess) -> None:
    collector.start()
    collector.wait_ready()

    second = subprocess.run(
        [sys.executable, "-m", "holdfast_collector", "run", "--config", str(collector.config)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )

    assert second.returncode == 2
    assert f"another collector works in {collector.data_dir}" in second.stderr
    assert collector.ask("/readyz")[0] == 200


def test_collector_whose_store_was_taken_over_stops(collector: CollectorProcess) -> None:
    """Two collectors on one database over some shared disk: the older one must not go on paging."""
    collector.start()
    collector.wait_ready()
    store = SqliteStore.open(collector.database)
    store.take("main")
    store.close()
    # Whatever is committed next shows it; an own alert of the collector needs no agent.
    collector.rules.write_text(
        'rules:\n  - {alert: Watchdog, id: T-05, resource: collector, when: "True", severity: info, summary: works}\n'
    )
    collector.send(signal.SIGHUP)

    assert collector.wait() == 1
    assert len(collector.log("fenced off")) == 1


def test_damaged_database_is_set_aside_and_alerting_goes_on(collector: CollectorProcess) -> None:
    collector.data_dir.mkdir(parents=True)
    collector.database.write_bytes(b"damaged beyond reading " * 1000)

    collector.start()
    collector.wait_ready()

    (line,) = collector.log("store set aside")
    assert line["level"] == "error"
    assert '"store_quarantined":true' in collector.ask("/api/v1/status")[1].replace(" ", "")


def test_broker_that_is_away_is_a_reason_not_to_be_ready_and_no_reason_not_to_start(
    collector: CollectorProcess, broker: Broker
) -> None:
    broker.kill()
    collector.start()
    wait_for(lambda: collector.ask("/readyz")[0] == 503)

    assert "no session with a broker" in collector.ask("/readyz")[1]

    broker.start()
    collector.wait_ready()
    assert [len(collector.log(event)) for event in ("broker lost", "broker connected")] == [1, 1]


def test_sighup_takes_new_rules_and_keeps_the_old_ones_over_a_mistake(collector: CollectorProcess) -> None:
    collector.start()
    collector.wait_ready()

    collector.rules.write_text(collector.rules.read_text().replace("unit_failed_total", "unit_faild_total"))
    collector.send(signal.SIGHUP)
    (refused,) = wait_for(lambda: collector.log("reload refused"))
    assert "did you mean" in " ".join(refused["mistakes"])
    assert "JobFailed" in collector.ask("/api/v1/rules")[1]

    collector.rules.write_text(
        collector.rules.read_text()
        .replace("unit_faild_total", "unit_failed_total")
        .replace("JobFailed", "JobDied")
    )
    collector.send(signal.SIGHUP)
    (reloaded,) = wait_for(lambda: collector.log("configuration reloaded"))
    wait_for(lambda: "JobDied" in collector.ask("/api/v1/rules")[1])
    assert (reloaded["rules"], reloaded["at_next_start"]) == (1, [])


def test_sighup_takes_new_groups_and_keeps_the_old_ones_over_a_mistake(collector: CollectorProcess) -> None:
    group = '[[group]]\nname = "{}"\nmembers = ["db-1/pg.service", "{}"]\n'
    collector.configure("", group.format("orders", "db-2/pg.service"))
    collector.start()
    collector.wait_ready()
    wait_for(lambda: '"name":"orders"' in collector.ask("/api/v1/groups")[1])

    collector.configure("", group.format("bills", "pg.service"))
    collector.send(signal.SIGHUP)
    wait_for(lambda: collector.log("reload refused"))
    kept = collector.ask("/api/v1/groups")[1]
    collector.configure("", group.format("bills", "db-3/pg.service"))
    collector.send(signal.SIGHUP)
    wait_for(lambda: '"name":"bills"' in collector.ask("/api/v1/groups")[1])

    (refused,) = collector.log("reload refused")
    assert "group[1].members: 'pg.service' is no NODE/SERVICE" in refused["mistakes"][0]
    assert '"name":"orders"' in kept
    assert '"name":"orders"' not in collector.ask("/api/v1/groups")[1]


def test_changed_packs_are_taken_without_a_signal_where_that_is_wanted(collector: CollectorProcess) -> None:
    watched = (
        f"[rules]\nshipped = false\ndirectories = ['{collector.rules.parent}']\nreload_on_change = true\n"
    )
    text = collector.config.read_text()
    collector.config.write_text(re.sub(r"(?m)^\[rules\]\n(?:\w.*\n)*", "", text) + watched)
    collector.start()
    collector.wait_ready()

    collector.rules.write_text(collector.rules.read_text().replace("JobFailed", "JobDied"))
    wait_for(lambda: "JobDied" in collector.ask("/api/v1/rules")[1])

    collector.rules.write_text("rules: [nonsense]")
    wait_for(lambda: collector.log("reload refused"))
    assert "JobDied" in collector.ask("/api/v1/rules")[1]


async def test_sighup_sends_waiting_notices_to_the_receivers_new_address(
    tmp_path: Path, broker: Broker, receiver: Receiver
) -> None:
    """A mistyped address at 3 a.m.: correct it, SIGHUP, and the page is out."""
    collector = CollectorProcess(
        tmp_path / "c", broker.url, receivers=WEBHOOK.format(url=f"http://127.0.0.1:{free_port()}")
    )
    collector.start()
    try:
        async with hand(broker.url) as agent:
            await agent.deliver(agent.birth())
            await agent.deliver(agent.event())
        collector.configure(WEBHOOK.format(url=receiver.url), more="[mqtt2]\n")
        collector.send(signal.SIGHUP)
        wait_for(lambda: collector.log("reload refused"))
        collector.configure(WEBHOOK.format(url=receiver.url))
        collector.send(signal.SIGHUP)
        wait_for(lambda: keys(receiver))
    finally:
        collector.end(signal.SIGKILL)

    assert keys(receiver) == [("JobFailed", "n1", "firing")]


async def test_notice_of_a_receiver_that_is_configured_no_more_is_dropped_loudly(
    tmp_path: Path, broker: Broker
) -> None:
    collector = CollectorProcess(
        tmp_path / "c", broker.url, receivers=WEBHOOK.format(url=f"http://127.0.0.1:{free_port()}")
    )
    collector.start()
    try:
        async with hand(broker.url) as agent:
            await agent.deliver(agent.birth())
            await agent.deliver(agent.event())
        collector.end()
        collector.configure("")
        collector.start()
        (line,) = wait_for(lambda: collector.log("notice without a receiver"))
        wait_for(lambda: not collector.stored().notices)

        assert (line["level"], line["receiver"]) == ("error", "hook")
    finally:
        collector.end(signal.SIGKILL)


def test_service_manager_is_told_of_beginning_health_and_end(
    collector: CollectorProcess, tmp_path: Path
) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(path))
        line.settimeout(30)
        collector.start(environment={"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "1000000"})

        def told(what: str) -> str:
            while not (message := line.recv(4096).decode()).startswith(what):
                pass
            return message

        assert (
            told("READY=1")
            == "READY=1\nSTATUS=0 of 0 nodes report, 0 alerts fire, 0 notices wait; no session with"
            " a broker: not connected yet"
        )
        told("WATCHDOG=1")
        told("WATCHDOG=1")
        collector.send(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in told("RELOADING=1")
        told("READY=1")
        collector.send(signal.SIGTERM)
        told("STOPPING=1")
    assert collector.wait() == 0


def test_address_in_use_is_the_users_to_mend(collector: CollectorProcess) -> None:
    with socket.socket() as other:
        host, _, port = collector.url.removeprefix("http://").rpartition(":")
        other.bind((host, int(port)))
        other.listen()
        collector.start()

        assert collector.wait() == 2
    assert "cannot listen on" in collector.text


@pytest.mark.parametrize("missing", ["apsw", "gmqtt", "httpx2", "starlette"])
def test_bare_install_says_what_to_install(collector: CollectorProcess, missing: str) -> None:
    """The bare distribution is the agent; the collector's libraries come with its extra."""
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from holdfast_collector.__main__ import main\n"
        f"sys.exit(main(['run', '--config', {str(collector.config)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ},
    )

    assert (done.returncode, done.stderr) == (
        2,
        f"the collector needs {missing}, which is not installed: pip install 'holdfast[collector]'\n",
    )
