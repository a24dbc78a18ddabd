"""Rules that ask what a resource rests on: they are asked again when that changes, comes, goes, or is another one."""

import msgspec

from holdfast_wire import Resource, Section, SectionStatus
from holdfast_wire.message import Value
from tests.collector.fleet import T0, WARM, Agent, Desk, transitions

RULES = """
rules:
  - {alert: StateOnDeadVolume, id: T-01, resource: state_path, when: volume.dead and required_class >= 2,
     severity: page, summary: "{node}: {path} of {service} is on {volume.source}"}
  - {alert: StateOfDeadService, id: T-02, resource: state_path, when: not service.up, severity: info,
     summary: "{node}: {service.description} is down"}
  - {alert: VolumeOnLosingDevice, id: T-03, resource: volume, when: device.kernel_data_loss_total > 0,
     severity: page, summary: "{node}: {mountpoint}"}
  - {alert: Watchdog, id: T-04, resource: collector, when: "True", severity: info, summary: the path works}
"""
PATH = "pg.service:/srv/pg"


def said(probe: str, *resources: tuple[str, str, dict[str, Value]]) -> Section:
    return Section(
        probe=probe,
        status=SectionStatus.OK,
        observed_at=T0,
        mono=0.0,
        period_seconds=10.0,
        duration_seconds=0.01,
        resources=[Resource(kind=kind, name=name, facts=facts) for kind, name, facts in resources],
    )


def paths(mountpoint: str) -> Section:
    facts: dict[str, Value] = {
        "service": "pg.service", "path": "/srv/pg", "required_class": 2, "mountpoint": mountpoint,
    }  # fmt: skip
    return said("state_paths", ("state_path", PATH, facts))


def volumes(*, srv_dead: bool, root_dead: bool = False) -> Section:
    return said(
        "volumes",
        ("volume", "/", {"mountpoint": "/", "source": "/dev/sda1", "device": "sda1", "dead": root_dead}),
        ("volume", "/srv", {"mountpoint": "/srv", "source": "/dev/sdb1", "device": "sdb1", "dead": srv_dead}),
    )


def service(*, up: bool) -> Section:
    return said("services", ("service", "pg.service", {"up": up, "description": "a database"}))


def test_a_path_is_judged_again_when_only_its_volume_changed() -> None:
    """The report carries the volume's section alone: nothing of the path is in it."""
    desk, agent = Desk(rules=RULES), Agent()
    calm = [paths("/srv"), volumes(srv_dead=False), service(up=True)]
    desk.feed(agent.report(*calm))

    effects = desk.feed(agent.report(volumes(srv_dead=True), held=(calm[0], calm[2])), at=WARM + 1)

    assert transitions(effects) == [("StateOnDeadVolume", "fired")]
    assert desk.firing() == {("StateOnDeadVolume", PATH)}


def test_a_path_does_not_answer_for_a_volume_it_is_not_on() -> None:
    desk, agent = Desk(rules=RULES), Agent()

    desk.feed(agent.report(paths("/srv"), volumes(srv_dead=False, root_dead=True), service(up=True)))

    assert desk.firing() == set()


def test_a_path_is_judged_again_when_it_names_another_volume() -> None:
    """Nothing a rule reads changed but the name by which it asks."""
    desk, agent = Desk(rules=RULES), Agent()
    calm = [paths("/"), volumes(srv_dead=True), service(up=True)]
    desk.feed(agent.report(*calm))
    before = desk.firing()

    desk.feed(agent.report(paths("/srv"), held=(calm[1], calm[2])), at=WARM + 1)

    assert (before, desk.firing()) == (set(), {("StateOnDeadVolume", PATH)})


def test_the_volume_that_comes_last_is_judged_with_the_path_that_waited_for_it() -> None:
    desk, agent = Desk(rules=RULES), Agent()
    first = paths("/srv")
    desk.feed(agent.report(first))

    desk.feed(agent.report(volumes(srv_dead=True), held=(first,)), at=WARM + 1)

    assert desk.firing() == {("StateOnDeadVolume", PATH)}


def test_a_volume_that_is_not_heard_of_any_more_is_unknown_and_clears_nothing() -> None:
    """No data is never health: the path's page stands while its volume is out of sight."""
    desk, agent = Desk(rules=RULES), Agent()
    first = paths("/srv")
    desk.feed(agent.report(first, volumes(srv_dead=True)))

    effects = desk.feed(agent.report(said("volumes"), held=(first,)), at=WARM + 1)

    assert transitions(effects) == []
    assert desk.firing() == {("StateOnDeadVolume", PATH)}


