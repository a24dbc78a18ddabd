"""What Azure's metadata service says of the disks, asked of a real server on loopback."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from holdfast_agent.probe import ProbeContext
from holdfast_agent.probes.azure_storage import (
    AzureDisk,
    AzureStorage,
    ask_storage_profile,
    parse_storage_profile,
)
from holdfast_agent.probes.devices_linux import Devices
from holdfast_agent.probes.medium_cloud import AZURE_ASSET_TAG

PROFILE = b"""{
 "dataDisks": [
  {"bytesPerSecondThrottle": "979202048", "caching": "None", "createOption": "Empty", "diskSizeGB": "1024",
   "image": {"uri": ""}, "isSharedDisk": "false", "isUltraDisk": "true", "lun": "3",
   "managedDisk": {"id": "/subscriptions/x/disks/d", "storageAccountType": "Premium_ZRS"}, "name": "d",
   "vhd": {"uri": ""}, "writeAcceleratorEnabled": "false"}],
 "imageReference": {"id": "", "offer": "UbuntuServer"},
 "osDisk": {"caching": "ReadWrite", "createOption": "FromImage", "diffDiskSettings": {"option": ""},
  "diskSizeGB": "30", "encryptionSettings": {"enabled": "false"}, "image": {"uri": ""},
  "managedDisk": {"id": "/subscriptions/x/disks/o", "storageAccountType": "Standard_LRS"}, "name": "o",
  "osType": "Linux", "vhd": {"uri": ""}, "writeAcceleratorEnabled": "false"},
 "resourceDisk": {"size": "4096"}
}"""
"""The shape of Azure's own example (instance-metadata-service.md)."""
STORAGE = AzureStorage(
    os=AzureDisk(caching="ReadWrite", account_type="Standard_LRS", ephemeral=False),
    data={"3": AzureDisk(caching="None", account_type="Premium_ZRS")},
)


class Service:
    """The metadata service as far as one path goes; it refuses whoever does not say `Metadata: true`."""

    def __init__(self) -> None:
        self.status = 200
        self.answer = PROFILE
        self.asked = 0
        self.address = ("127.0.0.1", 0)


@contextlib.contextmanager
def serving(path: str = "/metadata/instance/compute/storageProfile?api-version=") -> Iterator[Service]:
    service = Service()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            service.asked += 1
            right = self.headers["Metadata"] == "true" and self.path.startswith(path)
            self.send_response(service.status if right else 400)
            self.send_header("Content-Length", str(len(service.answer)))
            self.end_headers()
            self.wfile.write(service.answer)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nobody reads it."""

    with http.server.ThreadingHTTPServer(service.address, Handler) as server:
        service.address = ("127.0.0.1", server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()


def test_the_profile_tells_ephemeral_redundant_and_cached() -> None:
    ephemeral = PROFILE.replace(b'"option": ""', b'"option": "Local"')

    assert parse_storage_profile(PROFILE) == STORAGE
    assert parse_storage_profile(ephemeral).os.ephemeral is True


def test_a_profile_that_does_not_say_ephemeral_or_not_says_nothing() -> None:
    """No data is never health: an older answer without the setting is not a managed disk."""
    assert parse_storage_profile(b'{"osDisk": {"caching": "ReadOnly"}}').os.ephemeral is None


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b'{"osDisk": 3}', b'{"dataDisks": []}', b"\xff"])
def test_another_answer_is_no_answer(answer: bytes) -> None:
    with serving() as service:
        service.answer = answer
        found, why = ask_storage_profile(service.address)

    assert found is None
    assert why.startswith("the instance metadata service answers something else: ")


def test_the_service_is_asked_as_azure_wants_it() -> None:
    with serving() as service:
        found = ask_storage_profile(service.address)

    assert found == (STORAGE, "")


def test_a_service_that_refuses_or_is_not_there_says_why() -> None:
    with serving() as service:
        service.status = 429
        refused = ask_storage_profile(service.address)
    gone = ask_storage_profile(service.address)

    assert refused == (None, "the instance metadata service answers 429 Too Many Requests")
    assert gone[0] is None
    assert "Connection refused" in gone[1]


def test_the_probe_asks_rarely_and_keeps_what_it_heard_when_the_service_is_throttled(tmp_path: Path) -> None:
    """A throttled service must not turn a known disk into an unknown one."""
    (tmp_path / "class" / "block").mkdir(parents=True)
    (tmp_path / "class" / "dmi" / "id").mkdir(parents=True)
    (tmp_path / "class" / "dmi" / "id" / "chassis_asset_tag").write_text(AZURE_ASSET_TAG + "\n")
    now = [0.0]
    heard = []
    with serving() as service:
        probe = Devices(ProbeContext(node="n", sysfs=tmp_path, boot_clock=lambda: now[0]))
        probe.azure_metadata = service.address
        for now[0], service.status in ((0.0, 200), (60.0, 200), (3600.0, 503), (3660.0, 200), (4200.0, 200)):
            raw = probe.read()
            heard.append((service.asked, raw.platform.azure == STORAGE, bool(raw.azure_unreadable)))

    assert heard == [(1, True, False), (1, True, False), (2, True, True), (2, True, True), (3, True, False)]


def test_nobody_is_asked_outside_azure(tmp_path: Path) -> None:
    (tmp_path / "class" / "block").mkdir(parents=True)
    with serving() as service:
        probe = Devices(ProbeContext(node="n", sysfs=tmp_path))
        probe.azure_metadata = service.address
        raw = probe.read()

    assert (service.asked, raw.platform.azure) == (0, None)
    assert msgspec.json.decode(msgspec.json.encode(raw), type=type(raw)) == raw
