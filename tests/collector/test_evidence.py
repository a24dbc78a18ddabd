"""What a verdict rests on, as the API and the node's page say it."""

from typing import Any

import msgspec
import pytest

from holdfast_wire import SectionStatus
from holdfast_wire.message import Value
from tests.collector.asgi import Visitor
from tests.collector.fleet import WARM, Agent
from tests.collector.visited import Visited, probe
from tests.collector.witnessed import Witnessed

RULES = """
rules:
  - {alert: Full, id: T-1, resource: volume, when: free_ratio < 0.1 and fstype != "xfs", severity: page, verdict: at_risk,
     summary: "{resource} is full"}
  - {alert: Watchdog, id: T-2, resource: collector, when: "True", severity: info, summary: x}
"""
VOLUME: dict[str, Value] = {"durability_class": 2, "writable": True, "free_ratio": 0.5, "fstype": "ext4"}
DATA: dict[str, Value] = {
    "service": "pg.service",
    "role": "data",
    "required_class": 2,
    "mountpoint": "/srv",
    "confidence": "high",
}


@pytest.fixture
def visited() -> Visited:
    visited = Visited(rules=RULES)
    visited.tick(WARM)
    return visited


async def verdicts(visited: Visited) -> dict[tuple[str, str], Any]:
    answer = (await Visitor(visited).get("/api/v1/nodes/n1")).json
    return {(row["kind"], row["name"]): row for row in answer["verdicts"]}


def facts_of(verdict: Any) -> list[tuple[str, str, Any]]:
    return [(row["resource"], row["fact"], row["value"]) for row in verdict["evidence"]]


async def test_a_durable_volume_rests_on_facts_with_a_source_and_a_date(visited: Visited) -> None:
    visited.feed(Agent().report(probe("volumes", ("volume", "/srv", VOLUME))))
    visited.tick(WARM + 4)

    verdict = (await verdicts(visited))[("volume", "/srv")]

    assert (verdict["verdict"], verdict["cause"], verdict["tested"]) == ("durable", "", {})
    assert facts_of(verdict) == [("/srv", "durability_class", 2), ("/srv", "writable", True)]
    first = verdict["evidence"][0]
    assert (first["probe"], first["observed_at"], first["problem"]) == ("volumes", WARM, "")
    period = probe("volumes").period_seconds
    assert first["fresh_until"] == WARM + 3 * period + 5


async def test_a_reason_brings_what_its_rule_looked_at(visited: Visited) -> None:
    """Up to the service that suffers, which names the rule at the bottom of it."""
    full = {**VOLUME, "free_ratio": 0.02}
    visited.feed(
        Agent().report(
            probe("volumes", ("volume", "/srv", full)),
            probe("state_paths", ("state_path", "pg", DATA), ("service", "pg.service", {"stateful": True})),
        )
    )

    verdict = (await verdicts(visited))[("service", "pg.service")]

    assert (verdict["verdict"], verdict["cause"]) == ("at_risk", "T-1")
    assert facts_of(verdict) == [
        ("pg.service", "stateful", True),
        ("/srv", "free_ratio", 0.02),
        ("/srv", "fstype", "ext4"),
    ]
    assert verdict["evidence"][1]["unit"] == "ratio"


async def test_unknown_says_what_is_missing_and_what_it_takes(visited: Visited) -> None:
    known: dict[str, Value] = {"durability_class": 2}
    section = msgspec.structs.replace(
        probe("volumes", ("volume", "/srv", known)), missing={"writable": "needs CAP_DAC_READ_SEARCH"}
    )
    visited.feed(Agent().report(section))

    verdict = (await verdicts(visited))[("volume", "/srv")]
    page = (await Visitor(visited).get("/nodes/n1")).text

    assert verdict["verdict"] == "unknown"
    (lacking,) = [row for row in verdict["evidence"] if row["problem"]]
    assert (lacking["fact"], lacking["value"], lacking["probe"], lacking["observed_at"]) == (
        "writable",
        None,
        "",
        None,
    )
    assert lacking["problem"] == "volumes: needs CAP_DAC_READ_SEARCH"
    assert "not known: <bdi>writable: volumes: needs CAP_DAC_READ_SEARCH</bdi>" in page


