"""On which host a machine runs, from the pool that a Hyper-V host fills."""

import json
import os
import time
from pathlib import Path

import pytest

from holdfast_agent.probe import boot_clock
from holdfast_agent.witness.host_linux import POOL, host_digest
from holdfast_agent.witness.identity_linux import machine
from holdfast_agent.witness.kvp_pool import host_name, parse_pool, written_in_this_boot

PAIRS: dict[str, str] = json.loads(Path(__file__).with_name("hyperv_pool.json").read_text())["pool"]


def packed(pairs: dict[str, str]) -> bytes:
    return b"".join(
        key.encode().ljust(512, b"\0") + value.encode().ljust(2048, b"\0") for key, value in pairs.items()
    )


def put(rootfs: Path, pairs: dict[str, str]) -> Path:
    (rootfs / POOL).parent.mkdir(parents=True, exist_ok=True)
    (rootfs / POOL).write_bytes(packed(pairs))
    return rootfs


def test_pool_is_read_record_by_record() -> None:
    assert parse_pool(packed(PAIRS)) == PAIRS
    assert host_name(PAIRS) == "sn4aa0123456789.example.net"


def test_half_a_record_at_the_end_and_garbage_say_nothing() -> None:
    """The daemon writes the file anew at each change; a reader may meet it half written."""
    assert parse_pool(packed(PAIRS)[:-1]) == {k: v for k, v in PAIRS.items() if k != "VirtualMachineName"}
    assert host_name(parse_pool(b"\xff" * 5120)) == ""
    assert host_name({}) == ""


@pytest.mark.parametrize("missing", [1, 2])
def test_host_is_named_by_what_there_is(missing: int) -> None:
    names = ("PhysicalHostNameFullyQualified", "PhysicalHostName")[:missing]

    assert host_name({k: v for k, v in PAIRS.items() if k not in names}) == "sn4aa0123456789"


@pytest.mark.parametrize(
    ("written_at", "answer"),
    [(1000.0, True), (401.0, True), (399.0, False), (1001.0, False)],
    ids=["now", "just after the boot", "before the boot", "in the future"],
)
def test_what_an_earlier_boot_left_names_no_host(written_at: float, answer: bool) -> None:
    """The file outlives the boot: until the new host has spoken it names the old one."""
    assert written_in_this_boot(written_at, wall=1000.0, uptime=600.0) is answer


def test_another_host_has_another_digest_and_no_name_leaves_the_machine(tmp_path: Path) -> None:
    first = machine(put(tmp_path, PAIRS), tmp_path).host
    again = host_digest(tmp_path)
    other = host_digest(put(tmp_path, PAIRS | {"PhysicalHostNameFullyQualified": "SN4AA9.example.net"}))

    assert (first == again, first == other, len(first)) == (True, False, 32)
    assert set(first) <= set("0123456789abcdef")


def test_pool_of_the_boot_before_and_no_pool_tell_nothing(tmp_path: Path) -> None:
    absent = host_digest(tmp_path)
    put(tmp_path, PAIRS)
    before = time.time() - boot_clock() - 60
    os.utime(tmp_path / POOL, (before, before))

    assert (absent, host_digest(tmp_path)) == ("", "")
