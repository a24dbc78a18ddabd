"""The Prometheus page, read by the parsers that will read it: what is known is there, what is not known is not."""

import asyncio
import random
import subprocess
import zlib
from collections.abc import Iterable

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from holdfast_collector.core.event import NodeForgotten
from holdfast_collector.core.node import Node
from holdfast_collector.core.record import NodeRecord
from holdfast_collector.exposition import Exposition, Format, gzip_accepted, wanted_format
from holdfast_collector.own_metrics import OwnMetrics
from holdfast_collector.series import RESOURCES_MAX
from holdfast_wire import Position, Section, SectionStatus
from holdfast_wire.fact import EVENT_TYPES
from holdfast_wire.message import Value
from tests import needs
from tests.collector.fleet import T0, WARM, Agent
from tests.collector.visited import Visited, probe

VOLUME: dict[str, Value] = {
    "mountpoint": "/srv",
    "source": "/dev/sda1",
    "size_bytes": 1000,
    "free_bytes": 250,
    "free_ratio": 0.25,
    "writable": True,
}
HOSTILE = [
    'quote" and \\ backslash',
    "line\nend",
    'x"} 1\nholdfast_node_up{node="victim"} 0\n#',
    "\\n is two characters, \n is one",
    "carriage\rreturn, tab\tand\x00nought",
    "right\u202eto left, line\u2028separator, Ω 磁盘 💾",
    "{}, = #",
    "",
]

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse_openmetrics(page: str) -> list[Metric]:
    return list(openmetrics.text_string_to_metric_families(page))  # type: ignore[no-untyped-call]  # the library left it untyped


def volumes(**facts: Value) -> Section:
    return probe("volumes", ("volume", "8:1", VOLUME | facts))


def watched(*sections: Section) -> tuple[Visited, Agent]:
    """A collector that has watched long enough, and a node that reports."""
    visited, agent = Visited(), Agent()
    visited.tick(WARM)
    visited.feed(agent.birth())
    visited.feed(agent.report(*sections))
    visited.tick(WARM + 1)
    return visited, agent


async def text(visited: Visited, format_: Format = Format.PLAIN) -> str:
    page = await visited.context.exposition.page(format_, gzipped=False)
    return b"".join(page.chunks).decode()


