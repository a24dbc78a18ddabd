"""Which broker `holdfast up` runs: mosquitto when it is installed, else the one that comes with holdfast."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/opt/homebrew/sbin")
"""Where daemons are installed, and which is not on every user's PATH."""
VERSION_SECONDS_MAX = 5.0

_MOSQUITTO = """\
# Written by `holdfast up`, for itself: loopback only, and nothing outlives the broker. Who wants a broker for several
# machines starts from systemd/mosquitto/holdfast.conf instead.
{user}listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
max_queued_bytes 67108864
max_inflight_messages 2000
max_packet_size 263168
retain_available false
log_dest stdout
"""


class NoBroker(Exception):
    """The wanted broker is not installed; the text says what to do."""


class ChosenBroker(Struct, frozen=True, kw_only=True):
    """A broker that can be run."""

    title: str
    """Name and version, for people."""
    limits: str
    """What it is not good for; empty when there is nothing to say."""
    command: Callable[[int, Path], Sequence[str]]
    """(port, folder for its configuration) → what to run. Writes the configuration."""


def choose(wanted: str) -> ChosenBroker:
    """`auto`, `mosquitto` or `embedded`. Raises NoBroker."""
    program = find_mosquitto()
    if wanted != "embedded" and program is not None:
        return _mosquitto(program)
    if wanted == "mosquitto":
        raise NoBroker("mosquitto is not installed; on Debian or Ubuntu: apt install mosquitto")
    if importlib.util.find_spec("amqtt") is None:
        raise NoBroker(
            "there is no broker: install mosquitto (on Debian or Ubuntu: apt install mosquitto), "
            "or the embedded one: pip install 'holdfast[broker]'"
        )
    return _embedded()


def find_mosquitto() -> str | None:
    """The program's path, or None."""
    return shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_SBIN]))


def _mosquitto(program: str) -> ChosenBroker:
    def command(port: int, folder: Path) -> list[str]:
        # Started by root it would become the user mosquitto, who cannot read the folder.
        root = sys.platform != "win32" and os.geteuid() == 0
        path = folder / "mosquitto.conf"
        path.write_text(_MOSQUITTO.format(port=port, user="user root\n" if root else ""), encoding="utf-8")
        return [program, "-c", str(path)]

    return ChosenBroker(title=f"mosquitto {_version(program)}".strip(), limits="", command=command)


def _version(program: str) -> str:
    """`mosquitto -h` begins with `mosquitto version 2.0.11`; empty when it says something else."""
    try:
        said = subprocess.run(
            [program, "-h"], capture_output=True, text=True, timeout=VERSION_SECONDS_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"mosquitto version (\S+)", said.stdout)
    return found[1] if found else ""


def _embedded() -> ChosenBroker:
    return ChosenBroker(
        title="the embedded broker (amqtt), because mosquitto is not installed"
        if find_mosquitto() is None
        else "the embedded broker (amqtt)",
        limits="good for trying, not for measuring: MQTT 3.1.1 only, and a small fleet is its limit",
        command=lambda port, folder: [sys.executable, "-m", "holdfast.broker_embedded", str(port)],
    )
