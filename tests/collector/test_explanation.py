"""`/api/v1/explain`: an operator's why, from the rule in force on the node to what would end its alert."""

from typing import Any

import msgspec
import pytest

from holdfast.explaining import explanation_lines
from holdfast_wire import SectionStatus
from holdfast_wire.message import Value
from tests.collector.asgi import Visitor
from tests.collector.fleet import WARM, Agent
from tests.collector.visited import Visited, probe

RULES = """
constants: {few: 5}
rules:
  - {alert: ManyRestarts, id: T-1, resource: service, when: restarts_total > few and up, clear_when: restarts_total < 3,
     for: 0s, keep_firing_for: 5m, severity: ticket, sticky: true, summary: x}
  - {alert: NodeDirty, id: T-2, resource: node, when: boot_dirty, severity: info, summary: x}
  - {alert: Watchdog, id: T-3, resource: collector, when: "True", severity: info, summary: x}
  - {alert: Silenced, id: T-4, resource: service, when: not up, severity: info, summary: x}
where:
  - {nodes: [n1], disable: [Silenced]}
"""


@pytest.fixture
def visited() -> Visited:
    visited, agent = Visited(rules=RULES), Agent()
    visited.tick(WARM)
    facts: dict[str, Value] = {"up": True, "restarts_total": 7}
    visited.feed(
        agent.report(
            probe("services", ("service", "a.service", facts), ("service", "b.service", {"up": True}))
        )
    )
    visited.tick(WARM + 4)
    return visited


async def ask(visited: Visited, **asked: str) -> Any:
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    return await Visitor(visited).get(f"/api/v1/explain?{query}")


async def test_a_firing_alert_is_explained_from_its_facts_to_its_end(visited: Visited) -> None:
    answer = (await ask(visited, alert="ManyRestarts", node="n1")).json

    assert (answer["resource"], answer["state"], answer["finding"]) == ("a.service", "firing", "holds")
    assert answer["condition"]["parts"][0]["parts"][0] == {
        "text": "restarts_total",
        "value": 7,
        "kind": "service",
        "fact": "restarts_total",
        "whence": {"resource": "a.service", "probe": "services", "age_seconds": 4.0, "problem": ""},
    }
    assert answer["ends"] == [
        "clear when restarts_total <= few or not up",
        "and only when restarts_total < 3",
        "and observed so for 5m",
        "and acknowledged: it is sticky",
    ]
    assert explanation_lines(answer)[:4] == [
        "ManyRestarts (T-1, ticket) on n1, service a.service: firing; the rule says holds",
        "  restarts_total > few and up                        yes",
        "    restarts_total > few                             yes",
        "      restarts_total                                 7            services, 4s ago",
    ]


async def test_a_resource_that_cannot_be_judged_says_who_is_blind(visited: Visited) -> None:
    unseen = (await ask(visited, alert="ManyRestarts", node="n1", resource="b.service")).json
    dirty = (await ask(visited, alert="NodeDirty", node="n1")).json

    assert (unseen["finding"], unseen["ends"]) == (
        "unknown",
        ["unknown until somebody can say: restarts_total"],
    )
    assert unseen["condition"]["parts"][0]["parts"][0]["whence"]["problem"] == "no probe states it"
    assert (dirty["resource"], dirty["current"], dirty["history"]) == ("n1", None, [])


async def test_evidence_that_is_stale_or_refused_says_so(visited: Visited) -> None:
    visited.tick(WARM + 300)
    stale = (await ask(visited, alert="ManyRestarts", node="n1")).json
    visited.feed(Agent(epoch=2).report(probe("services", status=SectionStatus.DENIED, detail="ask systemd")))
    denied = (await ask(visited, alert="ManyRestarts", node="n1")).json

    problems = [said["condition"]["parts"][0]["parts"][0]["whence"]["problem"] for said in (stale, denied)]
    assert problems == ["stale: nothing newer came for three periods", "services denied: ask systemd"]
    assert stale["ends"][0] == "unknown until somebody can say: restarts_total, up"


async def test_the_probe_that_names_what_it_could_not_have_is_the_one_that_is_shown(visited: Visited) -> None:
    """Another one that is blind, too, says nothing of this."""
    host = msgspec.structs.replace(probe("host"), missing={"boot_dirty": "nothing shows how the run ended"})
    visited.feed(
        Agent(epoch=2).report(host, probe("services", status=SectionStatus.UNSUPPORTED, detail="no systemd"))
    )

    dirty = (await ask(visited, alert="NodeDirty", node="n1")).json

    assert dirty["condition"]["whence"]["problem"] == "host: nothing shows how the run ended"


