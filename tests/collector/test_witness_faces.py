"""What people see of the witness: series, API, page and the operator's lines."""

from prometheus_client.parser import text_string_to_metric_families as parse_plain

from holdfast.witness_lines import lost, witness_lines
from holdfast_collector.core.event import Acknowledged
from holdfast_collector.exposition import Format
from holdfast_wire import ReadCause, UpMessage
from tests.collector.asgi import Visitor
from tests.collector.fleet import WARM
from tests.collector.visited import Visited
from tests.collector.witnessed import RULES, Witnessed

RECORDS = 100
PERIOD = 60.0


def crashed(*, kept: int) -> tuple[Visited, Witnessed]:
    """A machine that wrote a hundred records, crashed, and came back with `kept` of them; read twice."""
    visited = Visited(rules=RULES)
    visited.tick(WARM)
    agent, at = Witnessed(), WARM

    def say(when: float, message: UpMessage) -> None:
        visited.now = when
        visited.feed(message)

    say(at, agent.born(at))
    say(at, agent.read(at, ReadCause.AGENT_START))
    for number in range(RECORDS):
        at = WARM + number * PERIOD
        say(at, agent.witness(at))
        say(at, agent.alive(at))
    agent.disk.cut(kept)
    agent.reboot(at + 30)
    say(at + 30, agent.born(at + 30, "dirty"))
    say(at + 30, agent.alive(at + 30))
    say(at + 30, agent.read(at + 30, previous_boot="dirty"))
    say(at + 70, agent.read(at + 70, ReadCause.AGAIN, previous_boot="dirty"))
    visited.tick(at + 71)
    return visited, agent


async def series(visited: Visited) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    page = await visited.context.exposition.page(Format.PLAIN, gzipped=False)
    text = b"".join(page.chunks).decode()
    return {
        (sample.name, tuple(sorted((k, v) for k, v in sample.labels.items() if k != "node"))): sample.value
        for family in parse_plain(text)
        for sample in family.samples
        if "witness" in sample.name or "tested" in sample.name
    }


async def test_promises_kept_are_series_with_their_age_and_what_they_survived() -> None:
    visited, _ = crashed(kept=RECORDS)

    found = await series(visited)

    volume = ("volume", "/srv")
    crash_at = WARM + (RECORDS - 1) * PERIOD
    assert found["holdfast_witness_lag_seconds", (volume,)] == 71.0
    assert found["holdfast_witness_lost_records_total", (volume,)] == 0.0
    assert (
        found["holdfast_durability_tested_timestamp_seconds", (("event", "guest_crash"), volume)]
        == crash_at + 30
    )
    assert not [key for key in found if ("event", "host_crash") in key[1]]


async def test_fsyncs_are_a_histogram_that_adds_up() -> None:
    visited, _ = crashed(kept=RECORDS)

    found = await series(visited)

    volume = ("volume", "/srv")
    assert found["holdfast_witness_fsync_seconds_count", (volume,)] == RECORDS
    assert found["holdfast_witness_fsync_seconds_bucket", (("le", "0.0005"), volume)] == 0
    assert found["holdfast_witness_fsync_seconds_bucket", (("le", "0.001"), volume)] == RECORDS
    assert found["holdfast_witness_fsync_seconds_bucket", (("le", "+Inf"), volume)] == RECORDS
    assert abs(found["holdfast_witness_fsync_seconds_sum", (volume,)] - RECORDS * 0.001) < 1e-9


async def test_records_that_are_gone_are_counted_whatever_an_operator_says_of_them() -> None:
    visited, _ = crashed(kept=90)
    before = await series(visited)
    key = next(row.key for row in visited.context.collector.alerts.values() if row.alert.rule_id == "W-01")
    await visited.context.submit(Acknowledged(visited.now, key, "restored from the replica"))

    after = await series(visited)

    place = ("holdfast_witness_lost_records_total", (("volume", "/srv"),))
    assert (before[place], after[place]) == (10.0, 10.0)


async def test_the_api_tells_what_was_lost_and_which_classes_were_never_tested() -> None:
    visited, _ = crashed(kept=90)

    answer = (await Visitor(visited).get("/api/v1/witness?node=n1")).json

    (volume,) = answer["volumes"]
    (breach,) = volume["breaches"]
    assert (volume["volume"], volume["state"], volume["chain_id"]) == ("/srv", "open", "c1" * 16)
    assert (breach["kind"], breach["records"], breach["seconds"], breach["loss"]) == (
        "lost_tail",
        10,
        600.0,
        True,
    )
    assert [one["event"] for one in volume["survived"] if one["at"] is None] == [
        "agent_restart",
        "remount",
        "clean_reboot",
        "guest_crash",
        "host_move",
        "host_crash",
    ]
    assert (await Visitor(visited).get("/api/v1/witness?node=other")).status == 404


async def test_the_operator_s_lines_say_it_in_the_same_words_and_end_badly() -> None:
    """`holdfast witness NODE` at three in the morning."""
    visited, _ = crashed(kept=90)
    answer = (await Visitor(visited).get("/api/v1/witness?node=n1")).json

    lines = witness_lines(answer, visited.now)

    text = "\n".join(lines)
    assert lost(answer["volumes"]) is True
    assert "LOST      lost tail: 10 records, 10m" in text
    assert "guest crash: never tested" in text


async def test_kept_promises_end_well() -> None:
    visited, _ = crashed(kept=RECORDS)
    answer = (await Visitor(visited).get("/api/v1/witness?node=n1")).json

    text = "\n".join(witness_lines(answer, visited.now))

    assert lost(answer["volumes"]) is False
    assert "head      record 100, confirmed 1m" in text
    assert "guest crash: 41s ago, 1 in all" in text
    assert "host crash: never tested" in text


async def test_the_node_s_page_shows_the_survival_timeline() -> None:
    kept, _ = crashed(kept=RECORDS)
    gone, _ = crashed(kept=90)

    pages = [(await Visitor(visited).get("/nodes/n1")).text for visited in (kept, gone)]

    assert "kept everything so far" in pages[0]
    assert "never tested" in pages[0]
    assert "lost what it had confirmed" in pages[1]
    assert "lost tail: 10 records" in pages[1]
