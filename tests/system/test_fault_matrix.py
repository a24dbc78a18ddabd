"""One fault, one page: real faults from the kernel to the verdict on every resource, and back.

Most happen at once on one machine, each to a service of its own on a disk of its own, so that none may speak for
another; what takes a boot, a systemd or a silence of its own happens to other nodes. `MATRIX` says what must come of each.
"""

import os
import shutil
import signal
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
from tests.rigs.databases import Databases
from tests.rigs.failing_disk import FailingDisk
from tests.rigs.loop_disk import LoopDisk, run
from tests.rigs.powered_disk import PoweredDisk
from tests.rigs.systemd_box import SystemdBox
from tests.system.stack import Agent, Stack, hurried_rules, notices, webhook
from tests.system.witnessed import witness_tables

pytestmark = pytest.mark.system

NODE, QUIET, BOXED, CRASHED = "vm-1", "vm-2", "vm-3", "vm-4"
RECENT = "20s"
"""What counts as recent; an hour as shipped."""
APPENDING = "appendonly yes\nappendfsync always\n"
LOOPING = """[Service]
ExecStart={command}
Restart=always
RestartSec=100ms
[Unit]
StartLimitIntervalSec=0
"""


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
    "mount that is missing": Expected("StateMountMissing", "state_path", upwards("lost", "state_path", "service")),
    "database that writes beneath a mount": Expected("StateHiddenByMount", "state_path", upwards("at_risk", "state_path", "service")),
    "database whose fsync does nothing": Expected("ServiceSyncsDisabled", "service", {"service": "not_durable"}),
    "data in memory": Expected("StateOnVolatileMedium", "state_path", upwards("not_durable", "state_path", "service")),
    "full disk": Expected("VolumeFull", "volume", upwards("at_risk")),
    "service that crashes again and again": Expected("ServiceRestartLoop", "service", {}),
    "node that fell silent": Expected("NodeSilent", "node", {}),
    "disk that lied and lost its power": Expected("VolumeRolledBack", "volume", {"volume": "lost"}),
    "disk that was set back": Expected("VolumeRolledBack", "volume", {"volume": "lost"}),
}  # fmt: skip


class Fault(NamedTuple):
    """How to do the damage, and how to mend it."""

    do: Callable[[], object]
    mend: Callable[[], object]
    resources: dict[str, str]
    """Kind → name, of everything that it may touch."""
    node: str = NODE


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


class Database:
    """A Redis that keeps its state on a disk, and can be started again as an operator would."""

    def __init__(self, databases: Databases, folder: Path) -> None:
        self._databases = databases
        self.folder = folder
        self.service = f"redis:{folder}"
        self._server = databases.redis(folder, configuration=APPENDING)

    @property
    def resources(self) -> dict[str, str]:
        """What it is to the collector, and where its state lies."""
        return {"state_path": f"{self.service}:{self.folder}", "service": self.service}

    def stop(self) -> None:
        os.kill(self._server.pid, signal.SIGKILL)  # it would not end while its disk takes no writes
        os.waitpid(self._server.pid, 0)

    def start(self, *through: str) -> None:
        self._server = self._databases.redis(self.folder, *through, configuration=APPENDING)

    def around(self, mend: Callable[[], object]) -> Callable[[], None]:
        """The repair of what lies beneath it."""

        def repaired() -> None:
            self.stop()
            mend()
            self.start()

        return repaired


