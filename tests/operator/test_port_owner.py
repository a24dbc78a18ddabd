"""Naming who has a port: by the kernel's tables, or not at all."""

import os
import socket
import sys
from pathlib import Path

import pytest

from holdfast.port_owner import port_owner
from tests.ports import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_listener_of_ours_is_named(family: socket.AddressFamily) -> None:
    with socket.socket(family) as listener:
        listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        listener.listen()
        found = port_owner(listener.getsockname()[1])

    name = Path("/proc/self/comm").read_text().strip()
    assert found == f"{name}, pid {os.getpid()}"


def test_a_connection_is_no_listener_and_a_free_port_has_no_owner() -> None:
    assert port_owner(free_port()) == ""


def test_what_may_not_be_looked_at_is_not_guessed(tmp_path: Path) -> None:
    """Another user's process: its socket is in the table, its descriptors are closed to us."""
    (tmp_path / "net").mkdir()
    row = "  0: 0100007F:2620 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 4711 1 0"
    (tmp_path / "net" / "tcp").write_text(f"header\n{row}\n")
    (tmp_path / "812").mkdir()

    assert port_owner(0x2620, tmp_path) == ""
