"""`holdfast rules replay` and `rules check --against` on what a real collector recorded of a real agent's words."""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_collector.samples.files import files
from tests.broker import Broker
from tests.collector.running import RULES, CollectorProcess, hand
from tests.collector.visited import probe
from tests.operator.test_command import BAD_NEWS, GOOD, MISTAKE, holdfast
from tests.waiting import wait_until

pytestmark = pytest.mark.system

MORE = """
  - {alert: Down, id: T-02, resource: service, when: not up, severity: page, summary: "{node}: {resource} is down"}
  - {alert: NeverSent, id: T-03, resource: service, when: restart_looping, severity: page, summary: s}
where:
  - {nodes: ["db-*"], override: {JobFailed: {severity: page}}}
"""


@pytest.fixture
def collector(tmp_path: Path, broker: Broker) -> Iterator[CollectorProcess]:
    made = CollectorProcess(tmp_path / "c", broker.url)
    yield made
    made.end(signal.SIGKILL)


def changed(collector: CollectorProcess, text: str) -> str:
    """A changed copy of the pack in force, in another folder."""
    pack = collector.folder / "changed" / collector.rules.name
    pack.parent.mkdir(exist_ok=True)
    pack.write_text(text)
    return str(pack)


def replay(collector: CollectorProcess, *words: str) -> subprocess.CompletedProcess[str]:
    return holdfast("rules", "replay", "--config", str(collector.config), *words)


async def test_recorded_hour_under_a_changed_pack(
    collector: CollectorProcess, broker: Broker, tmp_path: Path
) -> None:
    """From the files of the running collector, from a copy of them, and over the network: the same answer."""
    collector.start()
    collector.wait_ready()
    async with hand(broker.url) as agent:
        await agent.deliver(agent.birth())
        agent.send(agent.report(probe("services", ("service", "a.service", {"up": False}))))
        await agent.deliver(agent.event())
        await wait_until(lambda: "JobFailed" in collector.ask("/api/v1/alerts?state=firing")[1])
    assert collector.end() == 0
    collector.start()
    collector.wait_ready()
    shutil.copytree(collector.data_dir / "samples", tmp_path / "copy" / "samples")
    less = changed(collector, RULES.replace("> 0", "> 5") + MORE.partition("where")[0])

    here = replay(collector, "--pack", less)
    copied = replay(collector, "--pack", less, "--store", str(tmp_path / "copy"))
    fetched = replay(collector, "--pack", less, "--url", collector.url, "--json")
    same = replay(collector, "--pack", changed(collector, RULES))
    nobody = replay(collector, "--pack", less, "--node", "db-*")

    lines = here.stdout.splitlines()
    assert here.returncode == BAD_NEWS, here.stderr
    assert "1 nodes" in lines[0]
    assert "pages 0 → 1, tickets 1 → 0, info 0 → 0" in lines
    assert [line.partition("ticket ")[2] for line in lines if "JobFailed  n1" in line] == [
        "JobFailed  n1 service a.service  fires still: n1: died"
    ]
    assert [line.partition("page   ")[2] for line in lines if "Down  n1" in line] == [
        "Down  n1 service a.service  fires still: n1: a.service is down"
    ]
    assert copied.stdout.splitlines()[-3:] == lines[-3:]
    answer = json.loads(fetched.stdout)
    assert (answer["nodes"], answer["difference"]["told_after"]) == (1, {"page": 1})
    assert (same.returncode, same.stdout.splitlines()[-1]) == (GOOD, "no difference: 1 alerts fired alike")
    assert nobody.returncode == MISTAKE
    assert "nothing of db-* is recorded from" in nobody.stderr


async def test_damaged_slice_is_named_and_the_rest_is_played(
    collector: CollectorProcess, broker: Broker
) -> None:
    collector.start()
    collector.wait_ready()
    async with hand(broker.url) as agent:
        await agent.deliver(agent.birth(), agent.event())
    collector.end()
    ((_, path, size),) = files(collector.data_dir / "samples")
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[size // 2] ^= 1
    path.write_bytes(bytes(damaged) + whole)

    done = replay(collector, "--pack", changed(collector, RULES.replace("> 0", "> 5")))

    assert done.returncode == BAD_NEWS, done.stderr
    assert (
        f"damaged: {path.name}, byte 0: its checksum does not fit; {size} bytes are left out" in done.stdout
    )
    assert "tickets 1 → 0" in done.stdout


def test_what_cannot_be_replayed_is_a_mistake_with_its_cure(
    collector: CollectorProcess, tmp_path: Path
) -> None:
    pack = changed(collector, RULES)
    wrong = changed(collector, RULES.replace("unit_failed_total", "unit_fialed_total"))
    (tmp_path / "old" / "samples").mkdir(parents=True)
    (tmp_path / "old" / "samples" / "01764072000000.samples").touch()

    answers = [
        replay(collector),
        replay(collector, "--pack", pack, "--from", "yesterday"),
        replay(collector, "--pack", pack, "--from", "now", "--to", "-1h"),
        replay(collector, "--pack", wrong),
        replay(collector, "--pack", str(tmp_path / "none.yaml")),
    ]
    Path(pack).write_text(RULES)
    answers += [
        replay(collector, "--pack", pack),
        replay(collector, "--pack", pack, "--store", str(tmp_path / "old"), "--from", "2025-01-01T00:00:00Z",
               "--to", "2025-01-02T00:00:00Z"),
    ]  # fmt: skip

    assert [answer.returncode for answer in answers] == [MISTAKE] * len(answers)
    for answer, said in zip(
        answers,
        (
            "give --pack FILE, or --against shipped",
            "write 2026-11-24T08:00:00Z, -2h or now",
            "now is not before -1h",
            "did you mean `unit_failed_total`?",
            "there is no such file",
            "is this the collector's data_dir, and retention.samples set?",
            "nothing is recorded up to 2025-01-02 00:00:00Z: the oldest is of 2025-11-25 12:00:00Z",
        ),
        strict=True,
    ):
        assert said in answer.stderr


async def test_rules_are_held_against_what_the_fleet_sends(
    collector: CollectorProcess, broker: Broker
) -> None:
    collector.start()
    collector.wait_ready()
    pack = collector.folder / "more.yaml"
    pack.write_text(RULES + MORE)
    async with hand(broker.url) as agent:
        await agent.deliver(agent.birth())
        agent.send(agent.report(probe("services", ("service", "a.service", {"up": True}))))
        await wait_until(lambda: '"service"' in collector.ask("/api/v1/facts")[1])

        loose = holdfast("rules", "check", str(pack), "--against", collector.url)
        strict = holdfast("rules", "check", str(pack), "--against", collector.url, "--strict")

    assert (loose.returncode, strict.returncode) == (GOOD, BAD_NEWS)
    assert loose.stdout == strict.stdout
    lines = loose.stdout.splitlines()
    assert lines[0] == "3 rules in 1 file: good"
    assert lines[1] == f"{pack}: dead: NeverSent: cannot fire: no live node sends service.restart_looping"
    assert f"{pack}:9: dead: this `where` means no node that the collector knows (nodes db-*)" in lines
    assert lines[-1] == "against 1 node that report: 2 dead"


def test_collector_that_does_not_answer_is_bad_news(collector: CollectorProcess) -> None:
    done = holdfast("rules", "check", "--against", collector.url)

    assert done.returncode == BAD_NEWS
    assert "no collector answers" in done.stderr