async def test_what_ended_is_its_history(visited: Visited) -> None:
    key = next(
        row.key for row in visited.context.collector.alerts.values() if row.alert.alertname == "ManyRestarts"
    )
    visited.tick(WARM + 300)
    await Visitor(visited).post("/api/v1/acks", {"key": key, "reason": "gone"})
    answer = (await ask(visited, alert="ManyRestarts", node="n1", resource="a.service")).json

    assert [row["key"] for row in answer["history"]] == [key]
    assert any(line.startswith("before  episode") for line in explanation_lines(answer))


@pytest.mark.parametrize(
    ("when", "ends"),
    [
        (
            'delta(kernel_data_loss_total, "1h") > 0',
            ['clear when delta(kernel_data_loss_total, "1h") <= 0', "and when what it explains is over"],
        ),
        (
            'smart_failing or kernel_data_loss_total > 0 and age(size_bytes) > "1d"',
            ["clear when not smart_failing"],
        ),
    ],
)
async def test_the_memory_of_an_event_ends_no_sooner_than_what_it_keeps_quiet(
    when: str, ends: list[str]
) -> None:
    """The clock alone would end it, and the volume that is still dead would page an hour later. What time can merely turn is
    no memory: it ends when its condition does."""
    rules = f"""
rules:
  - {{alert: DiskBad, id: T-1, resource: device, when: '{when}', severity: page, verdict: at_risk, summary: x}}
  - {{alert: VolumeDead, id: T-2, resource: volume, when: dead, severity: page, verdict: at_risk, summary: x}}
  - {{alert: Watchdog, id: T-3, resource: collector, when: "True", severity: info, summary: x}}
"""
    visited, agent = Visited(rules=rules), Agent()
    visited.tick(WARM)
    disk: dict[str, Value] = {"size_bytes": 1, "smart_failing": True}
    volume: dict[str, Value] = {"device": "sdb1", "dead": False}
    visited.feed(agent.report(probe("volumes", ("volume", "/srv", volume), ("device", "sdb1", disk))))
    visited.feed(agent.event("sdb1", "kernel_data_loss", "lost async page write"))
    alone = (await ask(visited, alert="DiskBad", node="n1", resource="sdb1")).json["ends"]
    dead = {**volume, "dead": True}
    visited.feed(agent.report(probe("volumes", ("volume", "/srv", dead), ("device", "sdb1", disk))))

    answer = (await ask(visited, alert="DiskBad", node="n1", resource="sdb1")).json

    assert answer["current"]["explains_total"] == 1
    assert (alone, answer["ends"]) == (ends[:1], ends)


async def test_the_collectors_own_alerts_are_explained_wherever_one_asks(visited: Visited) -> None:
    answer = (await ask(visited, alert="Watchdog", node="n1")).json

    assert (answer["node"], answer["resource"], answer["ends"]) == ("", "collector", ["clear when never"])


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"alert": "ManyRestart", "node": "n1"}, 404, "there is no alert 'ManyRestart'; did you mean ManyRestarts?"),
        ({"alert": "ManyRestarts", "node": "n2"}, 404, "no node 'n2' is known"),
        ({"alert": "Silenced", "node": "n1"}, 404, "Silenced is disabled on n1"),
        ({"alert": "ManyRestarts", "node": "n1", "resource": "x"}, 404, "n1 has no service 'x'; there are a.service, b.service"),
        ({}, 404, "no node '' is known"),
    ],
)  # fmt: skip
async def test_what_cannot_be_explained_is_told_with_the_nearest(
    visited: Visited, asked: dict[str, str], status: int, said: str
) -> None:
    answer = await ask(visited, **asked)

    assert (answer.status, answer.json["error"]) == (status, said)


async def test_where_several_are_judged_one_is_to_be_named() -> None:
    visited, agent = Visited(rules=RULES), Agent()
    visited.feed(
        agent.report(probe("services", ("service", "a", {"up": True}), ("service", "b", {"up": True})))
    )

    answer = await ask(visited, alert="ManyRestarts", node="n1")

    assert (answer.status, answer.json["error"]) == (
        400,
        "ManyRestarts is judged once per service; say which: a, b",
    )
