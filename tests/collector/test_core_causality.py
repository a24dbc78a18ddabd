"""One fault is one page: what lies deepest is told and names what it explains, and nothing else is kept quiet."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_collector.core.event import Acknowledged
from holdfast_collector.core.record import Notice, State
from holdfast_collector.packs import load_rules
from holdfast_rules import Finding
from holdfast_rules.verdict import Verdict
from holdfast_wire import Resource, Section, SectionStatus
from holdfast_wire.message import Value
from tests.collector.fleet import T0, WARM, Agent, Desk, commit_of

CHAIN = """
rules:
  - {alert: DiskBad, id: T-01, resource: device, when: smart_failing, severity: page, verdict: at_risk, summary: disk}
  - {alert: VolumeBad, id: T-02, resource: volume, when: dead, severity: page, verdict: at_risk, summary: volume}
  - {alert: PathBad, id: T-03, resource: state_path, when: mount_missing, severity: page, verdict: at_risk, summary: path}
  - {alert: ServiceBad, id: T-04, resource: service, when: not up, severity: page, verdict: at_risk, summary: service}
  - {alert: Rebooted, id: T-05, resource: node, when: boot_dirty, severity: page, verdict: at_risk, summary: node}
  - {alert: Watchdog, id: S-05, resource: collector, when: "True", severity: info, summary: the path works}
"""
MEMORY = CHAIN.replace("when: smart_failing", """when: 'delta(kernel_data_loss_total, "1h") > 0'""")
STICKY_MEMORY = MEMORY.replace("at_risk, summary: disk", "at_risk, sticky: true, summary: disk")
PATH = "pg.service:/srv/pg"
QUIET = {"DiskBad": False, "VolumeBad": False, "PathBad": False, "ServiceBad": False}


def said(probe: str, kind: str, named: dict[str, dict[str, Value]], mono: float = 0.0) -> Section:
    return Section(
        probe=probe,
        status=SectionStatus.OK,
        observed_at=T0,
        mono=mono,
        period_seconds=60.0,
        duration_seconds=0.01,
        resources=[Resource(kind=kind, name=name, facts=facts) for name, facts in named.items()],
    )


def machine(*bad: str, mono: float = 0.0, role: str = "data", leaf: str = "sda") -> list[Section]:
    """A service on a path on a volume on a disk; `bad` are the alerts whose condition is met."""
    return [
        said("disks", "device", {"sda": {"smart_failing": "DiskBad" in bad}}, mono),
        said("volumes", "volume", {"/srv": {"dead": "VolumeBad" in bad, "leaf_devices": leaf}}, mono),
        said(
            "state_paths",
            "state_path",
            {
                PATH: {
                    "service": "pg.service",
                    "mountpoint": "/srv",
                    "role": role,
                    "mount_missing": "PathBad" in bad,
                }
            },
            mono,
        ),
        said("services", "service", {"pg.service": {"up": "ServiceBad" not in bad}}, mono),
        said("system", "node", {"n1": {"boot_dirty": "Rebooted" in bad}}, mono),
    ]


def told(notices: list[Notice]) -> list[tuple[str, str]]:
    """(alert, status) of what goes to the pager."""
    return [(one.alert.alertname, one.status) for one in notices if one.receiver == "pager"]


def explanations(desk: Desk) -> dict[str, str]:
    rows = desk.collector.alerts.values()
    return {row.alert.alertname: row.inhibited_by for row in rows if row.alert.alertname != "Watchdog"}


def key_of(desk: Desk, alertname: str) -> str:
    [key] = [key for key, row in desk.collector.alerts.items() if row.alert.alertname == alertname]
    return key


def started(rules: str = CHAIN, **how: str) -> tuple[Desk, Agent]:
    desk, agent = Desk(rules=rules), Agent()
    desk.feed(agent.report(*machine(**how)))  # type: ignore[arg-type]  # role and leaf are texts
    return desk, agent


def test_one_dead_disk_is_one_page_that_names_what_it_explains() -> None:
    """Four alerts hold; whoever is woken wants the one to begin with."""
    desk, agent = started()

    commit = commit_of(
        desk.feed(agent.report(*machine("ServiceBad", "PathBad", "VolumeBad", "DiskBad")), at=WARM + 1)
    )

    assert told(commit.notices) == [("DiskBad", "firing")]
    assert explanations(desk) == {
        "DiskBad": "",
        "VolumeBad": "DiskBad",
        "PathBad": "DiskBad",
        "ServiceBad": "DiskBad",
    }
    [notice] = [one for one in commit.notices if one.receiver == "pager"]
    assert notice.alert.annotations["explains"] == (
        f"3 alerts: VolumeBad on /srv, PathBad on {PATH}, ServiceBad on pg.service"
    )
    assert [row.alert.alertname for row in desk.collector.explained(key_of(desk, "DiskBad"))] == [
        "VolumeBad",
        "PathBad",
        "ServiceBad",
    ]


def test_what_follows_later_is_explained_too_and_the_standing_alert_names_it() -> None:
    """No second page, and the first one's words keep up."""
    desk, agent = started()
    desk.feed(agent.report(*machine("VolumeBad")), at=WARM + 1)

    commit = commit_of(desk.feed(agent.report(*machine("VolumeBad", "ServiceBad")), at=WARM + 2))

    assert told(commit.notices) == []
    cause = commit.alerts[key_of(desk, "VolumeBad")]
    assert cause is not None
    assert cause.alert.annotations["explains"] == "1 alert: ServiceBad on pg.service"


