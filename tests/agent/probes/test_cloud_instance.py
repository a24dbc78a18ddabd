"""Which instance the cloud says a machine is, asked of real servers on loopback that speak as the clouds document."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_agent.probe import NoData, ProbeContext
from holdfast_agent.probes.cloud_instance_linux import CloudInstance, CloudInstanceRaw
from holdfast_agent.probes.media_raw import PlatformRaw
from holdfast_agent.probes.medium_cloud import AZURE_ASSET_TAG
from holdfast_wire.message import Value
from tests.agent.probes.recordings import recorded

AZURE = "02aab8a4-74ef-476e-8182-f6d2ba4166a6"
AMAZON = "i-0abc1234def567890"
GOOGLE = "4520031799277581759"
TOKEN = "AQAEAKrU-7xTZ=="
FIRMWARE = {
    "Azure": {"chassis_asset_tag": AZURE_ASSET_TAG},
    "Amazon": {"sys_vendor": "Amazon EC2"},
    "Google": {"sys_vendor": "Google"},
}


class Clouds:
    """The three metadata services; each refuses whoever does not ask as its cloud demands."""

    def __init__(self) -> None:
        self.address = ("127.0.0.1", 0)
        self.status = 200
        self.ids = {"Azure": AZURE, "Amazon": AMAZON, "Google": GOOGLE}
        self.asked: list[str] = []

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        """What is documented: status and text."""
        match method, path:
            case "GET", "/metadata/instance/compute/vmId?api-version=2021-02-01&format=text":
                return (self.status, self.ids["Azure"]) if headers.get("metadata") == "true" else (400, "")
            case "PUT", "/latest/api/token":
                return (200, TOKEN) if "x-aws-ec2-metadata-token-ttl-seconds" in headers else (400, "")
            case "GET", "/latest/meta-data/instance-id":
                right = headers.get("x-aws-ec2-metadata-token") == TOKEN
                return (self.status, self.ids["Amazon"]) if right else (401, "")
            case "GET", "/computeMetadata/v1/instance/id":
                right = headers.get("metadata-flavor") == "Google"
                return (self.status, self.ids["Google"]) if right else (403, "")
            case _:
                return 404, ""


@pytest.fixture
def clouds() -> Iterator[Clouds]:
    services = Clouds()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            services.asked.append(f"{self.command} {self.path}")
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, text = services.answer(self.command, self.path, headers)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_PUT = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            """Nobody reads it."""

    with http.server.ThreadingHTTPServer(services.address, Handler) as server:
        services.address = ("127.0.0.1", server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with contextlib.ExitStack() as held:
            held.callback(thread.join)
            held.callback(server.shutdown)
            yield services


class Disk:
    """What outlives the agent: its notes, on a disk that may be copied."""

    def __init__(self) -> None:
        self.notes: dict[str, bytes] = {}

    def load(self, name: str) -> bytes | None:
        return self.notes.get(name)

    def store(self, name: str, note: bytes) -> None:
        self.notes[name] = note


def machine(folder: Path, cloud: str, **more: str) -> Path:
    dmi = folder / cloud / "class" / "dmi" / "id"
    dmi.mkdir(parents=True, exist_ok=True)
    for name, text in (FIRMWARE.get(cloud, {}) | more).items():
        (dmi / name).write_text(text + "\n")
    return folder / cloud


def started(sysfs: Path, clouds: Clouds, disk: Disk, boot_id: str, now: list[float]) -> CloudInstance:
    """The agent's probe after a start in a boot."""
    probe = CloudInstance(
        ProbeContext(node="n", sysfs=sysfs, cursors=disk, boot_id=boot_id, boot_clock=lambda: now[0])
    )
    probe.metadata = clouds.address
    return probe


def seen(raw: CloudInstanceRaw) -> dict[str, Value]:
    observation = CloudInstance(ProbeContext(node="n")).interpret(raw)
    facts = [resource.facts for resource in observation.resources]
    return facts[0] if facts else {"missing": observation.missing["cloud_instance_changed"]}


@pytest.mark.parametrize(("cloud", "said"), [("Azure", AZURE), ("Amazon", AMAZON), ("Google", GOOGLE)])
def test_each_cloud_is_asked_in_its_own_way(cloud: str, said: str, clouds: Clouds, tmp_path: Path) -> None:
    """Wrong headers, or an old session, are refused by the real services, too."""
    probe = started(machine(tmp_path, cloud), clouds, Disk(), "b1", [0.0])

    assert seen(probe.read()) == {
        "cloud_instance_id": said,
        "cloud_instance_changed": False,
        "cloud_instance_before": "",
    }


def test_nitro_says_it_on_the_board_so_nobody_is_asked(clouds: Clouds, tmp_path: Path) -> None:
    probe = started(machine(tmp_path, "Amazon", board_asset_tag="i-0123456789"), clouds, Disk(), "b1", [0.0])

    assert (probe.read().instance_id, clouds.asked) == ("i-0123456789", [])


