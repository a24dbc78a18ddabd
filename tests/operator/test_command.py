"""The operator's command against a real collector: what it says, and with which exit code scripts may go on."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import structs

from tests.broker import Broker
from tests.collector.running import CollectorProcess, Hand, hand
from tests.collector.visited import probe
from tests.ports import free_port
from tests.waiting import wait_until

GOOD, BAD_NEWS, MISTAKE = 0, 1, 2


def holdfast(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "holdfast", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"COLUMNS": "200"},
    )


@pytest.fixture
def collector(tmp_path: Path, broker: Broker) -> Iterator[CollectorProcess]:
    made = CollectorProcess(tmp_path / "c", broker.url)
    yield made
    made.end(signal.SIGKILL)


@asynccontextmanager
async def running(collector: CollectorProcess, broker: Broker) -> AsyncIterator[Hand]:
    """The collector at work, and a node that has reported."""
    collector.start()
    collector.wait_ready()
    async with hand(broker.url) as agent:
        await agent.deliver(agent.birth())
        agent.send(agent.report())
        await wait_until(lambda: '"reporting":1' in collector.ask("/api/v1/nodes")[1])
        yield agent


async def fire(agent: Hand, collector: CollectorProcess, summary: str = "died") -> None:
    await agent.deliver(agent.event(summary=summary))
    await wait_until(lambda: "JobFailed" in collector.ask("/api/v1/alerts?state=firing")[1])


@pytest.mark.system
async def test_status_is_good_until_something_fires(collector: CollectorProcess, broker: Broker) -> None:
    async with running(collector, broker) as agent:
        well = holdfast("status", "--url", collector.url)
        await fire(agent, collector)
        ill = holdfast("status", "--url", collector.url)
        machine = holdfast("status", "--url", collector.url, "--json")

    assert (well.returncode, ill.returncode, machine.returncode) == (GOOD, BAD_NEWS, BAD_NEWS)
    assert well.stdout.splitlines()[1:4] == [
        "nodes      1 reporting",
        "alerts     none firing, 0 pending",
        "outbox     empty",
    ]
    assert "alerts     1 ticket firing, 0 pending" in ill.stdout
    assert json.loads(machine.stdout)["nodes"] == {"reporting": 1}


@pytest.mark.system
async def test_status_tells_of_a_collector_without_its_broker(
    collector: CollectorProcess, broker: Broker
) -> None:
    async with running(collector, broker):
        pass
    broker.kill()
    await wait_until(lambda: collector.ask("/readyz")[0] == 503)
    done = holdfast("status", "--url", collector.url)

    assert (done.returncode, "not ready" in done.stdout, "no session with a broker" in done.stdout) == (
        BAD_NEWS,
        True,
        True,
    )


@pytest.mark.system
async def test_an_alert_is_explained(collector: CollectorProcess, broker: Broker) -> None:
    async with running(collector, broker) as agent:
        await fire(agent, collector)
        firing = holdfast("explain", "JobFailed", "n1", "--url", collector.url)
        machine = holdfast("explain", "JobFailed", "n1", "--url", collector.url, "--json")
        mistyped = holdfast("explain", "JobFaild", "n1", "--url", collector.url)

    assert (firing.returncode, machine.returncode, mistyped.returncode) == (BAD_NEWS, BAD_NEWS, MISTAKE)
    assert firing.stdout.startswith("JobFailed (")
    assert "\nends  clear when " in firing.stdout
    assert json.loads(machine.stdout)["finding"] == "holds"
    assert "did you mean JobFailed?" in mistyped.stderr


@pytest.mark.system
async def test_a_group_s_history_is_asked_by_its_name_alone(
    collector: CollectorProcess, broker: Broker
) -> None:
    """It lies on no node and has no resources; one that nobody declared is not the same as one that never turned."""
    async with running(collector, broker):
        unknown = holdfast("history", "orders", "--group", "--url", collector.url)
        resource = holdfast("history", "orders", "/srv", "--group", "--url", collector.url)

    assert (unknown.returncode, resource.returncode) == (MISTAKE, MISTAKE)
    assert "no group 'orders' is known" in unknown.stderr
    assert "a group has no resources: leave RESOURCE and --kind out" in resource.stderr


@pytest.mark.system
async def test_what_happened_is_told_after_the_collector_was_killed(
    collector: CollectorProcess, broker: Broker
) -> None:
    """The second report turns a verdict; the same report to the next collector turns nothing."""
    durable = probe("volumes", ("volume", "/srv", {"durability_class": 2, "writable": True}))
    blind = probe("volumes", ("volume", "/srv", {"durability_class": 2}))
    asked = ("history", "n1", "/srv", "--url", collector.url)
    async with running(collector, broker) as agent:
        agent.send(agent.report(durable))
        await wait_until(lambda: '"durable"' in collector.ask("/api/v1/nodes/n1")[1])
        agent.send(agent.report(structs.replace(blind, mono=10.0)))
        await wait_until(lambda: '"unknown"' in collector.ask("/api/v1/nodes/n1/history")[1])
        before = holdfast(*asked)
        collector.end(signal.SIGKILL)
        collector.start()
        collector.wait_ready()
        agent.send(agent.report(structs.replace(blind, mono=20.0)))
        await wait_until(lambda: "whether it takes writes" in collector.ask("/api/v1/nodes/n1")[1])
        after = holdfast(*asked)

    assert (before.returncode, [line[22:] for line in before.stdout.splitlines()]) == (
        GOOD,
        [
            "verdict   volume /srv: durable → unknown: whether it takes writes is not known",
            "verdict   volume /srv: durable",
        ],
    )
    assert after.stdout == before.stdout


@pytest.mark.system
async def test_an_alert_is_listed_and_acknowledged_by_its_key(
    collector: CollectorProcess, broker: Broker
) -> None:
    """Text for people, JSON for scripts; what a machine says of itself cannot move the operator's cursor."""
    async with running(collector, broker) as agent:
        none = holdfast("alerts", "--url", collector.url)
        await fire(agent, collector, "died \x1b[2J of thirst")
        [row] = json.loads(holdfast("alerts", "--url", collector.url, "--json").stdout)
        acknowledged = holdfast("ack", row["key"], "--reason", "ann: looking", "--url", collector.url)
        listed = holdfast("alerts", "--url", collector.url)
        elsewhere = holdfast("alerts", "--url", collector.url, "--node", "other")

    assert (none.returncode, none.stdout) == (GOOD, "no alert fires\n")
    assert (acknowledged.returncode, acknowledged.stdout) == (GOOD, f"acknowledged: {row['key']}\n")
    assert listed.returncode == BAD_NEWS
    assert listed.stdout.splitlines()[0] == "ticket JobFailed  n1: died ?[2J of thirst"
    assert "acknowledged: ann: looking; key " + row["key"] in listed.stdout
    assert (elsewhere.returncode, elsewhere.stdout) == (GOOD, "no alert fires\n")


