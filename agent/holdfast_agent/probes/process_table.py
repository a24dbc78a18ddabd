"""The processes of this machine: the only file that knows psutil.

psutil reads command lines, environments and working directories alike on every system. Two things it offers are not
used here. Its list of open files leaves out every file it cannot stat by name from the agent's own mount namespace: the
deleted, the hidden and those of containers, which are the ones that matter. Its memory maps are those of smaps, for
which the kernel walks all pages of a database's shared memory with its address space locked. `open_files_linux` reads both from /proc.
"""

from collections.abc import Mapping

import psutil
from msgspec import Struct

PROCESSES_MAX = 4000
_VARIABLES = frozenset(
    {
        "ES_PATH_CONF", "HOME", "LD_PRELOAD", "MYSQL_HOME", "OPENSEARCH_PATH_CONF", "PGDATA", "TMPDIR",
        "RABBITMQ_LOG_BASE", "RABBITMQ_MNESIA_BASE", "RABBITMQ_MNESIA_DIR", "ETCD_CONFIG_FILE", "ETCD_DATA_DIR",
        "ETCD_NAME", "ETCD_WAL_DIR",
    }
)  # fmt: skip
"""All that is kept of an environment; the rest may be secret."""


class Process(Struct, frozen=True, kw_only=True):
    """One process."""

    pid: int
    parent: int
    arguments: tuple[str, ...]


class Surroundings(Struct, frozen=True, kw_only=True):
    """What takes more rights to read than a command line."""

    environment: Mapping[str, str]
    directory: str
    denied: bool


def processes() -> tuple[list[Process], int]:
    """All processes with a command line (kernel threads have none), by pid; and how many were left out for their number."""
    found = []
    for each in psutil.process_iter(["pid", "ppid", "cmdline"]):
        arguments = each.info["cmdline"]
        if arguments:
            found.append(
                Process(pid=each.info["pid"], parent=each.info["ppid"] or 0, arguments=tuple(arguments))
            )
    found.sort(key=lambda process: process.pid)
    return found[:PROCESSES_MAX], max(len(found) - PROCESSES_MAX, 0)


def surroundings(pid: int) -> Surroundings:
    """Environment and working directory; empty where the process is gone or they may not be read."""
    environment: dict[str, str] = {}
    directory, denied = "", False
    try:
        process = psutil.Process(pid)
        environment = {key: value for key, value in process.environ().items() if key in _VARIABLES}
    except psutil.AccessDenied:
        denied = True
    except (psutil.Error, OSError):
        return Surroundings(environment={}, directory="", denied=False)
    try:
        directory = process.cwd()
    except psutil.AccessDenied:
        denied = True
    except (psutil.Error, OSError):
        pass
    return Surroundings(environment=environment, directory=directory, denied=denied)
