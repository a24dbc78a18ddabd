"""One fault, one page: real faults from the kernel to the verdict on every resource, and back.

Most happen at once on one machine, each to a service of its own on a disk of its own, so that none may speak for
another; what takes a boot, a systemd or a silence of its own happens to other nodes. `MATRIX` says what must come of each.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest

from holdfast_agent.registry import probe_classes
from tests import needs
from tests.bench.boxed_services import BoxedServices
from tests.receiver import Receiver
from tests.rigs.systemd_box import SystemdBox
from tests.system.broken_machines import BOXED, CRASHED, NODE, QUIET, Fault, Machine, crashing, looping
from tests.system.stack import Stack, hurried_rules, notices, webhook
from tests.system.witnessed import witness_tables

pytestmark = pytest.mark.system

RECENT = "30s"
"""What counts as recent; an hour as shipped."""


class Expected(NamedTuple):
    """What must be said of a fault."""

    page: str
    """The one alert that people are told of."""
    kind: str
    """The kind of resource it is about: where to begin."""
    verdicts: dict[str, str]
    """Kind → verdict, from the medium up; kinds without one are left out."""
    explained: frozenset[str] = frozenset()
    """Pages that hold as well and must be kept quiet by it."""


def upwards(verdict: str, *kinds: str) -> dict[str, str]:
    return dict.fromkeys(kinds or ("volume", "state_path", "service"), verdict)


MATRIX = {
    "ext4 in emergency read-only": Expected("KernelReportsDataLoss", "device", upwards("at_risk"), frozenset({"VolumeDead"})),
    "XFS that shut down": Expected("KernelReportsDataLoss", "device", upwards("at_risk"), frozenset({"VolumeDead"})),
    "disk that answers EIO": Expected("KernelReportsDataLoss", "device", upwards("at_risk"), frozenset({"VolumeDead"})),
    "mount that is missing": Expected("StateVolumeMissing", "volume", upwards("at_risk"), frozenset({"StateMountMissing"})),
    "database that writes beneath a mount": Expected("StateHiddenByMount", "state_path", upwards("at_risk", "state_path", "service")),
    "database whose fsync does nothing": Expected("ServiceSyncsDisabled", "service", {"service": "not_durable"}),
    "data in memory": Expected("StateOnVolatileMedium", "state_path", upwards("not_durable", "state_path", "service")),
    "full disk": Expected("VolumeFull", "volume", upwards("at_risk")),
    "service that crashes again and again": Expected("ServiceRestartLoop", "service", {}),
    "node that fell silent": Expected("NodeSilent", "node", {}),
    "disk that lied and lost its power": Expected("VolumeRolledBack", "volume", {"volume": "lost"}),
    "disk that was set back": Expected("VolumeRolledBack", "volume", {"volume": "lost"}),
}  # fmt: skip
LOSSES = {expected.page for expected in MATRIX.values() if "lost" in expected.verdicts.values()}
"""A loss stays true of its volume until somebody takes note."""


class Outcome(NamedTuple):
    """What came of a fault."""

    pages: list[tuple[str, str]]
    """(alert, kind), of all pages about its resources."""
    explained: dict[str, str]
    """Page that was kept quiet → by what."""
    verdicts: dict[str, str]
    ended: list[tuple[str, str]]
    """(alert, status) of all that people were told of its pages."""
    after: dict[str, str]


class Watch:
    """What the collector says of faults, and what people were told of them."""

    def __init__(self, stack: Stack, hook: Receiver) -> None:
        self.stack, self.hook = stack, hook

    def verdicts(self, fault: Fault) -> dict[str, str]:
        shown = (self.stack.collector.node(fault.node) or {}).get("verdicts", [])
        found = {(row["kind"], row["name"]): row["verdict"] for row in shown}
        return {
            kind: str(found[(kind, name)]) for kind, name in fault.resources.items() if (kind, name) in found
        }

    def active(self, fault: Fault) -> list[dict[str, Any]]:
        """Pending and firing pages."""
        shown = self.stack.collector.alerts(node=fault.node, severity="page")
        return [alert for alert in shown if alert["state"] != "resolved" and self._touched(fault, alert)]

    def pages(self, fault: Fault, **fields: str) -> list[dict[str, Any]]:
        told = notices(self.hook, node=fault.node, severity="page", **fields)
        return [page for page in told if self._touched(fault, page)]

    @staticmethod
    def _touched(fault: Fault, row: dict[str, Any]) -> bool:
        return bool(fault.resources.get(row["resource_kind"]) == row["resource"])

    def settled(self, name: str, fault: Fault) -> bool:
        """The page was told, what it must explain fires, nothing is pending, and the verdicts are as they must be."""
        wanted = MATRIX[name]
        told = {page["alertname"] for page in self.pages(fault, status="firing")}
        fires = {alert["alertname"] for alert in self.active(fault) if alert["state"] == "firing"}
        pending = any(alert["state"] == "pending" for alert in self.active(fault))
        said = all(self.verdicts(fault).get(kind) == verdict for kind, verdict in wanted.verdicts.items())
        return bool(wanted.page in told and wanted.explained <= fires and not pending and said)

    def wait(self, condition: Callable[[str, Fault], bool], name: str, fault: Fault, what: str) -> None:
        try:
            self.stack.wait(lambda: condition(name, fault), f"{name} to {what}", 40.0)
        except AssertionError as late:
            rows = [
                (row["alertname"], row["state"], row["last_finding"], row["inhibited_by"])
                for row in self.active(fault)
            ]
            told = [(row["alertname"], row["status"]) for row in self.pages(fault)]
            why = [
                (row["kind"], row["verdict"], [reason["text"] for reason in row["reasons"][:2]])
                for row in (self.stack.collector.node(fault.node) or {}).get("verdicts", [])
                if fault.resources.get(row["kind"]) == row["name"]
            ]
            raise AssertionError(f"{name} is not {what}: {why}, pages {rows}, told {told}") from late

    def known(self, name: str, fault: Fault) -> bool:
        """All is there that the fault will touch, and well."""
        wanted = fault.resources.keys() & {"volume", "state_path"}
        return self.verdicts(fault).keys() >= wanted and self.over(name, fault)

    def over(self, name: str, fault: Fault) -> bool:
        """Nothing fires any more, whatever waits for an operator's word acknowledged, people know, and all is well."""
        left = self.active(fault)
        for alert in left:
            waits = alert["last_finding"] == "clear" or alert["alertname"] in LOSSES
            if waits and not alert["acknowledged"] and not alert["inhibited_by"]:
                self.stack.collector.post("/api/v1/acks", {"key": alert["key"], "reason": "mended"})
        ended = {page["key"] for page in self.pages(fault, status="resolved")}
        told = {page["key"] for page in self.pages(fault, status="firing")}
        verdicts = self.verdicts(fault)
        well = all(verdicts.get(kind) == "durable" for kind in MATRIX[name].verdicts)
        return not left and told == ended and well