async def test_a_fact_that_comes_with_a_reason_is_missing_for_that_reason(visited: Visited) -> None:
    """And not for what some other probe may not see."""
    said: dict[str, Value] = {
        "writable": True,
        "durability_class_reason": "vda does not show what it lies on",
    }
    visited.feed(
        Agent().report(
            probe("devices", ("volume", "/srv", said)),
            probe("smart", status=SectionStatus.DENIED, detail="no"),
        )
    )

    verdict = (await verdicts(visited))[("volume", "/srv")]

    (lacking,) = [row for row in verdict["evidence"] if row["problem"]]
    assert (lacking["fact"], lacking["problem"]) == (
        "durability_class",
        "devices: vda does not show what it lies on",
    )
    assert verdict["reasons"][0]["text"].endswith("who knows declares it ([probes.devices] classes)")
    assert "<small>not known: " not in (await Visitor(visited).get("/nodes/n1")).text, (
        "the reason says it already"
    )


async def test_evidence_that_went_stale_keeps_its_date_and_no_value(visited: Visited) -> None:
    visited.feed(Agent().report(probe("volumes", ("volume", "/srv", VOLUME))))
    visited.tick(WARM + 3600)

    verdict = (await verdicts(visited))[("volume", "/srv")]

    first = verdict["evidence"][0]
    assert (verdict["verdict"], first["value"], first["observed_at"]) == ("unknown", None, WARM)
    assert first["fresh_until"] < WARM + 3600
    assert first["problem"] == "stale: nothing newer came for three periods"


async def test_what_a_refused_probe_would_say_is_told_of_each_resource_that_lacks_it(
    visited: Visited,
) -> None:
    agent = Agent()
    visited.feed(agent.report(probe("volumes", ("volume", "/srv", VOLUME))))
    visited.feed(agent.report(probe("volumes", status=SectionStatus.DENIED, detail="grant it")))

    verdict = (await verdicts(visited))[("volume", "/srv")]

    assert verdict["verdict"] == "unknown"
    assert {row["problem"] for row in verdict["evidence"]} == {"volumes denied: grant it"}
    page = (await Visitor(visited).get("/nodes/n1")).text
    assert "not known: <bdi>durability_class, writable: volumes denied: grant it</bdi>" in page


async def test_what_a_volume_came_through_is_told_of_all_that_rests_on_it_alone(visited: Visited) -> None:
    """A service is as tested as the least tested of its volumes."""
    agent = Witnessed()
    at = WARM
    visited.now = at
    visited.feed(agent.born(at))
    visited.feed(agent.read(at))
    for _ in range(3):
        visited.feed(agent.witness(at))
    agent.reboot(at + 30)
    visited.now = at + 40
    visited.feed(agent.born(at + 40, "dirty", "EXT4-fs: recovery complete"))
    visited.feed(agent.read(at + 40, previous_boot="dirty"))
    other = {**DATA, "service": "two.service"}
    elsewhere = {**other, "mountpoint": "/new"}
    visited.feed(
        agent.report(
            probe("volumes", ("volume", "/srv", VOLUME), ("volume", "/new", VOLUME)),
            probe(
                "state_paths",
                ("state_path", "pg", DATA),
                ("state_path", "two", other),
                ("state_path", "wal", elsewhere),
                ("service", "pg.service", {"stateful": True}),
                ("service", "two.service", {"stateful": True}),
            ),
        )
    )

    found = await verdicts(visited)

    crash = {"guest_crash": at + 40}
    assert found[("volume", "/srv")]["tested"] == crash
    assert found[("state_path", "pg")]["tested"] == crash
    assert found[("service", "pg.service")]["tested"] == crash
    assert found[("volume", "/new")]["tested"] == {}
    assert found[("service", "two.service")]["tested"] == {}
    assert found[("node", "n1")]["tested"] == {}