def test_a_path_asks_its_service_too_and_speaks_of_it() -> None:
    desk, agent = Desk(rules=RULES), Agent()
    calm = [paths("/srv"), volumes(srv_dead=False), service(up=True)]
    desk.feed(agent.report(*calm))

    desk.feed(agent.report(service(up=False), held=(calm[0], calm[1])), at=WARM + 1)

    [alert] = [row.alert for row in desk.collector.alerts.values() if row.alert.alertname != "Watchdog"]
    assert (alert.resource, alert.annotations["summary"]) == (PATH, "n1: a database is down")


def test_a_volume_asks_the_device_it_lies_on() -> None:
    desk, agent = Desk(rules=RULES), Agent()
    desk.feed(agent.report(volumes(srv_dead=False)))

    desk.feed(agent.event("sdb1", type_="kernel_data_loss"), at=WARM + 1)

    assert desk.firing() == {("VolumeOnLosingDevice", "/srv")}


def test_an_alert_on_what_a_path_rests_on_explains_the_paths_own() -> None:
    """One dead disk is one page: the volume on it and the state on that volume are told by it (path, volume, device)."""
    rules = RULES.replace(
        "id: T-01, resource: state_path,", "id: T-01, resource: state_path, inhibited_by: [DeviceLoses],"
    ).replace(
        "  - {alert: Watchdog",
        "  - {alert: DeviceLoses, id: T-05, resource: device, when: kernel_data_loss_total > 0, severity: page,\n"
        '     summary: "{node}: {resource}"}\n  - {alert: Watchdog',
    )
    said_of: dict[str, str] = {}
    for device in ("sda1", "sdb1"):
        desk, agent = Desk(rules=rules), Agent()
        desk.feed(agent.report(paths("/srv"), volumes(srv_dead=False)))
        desk.feed(agent.event(device, type_="kernel_data_loss"), at=WARM + 1)

        desk.feed(agent.report(volumes(srv_dead=True), held=(paths("/srv"),)), at=WARM + 2)

        [row] = [row for row in desk.collector.alerts.values() if row.alert.alertname == "StateOnDeadVolume"]
        said_of[device] = row.inhibited_by

    assert said_of == {"sda1": "", "sdb1": "DeviceLoses"}


def test_a_mount_that_is_missing_explains_the_paths_that_miss_it() -> None:
    """Such a path rests on the volume above; the alert that tells it all is on the one that is not there."""
    rules = RULES.replace(
        "  - {alert: Watchdog",
        "  - {alert: Missing, id: T-05, resource: volume, when: not mounted, severity: page, summary: '{node}'}\n"
        "  - {alert: PathMisses, id: T-06, resource: state_path, when: mount_missing, severity: page,\n"
        "     inhibited_by: [Missing], summary: '{node}'}\n  - {alert: Watchdog",
    )
    said_of: dict[str, str] = {}
    for missing in ("/srv", "/other"):
        desk, agent = Desk(rules=rules), Agent()
        lost: dict[str, Value] = {
            "service": "pg.service", "path": "/srv/pg", "mountpoint": "/", "mount_missing": True,
            "missing_mountpoint": missing,
        }  # fmt: skip
        desk.feed(agent.report(said("expected_mounts", ("volume", "/srv", {"mounted": False}))))

        desk.feed(agent.report(said("state_paths", ("state_path", PATH, lost))), at=WARM + 1)

        [row] = [row for row in desk.collector.alerts.values() if row.alert.alertname == "PathMisses"]
        said_of[missing] = row.inhibited_by

    assert said_of == {"/srv": "Missing", "/other": ""}


def test_a_service_that_two_probes_speak_of_is_gone_only_when_both_see_it_no_more() -> None:
    """One knows whether it runs, the other what it keeps. A service that died has no paths to be seen; while nobody can
    ask its manager that is no reason to call its alert solved."""
    rules = RULES.replace("when: not service.up,", "when: not service.up and volume.dead,").replace(
        "  - {alert: Watchdog",
        "  - {alert: ServiceDown, id: T-06, resource: service, when: not up, severity: page,\n"
        '     summary: "{node}: {resource}"}\n  - {alert: Watchdog',
    )
    desk, agent = Desk(rules=rules), Agent()
    keeps = said("state_paths", ("service", "pg.service", {"stateful": True}))
    desk.feed(agent.report(service(up=False), keeps))
    blind = msgspec.structs.replace(said("services"), status=SectionStatus.ERROR)

    after = []
    for number, sections in enumerate(
        ((blind, keeps), (blind, said("state_paths")), (said("services"),)), start=1
    ):
        desk.feed(agent.report(*sections, held=(said("state_paths"),)), at=WARM + number)
        after.append(desk.firing())

    assert after == [{("ServiceDown", "pg.service")}, {("ServiceDown", "pg.service")}, set()]