class Play(NamedTuple):
    """What came of all of them."""

    outcomes: dict[str, Outcome]
    strays: list[tuple[str, str]]
    """(alert, resource) of the pages about `NODE` that are about these disks and about no fault's resource."""


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    """Every fault, done and mended. State below /tmp is a fault of its own, so all lies elsewhere."""
    needs.root()
    needs.condition(os.access("/dev/kmsg", os.R_OK), "needs the kernel log (/dev/kmsg)")
    with ExitStack() as held:
        folder = Path(held.enter_context(TemporaryDirectory(prefix="holdfast-matrix-", dir="/srv")))
        rules = hurried_rules(folder / "rules", window=RECENT)
        hook = held.enter_context(Receiver())
        stack = held.enter_context(Stack(folder, receivers=[webhook(hook)], rules=rules, shipped_rules=False))
        # First, for the mount namespaces of both keep alive what is mounted when they begin, whatever is unmounted outside.
        box = held.enter_context(SystemdBox(folder))
        boxed = stack.agent(BOXED, wrap=BoxedServices(box, 1).watched_by).start()
        held.callback(boxed.close)
        machine = Machine(folder, held)
        faults = machine.faults
        node = stack.agent(NODE, tables=machine.tables).start()
        held.callback(node.close)  # it looks at the disks, which are busy then
        others = sorted({probe.name for probe in probe_classes()} - {"host"})
        quiet = stack.agent(QUIET, tables=[f"[probes.{name}]\nenabled = false" for name in others]).start()
        faults["node that fell silent"] = Fault(quiet.kill, quiet.start, {"node": QUIET}, QUIET)
        faults["service that crashes again and again"] = looping(box)
        places = [folder / name / "mnt" for name in ("lying", "rolled")]
        classes = ", ".join(f'"{place}" = "D2"' for place in places)
        crashed = stack.agent(
            CRASHED, tables=[*witness_tables(places), f"[probes.devices]\nclasses = {{{classes}}}"]
        )
        more, prepare = crashing(crashed, folder, held, stack)
        faults |= more
        crashed.start()
        held.callback(crashed.close)
        prepare()
        yield played(Watch(stack, hook), faults)