@pytest.mark.parametrize("order", [("PathBad", "VolumeBad"), ("VolumeBad", "PathBad")])
def test_a_symptom_that_was_told_first_is_not_taken_back(order: tuple[str, str]) -> None:
    """People have heard of it; the deeper one is told as well when it is seen, and names the symptom as its part."""
    desk, agent = started()
    desk.feed(agent.report(*machine(order[0])), at=WARM + 1)

    commit = commit_of(desk.feed(agent.report(*machine(*order)), at=WARM + 2))

    assert told(commit.notices) == ([("VolumeBad", "firing")] if order[0] == "PathBad" else [])
    assert [row.alert.alertname for row in desk.collector.explained(key_of(desk, "VolumeBad"))] == ["PathBad"]
    cause = commit.alerts[key_of(desk, "VolumeBad")]
    assert cause is not None
    assert cause.alert.annotations["explains"] == f"1 alert: PathBad on {PATH}"


def test_a_symptom_that_was_told_first_ends_with_a_word_of_its_own() -> None:
    """Whoever was paged hears that it is over, once, whether its cause goes first or not."""
    desk, agent = started()
    desk.feed(agent.report(*machine("PathBad")), at=WARM + 1)
    desk.feed(agent.report(*machine("PathBad", "VolumeBad")), at=WARM + 2)

    first = desk.feed(agent.report(*machine("PathBad", mono=10.0), mono=10.0), at=WARM + 11)
    second = desk.feed(agent.report(*machine(mono=20.0), mono=20.0), at=WARM + 21)

    assert told(commit_of(first).notices) == [("VolumeBad", "resolved")]
    assert told(commit_of(second).notices) == [("PathBad", "resolved")]


@pytest.mark.parametrize(
    ("change", "explained"),
    [
        (("T-01, resource: device, when: smart_failing, severity: page", "ticket"), False),
        (("verdict: at_risk, summary: disk", "verdict: unknown, summary: disk"), False),
        (("verdict: at_risk, summary: disk", "verdict: not_durable, summary: disk"), True),
        (("verdict: at_risk, summary: disk", "summary: disk"), False),
        (("verdict: at_risk, summary: volume", "summary: volume"), False),
        (("verdict: at_risk, summary: volume", "verdict: at_risk, sticky: true, summary: volume"), False),
        (("verdict: at_risk, summary: volume", "verdict: lost, summary: volume"), False),
        (("severity: page, verdict: at_risk, summary: volume", "severity: ticket, verdict: at_risk, summary: volume"), True),
    ],
    ids=["cause is a ticket", "cause says less", "cause says worse", "cause has no verdict", "effect has no verdict",
         "effect is sticky", "effect is lost", "effect is a ticket"],
)  # fmt: skip
def test_an_alert_is_explained_by_nothing_that_says_less(change: tuple[str, str], explained: bool) -> None:
    """What is kept quiet wrongly is a page that nobody gets."""
    old, new = change
    if new == "ticket":
        new = old.replace("severity: page", "severity: ticket")
    desk, agent = started(CHAIN.replace(old, new))

    desk.feed(agent.report(*machine("DiskBad", "VolumeBad")), at=WARM + 1)

    assert explanations(desk)["VolumeBad"] == ("DiskBad" if explained else "")


