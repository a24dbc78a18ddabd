"""Where real databases keep their state: PostgreSQL, MariaDB, Redis and etcd, on memory, links, binds, subvolumes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast_agent.probe import ProbeContext
from holdfast_agent.probes.inside_root_linux import InsideRoot
from holdfast_agent.probes.open_files_linux import held_by
from holdfast_agent.probes.process_table import Process, Surroundings, surroundings
from holdfast_agent.probes.service_processes import Group
from holdfast_agent.probes.service_survey_linux import Survey
from holdfast_agent.probes.state_mounts import Machine
from holdfast_agent.probes.state_paths_linux import DeclaredPath, StatePaths, StatePathSettings
from tests import needs
from tests.agent.probes.watching import watching
from tests.rigs.databases import Databases, Server, say
from tests.rigs.loop_disk import LoopDisk, available, run

pytestmark = pytest.mark.system

Facts = dict[str, Any]


class Look:
    """One look of the probe at this machine."""

    def __init__(self, probe: StatePaths | None = None) -> None:
        probe = probe or StatePaths(ProbeContext(node="vm-1", boot_id="b"))
        self.seen = probe.interpret(probe.read())

    def paths(self, service: str) -> dict[str, Facts]:
        """Path → facts, of one service."""
        return {
            str(each.facts["path"]): each.facts
            for each in self.seen.resources
            if each.kind == "state_path" and each.facts["service"] == service
        }

    def roles(self, service: str) -> dict[str, Any]:
        return {path: facts["role"] for path, facts in self.paths(service).items()}

    def service(self, name: str) -> Facts:
        [facts] = [each.facts for each in self.seen.resources if each.kind == "service" and each.name == name]
        return facts


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    with Databases() as databases:
        yield databases


@pytest.fixture(scope="module")
def postgresql(databases: Databases) -> Server:
    return databases.postgresql(wal=databases.memory("wal") / "pg", tablespace=databases.folder / "space")


@pytest.fixture(scope="module")
def redis(databases: Databases) -> Server:
    return databases.redis(databases.folder / "redis")


def test_postgresqls_log_behind_a_link_is_found_in_memory(postgresql: Server, databases: Databases) -> None:
    """The data is on a disk and everything looks well: the next power cut leaves it without its log."""
    paths = Look().paths(f"postgresql:{postgresql.folder}")

    wal = paths[f"{postgresql.folder}/pg_wal"]
    assert (wal["role"], wal["required_class"], wal["volatile"], wal["crosses_mounts"]) == (
        "wal",
        2,
        True,
        True,
    )
    assert (wal["resolved_path"], wal["mountpoint"], wal["fstype"]) == (
        f"{databases.folder}/wal/pg", f"{databases.folder}/wal", "tmpfs",
    )  # fmt: skip
    data = paths[str(postgresql.folder)]
    assert (data["role"], data["volatile"], data["source"]) == ("data", False, "working directory")


def test_a_tablespace_elsewhere_is_a_path_of_its_own(postgresql: Server, databases: Databases) -> None:
    paths = Look().paths(f"postgresql:{postgresql.folder}")

    spaces = [facts for facts in paths.values() if facts["role"] == "tablespace"]
    assert [facts["resolved_path"] for facts in spaces] == [f"{databases.folder}/space"]


def test_a_database_is_stateful_and_says_what_it_is(postgresql: Server) -> None:
    facts = Look().service(f"postgresql:{postgresql.folder}")

    assert (facts["engine"], facts["stateful"], facts["syncs_disabled"]) == ("postgresql", True, False)
    assert facts["state_paths_unresolved"] == 0


def test_mariadbs_included_files_say_where_its_binary_log_is(databases: Databases) -> None:
    """What `!includedir` names, under a section of MariaDB's own, with dashes in the option; what [client] says is not its."""
    server = databases.mariadb(binlog=databases.folder / "binlog")

    roles = Look().roles(f"mysql:{server.folder}")

    assert roles == {
        str(server.folder): "data",
        f"{databases.folder}/binlog": "binlog",
        f"{databases.folder}/my": "temp",
    }


