"""Real databases on this machine for tests: started as processes of their own, below one folder, on loopback or sockets.

    with Databases() as databases:
        server = databases.postgresql(wal=databases.memory("wal"))
        ...

Every server belongs to the block that started it, by pid. The folder lies in /tmp, open to the accounts the servers run
as. Packages: postgresql, mariadb-server, redis-server, etcd-server, eatmydata.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests import needs
from tests.ports import free_port, listening
from tests.rigs.loop_disk import run
from tests.waiting import wait_for


class Server(NamedTuple):
    """One running server."""

    pid: int
    folder: Path
    """Its data directory."""
    socket: Path


class Databases:
    """A folder, and the servers in it, until the block ends. Needs root: a server runs as its own account."""

    def __init__(self) -> None:
        self._redises = 0
        needs.root()
        self._held = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="holdfast-databases-"))
        self.folder.chmod(0o755)
        self._held.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def memory(self, name: str) -> Path:
        """A folder that is a filesystem in memory."""
        return self.mount(self.folder / name, "-t", "tmpfs", "-o", "size=64M,mode=755", "tmpfs")

    def mount(self, place: Path, *how: str) -> Path:
        """Mount something for as long as the block lasts."""
        place.mkdir(exist_ok=True)
        run("mount", *how, str(place))
        self._held.callback(run, "umount", "--lazy", str(place), check=False)
        return place

    def owned(self, path: Path, account: str) -> Path:
        """A folder that belongs to an account."""
        path.mkdir(exist_ok=True, parents=True)
        shutil.chown(path, account, account)
        return path

    def postgresql(self, *, wal: Path, tablespace: Path, environment: dict[str, str] | None = None) -> Server:
        """PostgreSQL with its log of changes and one tablespace elsewhere."""
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        needs.condition(bool(programs), "postgresql is not installed; apt install postgresql")
        needs.tool("psql", package="postgresql")
        program = programs[-1]
        data = self.owned(self.folder / "pg", "postgres") / "data"
        self.owned(wal, "postgres")
        self.owned(tablespace, "postgres")
        as_user = self._as("postgres")
        # Not synced: this is a test of where it is, and a power cut ends the test too.
        run(
            *as_user,
            str(program / "initdb"),
            "-D",
            str(data),
            "-X",
            str(wal),
            "-A",
            "trust",
            "-U",
            "postgres",
            "-N",
        )
        command = [
            *as_user, str(program / "postgres"), "-D", str(data),
            "-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder / 'pg'}",
        ]  # fmt: skip
        psql = [*as_user, "psql", "-h", str(self.folder / "pg"), "-U", "postgres", "-qtAc"]
        server = self._start(
            command, data, self.folder / "pg" / ".s.PGSQL.5432",
            lambda: run(*psql, "select 1", check=False).strip() == "1", environment,
        )  # fmt: skip
        run(*psql, f"create tablespace elsewhere location '{tablespace}'")
        return server

    def mariadb(self, *, binlog: Path) -> Server:
        """MariaDB whose option file includes a folder, in which the binary log's place is set."""
        daemon = needs.tool("mariadbd", package="mariadb-server")
        install = needs.tool("mariadb-install-db", package="mariadb-server")
        home = self.owned(self.folder / "my", "mysql")
        data = home / "data"
        self.owned(binlog, "mysql")
        as_user = self._as("mysql")
        (home / "conf.d").mkdir()
        (home / "conf.d" / "log.cnf").write_text(f"[mariadb]\nlog-bin = {binlog}/changes\n")
        (home / "my.cnf").write_text(
            f"[client]\ndatadir = /nowhere\n[mysqld]\ndatadir = {data}\nskip-networking\n"
            f"tmpdir = {home}\n!includedir {home}/conf.d\n"
        )
        run(*as_user, install, f"--defaults-file={home}/my.cnf", "--skip-test-db", "--skip-name-resolve")
        command = [
            *as_user,
            daemon,
            f"--defaults-file={home}/my.cnf",
            f"--socket={home}/s",
            f"--pid-file={home}/pid",
        ]
        return self._start(command, data, home / "s", (home / "s").is_socket)

    def redis(self, folder: Path, *more: str, configuration: str = "") -> Server:
        """Redis by a configuration file; it writes a title over its command line."""
        daemon = needs.tool("redis-server", package="redis-server")
        folder.mkdir(exist_ok=True)
        self._redises += 1
        place = self.folder / f"{self._redises}.sock"
        file = self.folder / f"{self._redises}.conf"
        file.write_text(f"port 0\nunixsocket {place}\ndir {folder}\n{configuration}")
        return self._start(
            [*more, daemon, str(file)], folder, place, lambda: say(place, "PING") == b"+PONG\r\n"
        )

    def etcd(self, folder: Path, *more: str) -> Server:
        """etcd on two loopback ports."""
        daemon = needs.tool("etcd", package="etcd-server")
        client, peer = free_port(), free_port()
        url = f"http://127.0.0.1:{client}"
        command = [
            daemon, "--data-dir", str(folder), "--listen-client-urls", url, "--advertise-client-urls", url,
            "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls",
            f"http://127.0.0.1:{peer}", "--initial-cluster", f"default=http://127.0.0.1:{peer}", *more,
        ]  # fmt: skip
        return self._start(command, folder, Path(), lambda: listening(client))

    def process(self, *command: str, ready: Callable[[], bool], folder: Path) -> Server:
        """Any process."""
        return self._start(list(command), folder, Path(), ready)

    def _as(self, account: str) -> list[str]:
        tool = needs.tool("setpriv", package="util-linux")
        return [tool, f"--reuid={account}", f"--regid={account}", "--clear-groups"]

    def _start(
        self,
        command: list[str],
        folder: Path,
        socket: Path,
        ready: Callable[[], bool],
        environment: dict[str, str] | None = None,
    ) -> Server:
        log = (self.folder / "log").open("ab")
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
            env={"PATH": os.defpath, "LC_ALL": "C", **(environment or {})},
        )  # fmt: skip
        log.close()
        self._held.callback(_end, child)

        def up() -> bool:
            assert child.poll() is None, self._said()
            return ready()

        wait_for(up, what=self._said)
        return Server(child.pid, folder, socket)

    def _said(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]


def say(place: Path, words: str) -> bytes:
    """One command to Redis over its socket, and the answer; empty while it does not listen, or begins to."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(place))
            connection.sendall(f"{words}\r\n".encode())
            return connection.recv(1000)
        except OSError:
            return b""


def _end(child: subprocess.Popen[bytes]) -> None:
    """At once: nothing in there is needed any more. PostgreSQL's children see their parent's end by themselves."""
    child.send_signal(signal.SIGQUIT)
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
