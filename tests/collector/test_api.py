"""The JSON API: its shapes, what it refuses, and what it changes."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from holdfast_collector.config import Config, Http
from holdfast_collector.web import explanation, facts, shapes
from holdfast_collector.web.evidence import Evidence
from holdfast_collector.web.group_shape import GroupShape
from holdfast_collector.web.history import HistoryShape
from holdfast_collector.web.witness_shape import WitnessShape
from holdfast_rules.explain import Part
from tests.collector.asgi import Visitor
from tests.collector.fleet import T0, WARM, Agent
from tests.collector.visited import Visited, probe
from tests.waiting import wait_until

README = Path(shapes.__file__).with_name("README.md")
SERVICE = probe("services", ("service", "a.service", {"up": False, "failed": True}))


@pytest.fixture
def visited() -> Visited:
    """A collector that knows one node with a service that is down."""
    visited, agent = Visited(), Agent()
    visited.tick(WARM)
    visited.feed(agent.birth())
    visited.feed(agent.report(SERVICE))
    return visited


@pytest.fixture
def visitor(visited: Visited) -> Visitor:
    return Visitor(visited)


def key_of(visited: Visited, alertname: str = "ServiceDown") -> str:
    (key,) = [
        row.key for row in visited.context.collector.alerts.values() if row.alert.alertname == alertname
    ]
    return key


def names(shape: type[Struct]) -> set[str]:
    return set(shape.__struct_encode_fields__)


async def test_nodes_are_listed(visitor: Visitor) -> None:
    answer = await visitor.get("/api/v1/nodes")

    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json == {
        "nodes": [
            {
                "node": "n1",
                "state": "reporting",
                "session": "connected",
                "session_since": WARM,
                "install_id": "install-1",
                "boot_id": "boot-1",
                "os": "linux",
                "os_name": "test",
                "kernel": "0",
                "agent_version": "0",
                "interval_seconds": 10.0,
                "first_seen_at": WARM,
                "last_report_at": WARM,
            }
        ],
        "total": 1,
        "by_state": {"reporting": 1},
        "next": None,
    }


async def test_nodes_come_in_pages(visited: Visited, visitor: Visitor) -> None:
    for name in ("n2", "n3", "web-1"):
        visited.feed(Agent(name, install=name).report(SERVICE))

    first = (await visitor.get("/api/v1/nodes?limit=2")).json
    second = (await visitor.get(f"/api/v1/nodes?limit=2&after={first['next']}")).json

    assert [[row["node"] for row in page["nodes"]] for page in (first, second)] == [
        ["n1", "n2"],
        ["n3", "web-1"],
    ]
    assert (first["next"], second["next"]) == ("n2", None)


@pytest.mark.parametrize(
    ("asked", "found"),
    [("q=WEB", ["web-1"]), ("q=n+1", ["n1"]), ("state=silent", []), ("state=reporting&q=eb", ["web-1"])],
)
async def test_nodes_are_filtered(visited: Visited, visitor: Visitor, asked: str, found: list[str]) -> None:
    visited.feed(Agent("web-1", install="w").report(SERVICE))

    answer = (await visitor.get(f"/api/v1/nodes?{asked}")).json

    assert [row["node"] for row in answer["nodes"]] == found
    assert answer["total"] == 2


async def test_node_is_told_whole(visitor: Visitor) -> None:
    answer = (await visitor.get("/api/v1/nodes/n1")).json

    assert answer.keys() == names(shapes.NodeDetail)
    assert answer["sections"][0].keys() == names(shapes.SectionShape)
    (service,) = [row for row in answer["resources"] if row["kind"] == "service"]
    assert service["facts"] | {"up": False, "failed": True} == service["facts"]
    assert [row["alertname"] for row in answer["alerts"]] == ["ServiceDown"]
    assert answer["last_known"] == []


async def test_stale_facts_are_apart_from_what_is_known(visited: Visited, visitor: Visitor) -> None:
    """A program that reads `resources` must not take the past for the present."""
    visited.tick(WARM + 100)

    answer = (await visitor.get("/api/v1/nodes/n1")).json

    assert answer["node"]["state"] == "silent"
    assert [row["kind"] for row in answer["resources"] if row["kind"] == "service"] == []
    assert [(row["name"], row["facts"]["up"]) for row in answer["last_known"]] == [("a.service", False)]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/nodes/nobody"),
        ("DELETE", "/api/v1/nodes/nobody"),
        ("GET", "/api/v1/nothing"),
        ("GET", "/api/v1/"),
    ],
)
async def test_what_is_not_there_is_404_in_json(visitor: Visitor, method: str, path: str) -> None:
    answer = await visitor.ask(method, path)

    assert (answer.status, list(answer.json)) == (404, ["error"])


@pytest.mark.parametrize(
    "asked", ["nodes?limit=0", "nodes?limit=x", "alerts?limit=10001", "alerts?state=bad"]
)
async def test_question_that_makes_no_sense_is_400(visitor: Visitor, asked: str) -> None:
    answer = await visitor.get(f"/api/v1/{asked}")

    assert (answer.status, list(answer.json)) == (400, ["error"])


async def test_alerts_have_their_shape_and_are_filtered(visitor: Visitor) -> None:
    everything = (await visitor.get("/api/v1/alerts")).json
    down = (await visitor.get("/api/v1/alerts?state=firing&severity=page&node=n1")).json
    none = (await visitor.get("/api/v1/alerts?node=n2")).json

    assert {row["alertname"] for row in everything["alerts"]} == {"ServiceDown", "Watchdog"}
    assert [row["alertname"] for row in down["alerts"]] == ["ServiceDown"]
    assert down["alerts"][0].keys() == names(shapes.AlertShape) - {"resolved_at"}
    assert none == {"alerts": [], "total": 0}


async def test_resolved_alert_says_when_it_ended(visited: Visited, visitor: Visitor) -> None:
    agent = Agent(epoch=2)
    visited.now = WARM + 5
    visited.feed(agent.report(probe("services", ("service", "a.service", {"up": True}))))
    visited.tick(WARM + 6)

    (row,) = (await visitor.get("/api/v1/alerts?state=resolved")).json["alerts"]

    assert (row["alertname"], row["state"], row["resolved_at"]) == ("ServiceDown", "resolved", WARM + 5)
    assert row.keys() == names(shapes.AlertShape)


async def test_rules_are_told(visitor: Visitor) -> None:
    rules = (await visitor.get("/api/v1/rules")).json["rules"]

    assert [rule["alert"] for rule in rules] == [
        "ServiceDown",
        "ServiceSlow",
        "ServiceCrashed",
        "NodeSilent",
        "Watchdog",
    ]
    assert rules[0].keys() == names(shapes.RuleShape)
    assert (await visitor.get("/api/v1/rules?node=n1")).json["rules"] == rules


async def test_refused_bytes_are_shown_with_their_reason(visited: Visited, visitor: Visitor) -> None:
    visited.feed(b"\xff<script>", node="n1")

    answer = (await visitor.get("/api/v1/rejections")).json

    (sample,) = answer["samples"]
    assert answer["rejected"] == {sample["reason"]: 1}
    assert (sample["node"], sample["bytes"], sample["payload"]) == ("n1", 9, "b'\\xff<script>'")


async def test_status_tells_of_the_collector_itself(visited: Visited, visitor: Visitor) -> None:
    visited.reasons = ["no session with a broker"]

    answer = (await visitor.get("/api/v1/status")).json

    assert answer.keys() == names(shapes.Status)
    assert (answer["ready"], answer["reasons"]) == (False, ["no session with a broker"])
    assert (answer["now"], answer["started_at"]) == (WARM, T0)
    assert answer["alerts"]["firing"] == {"page": 1, "info": 1}


async def test_operator_takes_note_of_an_alert(visited: Visited, visitor: Visitor) -> None:
    answer = await visitor.post("/api/v1/acks", {"key": key_of(visited), "reason": " anna looks at it "})

    assert answer.status == 200
    assert (answer.json["acknowledged"], answer.json["acknowledged_at"]) == ("anna looks at it", WARM)
    (row,) = (await visitor.get("/api/v1/alerts?severity=page")).json["alerts"]
    assert row == answer.json


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"not json", 400),
        (b"\xff", 400),
        ([], 400),
        ({"key": "x"}, 400),
        ({"key": "x", "reason": "y", "node": "z"}, 400),
        ({"key": "x", "reason": "  "}, 400),
        ({"key": "x", "reason": "y" * 1001}, 400),
        ({"key": "no such alert", "reason": "y"}, 404),
        (b"[" * 20_000, 413),
    ],
)
async def test_note_that_makes_no_sense_is_refused(visitor: Visitor, content: Any, status: int) -> None:
    answer = await visitor.post("/api/v1/acks", content)

    assert (answer.status, list(answer.json)) == (status, ["error"])


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({"content_type": "text/plain"}, 415, "content_type"),
        ({"content_type": "application/x-www-form-urlencoded"}, 415, "content_type"),
        ({"origin": "https://evil.example"}, 403, "cross_site"),
        ({"origin": "null"}, 403, "cross_site"),
        ({"sec_fetch_site": "cross-site"}, 403, "cross_site"),
        ({"sec_fetch_site": "same-site"}, 403, "cross_site"),
        ({"host": "rebound.example"}, 421, "host"),
    ],
)
async def test_no_other_site_can_act_through_a_browser(
    visited: Visited, visitor: Visitor, headers: dict[str, str], status: int, reason: str
) -> None:
    """On loopback nobody authenticates, and every web page an operator opens can reach loopback."""
    content = {"key": key_of(visited), "reason": "evil"}

    answer = await visitor.post("/api/v1/acks", content, **headers)

    assert answer.status == status
    metrics = (await visitor.get("/metrics")).text
    assert f'holdfast_collector_http_refused_total{{reason="{reason}"}} 1.0' in metrics
    assert visited.context.collector.alerts[key_of(visited)].alert.acknowledged == ""


async def test_announced_restore_is_kept_until_it_is_over(visited: Visited, visitor: Visitor) -> None:
    answer = await visitor.post("/api/v1/restores", {"node": "n1", "seconds": 3600, "reason": " drill "})

    window = visited.context.collector.nodes["n1"].window
    assert (answer.status, window is not None) == (200, True)
    assert answer.json == {"node": "n1", "since": WARM, "until": WARM + 3600, "reason": "drill"}


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"not json", 400),
        ({"node": "n1", "seconds": 60}, 400),
        ({"node": "n1", "seconds": 60, "reason": " "}, 400),
        ({"node": "n1", "seconds": 0, "reason": "y"}, 400),
        ({"node": "n1", "seconds": 8 * 86_400, "reason": "y"}, 400),
        ({"node": "n1", "seconds": 60, "reason": "y", "for": "2h"}, 400),
        ({"node": "n9", "seconds": 60, "reason": "y"}, 404),
    ],
)
async def test_announcement_that_makes_no_sense_is_refused(
    visitor: Visitor, content: Any, status: int
) -> None:
    answer = await visitor.post("/api/v1/restores", content)

    assert (answer.status, list(answer.json)) == (status, ["error"])


async def test_no_other_site_can_announce_a_restore_through_a_browser(
    visited: Visited, visitor: Visitor
) -> None:
    """It would silence the page about a rollback."""
    content = {"node": "n1", "seconds": 60, "reason": "evil"}

    answer = await visitor.post("/api/v1/restores", content, origin="https://evil.example")

    assert (answer.status, visited.context.collector.nodes["n1"].window) == (403, None)


async def test_our_own_page_and_a_program_may_act(visited: Visited, visitor: Visitor) -> None:
    content = {"key": key_of(visited), "reason": "mine"}

    answer = await visitor.post(
        "/api/v1/acks", content, origin="http://127.0.0.1:9760", sec_fetch_site="same-origin"
    )

    assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/v1/acks"), ("POST", "/api/v1/stream"), ("PUT", "/")]
)
async def test_method_that_has_no_meaning_is_405(visitor: Visitor, method: str, path: str) -> None:
    answer = await visitor.ask(method, path, content_type="application/json")

    assert answer.status == 405
    assert "allow" in answer.headers


async def test_node_out_of_service_is_forgotten(visited: Visited, visitor: Visitor) -> None:
    answer = await visitor.ask("DELETE", "/api/v1/nodes/n1")

    assert (answer.status, answer.json) == (200, {"forgotten": "n1"})
    assert (await visitor.get("/api/v1/nodes/n1")).status == 404
    assert (await visitor.get("/api/v1/alerts?node=n1&state=firing")).json["total"] == 0
    assert 'node="n1"' not in (await visitor.get("/metrics")).text


async def test_other_site_cannot_forget_a_node(visited: Visited, visitor: Visitor) -> None:
    answer = await visitor.ask("DELETE", "/api/v1/nodes/n1", origin="https://evil.example")

    assert answer.status == 403
    assert "n1" in visited.context.collector.nodes


async def test_ready_collector_says_so(visitor: Visitor) -> None:
    answer = await visitor.get("/readyz")

    assert (answer.status, answer.text) == (200, "ready\n")


async def test_collector_that_is_not_ready_says_why(visited: Visited, visitor: Visitor) -> None:
    visited.reasons = ["no session with a broker", "the store does not commit"]

    text = await visitor.get("/readyz")
    json = await visitor.get("/readyz", accept="application/json")

    assert (text.status, text.text) == (503, "no session with a broker\nthe store does not commit\n")
    assert (json.status, json.json) == (503, {"ready": False, "reasons": visited.reasons})
    assert (await visitor.get("/healthz")).status == 200, (
        "it lives all the same: no orchestrator should end it"
    )


@pytest.fixture
def tokens(tmp_path: Path) -> Config:
    (tmp_path / "write").write_text("all-of-it\n")
    (tmp_path / "read").write_text("only-look\n")
    return Config(
        http=Http(
            listen="0.0.0.0:9760",
            token_file=str(tmp_path / "write"),
            read_token_file=str(tmp_path / "read"),
        )
    )


@pytest.mark.parametrize(
    ("authorization", "may_read", "may_write"),
    [
        ("", 401, 401),
        ("Bearer wrong", 401, 401),
        ("Bearer ", 401, 401),
        ("Basic !!!", 401, 401),
        ("Bearer only-look", 200, 403),
        ("Bearer all-of-it", 200, 200),
        ("Basic YW5uYTphbGwtb2YtaXQ=", 200, 200),  # anna:all-of-it, as browsers send it
    ],
)
async def test_token_says_who_may_do_what(
    tokens: Config, authorization: str, may_read: int, may_write: int
) -> None:
    visited = Visited(tokens)
    visited.tick(WARM)
    visited.feed(Agent().report(SERVICE))
    visitor = Visitor(visited)
    headers = {"authorization": authorization} if authorization else {}

    read = await visitor.get("/api/v1/nodes", **headers)
    written = await visitor.post("/api/v1/acks", {"key": key_of(visited), "reason": "x"}, **headers)

    assert (read.status, written.status) == (may_read, may_write)
    assert ("www-authenticate" in read.headers) == (may_read == 401)


async def test_stranger_learns_only_whether_the_collector_is_ready(tokens: Config) -> None:
    """Load balancers have no token; reasons name brokers and paths."""
    visited = Visited(tokens)
    visited.reasons = ["no session with broker-1.internal"]
    visitor = Visitor(visited)

    stranger = await visitor.get("/readyz")
    known = await visitor.get("/readyz", authorization="Bearer only-look")

    assert (stranger.status, known.status) == (503, 503)
    assert "broker-1" not in stranger.text
    assert "broker-1" in known.text


async def test_stream_tells_what_happens_as_it_happens(visited: Visited, visitor: Visitor) -> None:
    exchange, serving = visitor.begin("GET", "/api/v1/stream")
    await exchange.until(b"retry: ")
    await wait_until(lambda: visited.listeners)

    visited.feed(Agent("n2", install="i2").birth())
    visited.feed(Agent("n2", install="i2", epoch=2).report(SERVICE))
    await exchange.until(b'"ServiceDown"')
    exchange.leave()
    await serving

    assert (exchange.status, exchange.headers["content-type"]) == (200, "text/event-stream")
    frames = [frame for frame in bytes(exchange.body).split(b"\n\n") if frame.startswith(b"event: ")]
    events = [
        (head.removeprefix(b"event: ").decode(), msgspec.json.decode(data.removeprefix(b"data: ")))
        for head, data in (frame.split(b"\n") for frame in frames)
    ]
    assert {name for name, _ in events} == {"node", "alert"}
    (alert,) = [data for name, data in events if name == "alert"]
    assert (alert["transition"], alert["at"]) == ("fired", WARM)
    assert alert["alert"].keys() == names(shapes.AlertShape) - {"resolved_at"}
    assert visited.listeners == 0, "who left is not listened for"


async def test_stream_ends_with_the_collector(visited: Visited, visitor: Visitor) -> None:
    exchange, serving = visitor.begin("GET", "/api/v1/stream")
    await exchange.until(b"retry: ")
    await wait_until(lambda: visited.listeners)

    visited.end()
    await serving

    assert visited.listeners == 0


DESCRIBED: dict[str, type[Struct]] = {
    "Alert": shapes.AlertShape,
    "Node": shapes.NodeShape,
    "Node, whole": shapes.NodeDetail,
    "Verdict": shapes.VerdictShape,
    "Evidence": Evidence,
    "Happened": HistoryShape,
    "Group": GroupShape,
    "Witness": WitnessShape,
    "Section": shapes.SectionShape,
    "Resource": shapes.ResourceShape,
    "Rule": shapes.RuleShape,
    "Status": shapes.Status,
    "Facts": facts.FactsShape,
    "Facts of a kind": facts.KindShape,
    "Fact": facts.FactShape,
    "Unknown": facts.ReasonShape,
    "Explanation": explanation.Explanation,
    "Part": Part,
}


@pytest.mark.parametrize("title", DESCRIBED)
def test_each_field_of_a_shape_is_described(title: str) -> None:
    """Who writes a program against the API reads this page, not our structs."""
    parts = re.split(r"^### ", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (part,) = [part for part in parts if part.startswith(f"{title}\n")]
    rows = re.findall(r"^\| (`[^|]+) \|", part, re.MULTILINE)
    described = {name for row in rows for name in re.findall(r"`(\w+)`", row)}

    assert described == names(DESCRIBED[title])