def series(families: Iterable[Metric], node: str = "n1") -> Series:
    """The samples about one node."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("node") == node and sample.name != "holdfast_alert_state"
    }


async def values(visited: Visited, node: str = "n1") -> dict[str, float]:
    """Metric → value, where one resource has it."""
    return {name: value for (name, _), value in series(parse_plain(await text(visited)), node).items()}


EXPECTED: Series = {
    ("holdfast_node_up", (("node", "n1"),)): 1,
    ("holdfast_node_last_report_timestamp_seconds", (("node", "n1"),)): WARM,
    ("holdfast_agent_probe_duration_seconds", (("node", "n1"), ("probe", "volumes"))): 0.012,
    ("holdfast_agent_probe_success", (("node", "n1"), ("probe", "volumes"))): 1,
    (
        "holdfast_node_info",
        (("agent_version", "0"), ("kernel", "0"), ("node", "n1"), ("os_name", "test")),
    ): 1,
    ("holdfast_node_claimants", (("node", "n1"),)): 1,
    ("holdfast_node_spool_messages", (("node", "n1"),)): 0,
    ("holdfast_node_spool_dropped_total", (("node", "n1"),)): 0,
    ("holdfast_node_spool_in_memory", (("node", "n1"),)): 0,
    (
        "holdfast_volume_info",
        (("mountpoint", "/srv"), ("node", "n1"), ("source", "/dev/sda1"), ("volume", "8:1")),
    ): 1,
    **{
        (f"holdfast_volume_{name}", (("mountpoint", "/srv"), ("node", "n1"), ("volume", "8:1"))): value
        for name, value in {"size_bytes": 1000, "free_bytes": 250, "free_ratio": 0.25, "writable": 1}.items()
    },
    **{
        (
            "holdfast_verdict",
            (("node", "n1"), ("resource", "8:1"), ("resource_kind", "volume"), ("verdict", verdict)),
        ): int(verdict == "unknown")  # nobody said what the volume is on
        for verdict in ("durable", "unknown", "at_risk", "not_durable", "lost")
    },
}
"""Every series of the node that `watched(volumes())` makes, its counts of events aside."""
EVENT_COUNTS = {f"holdfast_{type_.resource}_{name}_total" for name, type_ in EVENT_TYPES.items()}


async def test_plain_page_says_what_is_known_and_nothing_else() -> None:
    visited, _ = watched(volumes())

    found = series(parse_plain(await text(visited)))

    assert {key: value for key, value in found.items() if key[0] not in EVENT_COUNTS} == EXPECTED


async def test_openmetrics_page_says_the_same() -> None:
    visited, _ = watched(volumes())
    page = await text(visited, Format.OPENMETRICS)

    families = parse_openmetrics(page)

    assert series(families) == series(parse_plain(await text(visited)))
    assert page.endswith("# EOF\n")
    counted = {name.removesuffix("_total") for name in EVENT_COUNTS}
    assert {
        family.name: (family.type, family.unit)
        for family in families
        if "volume" in family.name and family.name not in counted
    } == {
        "holdfast_volume": ("info", ""),
        "holdfast_volume_size_bytes": ("gauge", "bytes"),
        "holdfast_volume_free_bytes": ("gauge", "bytes"),
        "holdfast_volume_free_ratio": ("gauge", "ratio"),
        "holdfast_volume_writable": ("gauge", ""),
    }


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("format_", Format)
async def test_hostile_label_comes_back_as_it_was(hostile: str, format_: Format) -> None:
    """A mount may be called anything. It must neither break the page of all nodes nor speak for another."""
    visited, _ = watched(volumes(source=hostile, mountpoint=hostile))
    parse = parse_openmetrics if format_ is Format.OPENMETRICS else parse_plain

    families = list(parse(await text(visited, format_)))

    labels = [dict(pairs) for (name, pairs) in series(families) if name == "holdfast_volume_info"]
    assert labels == [{"node": "n1", "volume": "8:1", "mountpoint": hostile, "source": hostile}]
    assert series(families, "victim") == {}


async def test_promtool_takes_a_page_of_hostile_names() -> None:
    promtool = needs.tool("promtool", package="prometheus")
    resources: list[tuple[str, str, dict[str, Value]]] = [
        ("volume", f"8:{index}", VOLUME | {"mountpoint": name, "source": name})
        for index, name in enumerate(HOSTILE)
    ]
    visited, agent = watched(probe("volumes", *resources))
    visited.feed(agent.event(resource="sda", type_="kernel_data_loss", summary=HOSTILE[2]))
    page = await text(visited)

    done = await asyncio.to_thread(
        subprocess.run, [promtool, "check", "metrics"], input=page.encode(), capture_output=True, check=False
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


async def test_long_text_is_cut() -> None:
    """A label of a megabyte in every scrape would cost the Prometheus server more than it could ever tell."""
    visited, _ = watched(volumes(source="/dev/" + "x" * 2000))

    (source,) = [
        dict(pairs)["source"]
        for name, pairs in series(parse_plain(await text(visited)))
        if name.endswith("volume_info")
    ]
    assert source == "/dev/" + "x" * 506 + "…"


@pytest.mark.parametrize("number", [1e300, -1e300])
async def test_number_that_no_machine_has_is_left_out(number: float) -> None:
    visited, _ = watched(
        probe("host", ("node", "n1", {"clock_error_seconds": number, "uptime_seconds": 5.0}))
    )

    found = await values(visited)

    assert "holdfast_node_clock_error_seconds" not in found
    assert found["holdfast_node_uptime_seconds"] == 5


async def test_negative_counter_is_left_out() -> None:
    """A parser may refuse the whole page for it."""
    visited, _ = watched(probe("services", ("service", "a.service", {"up": True, "restarts_total": -1})))

    assert "holdfast_service_restarts_total" not in await values(visited)
    assert parse_openmetrics(await text(visited, Format.OPENMETRICS))


async def test_node_that_nobody_has_watched_yet_is_neither_up_nor_down() -> None:
    """A collector that starts after a night off must not say 0 for a fleet that is well."""
    exposition = Exposition({"n1": node_of(1)}, {}, OwnMetrics("x", T0))

    page = b"".join((await exposition.page(Format.PLAIN, gzipped=False)).chunks)

    assert b"\nholdfast_service_up{" in page
    assert b"holdfast_node_up" not in page


async def test_silent_node_is_down_and_its_stale_facts_are_gone() -> None:
    """Yesterday's free space beside a dead node looks like a healthy disk."""
    visited, _ = watched(volumes())
    before = await values(visited)
    visited.tick(WARM + 100)

    after = await values(visited)

    assert before["holdfast_node_up"] == 1
    assert "holdfast_volume_free_bytes" in before
    assert after["holdfast_node_up"] == 0
    assert after["holdfast_node_last_report_timestamp_seconds"] == WARM
    assert [name for name in after if name.startswith(("holdfast_volume", "holdfast_agent_probe"))] == []
    assert "holdfast_node_info" in after, "who it was is no fact that ages"


