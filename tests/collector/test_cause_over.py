"""What is said of an alert whose cause ended, until it is seen again: that nobody was told, and no cause that is over."""

import pytest
from msgspec import structs

from holdfast.explaining import explanation_lines
from holdfast.standing import alert_lines
from holdfast_wire import Section
from tests.collector.asgi import Visitor
from tests.collector.fleet import WARM, Agent
from tests.collector.visited import Visited, probe

RULES = """
rules:
  - {alert: DiskBad, id: T-1, resource: device, when: smart_failing, severity: page, verdict: at_risk, summary: x}
  - {alert: VolumeBad, id: T-2, resource: volume, when: dead, severity: page, verdict: at_risk, summary: x}
  - {alert: Watchdog, id: T-3, resource: collector, when: "True", severity: info, summary: x}
"""
QUIET = "explained by DiskBad, so nobody was told"
OVER = "explained by DiskBad until that ended; nobody is told before it is seen again"
VOLUMES = probe("volumes", ("volume", "/srv", {"dead": True, "leaf_devices": "sda"}))


def disks(*, failing: bool, mono: float = 0.0) -> Section:
    return structs.replace(probe("disks", ("device", "sda", {"smart_failing": failing})), mono=mono)


def with_a_bad_disk() -> tuple[Visited, Agent]:
    """And what is on it kept quiet."""
    visited, agent = Visited(rules=RULES), Agent()
    visited.tick(WARM)
    visited.feed(agent.report(disks(failing=True), VOLUMES))
    return visited, agent


def mended(visited: Visited, agent: Agent) -> None:
    """The disk is; its volume is not looked at yet."""
    visited.now = WARM + 10
    visited.feed(agent.report(disks(failing=False, mono=10.0), held=(VOLUMES,), mono=10.0))


@pytest.mark.parametrize("path", ["/", "/alerts", "/nodes/n1"])
async def test_pages_name_no_cause_that_is_over(path: str) -> None:
    visited, agent = with_a_bad_disk()
    visitor = Visitor(visited)
    before = (await visitor.get(path)).text

    mended(visited, agent)

    after = (await visitor.get(path)).text
    assert (QUIET in before, OVER in before) == (True, False)
    assert (QUIET in after, OVER in after) == (False, True)


@pytest.mark.parametrize("path", ["/api/v1/alerts", "/api/v1/nodes/n1"])
async def test_the_api_says_that_a_cause_is_over(path: str) -> None:
    """Who reads `inhibited_by` alone would go to a disk that works."""
    visited, agent = with_a_bad_disk()

    mended(visited, agent)

    rows = (await Visitor(visited).get(path)).json["alerts"]
    assert {row["alertname"]: row["cause_over"] for row in rows if row.get("state") == "firing"} == {
        "VolumeBad": True,
        **({"Watchdog": False} if path == "/api/v1/alerts" else {}),
    }


async def test_the_command_names_no_cause_that_is_over() -> None:
    visited, agent = with_a_bad_disk()
    before = await lines(visited)

    mended(visited, agent)

    after = await lines(visited)
    assert [QUIET in line or "explained by DiskBad; key" in line for line in before] == [True, True]
    assert [OVER in line or "explained by DiskBad until that ended; key" in line for line in after] == [
        True,
        True,
    ]


async def lines(visited: Visited) -> list[str]:
    """What `holdfast alerts` and `holdfast explain` say of how the volume's alert stands."""
    visitor = Visitor(visited)
    rows = (await visitor.get("/api/v1/alerts?state=firing")).json["alerts"]
    answer = (await visitor.get("/api/v1/explain?alert=VolumeBad&node=n1")).json
    (listed,) = alert_lines([row for row in rows if row["alertname"] == "VolumeBad"], visited.now)[1:]
    (explained,) = [line for line in explanation_lines(answer) if line.startswith("now")]
    return [listed, explained]


async def test_what_outlasts_its_cause_is_told_and_explained_by_nothing() -> None:
    """The word is for the time until the volume is looked at, and goes with it."""
    visited, agent = with_a_bad_disk()
    mended(visited, agent)
    visited.now = WARM + 20
    seen = structs.replace(VOLUMES, mono=20.0)

    visited.feed(agent.report(seen, held=(disks(failing=False, mono=10.0),), mono=20.0))

    rows = (await Visitor(visited).get("/api/v1/alerts?severity=page&state=firing")).json["alerts"]
    assert [(row["alertname"], row["inhibited_by"], row["cause_over"]) for row in rows] == [
        ("VolumeBad", "", False)
    ]