def played(watch: Watch, faults: dict[str, Fault]) -> Play:
    for name, fault in faults.items():
        watch.wait(watch.known, name, fault, "known")
    known = {page["key"] for page in notices(watch.hook)}
    for fault in faults.values():
        fault.do()
    seen = {}
    for name, fault in faults.items():
        watch.wait(watch.settled, name, fault, "told")
        seen[name] = watch.verdicts(fault), watch.active(fault)
    for fault in faults.values():
        fault.mend()
    found = {}
    for name, fault in faults.items():
        watch.wait(watch.over, name, fault, "over")
        verdicts, active = seen[name]
        pages = [page for page in watch.pages(fault) if page["key"] not in known]
        found[name] = Outcome(
            pages=[
                (page["alertname"], page["resource_kind"]) for page in pages if page["status"] == "firing"
            ],
            explained={
                alert["alertname"]: alert["inhibited_by"] for alert in active if alert["inhibited_by"]
            },
            verdicts=verdicts,
            ended=[(page["alertname"], page["status"]) for page in pages],
            after=watch.verdicts(fault),
        )
    counted = [page["key"] for fault in faults.values() for page in watch.pages(fault)]
    told = notices(watch.hook, node=NODE, severity="page", status="firing")
    return Play(
        found,
        [
            (page["alertname"], page["resource"])
            for page in told
            if page["key"] not in [*known, *counted] and str(watch.stack.folder) in page["resource"]
        ],
    )


@pytest.mark.parametrize("name", MATRIX)
def test_fault_is_one_page_about_its_cause_and_a_verdict_on_all_above_it(play: Play, name: str) -> None:
    """What holds besides is kept quiet, and says by what."""
    wanted, outcome = MATRIX[name], play.outcomes[name]

    assert outcome.pages == [(wanted.page, wanted.kind)]
    assert {alert: outcome.explained.get(alert) for alert in wanted.explained} == dict.fromkeys(
        wanted.explained, wanted.page
    )
    assert outcome.verdicts.items() >= wanted.verdicts.items()


@pytest.mark.parametrize("name", MATRIX)
def test_fault_that_was_mended_is_told_to_be_over_and_leaves_no_verdict_behind(play: Play, name: str) -> None:
    """Once: what was kept quiet is not told after all."""
    wanted, outcome = MATRIX[name], play.outcomes[name]

    assert outcome.ended == [(wanted.page, "firing"), (wanted.page, "resolved")]
    assert {kind: outcome.after.get(kind) for kind in wanted.verdicts} == dict.fromkeys(
        wanted.verdicts, "durable"
    )


def test_no_page_but_those_is_told(play: Play) -> None:
    """Not of a log inside the data, either, nor of what else rests on the same disk."""
    assert play.strays == []