def test_redis_is_found_by_its_working_directory_for_its_command_line_is_gone(redis: Server) -> None:
    paths = Look().paths(f"redis:{redis.folder}")

    assert paths[str(redis.folder)]["role"] == "data"
    assert paths[str(redis.folder)]["source"] == "working directory"


def test_etcd_names_its_directories_on_its_command_line(databases: Databases) -> None:
    server = databases.etcd(databases.folder / "etcd")

    look = Look()

    assert look.roles(f"etcd:{server.folder}") == {
        str(server.folder): "data",
        f"{server.folder}/member/wal": "wal",
    }
    assert look.service(f"etcd:{server.folder}")["syncs_disabled"] is False


def test_eatmydata_is_seen_in_what_the_process_has_mapped(databases: Databases) -> None:
    """Whatever sets LD_PRELOAD, and wherever: the library is in the process."""
    eat = needs.tool("eatmydata", package="eatmydata")
    server = databases.redis(databases.folder / "eaten", eat)

    facts = Look().service(f"redis:{server.folder}")

    assert facts["syncs_disabled"] is True
    assert facts["syncs_disabled_by"].startswith("libeatmydata.so")


APPENDING = "appendonly yes\nappendfsync always\n"


def test_a_mount_over_a_running_database_hides_what_it_writes(databases: Databases) -> None:
    """Everything is answered with OK, and after the next start the database is empty (A-24, V14)."""
    server = databases.redis(databases.folder / "hidden", configuration=APPENDING)
    service = f"redis:{server.folder}"
    before = Look().paths(service)
    probe = StatePaths(ProbeContext(node="vm-1", boot_id="b"))
    Look(probe)

    databases.mount(server.folder, "-t", "tmpfs", "tmpfs")
    after = Look(probe).paths(service)

    data = str(server.folder)
    assert say(server.socket, "SET a b") == b"+OK\r\n"
    assert (before[data]["shadowed"], after[data]["shadowed"]) == (False, True)
    assert after[data]["shadowed_file"].startswith(f"{data}/appendonlydir/appendonly.aof")
    assert (before[data]["volatile"], after[data]["volatile"]) == (False, True)
    assert after[data]["moved"] is True


def test_a_log_that_was_deleted_while_it_is_written_is_told_with_its_size(databases: Databases) -> None:
    """It lives in the process alone, which says OK to every write; the copy is to be had from /proc (A-26)."""
    server = databases.redis(databases.folder / "deleted", configuration=APPENDING)
    [log] = (server.folder / "appendonlydir").glob("*.incr.aof")
    say(server.socket, f"SET key {'x' * 5000}")
    size = log.stat().st_size
    log.unlink()

    facts = Look().paths(f"redis:{server.folder}")[str(log.parent)]

    assert facts["deleted_open_bytes"] == size > 5000
    shown, _, place = facts["deleted_open_file"].partition(" ")
    assert (shown, Path(place.strip("()")).read_bytes()[:1]) == (str(log), b"*")


def test_what_postgresql_removes_on_purpose_is_no_loss(postgresql: Server, databases: Databases) -> None:
    """Idle backends keep removed segments of the log open for hours."""
    segment = databases.folder / "wal" / "pg" / ("0" * 23 + "1")
    copied = segment.with_name("0" * 23 + "F")
    copied.write_bytes(b"x" * 1000)
    with copied.open("r+b"):
        holder = databases.process(
            "/bin/sh", "-c", f"exec 3<>{copied}; rm {copied}; exec sleep infinity",
            ready=lambda: not copied.exists(), folder=databases.folder,
        )  # fmt: skip

    facts = Look().paths(f"postgresql:{postgresql.folder}")[f"{postgresql.folder}/pg_wal"]

    assert (holder.pid > 0, facts["deleted_open_bytes"]) == (True, 0)


def test_a_bind_mount_is_followed_to_the_filesystem_it_shows(databases: Databases) -> None:
    """The folder's name says /…/bound; the bytes are on the filesystem in memory."""
    there = databases.memory("memory") / "really"
    there.mkdir()
    databases.mount(databases.folder / "bound", "--bind", str(there))
    server = databases.redis(databases.folder / "bound")

    facts = Look().paths(f"redis:{server.folder}")[str(server.folder)]

    assert (facts["volatile"], facts["mountpoint"]) == (True, f"{databases.folder}/memory")


