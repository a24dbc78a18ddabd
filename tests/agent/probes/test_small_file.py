"""Small files are read whole, however the kernel hands them out."""

import os
import threading
from pathlib import Path

import pytest

from holdfast_agent.probes.small_file import read_small


def test_file_that_comes_in_parts_is_read_to_its_end(tmp_path: Path) -> None:
    """A list of mounts on a large machine takes several reads, each of them short."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    parts = [b"first\n", b"second\n" * 20_000, b"last"]

    def write() -> None:
        with pipe.open("wb", buffering=0) as file:
            for part in parts:
                file.write(part)

    writer = threading.Thread(target=write)
    writer.start()
    text = read_small(pipe)
    writer.join()

    assert text == b"".join(parts).decode()


def test_bytes_that_are_no_utf_8_are_replaced(tmp_path: Path) -> None:
    """A serial number may hold anything."""
    (tmp_path / "serial").write_bytes(b"S\xff1")

    assert read_small(tmp_path / "serial") == "S\ufffd1"


def test_file_that_is_not_there_raises(tmp_path: Path) -> None:
    """What it means that it is missing, the probe knows."""
    with pytest.raises(FileNotFoundError):
        read_small(tmp_path / "nothing")