def test_lost_is_explained_by_lost_only_sticky_or_not() -> None:
    """Whoever must answer for lost state hears of it, unless the page in hand says just that."""
    lost = CHAIN.replace("at_risk, summary: volume", "lost, sticky: true, summary: volume")
    found = []
    for rules in (lost, lost.replace("at_risk, summary: disk", "lost, summary: disk")):
        desk, agent = started(rules)
        desk.feed(agent.report(*machine("DiskBad", "VolumeBad")), at=WARM + 1)
        found.append(explanations(desk)["VolumeBad"])

    assert found == ["", "DiskBad"]


def test_what_does_not_rest_on_the_bad_thing_is_told() -> None:
    """Another disk; a path that may vanish; the machine itself."""
    found = []
    for bad, how in (
        (("DiskBad", "VolumeBad"), {"leaf": "sdb"}),
        (("VolumeBad", "ServiceBad"), {"role": "cache"}),
        (("DiskBad", "Rebooted"), {}),
    ):
        desk, agent = started(**how)
        commit = commit_of(desk.feed(agent.report(*machine(*bad, **how)), at=WARM + 1))  # type: ignore[arg-type]  # texts
        found.append(sorted(name for name, _ in told(commit.notices)))

    assert found == [["DiskBad", "VolumeBad"], ["ServiceBad", "VolumeBad"], ["DiskBad", "Rebooted"]]


def test_what_outlasts_its_cause_is_told_when_it_is_seen_again_and_what_cleared_is_not() -> None:
    """The disk works again. Probes look at different times: what each says must be newer than the end to page."""
    desk, agent = started()
    everything = machine("DiskBad", "VolumeBad", "ServiceBad")
    desk.feed(agent.report(*everything), at=WARM + 1)
    disks = machine(mono=10.0)[0]

    ended = desk.feed(agent.report(disks, held=tuple(everything[1:]), mono=10.0), at=WARM + 11)
    later = machine("ServiceBad", mono=20.0)
    seen = desk.feed(agent.report(*later, mono=20.0), at=WARM + 21)

    assert told(commit_of(ended).notices) == [("DiskBad", "resolved")]
    assert told(commit_of(seen).notices) == [("ServiceBad", "firing")]
    assert explanations(desk) == {"ServiceBad": ""}


def test_a_sticky_cause_that_only_waits_for_somebodys_word_explains_nothing_new() -> None:
    """It may wait for days."""
    desk, agent = started(CHAIN.replace("at_risk, summary: disk", "at_risk, sticky: true, summary: disk"))
    desk.feed(agent.report(*machine("DiskBad")), at=WARM + 1)
    desk.feed(agent.report(*machine()), at=WARM + 2)

    desk.feed(agent.report(*machine("VolumeBad")), at=WARM + 3)

    assert explanations(desk) == {"DiskBad": "", "VolumeBad": ""}


@pytest.mark.parametrize(("later", "explained"), [(2.0, "DiskBad"), (100.0, "DiskBad"), (1200.0, "")])
def test_an_event_explains_what_began_with_it_and_its_memory_nothing(later: float, explained: str) -> None:
    """A write was lost and the volume died of it: one page. What dies on the same disk within the hour is news."""
    desk, agent = started(MEMORY)
    desk.feed(agent.event("sda", type_="kernel_data_loss"), at=WARM + 1)

    desk.feed(agent.report(*machine("VolumeBad")), at=WARM + 1 + later)

    assert explanations(desk) == {"DiskBad": "", "VolumeBad": explained}


def an_hour_after_a_loss(rules: str) -> tuple[Desk, Agent, list[tuple[str, str]]]:
    """A disk lost a write and the volume on it died; it lies dead until the window of the event is over."""
    desk, agent = started(rules)
    pages = told(commit_of(desk.feed(agent.event("sda", type_="kernel_data_loss"), at=WARM + 1)).notices)
    for step in range(1, 64):
        mono = 60.0 * step
        message = agent.report(*machine("VolumeBad", mono=mono), mono=mono)
        pages += told(commit_of(desk.feed(message, at=WARM + mono)).notices)
    return desk, agent, pages