def test_a_btrfs_subvolume_ends_on_the_volume_of_its_filesystem(databases: Databases, tmp_path: Path) -> None:
    """stat's device number of a subvolume is in no list of mounts; the mount's id is (V13)."""
    available("btrfs")
    folder = databases.folder / "btrfs"
    folder.mkdir()
    with LoopDisk(folder, "btrfs") as disk:
        run("btrfs", "subvolume", "create", str(disk.mountpoint / "db"))
        server = databases.redis(disk.mountpoint / "db")
        number = os.stat(disk.mountpoint / "db").st_dev

        facts = Look().paths(f"redis:{server.folder}")[str(server.folder)]

        os.kill(server.pid, signal.SIGKILL)
        os.waitpid(server.pid, 0)
    assert (facts["mountpoint"], facts["fstype"]) == (str(disk.mountpoint), "btrfs")
    assert facts["device"] == disk.name
    assert os.major(number) == 0


def test_a_folder_that_is_replaced_has_moved_for_an_hour_and_then_is_the_right_one(
    databases: Databases,
) -> None:
    clock = [1000.0]
    context = ProbeContext(node="vm-1", boot_id="b", boot_clock=lambda: clock[0])
    probe = StatePaths(context)
    server = databases.redis(databases.folder / "moving", configuration="enable-protected-configs yes\n")
    service = f"redis:{server.folder}"
    moved = [Look(probe).paths(service)[str(server.folder)]["moved"]]

    server.folder.rename(databases.folder / "moved-away")
    server.folder.mkdir()
    say(server.socket, f"CONFIG SET dir {server.folder}")
    moved.append(Look(probe).paths(service)[str(server.folder)]["moved"])
    clock[0] += 3500
    moved.append(Look(StatePaths(context)).paths(service)[str(server.folder)]["moved"])
    clock[0] += 3700
    moved.append(Look(probe).paths(service)[str(server.folder)]["moved"])

    assert moved == [False, True, True, False]


def test_what_the_operator_declares_wins(redis: Server) -> None:
    """A cache may be as volatile as it likes; and what nothing else finds is added."""
    name = f"redis:{redis.folder}"
    settings = StatePathSettings(
        declare=(
            DeclaredPath(service=name, path=str(redis.folder), role="cache"),
            DeclaredPath(service=name, path="/srv/exports", role="data", required_class=3),
        )
    )

    look = Look(StatePaths(ProbeContext(node="vm-1", boot_id="b", settings=settings)))

    paths = look.paths(name)
    assert {p: (f["role"], f["required_class"], f["source"], f["exists"]) for p, f in paths.items()} == {
        str(redis.folder): ("cache", 0, "declared", True),
        "/srv/exports": ("data", 3, "declared", False),
    }


def test_a_process_that_is_gone_before_it_is_looked_at_is_no_error() -> None:
    """Between the list of processes and the look at one of them, any of them may end."""
    child = subprocess.Popen(["/bin/true"])
    child.wait()
    gone = Process(pid=child.pid, parent=1, arguments=("redis-server", "/etc/redis.conf"))
    own = Path("/proc/self/mountinfo").read_text()
    survey = Survey(procfs=Path("/proc"), machine=Machine(own, own), own_mounts=own, declared=())

    seen = survey.running(Group(name="a.service", processes=(gone,), unit=True), None)

    assert seen is None
    assert held_by(Path("/proc"), [child.pid], None, (), ()).files == []
    assert surroundings(child.pid).denied is False


