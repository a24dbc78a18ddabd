"""The pages: what a tired person reads first, and what no hostile machine can put there."""

from html.parser import HTMLParser
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from holdfast_collector.config import Config, ReceiverConfig
from holdfast_collector.web.pages import STYLE, STYLE_VERSION
from holdfast_wire import SectionStatus
from holdfast_wire.message import Value
from tests.collector.asgi import Visitor
from tests.collector.fleet import RULES, WARM, Agent
from tests.collector.visited import Visited, probe

HOSTILE = "<script>alert(1)</script>\"'&\u202e\x00<img src=x onerror=alert(2)>"
VOLUME: dict[str, Value] = {
    "mountpoint": "/srv",
    "source": "/dev/sda1",
    "fstype": "ext4",
    "size_bytes": 2**30,
    "free_bytes": 2**28,
    "free_ratio": 0.25,
    "writable": True,
    "expected_writable": True,
}


class Page(HTMLParser):
    """What a browser makes of a page: elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self._texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._texts).split())

    def of(self, tag: str, attribute: str) -> list[str | None]:
        return [attrs[attribute] for name, attrs in self.elements if name == tag and attribute in attrs]


async def page(visited: Visited, target: str = "/") -> Page:
    answer = await Visitor(visited).get(target)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Page(answer.text)


def known(*sections: Any, node: str = "n1", visited: Visited | None = None) -> tuple[Visited, Agent]:
    """A collector that has watched long enough, and a node that reports."""
    if visited is None:
        visited = Visited()
        visited.tick(WARM)
    agent = Agent(node, install=f"install-{node}")
    visited.feed(agent.birth())
    visited.feed(agent.report(*sections))
    visited.tick(visited.now + 1)
    return visited, agent


async def test_collector_that_cannot_be_believed_says_so_before_anything_else() -> None:
    """A page that is all green because nothing arrives any more is the worst page there is."""
    visited, _ = known(probe("volumes", ("volume", "8:1", VOLUME)))
    visited.reasons = ["no session with a broker"]

    shown = await page(visited)

    assert "The collector does not do its whole work" in shown.text
    order = [shown.text.index(part) for part in ("no session with a broker", "Firing", "Nodes Name")]
    assert order == sorted(order)


async def test_reasons_stand_on_the_page_of_alerts_too() -> None:
    visited, _ = known()
    visited.reasons = ["no session with a broker"]

    assert "What stands here may be old" in (await page(visited, "/alerts")).text


async def test_quiet_fleet_is_told_in_one_sentence() -> None:
    visited, _ = known()
    known(visited=visited, node="n2")

    shown = await page(visited)

    assert shown.text.count("Nothing fires. All 2 nodes report") == 2, "in the title and as the headline"


async def test_what_fires_is_the_headline() -> None:
    visited, _ = known(probe("services", ("service", "a.service", {"up": False})))

    shown = await page(visited)

    assert "1 alert needs somebody now" in shown.text
    assert "n1: a.service is down" in shown.text


async def test_alert_that_another_explains_is_muted_and_wakes_nobody() -> None:
    """A dead disk under twenty services is one thing to do, not twenty-one."""
    rules = """
rules:
  - {alert: Cause, id: S-01, resource: node, when: boot_dirty, for: 0s, severity: page, summary: cause}
  - {alert: Effect, id: S-02, resource: service, when: not up, for: 0s, severity: page, summary: effect,
     inhibited_by: [Cause]}