def test_the_end_of_a_memory_does_not_page_a_second_time_for_the_same_fault() -> None:
    """The hour is over by the clock; the volume has been dead all the time, and whoever was called knows."""
    desk, agent, pages = an_hour_after_a_loss(MEMORY)

    repaired = desk.feed(agent.report(*machine(mono=3900.0), mono=3900.0), at=WARM + 3900)
    seen = desk.feed(agent.report(*machine(mono=3910.0), mono=3910.0), at=WARM + 3910)

    assert pages == [("DiskBad", "firing")]
    assert told([*commit_of(repaired).notices, *commit_of(seen).notices]) == [("DiskBad", "resolved")]
    assert explanations(desk) == {}


def test_a_memory_that_stands_for_what_it_explains_says_what_it_is() -> None:
    """Its condition does not hold any more and nothing is repaired: it is between."""
    desk, _, _ = an_hour_after_a_loss(MEMORY)

    assert explanations(desk) == {"DiskBad": "", "VolumeBad": "DiskBad"}
    assert desk.collector.alerts[key_of(desk, "DiskBad")].alert.last_finding is Finding.BETWEEN


def test_taking_note_of_a_memory_does_not_bring_what_it_explains_as_a_page_of_its_own() -> None:
    """Who took note of the loss has read which volume died of it."""
    desk, agent, pages = an_hour_after_a_loss(STICKY_MEMORY)

    noted = desk.collector.handle(Acknowledged(WARM + 3790, key_of(desk, "DiskBad"), "disk is ordered"))
    dead = desk.feed(agent.report(*machine("VolumeBad", mono=3800.0), mono=3800.0), at=WARM + 3800)
    repaired = desk.feed(agent.report(*machine(mono=3810.0), mono=3810.0), at=WARM + 3810)
    desk.feed(agent.report(*machine(mono=3820.0), mono=3820.0), at=WARM + 3820)

    notices = [note for effects in (noted, dead, repaired) for note in commit_of(effects).notices]
    assert pages + told(notices) == [("DiskBad", "firing"), ("DiskBad", "resolved")]
    assert explanations(desk) == {}


def test_a_memory_does_not_stand_for_what_asks_less_of_people() -> None:
    """A page that ends as a ticket is no second page, and says what is left to do."""
    less = "severity: ticket, verdict: at_risk, summary: volume"
    desk, _, pages = an_hour_after_a_loss(
        MEMORY.replace("severity: page, verdict: at_risk, summary: volume", less)
    )

    assert pages == [("DiskBad", "firing"), ("DiskBad", "resolved")]
    assert [(row.alert.alertname, row.notified) for row in desk.collector.alerts.values()] == [
        ("VolumeBad", True)
    ]


def test_what_was_told_before_its_cause_stands_for_itself_when_the_cause_ends() -> None:
    """It is nobody's part any more: lists that put it beneath its cause would lose it."""
    desk, agent = started()
    desk.feed(agent.report(*machine("PathBad")), at=WARM + 1)
    desk.feed(agent.report(*machine("PathBad", "VolumeBad")), at=WARM + 2)
    named = desk.collector.alerts[key_of(desk, "PathBad")].explained_by

    commit = commit_of(desk.feed(agent.report(*machine("PathBad", mono=10.0), mono=10.0), at=WARM + 11))

    kept, held = commit.alerts[key_of(desk, "PathBad")], desk.collector.alerts[key_of(desk, "PathBad")]
    assert kept is not None
    assert named != ""
    assert (kept.notified, kept.explained_by, held.explained_by) == (True, "", "")