class Machine:
    """One node with many databases, each on a disk of its own."""

    def __init__(self, folder: Path, held: ExitStack) -> None:
        self._folder, self._held = folder, held
        self._databases = Databases().__enter__()
        self.classes: list[str] = []
        self.faults: dict[str, Fault] = {}
        self._break_filesystems()
        self._break_disk()
        self._take_mount_away()
        self._hide_database()
        self._ignore_syncs()
        self._keep_in_memory()
        self._fill_disk()
        held.push(self._databases)  # they end before their disks are taken away

    @property
    def tables(self) -> list[str]:
        return [
            '[probes.volumes]\nperiod = "1s"',
            f'[probes.devices]\nperiod = "1s"\nclasses = {{{", ".join(self.classes)}}}',
            '[probes.state_paths]\nperiod = "2s"',
        ]

    def _disk(self, name: str, filesystem: str = "ext4", mount_options: str = "defaults") -> LoopDisk:
        folder = self._folder / name
        folder.mkdir()
        disk = self._held.enter_context(LoopDisk(folder, filesystem, mount_options=mount_options))
        self.classes.append(f'"{disk.mountpoint}" = "D2"')
        return disk

    def _database(self, disk: LoopDisk | FailingDisk) -> tuple[Database, dict[str, str]]:
        """One on the disk, and all that a fault of the disk touches."""
        database = Database(self._databases, disk.mountpoint)
        return database, {"device": disk.name, "volume": str(disk.mountpoint), **database.resources}

    def _break_filesystems(self) -> None:
        readonly = self._disk("readonly", mount_options="errors=remount-ro")
        shutdown = self._disk("shutdown", "xfs")
        for name, disk, do in (
            ("ext4 in emergency read-only", readonly, readonly.trigger_ext4_error),
            ("XFS that shut down", shutdown, shutdown.shut_down),
        ):
            database, resources = self._database(disk)
            self.faults[name] = Fault(do, database.around(disk.repair), resources)

    def _break_disk(self) -> None:
        folder = self._folder / "eio"
        folder.mkdir()
        disk = self._held.enter_context(FailingDisk(folder, "ext4", mount_options="errors=remount-ro"))
        self.classes.append(f'"{disk.mountpoint}" = "D2"')
        database, resources = self._database(disk)
        self.faults["disk that answers EIO"] = Fault(
            lambda: lose_data(disk), database.around(lambda: mend_disk(disk)), resources
        )

    def _take_mount_away(self) -> None:
        disk = self._disk("missing")
        database, _ = self._database(disk)

        def put_back() -> None:
            shutil.rmtree(disk.mountpoint)  # what was written below
            disk.mountpoint.mkdir()
            disk.mount()

        self.faults["mount that is missing"] = Fault(
            database.around(disk.unmount), database.around(put_back), database.resources
        )

    def _hide_database(self) -> None:
        database, _ = self._database(self._disk("hidden"))
        over, place = str(self._disk("over").mountpoint), str(database.folder)
        self.faults["database that writes beneath a mount"] = Fault(
            lambda: run("mount", "--bind", over, place), lambda: run("umount", place), database.resources
        )
        self._held.callback(run, "umount", "--lazy", place, check=False)

    def _ignore_syncs(self) -> None:
        wrapper = needs.tool("eatmydata", package="eatmydata")
        database, _ = self._database(self._disk("unsafe"))

        def restart(*through: str) -> None:
            database.stop()
            database.start(*through)

        self.faults["database whose fsync does nothing"] = Fault(
            lambda: restart(wrapper), restart, {"service": database.service}
        )

    def _keep_in_memory(self) -> None:
        database, _ = self._database(self._disk("memory"))
        place = str(database.folder)
        self.faults["data in memory"] = Fault(
            database.around(lambda: run("mount", "-t", "tmpfs", "tmpfs", place)),
            database.around(lambda: run("umount", place)),
            database.resources,
        )
        self._held.callback(run, "umount", "--lazy", place, check=False)

    def _fill_disk(self) -> None:
        disk = self._disk("full")
        _, resources = self._database(disk)
        self.faults["full disk"] = Fault(disk.fill, (disk.mountpoint / "filler").unlink, resources)