"""
    visited, agent = known(
        probe("host", ("node", "n1", {"boot_dirty": True})), visited=warm(Visited(rules=rules))
    )
    visited.feed(agent.report(probe("services", ("service", "a.service", {"up": False}))))
    visited.tick(WARM + 2)

    shown = await page(visited)
    status = (await Visitor(visited).get("/api/v1/status")).json

    assert "1 alert needs somebody now" in shown.text
    assert "explained by Cause" in shown.text
    assert "1 page" in shown.text
    assert "2 page" not in shown.text
    assert (status["alerts"]["firing"]["page"], status["explained"]) == (2, {"page": 1})
    assert shown.of("li", "class") == ["alert page", "alert page explained"]


async def test_fleet_that_nobody_has_heard_of_says_how_to_begin() -> None:
    shown = await page(Visited())

    assert "No node has been heard of yet" in shown.text
    assert "holdfast-agent run" in shown.text


async def test_silent_node_is_no_quiet_node() -> None:
    visited, _ = known(probe("volumes", ("volume", "8:1", VOLUME)))
    visited.tick(WARM + 31)

    shown = await page(visited)

    assert "1 node of 1 is not reporting" in shown.text
    assert "state silent" in [name or "" for name in shown.of("span", "class")]


@pytest.mark.parametrize("target", ["/", "/nodes/n1", "/alerts", "/?q=%3Cscript%3E&state=%22%3E%3Cb%3E"])
async def test_hostile_text_stays_text(target: str) -> None:
    """A service may be called anything, and the operator's browser holds the token."""
    rules = RULES.replace('"{node}: {resource} is down"', '"{node}: {resource} is down: {description}"')
    visited, agent = known(visited=warm(Visited(rules=rules)))
    visited.feed(
        agent.report(
            probe(
                "services",
                ("service", f"{HOSTILE}.service", {"up": False, "failed": True, "description": HOSTILE}),
                ("volume", "8:1", VOLUME | {"mountpoint": HOSTILE, "source": HOSTILE, "fstype": HOSTILE}),
                ("service", HOSTILE, {"stateful": True, "engine": HOSTILE, "syncs_disabled_by": HOSTILE}),
                (
                    "state_path",
                    HOSTILE,
                    STATE | dict.fromkeys(("service", "path", "resolved_path", "role"), HOSTILE),
                ),
                ("node", "n1", {"os_name": HOSTILE, "boot_dirty_evidence": HOSTILE, "boot_dirty": True}),
                detail=HOSTILE,
                missing={HOSTILE: HOSTILE},
            )
        )
    )
    visited.feed(agent.event(resource="b.service", summary=HOSTILE))

    shown = await page(visited, target)

    tags = {tag for tag, _ in shown.elements}
    assert tags & {"script", "img", "iframe", "object", "embed", "base"} == set()
    assert [attrs for _, attrs in shown.elements if any(name.startswith("on") for name in attrs)] == []
    assert [attrs for _, attrs in shown.elements if "style" in attrs] == []
    assert "\u202e" not in shown.text
    assert "\x00" not in shown.text
    if target == "/nodes/n1":
        assert "<script>alert(1)</script>" in shown.text, "the name is shown, as the text it is"


def warm(visited: Visited) -> Visited:
    visited.tick(WARM)
    return visited


async def test_runbook_that_is_no_web_address_is_no_link() -> None:
    rules = RULES.replace('"{node}: {resource} is down"', '"x", runbook: "javascript:alert(1)"')
    visited, _ = known(
        probe("services", ("service", "a.service", {"up": False})), visited=warm(Visited(rules=rules))
    )

    links = (await page(visited, "/alerts")).of("a", "href")

    assert [link for link in links if link and not link.startswith(("/", "?", "https://"))] == []


async def test_volume_shows_its_class_whose_word_that_is_and_why() -> None:
    """The class comes from another probe than the volume's room, and a hostile machine words its reason."""
    media: dict[str, Value] = {
        "durability_class": 2,
        "durability_class_declared": True,
        "durability_class_reason": f"sda1: a virtual disk {HOSTILE}",
    }
    unknown: dict[str, Value] = {
        "durability_class_reason": "nfs4 filer:/x; its class is that of the storage there"
    }
    visited, _ = known(
        probe("volumes", ("volume", "/srv", VOLUME), ("volume", "/x", VOLUME | {"mountpoint": "/x"})),
        probe("devices", ("volume", "/srv", media), ("volume", "/x", unknown)),
    )

    shown = await page(visited, "/nodes/n1")

    assert "D2, outlives the host (declared) sda1: a virtual disk <script>" in shown.text
    assert "unknown nfs4 filer:/x; its class is that of the storage there" in shown.text
    assert "script" not in [tag for tag, _ in shown.elements]
    assert "1 × D2, 1 unknown" in (await page(visited)).text


async def test_node_page_tells_what_is_seen_and_what_is_not() -> None:
    visited, _ = known(
        probe("volumes", ("volume", "8:1", VOLUME)),
        probe("services_systemd", status=SectionStatus.DENIED, detail="no access to the bus"),
    )

    text = (await page(visited, "/nodes/n1")).text

    assert "25 % free, 256 MiB of 1.0 GiB" in text
    assert "Unknown: the probe services_systemd says denied. no access to the bus" in text
    assert "not permitted" in text


async def test_volume_that_takes_no_writes_says_why() -> None:
    broken = VOLUME | {"writable": False, "unwritable_reason": "the filesystem is mounted read-only"}
    visited, _ = known(probe("volumes", ("volume", "8:1", broken)))

    assert "NO: the filesystem is mounted read-only" in (await page(visited, "/nodes/n1")).text
    assert "/srv takes no writes" in (await page(visited)).text