def test_what_was_told_before_its_causes_is_the_next_ones_part_when_the_deepest_ends() -> None:
    """Path, then volume, then disk were told; the disk works again, and the volume is still the place to begin."""
    desk, agent = started()
    for second, bad in enumerate(
        [("PathBad",), ("PathBad", "VolumeBad"), ("PathBad", "VolumeBad", "DiskBad")], 1
    ):
        desk.feed(agent.report(*machine(*bad)), at=WARM + second)
    before = desk.collector.alerts[key_of(desk, "PathBad")].explained_by == key_of(desk, "DiskBad")

    desk.feed(agent.report(*machine("PathBad", "VolumeBad", mono=10.0), mono=10.0), at=WARM + 11)

    alerts = {row.alert.alertname: row for row in desk.collector.alerts.values()}
    assert before
    assert alerts["PathBad"].explained_by == key_of(desk, "VolumeBad")
    assert alerts["VolumeBad"].explained_by == ""
    assert alerts["VolumeBad"].alert.annotations["explains"] == f"1 alert: PathBad on {PATH}"


def test_an_alert_names_no_more_what_ended_before_it() -> None:
    """Whoever is told again while it fires reads what there is to do now."""
    desk, agent = started()
    desk.feed(agent.report(*machine("VolumeBad", "PathBad", "ServiceBad")), at=WARM + 1)

    said = []
    for mono, bad in ((10.0, ("VolumeBad", "PathBad")), (20.0, ("VolumeBad",))):
        desk.feed(agent.report(*machine(*bad, mono=mono), mono=mono), at=WARM + mono)
        said.append(desk.collector.alerts[key_of(desk, "VolumeBad")].alert.annotations.get("explains"))

    assert said == [f"1 alert: PathBad on {PATH}", None]


def test_taking_note_of_a_cause_is_taking_note_of_what_waits_for_it() -> None:
    """One disk lost writes, and the volume says so too: one page, one word."""
    sticky = CHAIN.replace("at_risk, summary: disk", "at_risk, sticky: true, summary: disk").replace(
        "at_risk, summary: volume", "at_risk, sticky: true, summary: volume"
    )
    desk, agent = started(sticky)
    first = desk.feed(agent.report(*machine("DiskBad", "VolumeBad")), at=WARM + 1)
    desk.collector.handle(Acknowledged(WARM + 2, key_of(desk, "DiskBad"), "replaced"))

    last = desk.feed(agent.report(*machine()), at=WARM + 3)

    assert told(commit_of(first).notices) == [("DiskBad", "firing")]
    assert told(commit_of(last).notices) == [("DiskBad", "resolved")]
    assert explanations(desk) == {}


@pytest.mark.parametrize("order", [("VolumeBad", "PathBad"), ("PathBad", "VolumeBad")])
def test_a_sticky_effect_that_nobody_was_told_of_ends_with_its_cause(order: tuple[str, str]) -> None:
    """A mount hid a database's folder, which was another one then. It is mended: nobody is called for the folder now."""
    rules = CHAIN.replace(
        "at_risk, summary: path", "at_risk, sticky: true, inhibited_by: [VolumeBad], summary: path"
    )
    desk, agent = started(rules)
    desk.feed(agent.report(*machine(order[0])), at=WARM + 1)
    desk.feed(agent.report(*machine(*order)), at=WARM + 2)

    over = desk.feed(agent.report(*machine()), at=WARM + 20)

    told_first = order[0] == "PathBad"
    assert told(commit_of(over).notices) == [("VolumeBad", "resolved")]
    assert explanations(desk) == ({"PathBad": ""} if told_first else {})


def test_a_cause_that_nobody_was_told_of_explains_nothing() -> None:
    """A page kept quiet by an alert that a ticket keeps quiet would reach nobody."""
    rules = CHAIN.replace(
        "at_risk, summary: volume", "at_risk, inhibited_by: [Drill], summary: volume"
    ).replace(
        "  - {alert: Watchdog",
        "  - {alert: Drill, id: T-09, resource: volume, when: dead, severity: info, summary: drill}\n  - {alert: Watchdog",
    )
    desk, agent = started(rules)

    desk.feed(agent.report(*machine("VolumeBad", "ServiceBad")), at=WARM + 1)

    assert explanations(desk) == {"VolumeBad": "Drill", "Drill": "", "ServiceBad": ""}


def test_a_restart_keeps_who_explains_whom() -> None:
    """Otherwise the collector's own crash would be three pages."""
    desk, agent = started()
    sections = machine("DiskBad", "VolumeBad", "ServiceBad")
    desk.feed(agent.report(*sections), at=WARM + 1)
    kept = State(
        alerts=list(desk.collector.alerts.values()),
        nodes=[node.record for node in desk.collector.nodes.values()],
        next_episode=9,
    )
    again = Desk(rules=CHAIN, state=kept, started_at=WARM + 10)

    commit = commit_of(again.feed(agent.report(*sections), at=WARM + 100))

    assert told(commit.notices) == []
    assert len(again.collector.explained(key_of(again, "DiskBad"))) == 2


