"""What happened to a node: in the API, on its page, and on the operator's terminal."""

import pytest
from msgspec import structs

from holdfast.history_lines import history_lines
from holdfast_wire.message import Value
from tests.collector.asgi import Visitor
from tests.collector.fleet import WARM, Agent
from tests.collector.records import chain_record, event_row
from tests.collector.visited import Visited, probe

RULES = """
rules:
  - {alert: VolumeDead, id: V-02, resource: volume, when: dead, severity: page, verdict: at_risk,
     summary: "{resource} <is> dead"}
"""
FACTS: dict[str, Value] = {"durability_class": 2, "writable": True, "dead": False}


@pytest.fixture
def visited() -> Visited:
    """A node whose volume died and came back, that rebooted, and that keeps a chain on it."""
    visited, agent = Visited(rules=RULES), Agent()
    for step, dead in enumerate((False, True, False)):
        visited.tick(WARM + 10 * step)
        section = probe("volumes", ("volume", "/srv", {**FACTS, "dead": dead}))
        visited.feed(agent.report(structs.replace(section, mono=10.0 * step)))
    fate = structs.replace(
        event_row(9, node="n1", at=WARM + 30),
        type="reboot_fate", resource_kind="node", resource="n1", summary="crash: it stopped without a shutdown",
        fields={"fate": "crash"},
    )  # fmt: skip
    visited.committed.events.append(fate)
    chain = chain_record(node="n1")
    visited.context.collector.nodes["n1"].chains[chain.chain_id] = chain
    return visited


async def test_what_happened_comes_in_one_list_newest_first(visited: Visited) -> None:
    """Verdicts, alerts, boots and promises: at 3 a.m. nobody joins four lists by time."""
    answer = (await Visitor(visited).get("/api/v1/nodes/n1/history")).json

    assert (answer["node"], answer["more"]) == ("n1", False)
    assert [(row["what"], row["resource"], row["summary"]) for row in answer["history"]] == [
        ("survived", "/srv", "came through: guest crash (3 in all)"),
        ("broken", "/srv", "torn: torn"),
        ("boot", "n1", "crash: it stopped without a shutdown"),
        ("verdict", "/srv", "at risk → durable"),
        ("alert", "/srv", "VolumeDead ended: /srv <is> dead"),
        ("verdict", "/srv", "durable → at risk: /srv <is> dead"),
        ("verdict", "/srv", "durable"),
    ]  # fmt: skip


async def test_history_can_be_asked_of_one_resource_and_is_bounded(visited: Visited) -> None:
    visitor = Visitor(visited)

    volume = (await visitor.get("/api/v1/nodes/n1/history?kind=volume&resource=/srv&limit=2")).json
    node = (await visitor.get("/api/v1/nodes/n1/history?kind=node")).json
    other = (await visitor.get("/api/v1/nodes/n1/history?resource=/else")).json

    assert ([row["what"] for row in volume["history"]], volume["more"]) == (["survived", "broken"], True)
    assert [row["what"] for row in node["history"]] == ["boot"]
    assert other == {"node": "n1", "history": [], "more": False}


@pytest.mark.parametrize("limit", ["0", "1001", "many", "-1", "²"])
async def test_a_limit_that_is_none_is_refused(visited: Visited, limit: str) -> None:
    answer = await Visitor(visited).get(f"/api/v1/nodes/n1/history?limit={limit}")

    assert (answer.status, answer.json) == (400, {"error": "limit is a whole number from 1 to 1000"})


async def test_a_store_that_cannot_be_read_is_named_and_takes_no_page_along(visited: Visited) -> None:
    """It is then that people look."""
    visited.store_broken = "IOError: disk I/O error"
    visitor = Visitor(visited)

    answer, page = await visitor.get("/api/v1/nodes/n1/history"), await visitor.get("/nodes/n1")
    nobody = await visitor.get("/api/v1/nodes/n2/history")

    assert (answer.status, answer.json) == (
        503,
        {"error": "the store cannot be read: IOError: disk I/O error"},
    )
    assert (page.status, "The database does not answer" in page.text) == (200, True)
    assert nobody.status == 404


async def test_the_page_tells_what_happened_and_not_what_was_merely_met(visited: Visited) -> None:
    page = (await Visitor(visited).get("/nodes/n1")).text

    section = page.partition('id="history"')[2].partition("</section>")[0]
    assert section.count("<li>") == 6
    assert "durable → at risk: /srv &lt;is&gt; dead" in section


async def test_the_operator_reads_one_line_for_each_thing(visited: Visited) -> None:
    answer = (await Visitor(visited).get("/api/v1/nodes/n1/history?limit=3")).json

    lines = history_lines(answer)

    assert lines == [
        "2023-11-14 22:13:20Z  survived  volume /srv: came through: guest crash (3 in all)",
        "2023-11-14 22:13:20Z  broken    volume /srv: torn: torn",
        "1970-01-12 13:48:10Z  boot      node: crash: it stopped without a shutdown",
        "there is more: ask with a greater --limit",
    ]
    assert history_lines({"node": "n1", "history": [], "more": False}) == ["n1: nothing is on record"]