async def test_volume_that_is_not_mounted_says_who_wants_it() -> None:
    absent: dict[str, Value] = {
        "expected_mounted": True,
        "mounted": False,
        "mount_trouble": "fstab wants LABEL=db here",
    }
    visited, _ = known(probe("expected_mounts", ("volume", "/srv", absent)))

    assert "fstab wants LABEL=db here" in (await page(visited, "/nodes/n1")).text
    assert "/srv is not mounted" in (await page(visited)).text


STATE: dict[str, Value] = {
    "service": "pg.service", "path": "/srv/pg/pg_wal", "role": "wal", "required_class": 2, "confidence": "high",
    "source": "working directory", "resolved": True, "resolved_path": "/mnt/wal", "mountpoint": "/mnt",
    "device": "sdb1", "fstype": "ext4", "volatile": False,
}  # fmt: skip


async def test_node_page_shows_where_state_is_kept_and_what_is_wrong_in_its_place() -> None:
    """Service, path and role, where the path leads, its volume, and the class that volume has."""
    visited, _ = known(
        probe("volumes", ("volume", "/mnt", VOLUME | {"mountpoint": "/mnt", "durability_class": 1})),
        probe("services_systemd", ("service", "pg.service", {"up": True})),
        probe(
            "state_paths",
            ("service", "pg.service", {"stateful": True, "engine": "postgresql"}),
            (
                "service",
                "redis:/r",
                {"stateful": True, "state_paths_unresolved": 1, "state_unresolved": "no right"},
            ),
            ("state_path", "pg.service:/srv/pg/pg_wal", STATE),
            ("state_path", "app.service:/x", STATE | {"service": "app.service", "confidence": "low"}),
        ),
    )

    text = (await page(visited, "/nodes/n1")).text

    assert "pg.service postgresql" in text
    assert "/srv/pg/pg_wal → /mnt/wal wal D1, needs D2 /mnt sdb1 ext4 working directory" in text
    assert "redis:/r unknown: no right" in text
    assert "app.service" not in text, "files that nobody explains are no claim about state"
    assert "Running (1)" in text, "a database that no service manager knows is no service of unknown state"


@pytest.mark.parametrize(
    ("facts", "class_", "words"),
    [
        ({"volatile": True}, 2, "D0: in memory, or gone with the service, needs D2"),
        ({"container_layer": True}, 2, "D0: goes with the container, needs D2"),
        ({"resolved": False}, 2, "nobody could follow it"),
        ({}, None, "nobody knows what survives there"),
        ({}, 2, "D2"),
        ({"required_class": 0, "role": "temp"}, 1, "D1, which is enough"),
    ],
)
async def test_a_path_says_whether_what_it_keeps_stays(
    facts: dict[str, Value], class_: int | None, words: str
) -> None:
    known_class: dict[str, Value] = {} if class_ is None else {"durability_class": class_}
    visited, _ = known(
        probe("volumes", ("volume", "/mnt", VOLUME | {"mountpoint": "/mnt"} | known_class)),
        probe("state_paths", ("state_path", "pg.service:/srv/pg/pg_wal", STATE | facts)),
    )

    assert f" {words} /mnt " in (await page(visited, "/nodes/n1")).text


async def test_past_is_marked_as_the_past() -> None:
    visited, _ = known(probe("volumes", ("volume", "8:1", VOLUME)))
    visited.tick(WARM + 100)

    text = (await page(visited, "/nodes/n1")).text

    assert "no report came for 1 min" in text
    assert "what is marked “as of” below is the past" in text
    assert "yes as of 1 min ago" in text
    assert "unknown" in (await page(visited)).text, "the table of nodes shows no old free space"


async def test_second_claimant_of_a_name_is_warned_of() -> None:
    visited, _ = known()
    visited.feed(Agent("n1", install="a-clone").report())

    assert "Another installation (a-clone) speaks under this name" in (await page(visited, "/nodes/n1")).text
    assert "claimed twice" in (await page(visited)).text


async def test_nodes_come_in_pages_with_those_in_trouble_first() -> None:
    visited = warm(Visited())
    for index in range(130):
        visited.feed(Agent(f"n{index:03}", install=f"i{index}").report())
    visited.feed(
        Agent("z-bad", install="z").report(probe("services", ("service", "a", {"up": False, "failed": True})))
    )

    first, second = await page(visited), await page(visited, "/?page=2")
    links = [
        [link for link in shown.of("a", "href") if link and link.startswith("/nodes/")]
        for shown in (first, second)
    ]

    # The alert's own link, then the table.
    assert links[0][:3] == ["/nodes/z-bad", "/nodes/z-bad", "/nodes/n000"]
    assert (len(links[0]), len(links[1])) == (101, 32)
    assert "page 2 of 2" in second.text
    assert "/?#nodes" in second.of("a", "href")