def test_another_instance_after_a_boot_is_a_change_until_the_next_boot(
    clouds: Clouds, tmp_path: Path
) -> None:
    """The note comes along with a copied disk. A restart of the agent does not make the change forgotten."""
    sysfs, disk, other = machine(tmp_path, "Azure"), Disk(), "13f56399-bd52-4150-9748-7190aae1ff21"
    heard = []
    for boot, said in (("b1", AZURE), ("b2", AZURE), ("b3", other), ("b3", other), ("b4", other)):
        clouds.ids["Azure"] = said
        facts = seen(started(sysfs, clouds, disk, boot, [0.0]).read())
        heard.append((boot, facts["cloud_instance_changed"], facts["cloud_instance_before"]))

    assert heard == [
        ("b1", False, ""),
        ("b2", False, ""),
        ("b3", True, f"Azure {AZURE}"),
        ("b3", True, f"Azure {AZURE}"),
        ("b4", False, ""),
    ]


def test_a_copy_of_the_running_machine_is_seen_within_an_hour(clouds: Clouds, tmp_path: Path) -> None:
    now = [0.0]
    probe = started(machine(tmp_path, "Google"), clouds, Disk(), "b1", now)
    heard = []
    for at, said in ((0.0, GOOGLE), (300.0, "77"), (3600.0, "77")):
        now[0] = at
        clouds.ids["Google"] = said
        raw = probe.read()
        heard.append((raw.instance_id, raw.before))

    assert heard == [(GOOGLE, ""), (GOOGLE, ""), ("77", f"Google {GOOGLE}")]


@pytest.mark.parametrize("cloud", ["Azure", "Amazon", "Google"])
@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_a_service_that_refuses_is_unknown_and_no_change(
    cloud: str, status: int, clouds: Clouds, tmp_path: Path
) -> None:
    """Throttled is not made anew: what the note says stands until there is an answer again."""
    sysfs, disk, now = machine(tmp_path, cloud), Disk(), [0.0]
    started(sysfs, clouds, disk, "b1", now).read()
    kept = dict(disk.notes)
    clouds.status = status
    probe = started(sysfs, clouds, disk, "b2", now)
    refused = probe.read()
    clouds.status, now[0] = 200, 300.0

    assert f"answers {status}" in str(seen(refused)["missing"])
    assert disk.notes == kept
    assert seen(probe.read())["cloud_instance_changed"] is False


def test_what_was_said_before_stands_while_the_service_is_silent(clouds: Clouds, tmp_path: Path) -> None:
    now = [0.0]
    probe = started(machine(tmp_path, "Azure"), clouds, Disk(), "b1", now)
    probe.read()
    now[0], clouds.status = 4000.0, 503

    assert seen(probe.read())["cloud_instance_id"] == AZURE


@pytest.mark.parametrize("answer", ["", "<html>login</html>", "i-xyz", "\xff", "none"])
@pytest.mark.parametrize("cloud", ["Azure", "Amazon", "Google"])
def test_another_answer_is_no_answer(cloud: str, answer: str, clouds: Clouds, tmp_path: Path) -> None:
    """A portal or a proxy on that address is no instance."""
    clouds.ids[cloud] = answer
    disk = Disk()
    raw = started(machine(tmp_path, cloud), clouds, disk, "b1", [0.0]).read()

    assert "answers something else" in str(seen(raw)["missing"])
    assert disk.notes == {}


def test_outside_the_clouds_nobody_is_asked(clouds: Clouds, tmp_path: Path) -> None:
    raw = started(machine(tmp_path, "elsewhere"), clouds, Disk(), "b1", [0.0]).read()

    with pytest.raises(NoData, match="no cloud"):
        seen(raw)
    assert clouds.asked == []


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("azure", {"cloud_instance_id": AZURE, "cloud_instance_changed": False, "cloud_instance_before": ""}),
        (
            "azure-made-anew",
            {
                "cloud_instance_id": AZURE,
                "cloud_instance_changed": True,
                "cloud_instance_before": "Azure 13f56399-bd52-4150-9748-7190aae1ff21",
            },
        ),
        ("ec2-throttled", {"missing": "the instance metadata service answers 503 Service Unavailable"}),
        (
            "google",
            {"cloud_instance_id": GOOGLE, "cloud_instance_changed": False, "cloud_instance_before": ""},
        ),
    ],
)
def test_recorded_machines_say_which_they_are(name: str, facts: dict[str, Value]) -> None:
    assert seen(recorded(CloudInstance, name)) == facts


def test_a_cloud_that_never_answered_is_unknown() -> None:
    raw = CloudInstanceRaw(platform=PlatformRaw(vendor="Google"))

    assert "does not say" in str(seen(raw)["missing"])