def lose_data(disk: FailingDisk) -> None:
    """Write to a file that was there before, and ask for it and for a new name to be on disk."""
    ledger = os.open(disk.mountpoint / "ledger", os.O_WRONLY | os.O_CREAT)
    folder = os.open(disk.mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.write(ledger, b"before")
        os.fsync(ledger)
        disk.fail()
        os.write(ledger, bytes(1 << 16))
        with pytest.raises(OSError, match="Input/output error"):
            os.fsync(ledger)
        with pytest.raises(OSError, match=r"Input/output error|Read-only"):
            make_name(disk.mountpoint / "another", folder)
    finally:
        os.close(ledger)
        os.close(folder)


def make_name(path: Path, folder: int) -> None:
    path.touch()
    os.fsync(folder)


def mend_disk(disk: FailingDisk) -> None:
    disk.work()
    run("umount", str(disk.mountpoint))
    run("e2fsck", "-fy", disk.device, check=False)
    run("mount", "-o", "errors=remount-ro", disk.device, str(disk.mountpoint))


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
            waits = alert["last_finding"] == "clear" or {alert["alertname"]} <= MATRIX_LOST
            if waits and not alert["acknowledged"] and not alert["inhibited_by"]:
                self.stack.collector.post("/api/v1/acks", {"key": alert["key"], "reason": "mended"})
        ended = {page["key"] for page in self.pages(fault, status="resolved")}
        told = {page["key"] for page in self.pages(fault, status="firing")}
        verdicts = self.verdicts(fault)
        well = all(verdicts.get(kind) == "durable" for kind in MATRIX[name].verdicts)
        return not left and told == ended and well


MATRIX_LOST = {expected.page for expected in MATRIX.values() if "lost" in expected.verdicts.values()}
"""A loss stays true of its volume until somebody takes note."""


def crashing(
    agent: Agent, folder: Path, held: ExitStack, stack: Stack
) -> tuple[dict[str, Fault], Callable[[], None]]:
    """Two witnessed disks, and how to bring them to where they may be broken, with the agent running."""
    lying = PoweredDisk(folder / "lying", "ext4")
    rolled = PoweredDisk(folder / "rolled", "ext4")
    copy = folder / "old.img"

    def promised(disk: PoweredDisk) -> int:
        return int(stack.collector.facts(CRASHED, "volume", str(disk.mountpoint)).get("witness_seq") or 0)

    def until(disk: PoweredDisk, count: int) -> None:
        before = promised(disk)
        stack.wait(lambda: promised(disk) >= before + count, f"{count} more records of {disk.mountpoint}")

    def prepare() -> None:
        """The lying disk lies from now on; of the other one there is an old copy, and it has gone on since."""
        for disk in (lying, rolled):
            until(disk, 2)
        agent.stop()
        for disk in (lying, rolled):
            disk.power_off()
        rolled.save(copy)
        lying.power_on("lying")
        rolled.power_on()
        agent.start()
        for disk in (lying, rolled):
            until(disk, 2)

    def both() -> None:
        """One crash of the machine."""
        agent.kill()
        lying.cut_power()
        rolled.power_off()
        rolled.put_back(copy)
        lying.power_on("honest")
        rolled.power_on()
        agent.start()

    for disk in (lying, rolled):
        held.enter_context(disk)
    faults = {
        "disk that lied and lost its power": Fault(
            both, lambda: None, {"volume": str(lying.mountpoint)}, CRASHED
        ),
        "disk that was set back": Fault(
            lambda: None, lambda: None, {"volume": str(rolled.mountpoint)}, CRASHED
        ),
    }
    return faults, prepare


def looping(box: SystemdBox) -> Fault:
    """A unit that systemd starts again as often as it ends."""
    name = "looping.service"

    def become(command: str) -> None:
        box.unit(name, LOOPING.format(command=command))
        box.run("systemctl", "daemon-reload")
        box.run("systemctl", "restart", "--no-block", name)

    become("/bin/sleep infinity")
    return Fault(
        lambda: become("/bin/false"), lambda: become("/bin/sleep infinity"), {"service": name}, BOXED
    )


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Outcome]]:
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
        stack.agent(NODE, tables=machine.tables).start()
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
        prepare()
        yield played(Watch(stack, hook), faults)


def played(watch: Watch, faults: dict[str, Fault]) -> dict[str, Outcome]:
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
    return found


@pytest.mark.parametrize("name", MATRIX)
def test_fault_is_one_page_about_its_cause_and_a_verdict_on_all_above_it(
    outcomes: dict[str, Outcome], name: str
) -> None:
    """What holds besides is kept quiet, and says by what."""
    wanted, outcome = MATRIX[name], outcomes[name]

    assert outcome.pages == [(wanted.page, wanted.kind)]
    assert {alert: outcome.explained.get(alert) for alert in wanted.explained} == dict.fromkeys(
        wanted.explained, wanted.page
    )
    assert outcome.verdicts.items() >= wanted.verdicts.items()


@pytest.mark.parametrize("name", MATRIX)
def test_fault_that_was_mended_is_told_to_be_over_and_leaves_no_verdict_behind(
    outcomes: dict[str, Outcome], name: str
) -> None:
    """Once: what was kept quiet is not told after all."""
    wanted, outcome = MATRIX[name], outcomes[name]

    assert outcome.ended == [(wanted.page, "firing"), (wanted.page, "resolved")]
    assert {kind: outcome.after.get(kind) for kind in wanted.verdicts} == dict.fromkeys(
        wanted.verdicts, "durable"
    )