@pytest.mark.parametrize("number", ["0", "99", "-1", "x", "²", "9" * 50])
async def test_page_that_is_not_there_is_the_nearest_one(number: str) -> None:
    visited, _ = known()

    assert "/nodes/n1" in (await page(visited, f"/?page={number}")).of("a", "href")


@pytest.mark.parametrize(
    ("asked", "found"),
    [("q=WEB", {"web-1"}), ("state=silent", set()), ("q=n&state=reporting", {"n1"}), ("q=b+we", {"web-1"})],
)
async def test_nodes_are_filtered(asked: str, found: set[str]) -> None:
    visited, _ = known()
    known(visited=visited, node="web-1")

    links = (await page(visited, f"/?{asked}")).of("a", "href")

    assert {link.removeprefix("/nodes/") for link in links if link and link.startswith("/nodes/")} == found


async def test_page_comes_anew_by_itself_until_its_reader_stops_it() -> None:
    visited, _ = known()

    live, still = await page(visited, "/?q=n"), await page(visited, "/?q=n&live=no")

    assert ("meta", {"http-equiv": "refresh", "content": "10"}) in live.elements
    assert "?q=n&live=no" in live.of("a", "href")
    assert still.of("meta", "http-equiv") == []
    assert "?q=n" in still.of("a", "href")


async def test_node_that_nobody_knows_is_404() -> None:
    answer = await Visitor(Visited()).get("/nodes/%3Cb%3E")

    assert answer.status == 404
    assert "was it taken out of service?" in answer.text


@pytest.mark.parametrize(
    "target", ["/", "/alerts", "/nodes/none", "/metrics", "/healthz", "/api/v1/status", "/nothing"]
)
async def test_every_answer_is_guarded(target: str) -> None:
    headers = (await Visitor(Visited()).get(target)).headers

    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert (
        headers["x-content-type-options"],
        headers["x-frame-options"],
        headers["referrer-policy"],
        headers["cross-origin-resource-policy"],
        headers["cache-control"],
    ) == ("nosniff", "DENY", "no-referrer", "same-origin", "no-store")


async def test_refusal_is_guarded_too() -> None:
    answer = await Visitor(Visited()).get("/", host="rebound.example")

    assert answer.status == 421
    assert "content-security-policy" in answer.headers


async def test_style_may_be_kept_for_ever() -> None:
    visited = Visited()
    (sheet,) = (await page(visited)).of("link", "href")
    answer = await Visitor(visited).get("/style.css")

    assert sheet == f"/style.css?{STYLE_VERSION}"
    assert (answer.body, answer.headers["cache-control"]) == (STYLE, "public, max-age=31536000, immutable")


async def test_metrics_are_gzipped_for_whom_takes_it_and_tell_of_each_receiver() -> None:
    visited, _ = known()
    visited.context.config = Config(
        receiver=(ReceiverConfig(name="pager", kind="webhook", url="http://127.0.0.1:9"),)
    )
    visitor = Visitor(visited)

    packed = await visitor.get("/metrics", accept_encoding="gzip")
    plain = await visitor.get("/metrics")
    other = await visitor.get("/metrics", accept="application/openmetrics-text;version=1.0.0")

    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) == len(packed.body) < len(plain.body)
    assert {family.name for family in parse_plain(packed.text)} == {
        family.name for family in parse_plain(plain.text)
    }
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert other.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert 'holdfast_collector_outbox_notices{receiver="pager"} 0.0\n' in plain.text


async def test_verdicts_come_with_what_to_mend_first() -> None:
    """The worst first; a class that nobody declared is shown as unknown and not as fine, memory without state not at all."""
    fine = {
        **VOLUME,
        "mountpoint": "/var",
        "durability_class": 2,
        "durability_class_reason": "a managed disk",
    }
    memory = {**fine, "mountpoint": "/tmp", "durability_class": 0}
    volumes = [("volume", "/var", fine), ("volume", "/srv", VOLUME), ("volume", "/tmp", memory)]
    visited, _ = known(probe("volumes", *volumes))

    shown = (await page(visited, "/nodes/n1")).text

    verdicts = shown[shown.index("Would it survive?") : shown.index("Volumes Mounted at")]
    assert "/srv volume unknown its durability class is not known" in verdicts
    assert "/tmp" not in verdicts
    assert verdicts.index("/srv volume unknown") < verdicts.index("/var volume durable – D2 never tested")