async def test_node_that_comes_back_has_its_facts_again() -> None:
    visited, agent = watched(volumes())
    visited.tick(WARM + 100)
    await values(visited)

    visited.feed(agent.report(volumes(free_bytes=7)))
    visited.tick(WARM + 101)

    found = await values(visited)
    assert (found["holdfast_node_up"], found["holdfast_volume_free_bytes"]) == (1, 7)
    assert found["holdfast_volume_size_bytes"] == 1000


async def test_stopped_node_is_down() -> None:
    visited, agent = watched(volumes())
    visited.feed(agent.death())
    visited.tick(WARM + 2)

    assert (await values(visited))["holdfast_node_up"] == 0


async def test_probe_that_fails_has_no_facts_and_no_success() -> None:
    visited, agent = watched(volumes())
    visited.feed(agent.report(probe("volumes", status=SectionStatus.TIMEOUT, detail="hangs")))

    found = await values(visited)

    assert found["holdfast_agent_probe_success"] == 0
    assert [name for name in found if name.startswith("holdfast_volume")] == []


async def test_volume_mounted_elsewhere_leaves_no_series_behind() -> None:
    visited, agent = watched(volumes())
    await text(visited)
    visited.feed(agent.report(volumes(mountpoint="/mnt")))

    assert "/srv" not in await text(visited)


async def test_forgotten_node_leaves_no_line() -> None:
    visited, _ = watched(volumes())
    visited.feed(Agent("n2", install="install-2").report(volumes()))
    await text(visited)

    await visited.context.submit(NodeForgotten(visited.now, "n1"))

    page = await text(visited)
    assert 'node="n1"' not in page
    assert 'node="n2"' in page


async def test_report_that_changes_nothing_moves_only_its_time() -> None:
    visited, agent = watched(volumes())
    before = series(parse_plain(await text(visited)))
    visited.now = WARM + 5
    visited.feed(agent.report(held=(volumes(),)))

    after = series(parse_plain(await text(visited)))

    moved = {key: value for key, value in after.items() if before.get(key) != value}
    assert moved == {("holdfast_node_last_report_timestamp_seconds", (("node", "n1"),)): WARM + 5}
    assert after.keys() == before.keys()


async def test_alerts_have_series_and_are_counted() -> None:
    visited, _ = watched(probe("services", ("service", "a.service", {"up": False})))

    page = await text(visited)

    assert (
        'holdfast_alert_state{alertname="ServiceDown",severity="page",node="n1",resource="a.service",'
        'state="firing"} 1\n'
    ) in page
    assert 'holdfast_alerts{severity="page",state="firing"} 1\n' in page
    assert 'holdfast_alerts{severity="ticket",state="pending"} 0\n' in page


async def test_page_kept_up_to_date_is_the_page_made_anew() -> None:
    """Only the families of what changed are rewritten: whatever happens, nothing may be overlooked."""
    seed = 20261124
    dice = random.Random(seed)
    visited, agents = Visited(), [Agent(f"n{index}", install=f"i{index}") for index in range(3)]
    visited.tick(WARM)

    def some(facts: dict[str, list[Value]]) -> dict[str, Value]:
        return {name: dice.choice(values) for name, values in facts.items() if dice.random() < 0.8}

    def random_section() -> Section:
        volume: dict[str, list[Value]] = {
            "mountpoint": ["/a", "/b"],
            "source": ["x", "y"],
            "free_bytes": [1, 2],
            "writable": [True, False],
        }
        service: dict[str, list[Value]] = {"up": [True, False], "restarts_total": [0, 1]}
        resources = [("volume", f"8:{index}", some(volume)) for index in range(dice.randrange(4))]
        resources += [("service", f"{name}.service", some(service)) for name in "ab" if dice.random() < 0.7]
        return probe(
            "volumes", *resources, ("node", "n", some({"kernel": ["1", "2"], "memory_bytes": [1, 2]}))
        )

    for step in range(150):
        agent = dice.choice(agents)
        match dice.randrange(12):
            case 0:
                visited.tick(visited.now + 40)
            case 1:
                visited.feed(agent.birth())
            case 2:
                visited.feed(agent.event(resource="a.service"))
            case 3:
                await visited.context.submit(NodeForgotten(visited.now, agent.node))
            case _:
                visited.feed(agent.report(random_section()))
        context = visited.context
        core = context.collector
        anew = Exposition(core.nodes, core.alerts, OwnMetrics("x", T0), core.rulings)
        if dice.random() < 0.5:
            kept = await text(visited)
            fresh = b"".join((await anew.page(Format.PLAIN, gzipped=False)).chunks).decode()
            assert about_nodes(kept) == about_nodes(fresh), f"seed {seed}, step {step}"