@pytest.mark.system
async def test_what_the_collector_refuses_is_the_users_mistake(
    collector: CollectorProcess, broker: Broker
) -> None:
    async with running(collector, broker):
        unknown = holdfast("ack", "no/such/key", "--reason", "x", "--url", collector.url)
        empty = holdfast("ack", "no/such/key", "--reason", " ", "--url", collector.url)

    assert [(done.returncode, done.stdout) for done in (unknown, empty)] == [(MISTAKE, "")] * 2
    assert "no alert 'no/such/key' is pending or firing" in unknown.stderr
    assert "a reason has" in empty.stderr


@pytest.mark.system
async def test_a_restore_is_announced_for_a_while_and_with_a_reason(
    collector: CollectorProcess, broker: Broker
) -> None:
    """It takes a page away from somebody, so it needs a node that is known, an end and a reason."""
    words = ("restore", "announce", "n1", "--for", "2h", "--reason", "drill", "--url", collector.url)
    async with running(collector, broker):
        done = holdfast(*words, "--json")
        said = holdfast(*words)
        unknown = holdfast("restore", "announce", "n9", *words[3:])
        for_ever = holdfast("restore", "announce", "n1", "--for", "30d", *words[5:])

    answer = json.loads(done.stdout)
    assert (answer["node"], answer["reason"], answer["until"] - answer["since"]) == ("n1", "drill", 7200.0)
    assert (said.returncode, said.stdout.startswith("announced: n1 until 20")) == (GOOD, True)
    assert (unknown.returncode, "no node 'n9' is known" in unknown.stderr) == (MISTAKE, True)
    assert (for_ever.returncode, for_ever.stdout) == (MISTAKE, "")


@pytest.mark.system
async def test_a_collector_with_a_token_is_asked_with_one(
    tmp_path: Path, collector: CollectorProcess, broker: Broker
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret-token-of-a-test\n")
    token.chmod(stat.S_IRUSR)
    text = collector.config.read_text().replace("[http]\n", f'[http]\ntoken_file = "{token}"\n')
    collector.config.write_text(text)
    collector.start()
    collector.wait_ready()
    without = holdfast("alerts", "--url", collector.url)
    with_it = holdfast("alerts", "--url", collector.url, "--token-file", str(token))

    assert (without.returncode, without.stdout) == (MISTAKE, "")
    assert (with_it.returncode, with_it.stdout) == (GOOD, "no alert fires\n")


def test_no_collector_is_bad_news_and_a_wrong_address_a_mistake() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    silent = holdfast("status", "--url", url)
    wrong = holdfast("status", "--url", "collector.example.net")

    assert (silent.returncode, f"no collector answers: {url}" in silent.stderr) == (BAD_NEWS, True)
    assert (wrong.returncode, "write http://HOST:PORT" in wrong.stderr) == (MISTAKE, True)


@pytest.mark.parametrize("words", [[], ["no-such-verb"], ["ack", "key"], ["up", "--port", "70000"]])
def test_wrong_usage_is_a_mistake(words: list[str]) -> None:
    done = holdfast(*words)

    assert (done.returncode, "Usage: " in done.stderr) == (MISTAKE, True)


def test_every_verb_explains_itself() -> None:
    overview = holdfast("--help").stdout
    verbs = ["ack", "alerts", "explain", "history", "restore", "rules", "simulate", "status", "up", "witness"]
    listed = [line.split()[0] for line in overview.partition("Commands:\n")[2].splitlines()]
    explained = {verb: holdfast(verb, "--help") for verb in verbs}

    assert listed == verbs
    assert all(done.returncode == GOOD and "Usage: " in done.stdout for done in explained.values())


def test_without_the_collector_installed_it_says_what_to_install() -> None:
    """The bare wheel is the agent; `holdfast` is on its PATH all the same."""
    script = "import sys; sys.modules['click'] = None; import holdfast.__main__"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert (done.returncode, "pip install 'holdfast[collector]'" in done.stderr) == (MISTAKE, True)