def test_a_folder_whose_mount_goes_during_the_look_is_not_told_by_a_name_that_is_nobodys(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes between the list of mounts and the working directory, which the kernel calls /going-data from then on."""
    place = databases.memory("going")
    server = databases.redis(place / "going-data")

    def unmounting(pid: int) -> Surroundings:
        if pid == server.pid and place.is_mount():
            run("umount", "--lazy", str(place))
        return surroundings(pid)

    before = Look().paths(f"redis:{server.folder}").keys()
    monkeypatch.setattr("holdfast_agent.probes.service_survey_linux.surroundings", unmounting)
    after = {str(each.facts.get("path", "")) for each in Look().seen.resources}

    assert (list(before), place.is_mount()) == ([str(server.folder)], False)
    assert [path for path in after if path.endswith("going-data")] == []


async def test_a_mount_makes_it_look_at_once_and_a_storm_of_them_does_not(databases: Databases) -> None:
    """A path may lead elsewhere from that moment; a container runtime mounts all day."""
    async with watching(StatePaths(ProbeContext(node="vm-1", boot_id="b"))) as watched:
        await watched.started()
        for number in range(5):
            databases.memory(f"storm-{number}")
        await watched.refreshed()

        assert watched.refreshes == 1


RIGHTS = "+sys_ptrace,+dac_read_search"


def look_as_nobody(*options: str) -> dict[str, Any]:
    """One look in a process of another account, as JSON."""
    script = (
        "import msgspec;"
        "from holdfast_agent.probe import ProbeContext;"
        "from holdfast_agent.probes.state_paths_linux import StatePaths;"
        "probe = StatePaths(ProbeContext(node='n', boot_id='b'));"
        "print(msgspec.json.encode(probe.interpret(probe.read())).decode())"
    )
    setpriv = needs.tool("setpriv", package="util-linux")
    done = subprocess.run(
        [setpriv, "--reuid=nobody", "--regid=nogroup", "--clear-groups", *options, sys.executable, "-c", script],
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    needs.condition(
        "PermissionError" not in done.stderr and "No module" not in done.stderr,
        f"every account must be able to read the checkout: {done.stderr[-300:]}",
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_without_rights_everything_it_cannot_see_is_said(postgresql: Server) -> None:
    """As the agent's own account, which may not look into another's processes: unknown, never in order."""
    said = look_as_nobody()

    name = f"postgresql:{postgresql.folder}"
    facts = {each["name"]: each["facts"] for each in said["resources"]}
    assert facts[name]["state_paths_unresolved"] >= 1
    assert "syncs_disabled" not in facts[name]
    assert "shadowed" not in facts[f"{name}:{postgresql.folder}"]
    assert "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH" in said["missing"][name]
    assert "deleted and hidden files stay unknown" in said["missing"][name]


def test_with_the_two_rights_it_asks_for_and_no_other_it_sees_all(postgresql: Server) -> None:
    """What the installation page says to grant is enough, and both are needed."""
    said = look_as_nobody(
        f"--inh-caps=-all,{RIGHTS}", f"--ambient-caps={RIGHTS}", f"--bounding-set=-all,{RIGHTS}"
    )

    name = f"postgresql:{postgresql.folder}"
    facts = {each["name"]: each["facts"] for each in said["resources"]}
    assert name not in said["missing"]
    assert facts[name]["state_paths_unresolved"] == 0
    assert facts[f"{name}:{postgresql.folder}/pg_wal"]["volatile"] is True
    assert facts[f"{name}:{postgresql.folder}"]["shadowed"] is False


def test_a_path_on_a_dead_filesystem_is_an_answer_and_not_the_probes_end(tmp_path: Path) -> None:
    """XFS that shut down lets names be opened and says EIO to all else; other services' paths are still wanted."""
    available("xfs")
    with LoopDisk(tmp_path, "xfs") as disk:
        folder = disk.mountpoint / "db"
        folder.mkdir()
        (folder / "my.cnf").write_text("[mysqld]\n")
        open_before = len(os.listdir("/proc/self/fd"))
        with InsideRoot(Path("/"), {}) as root:
            alive = root.place(str(folder))
            disk.shut_down()
            place = root.place(str(folder / "data"))
            read = (root.text(str(folder / "my.cnf")), root.names(str(folder)))
        open_after = len(os.listdir("/proc/self/fd"))

    assert alive.error == ""
    assert (place.exists, place.error, place.mount_id) == (False, "Input/output error", alive.mount_id)
    assert read == (None, None)
    assert open_after == open_before