def about_nodes(page: str) -> list[str]:
    return sorted(line for line in page.split("\n") if "node=" in line)


def node_of(services: int, name: str = "n1") -> Node:
    record = NodeRecord(node=name, install_id="i", boot_id="b", position=Position(1, 1))
    node = Node(record, T0)
    up: dict[str, Value] = {"up": True}
    resources = [("service", f"s{index}.service", up) for index in range(services)]
    section = probe("services", ("volume", "8:1", dict(VOLUME)), *resources)
    node.rebuild(node.hold(section, "digest", T0))
    return node


async def test_node_with_too_much_loses_services_first_and_it_is_counted() -> None:
    node = node_of(RESOURCES_MAX + 10)
    exposition = Exposition({"n1": node}, {}, OwnMetrics("x", T0))

    page = b"".join((await exposition.page(Format.PLAIN, gzipped=False)).chunks).decode()

    # Besides the services there is one volume.
    assert page.count("\nholdfast_service_up{") == RESOURCES_MAX - 1
    assert "\nholdfast_volume_free_bytes{" in page
    assert '\nholdfast_node_resources_cut{node="n1"} 11\n' in page
    assert "\nholdfast_collector_resources_cut 11.0\n" in page


async def test_nodes_that_go_while_a_page_is_made_are_on_no_later_page() -> None:
    """A page is put together in slices; what happens between two of them must not tear it."""
    nodes = {f"n{index}": node_of(20, f"n{index}") for index in range(400)}
    exposition = Exposition(nodes, {}, OwnMetrics("x", T0))

    making = asyncio.ensure_future(exposition.page(Format.PLAIN, gzipped=False))
    await asyncio.sleep(0)
    assert not making.done(), "the page was made in one go: take more nodes"
    for name in list(nodes):
        del nodes[name]
        exposition.forgot(name)
    list(parse_plain(b"".join((await making).chunks).decode()))

    after = b"".join((await exposition.page(Format.PLAIN, gzipped=False)).chunks)
    assert b"node=" not in after


async def test_scraper_that_goes_away_costs_no_news() -> None:
    nodes = {f"n{index}": node_of(20, f"n{index}") for index in range(400)}
    exposition = Exposition(nodes, {}, OwnMetrics("x", T0))
    making = asyncio.ensure_future(exposition.page(Format.PLAIN, gzipped=False))
    await asyncio.sleep(0)
    making.cancel()
    await asyncio.gather(making, return_exceptions=True)

    page = b"".join((await exposition.page(Format.PLAIN, gzipped=False)).chunks)

    assert making.cancelled()
    assert page.count(b"\nholdfast_service_up{") == 400 * 20


async def test_gzipped_page_is_the_page() -> None:
    visited, _ = watched(volumes())
    exposition = visited.context.exposition

    packed = await exposition.page(Format.OPENMETRICS, gzipped=True)

    page = zlib.decompress(b"".join(packed.chunks), wbits=31).decode()
    assert packed.total_bytes == sum(map(len, packed.chunks)) < len(page)
    assert series(parse_openmetrics(page)) == series(parse_plain(await text(visited)))


async def test_two_scrapers_at_once_get_the_same_page() -> None:
    visited, _ = watched(volumes())

    one, other = await asyncio.gather(text(visited), text(visited))

    assert series(parse_plain(one)) == series(parse_plain(other))


@pytest.mark.parametrize(
    ("accept", "format_"),
    [
        ("", Format.PLAIN),
        ("*/*", Format.PLAIN),
        ("text/html,*/*;q=0.8", Format.PLAIN),
        ("application/openmetrics-text", Format.OPENMETRICS),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4",
            Format.OPENMETRICS,
        ),
        ("application/openmetrics-text;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.4", Format.PLAIN),
        ("application/openmetrics-text;version=2.0.0", Format.PLAIN),
        ("application/openmetrics-text;q=best", Format.PLAIN),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;q=0.4",
            Format.OPENMETRICS,
        ),
    ],
)
def test_format_is_what_the_scraper_prefers(accept: str, format_: Format) -> None:
    assert wanted_format(accept) is format_


@pytest.mark.parametrize(
    ("accept_encoding", "gzipped"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("identity", False),
    ],
)
def test_page_is_gzipped_for_whom_takes_it(accept_encoding: str, gzipped: bool) -> None:
    assert gzip_accepted(accept_encoding) is gzipped