TROUBLE = st.sets(st.sampled_from([*QUIET, "Unrelated"]))


def with_another_disk(bad: set[str], mono: float, order: Sequence[int] = range(6)) -> list[Section]:
    """The machine with a second volume, on a disk of its own."""
    other = said("others", "volume", {"/other": {"dead": "Unrelated" in bad, "leaf_devices": "sdb"}}, mono)
    sections = [*machine(*bad, mono=mono), other]
    return [sections[place] for place in order]


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(TROUBLE, min_size=1, max_size=6))
def test_whatever_fires_was_told_once_or_is_explained_by_what_was(steps: list[set[str]]) -> None:
    """The law behind all rules of explaining: no trouble without a page that leads to it, and no page twice."""
    desk, agent = started()
    pages: list[str] = []
    for step, bad in enumerate(steps, 1):
        message = agent.report(*with_another_disk(bad, 10.0 * step), mono=10.0 * step)
        commit = commit_of(desk.feed(message, at=WARM + 10.0 * step))
        pages += [one.key for one in commit.notices if (one.receiver, one.status) == ("pager", "firing")]
        alerts = desk.collector.alerts
        for key, row in alerts.items():
            if row.alert.alertname == "Watchdog":
                continue
            assert row.notified == (key in pages)
            assert row.notified or alerts[row.explained_by].notified
            assert row.alert.resource != "/other" or row.notified

    assert len(pages) == len(set(pages))


@settings(max_examples=40, deadline=None)
@given(bad=TROUBLE, order=st.permutations(range(6)))
def test_in_which_order_the_sections_of_one_report_stand_decides_nothing(
    bad: set[str], order: list[int]
) -> None:
    """Probes are asked in the order of their names, which says nothing about causes."""
    found = []
    for places in (range(6), order):
        desk, agent = started()
        commit = commit_of(
            desk.feed(agent.report(*with_another_disk(bad, 10.0, places), mono=10.0), at=WARM + 10)
        )
        rows = desk.collector.alerts.values()
        explained = {(row.alert.alertname, row.alert.resource): row.inhibited_by for row in rows}
        found.append((sorted(told(commit.notices)), explained))

    assert found[0] == found[1]


def test_a_journal_that_was_aborted_is_a_risk_before_anybody_writes() -> None:
    """ext4 shows nothing until the next write; the kernel has said it, and all that rests on the device hears of it."""
    desk, agent = Desk(rules=load_rules()), Agent()
    desk.feed(agent.report(*machine()))

    desk.feed(agent.event("sda", type_="kernel_data_loss"), at=WARM + 1)

    verdicts = {key: ruled.ruling for key, ruled in desk.collector.rulings.of("n1").items()}
    for place in (("device", "sda"), ("volume", "/srv"), ("state_path", PATH), ("service", "pg.service")):
        cause = verdicts[place].cause
        assert cause is not None
        assert (verdicts[place].verdict, cause.kind, cause.alert) == (
            Verdict.AT_RISK,
            "device",
            "KernelReportsDataLoss",
        )


def test_of_folders_in_each_other_the_outer_one_is_told_in_whatever_order_they_are_reported() -> None:
    desk, agent = Desk(rules=CHAIN), Agent()
    inner, outer = "pg.service:/srv/pg/wal", "pg.service:/srv/pg"
    facts: dict[str, Value] = {"service": "pg.service", "mountpoint": "/srv", "role": "data"}
    paths = {
        inner: {**facts, "path": "/srv/pg/wal", "mount_missing": True},
        outer: {**facts, "path": "/srv/pg", "mount_missing": True},
    }

    desk.feed(agent.report(said("state_paths", "state_path", paths)))

    rows = [row for row in desk.collector.alerts.values() if row.alert.alertname == "PathBad"]
    assert {row.alert.resource: (row.notified, row.inhibited_by) for row in rows} == {
        outer: (True, ""),
        inner: (False, "PathBad"),
    }
