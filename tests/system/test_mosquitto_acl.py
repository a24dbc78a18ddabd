"""The mosquitto configuration we ship, in a real mosquitto: what each identity can do, and what it cannot.

Certificates come from `certificate.sh` as an operator would make them; identities that script refuses to sign come
from trustme with the same authority's place in the broker's configuration.
"""

import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import paho.mqtt.client as paho
import pytest
import trustme
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from holdfast_wire import topic
from holdfast_wire.codec import MESSAGE_BYTES_MAX
from tests import needs
from tests.broker import Broker
from tests.waiting import wait_for

pytestmark = pytest.mark.system

SHIPPED = Path(__file__).parents[2] / "systemd" / "mosquitto"
COLLECTOR = "holdfast-collector"
SUCCESS, NOT_AUTHORIZED, NOBODY_LISTENS = 0x00, 0x87, 0x10


class Client:
    """A connection as somebody, with everything the broker answered. Use in a `with`."""

    def __init__(self, site: "Site", identity: str, *, client_id: str = "", will: str = "") -> None:
        self.received: list[tuple[str, bytes]] = []
        self.answers: dict[int, int] = {}
        self.connected: int | None = None
        self.lost = threading.Event()
        self.subscribed: list[int] = []
        # mosquitto 2.0.11 hangs up after it has refused an MQTT 5 publish; a silent reconnect would hide that.
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        self._client.tls_set_context(site.context(identity))
        self._client.on_connect = self._on_connect
        self._client.on_message = lambda *said: self.received.append((said[2].topic, said[2].payload))
        self._client.on_publish = lambda *said: self.answers.__setitem__(said[2], said[3].value)
        self._client.on_subscribe = lambda *said: self.subscribed.append(said[2])
        self._client.on_disconnect = lambda *said: self.lost.set()
        if will:
            self._client.will_set(will, b"forged will", qos=1)
        self._port = site.broker.port

    def _on_connect(self, *said: object) -> None:
        code = said[3]
        assert isinstance(code, ReasonCode)
        self.connected = code.value

    def __enter__(self) -> Self:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no annotation here
        properties.SessionExpiryInterval = 0
        self._client.connect("127.0.0.1", self._port, clean_start=False, properties=properties)
        self._client.loop_start()
        wait_for(lambda: self.connected is not None or self.lost.is_set(), what="the broker's answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        # paho's thread ends by itself then; told to stop meanwhile it would take a second.
        self.lost.wait(timeout=5.0)
        self._client.loop_stop()

    def publish(self, to: str, payload: bytes = b"{}", *, retain: bool = False) -> int:
        """The broker's reason code for a QoS 1 publish."""
        number = self._client.publish(to, payload, qos=1, retain=retain).mid
        wait_for(lambda: number in self.answers, what=f"the answer to a publish to {to}")
        return self.answers[number]

    def try_publish(self, to: str, payload: bytes, *, retain: bool = False) -> None:
        """A publish that the broker may answer by cutting the connection."""
        self._client.publish(to, payload, qos=1, retain=retain)

    def subscribe(self, *filters: str) -> "Client":
        """The broker grants more than it delivers: that it was answered says nothing of rights."""
        _, number = self._client.subscribe([(name, 1) for name in filters])
        wait_for(lambda: number in self.subscribed, what=f"the answer to a subscription to {filters}")
        return self

    def die(self) -> None:
        """Cut the connection as a crash would: the broker sends the will."""
        connection = self._client.socket()
        assert connection is not None
        self._client.loop_stop()
        connection.close()


class Site:
    """A broker with the shipped configuration, and certificates for anybody."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.odd = trustme.CA()
        self.stranger = trustme.CA()
        for words in ("authority", "broker 127.0.0.1", "collector", "node node-a", "node node-b"):
            done = issue(folder, *words.split())
            assert done.returncode == 0, done.stderr
        trusted = (folder / "authority.crt").read_bytes() + self.odd.cert_pem.bytes()
        (folder / "trusted.crt").write_bytes(trusted)
        self.broker = Broker(folder, listener=[], lines=[])
        (folder / "mosquitto.conf").write_text(self._configuration(), encoding="utf-8")

    def _configuration(self) -> str:
        """The shipped file with nothing changed but places, and the odd identities' authority added."""
        own = (self.folder / "mosquitto.conf").read_text(encoding="utf-8")
        text = (SHIPPED / "holdfast.conf").read_text(encoding="utf-8")
        acl = self.folder / "holdfast.acl"
        acl.write_text((SHIPPED / "holdfast.acl").read_text(encoding="utf-8"), encoding="utf-8")
        acl.chmod(0o600)
        text = text.replace("/etc/mosquitto/holdfast.acl", str(acl))
        text = text.replace("/etc/mosquitto/certs/authority.crt", str(self.folder / "trusted.crt"))
        text = text.replace("/etc/mosquitto/certs/", f"{self.folder}/")
        text, listeners = re.subn(
            r"^listener 8883$", f"listener {self.broker.port} 127.0.0.1", text, flags=re.MULTILINE
        )
        assert listeners == 1
        return own + text

    def context(self, identity: str) -> ssl.SSLContext:
        """TLS as `identity`; `` is nobody, `stranger` signed itself a certificate for node-a."""
        context = ssl.create_default_context(cafile=str(self.folder / "authority.crt"))
        name = "collector" if identity == COLLECTOR else identity
        if (self.folder / f"{name}.crt").exists():
            context.load_cert_chain(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        elif identity == "stranger":
            self.stranger.issue_cert("node-a", common_name="node-a").configure_cert(context)
        elif identity:
            self.odd.issue_cert("odd.example", common_name=identity).configure_cert(context)
        return context

    def client(self, identity: str, *, client_id: str = "", will: str = "") -> Client:
        return Client(self, identity, client_id=client_id, will=will)


def issue(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SHIPPED / "certificate.sh"), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    needs.tool("openssl", package="openssl")
    site = Site(tmp_path_factory.mktemp("site"))
    site.broker.start()
    try:
        yield site
    finally:
        site.broker.stop()


@pytest.fixture
def collector(site: Site) -> Iterator[Client]:
    """The collector's identity with the collector's subscription."""
    with site.client(COLLECTOR) as client:
        yield client.subscribe(topic.UP_FILTER)


def heard(site: Site, collector: Client) -> list[tuple[str, bytes]]:
    """What the collector was sent up to now: everything before a marker that node-a sends after it."""
    with site.client("node-a") as client:
        assert client.publish(topic.up_topic("node-a"), b"marker") == SUCCESS
    wait_for(lambda: (topic.up_topic("node-a"), b"marker") in collector.received, what="the marker")
    said = [entry for entry in collector.received if entry[1] != b"marker"]
    collector.received.clear()
    return said


def test_every_node_reaches_the_collector_and_the_collector_every_node(site: Site, collector: Client) -> None:
    with site.client("node-a") as a, site.client("node-b") as b:
        a.subscribe(topic.down_topic("node-a"))
        b.subscribe(topic.down_topic("node-b"))
        answers = [
            a.publish(topic.up_topic("node-a"), b"from a"),
            b.publish(topic.up_topic("node-b"), b"from b"),
            collector.publish(topic.down_topic("node-a"), b"to a"),
            collector.publish(topic.down_topic("node-b"), b"to b"),
        ]
        wait_for(lambda: a.received and b.received, what="acknowledgements")
        downs = (a.received, b.received)

    assert answers == [SUCCESS] * 4
    assert sorted(heard(site, collector)) == [
        ("holdfast/v1/node-a/up", b"from a"),
        ("holdfast/v1/node-b/up", b"from b"),
    ]
    assert downs == (
        [("holdfast/v1/node-a/down", b"to a")],
        [("holdfast/v1/node-b/down", b"to b")],
    )


@pytest.mark.parametrize(
    "foreign",
    [
        "holdfast/v1/node-a/up",
        "holdfast/v1/node-a/down",
        "holdfast/v1/node-b/down",
        "holdfast/v1/node-b/up/more",
        "holdfast/v1/holdfast-collector/up",
        "holdfast/v2/node-b/up",
        "elsewhere",
    ],
)
def test_node_cannot_speak_on_a_foreign_topic(site: Site, collector: Client, foreign: str) -> None:
    """A node that could speak for another could declare it healthy, or lost."""
    with site.client("node-b") as intruder:
        answer = intruder.publish(foreign, b"forged")

    assert (answer, heard(site, collector)) == (NOT_AUTHORIZED, [])


def test_user_name_in_the_packet_is_ignored(site: Site, collector: Client) -> None:
    intruder = site.client("node-b")
    intruder._client.username_pw_set("node-a", "any")
    with intruder:
        answer = intruder.publish(topic.up_topic("node-a"), b"forged")

    assert (answer, heard(site, collector)) == (NOT_AUTHORIZED, [])


def test_foreign_client_id_does_not_throw_its_owner_off(site: Site) -> None:
    """By MQTT's rules the newer session with a client id ends the older one."""
    with site.client("node-a", client_id="node-a") as owner:
        with site.client("node-b", client_id="node-a") as intruder:
            stranger_works = intruder.publish(topic.up_topic("node-b"))
            owner_works = owner.publish(topic.up_topic("node-a"))

        assert (stranger_works, owner_works, owner.lost.is_set()) == (NOBODY_LISTENS, NOBODY_LISTENS, False)


def test_will_on_a_foreign_topic_is_never_delivered(site: Site, collector: Client) -> None:
    """mosquitto accepts such a CONNECT and checks the will when it is due. One's own will shows that it was due."""
    with site.client("node-b", will=topic.up_topic("node-a")) as forger:
        forger.die()
    with site.client("node-b", will=topic.up_topic("node-b")) as honest:
        honest.die()
    wait_for(lambda: collector.received, what="the honest will")

    assert heard(site, collector) == [("holdfast/v1/node-b/up", b"forged will")]


@pytest.mark.parametrize("identity", ["node-a/up", "node-a/", "/node-a", "+", "#", "node-a/+", "+/up"])
def test_identity_with_slash_or_wildcard_is_powerless(site: Site, collector: Client, identity: str) -> None:
    """Even if an authority signs one: nothing it says reaches the collector, nothing meant for others reaches it."""
    for said in ("holdfast/v1/node-a/up", "holdfast/v1/node-a/up/up", "holdfast/v1/node-a/down"):
        with site.client(identity) as forger:
            forger.publish(said, b"forged")
    with site.client("node-a") as victim, site.client(identity) as spy:
        victim.subscribe(topic.down_topic("node-a"))
        spy.subscribe("#", topic.down_topic("node-a"), topic.down_topic(identity.replace("#", "x")))
        collector.publish(topic.down_topic("node-a"), b"to a")
        wait_for(lambda: victim.received, what="the acknowledgement")
        # One more round trip of the spy's own: what was on its way to it has arrived by then.
        spy.subscribe("elsewhere")
        told, overheard = list(victim.received), list(spy.received)

    assert (heard(site, collector), overheard) == ([], [])
    assert told == [("holdfast/v1/node-a/down", b"to a")]


def test_node_overhears_nobody(site: Site, collector: Client) -> None:
    """mosquitto grants the subscription and delivers nothing; a SUBACK is no statement about rights."""
    with site.client("node-a") as a, site.client("node-b") as spy:
        spy.subscribe("#", topic.UP_FILTER, topic.down_topic("node-a"), "$SYS/#")
        a.subscribe(topic.down_topic("node-a"))
        a.publish(topic.up_topic("node-a"), b"private")
        collector.publish(topic.down_topic("node-a"), b"to a")
        wait_for(lambda: a.received, what="the acknowledgement")
        spy.subscribe(topic.down_topic("node-b"))
        collector.publish(topic.down_topic("node-b"), b"to b")
        wait_for(lambda: spy.received, what="the spy's own message")

        assert set(spy.received) == {("holdfast/v1/node-b/down", b"to b")}


@pytest.mark.parametrize("identity", ["", "stranger"])
def test_no_certificate_or_one_of_a_strange_authority_is_refused(site: Site, identity: str) -> None:
    """TLS 1.3 tells the client after the handshake, so the refusal shows when the broker is asked for something."""
    with pytest.raises((OSError, AssertionError)), site.client(identity) as client:
        assert client.connected == SUCCESS


def test_largest_message_passes_and_a_larger_one_ends_the_connection(site: Site, collector: Client) -> None:
    largest = b"x" * MESSAGE_BYTES_MAX
    with site.client("node-b") as client:
        answer = client.publish(topic.up_topic("node-b"), largest)
    said = heard(site, collector)
    with site.client("node-b") as client:
        client.try_publish(topic.up_topic("node-b"), b"x" * (MESSAGE_BYTES_MAX + 2048))
        wait_for(client.lost.is_set, what="the broker to hang up")

    assert (answer, said) == (SUCCESS, [("holdfast/v1/node-b/up", largest)])
    assert heard(site, collector) == []


def test_retained_messages_are_refused(site: Site, collector: Client) -> None:
    with site.client("node-b") as client:
        client.try_publish(topic.up_topic("node-b"), b"poison", retain=True)
        wait_for(client.lost.is_set, what="the broker to hang up")
    with site.client(COLLECTOR, client_id="another") as later:
        later.subscribe(topic.UP_FILTER)
        said = heard(site, later)

    assert said == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        "+",
        "#",
        "a/b",
        "node-a/up",
        "../x",
        "Upper",
        "-a",
        "a-",
        ".",
        "a" * 64,
        "a\nb",
        "a b",
        "collector",
        COLLECTOR,
    ],
)
def test_script_signs_no_name_that_is_no_node(site: Site, name: str) -> None:
    before = sorted(site.folder.iterdir())
    done = issue(site.folder, "node", name)

    assert (done.returncode, sorted(site.folder.iterdir())) == (2, before)


def test_script_signs_what_the_wire_contract_calls_a_node(site: Site) -> None:
    names = ["a", "db-1", "vm.example.net", "9lives", "a" * 63]
    signed = {name: issue(site.folder, "node", name).returncode for name in names}

    assert all(topic.node_name_valid(name) for name in names)
    assert signed == dict.fromkeys(names, 0)


def test_script_overwrites_no_key(site: Site) -> None:
    before = (site.folder / "node-a.key").read_bytes()
    done = issue(site.folder, "node", "node-a")

    assert (done.returncode, (site.folder / "node-a.key").read_bytes()) == (2, before)
