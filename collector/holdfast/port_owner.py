"""Who listens on a TCP port of this machine, so that an error can name it."""

import os
import sys
from pathlib import Path

_LISTEN = "0A"
"""TCP_LISTEN in /proc/net/tcp (include/net/tcp_states.h)."""


def port_owner(port: int, proc: Path = Path("/proc")) -> str:
    """`nginx, pid 812`; empty when it cannot be told: another user's process, or no Linux."""
    if sys.platform != "linux":
        return ""
    inodes = _listening_inodes(port, proc)
    for entry in proc.glob("[0-9]*"):
        for file in _files(entry):
            if file in inodes:
                return f"{_name(entry)}, pid {entry.name}"
    return ""


def _listening_inodes(port: int, proc: Path) -> set[str]:
    """`socket:[12345]` for every socket that listens on the port. Columns: proc_pid_net(5), `/proc/net/tcp`."""
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{columns[9]}]")
    return found


def _files(entry: Path) -> list[str]:
    """What the process's file descriptors point to; nothing when it is not ours to look at, or gone."""
    links = []
    try:
        descriptors = os.listdir(entry / "fd")
    except OSError:
        return []
    for descriptor in descriptors:
        try:
            links.append(os.readlink(entry / "fd" / descriptor))
        except OSError:
            continue
    return links


def _name(entry: Path) -> str:
    try:
        return (entry / "comm").read_text().strip()
    except OSError:
        return "a process"
