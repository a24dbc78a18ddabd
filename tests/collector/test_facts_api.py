"""What the API says of the facts a fleet sends, and of what is recorded for replays."""

from pathlib import Path

from holdfast_collector.config import Config, NodeLabelsConfig
from holdfast_collector.samples.files import FOLDER, SampleFiles
from holdfast_collector.samples.slice import pack
from holdfast_wire import SectionStatus
from tests.collector.asgi import Visitor
from tests.collector.fleet import T0, WARM, Agent, section
from tests.collector.test_samples import piece
from tests.collector.visited import Visited, probe


async def test_facts_are_counted_over_the_nodes_that_report() -> None:
    """With why others are not known: a probe that may not look is no fleet without such things."""
    config = Config(node_labels=(NodeLabelsConfig(nodes=("n*",), labels={"role": "db"}),))
    visited = Visited(config)
    visited.tick(WARM)
    for name in ("n1", "n2"):
        agent = Agent(name)
        visited.feed(agent.birth())
        services = probe(
            "services", ("service", "a", {"up": True}), ("service", "b", {"up": True, "failed": True})
        )
        denied = section({}, status=SectionStatus.DENIED)
        visited.feed(agent.report(services) if name == "n1" else agent.report(denied))
    visited.feed(Agent("quiet").birth())

    answer = (await Visitor(visited).get("/api/v1/facts")).json

    assert answer["nodes"] == 2
    assert answer["kinds"]["service"] == {
        "nodes": 1,
        "resources": 2,
        "facts": answer["kinds"]["service"]["facts"],
    }
    facts = answer["kinds"]["service"]["facts"]
    assert [(facts[name]["nodes"], facts[name]["resources"]) for name in ("up", "failed")] == [(1, 2), (1, 1)]
    assert facts["up"]["last_seen_at"] == visited.now
    assert [(row["probe"], row["status"], row["nodes"], row["example"]) for row in answer["unknown"]] == [
        ("services", "denied", 1, "n2")
    ]
    assert answer["names"] == ["n1", "n2", "quiet"]
    assert answer["labels"] == {"n1": {"role": "db"}, "n2": {"role": "db"}}


async def test_recorded_files_are_listed_and_handed_out(tmp_path: Path) -> None:
    """By the names they are listed under, and nothing else of the machine."""
    samples = SampleFiles(tmp_path / FOLDER)
    samples.append(pack(piece()), T0, 1 << 30)
    (tmp_path / FOLDER / "secret").write_text("no sample")
    visitor = Visitor(Visited(Config(data_dir=str(tmp_path))))

    listed = (await visitor.get("/api/v1/samples")).json["files"]
    content = await visitor.get(f"/api/v1/samples/{listed[0]['name']}")
    refused = [
        await visitor.get(f"/api/v1/samples/{name}") for name in ("secret", "..%2Fcollector.db", "x.samples")
    ]

    assert [(row["since"], row["bytes"]) for row in listed] == [(T0, len(content.body))]
    assert content.body == (tmp_path / FOLDER / listed[0]["name"]).read_bytes()
    assert [answer.status for answer in refused] == [404] * 3
