"""The collector's configuration: one TOML file and the environment → one frozen Struct, read once at start.

Every key is described in `collector/README.md`; a test holds the two together. The file is optional: all keys have
defaults that suit a collector beside its broker. Nothing here touches the network.
"""

import ipaddress
import os
import ssl
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct, field

from holdfast_collector.errors import ConfigInvalid
from holdfast_collector.group_config import GroupConfig, check_groups
from holdfast_rules import NodeLabels
from holdfast_wire import configuring
from holdfast_wire.configuring import Reading, Seconds, nearest

Severity = Literal["page", "ticket", "info"]

_LABELS_WANT = {
    "nodes": 'which nodes, by patterns of their names, e.g. ["db-*"]',
    "labels": 'which labels, e.g. { role = "database" }',
}
RECEIVE_MAXIMUM_MIN = 20
"""Fewer unacknowledged messages than mosquitto's own default would only slow the collector down."""
SAMPLES_BYTES_MIN = 16 * 1024**2
_SIZES = {"MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
MQTT_SCHEMES = {"mqtt": 1883, "mqtts": 8883}


class Mqtt(Struct, frozen=True, kw_only=True):
    """How the collector reaches its broker."""

    brokers: tuple[str, ...] = ("mqtt://127.0.0.1:1883",)
    """Tried in turn; `mqtts://` for TLS."""
    client_id: str = "holdfast-collector"
    """Names the broker's session; two collectors with one id throw each other off."""
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    """Whom to trust with `mqtts://`; empty: the system's authorities."""
    cert_file: str = ""
    key_file: str = ""
    keepalive: Seconds = 20.0
    """A broker that says nothing for at most two and a half times this long is given up."""
    session_expiry: Seconds = 7 * 86_400.0
    """How long the broker keeps messages for a collector that is away."""
    receive_maximum: int = 2000
    """Messages the broker may send ahead of the commit that acknowledges them: the back-pressure."""


class Http(Struct, frozen=True, kw_only=True):
    """The status page, the API and `/metrics`."""

    listen: str = "127.0.0.1:9760"
    external_url: str = ""
    """How people reach the status page; goes into notifications. Empty: no links."""
    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    """Clients must show a certificate signed by one of these."""
    token_file: str = ""
    """The bearer token that may do everything."""
    read_token_file: str = ""
    """The bearer token that may only read, e.g. Prometheus'."""


class Rules(Struct, frozen=True, kw_only=True):
    """Which rule packs are in force."""

    shipped: bool = True
    """The packs that come with holdfast."""
    directories: tuple[str, ...] = ("/etc/holdfast/rules.d",)
    """Folders of further packs, `*.yaml`; a folder that does not exist holds none."""
    reload_on_change: bool = False
    """Take changed packs without a signal. A mistake in them changes nothing, as with SIGHUP."""


class NodeLabelsConfig(Struct, frozen=True, kw_only=True):
    """Labels for some nodes, by which rule packs tell them apart (`where:`)."""

    nodes: tuple[str, ...] = ()
    """Patterns of names, `*` for any characters: `db-*`."""
    labels: dict[str, str] = field(default_factory=dict)


class ReceiverConfig(Struct, frozen=True, kw_only=True):
    """One place that is told of alerts."""

    name: str = ""
    kind: Literal["", "webhook", "alertmanager"] = ""
    url: str = ""
    """A webhook's address."""
    urls: tuple[str, ...] = ()
    """All peers of one Alertmanager cluster, e.g. `http://alertmanager-1:9093`."""
    severities: tuple[Severity, ...] = ("page", "ticket", "info")
    resolved: bool = True
    """Whether it is told of the end, too."""
    resend: Seconds = 60.0
    """How often Alertmanager is told again of all that fires."""
    timeout: Seconds = 10.0
    """How long an answer may take."""
    secret_file: str = ""
    """A webhook's key: requests are signed with it."""
    username: str = ""
    password_file: str = ""
    """HTTP basic authentication."""
    bearer_token_file: str = ""
    ca_file: str = ""
    """Whom to trust with `https://`; empty: the system's authorities."""
    proxy: str = ""
    """An HTTP proxy on the way. The environment's proxies are not used: what sends pages is written here."""


class Retention(Struct, frozen=True, kw_only=True):
    """How long the database remembers what is over."""

    events: Seconds = 30 * 86_400.0
    resolved: Seconds = 30 * 86_400.0
    history: Seconds = 365 * 86_400.0
    """Changes of verdicts."""
    samples: Seconds = 3 * 86_400.0
    """What agents said, for `holdfast rules replay`; 0: nothing is recorded."""
    samples_size: str = "1GiB"

    @property
    def samples_bytes(self) -> int:
        """The most that samples may take; 0 when `samples_size` says no such thing."""
        number, unit = self.samples_size[:-3], self.samples_size[-3:]
        usable = number.isascii() and number.isdecimal() and len(number) < 10 and unit in _SIZES
        return int(number) * _SIZES[unit] if usable else 0


class Log(Struct, frozen=True, kw_only=True):
    """JSON lines on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Struct, frozen=True, kw_only=True):
    """All of `/etc/holdfast/collector.toml`."""

    data_dir: str = "/var/lib/holdfast-collector"
    mqtt: Mqtt = Mqtt()
    http: Http = Http()
    rules: Rules = Rules()
    node_labels: tuple[NodeLabelsConfig, ...] = ()
    group: tuple[GroupConfig, ...] = ()
    receiver: tuple[ReceiverConfig, ...] = ()
    retention: Retention = Retention()
    log: Log = Log()


def default_path() -> Path:
    """Where the file stands when nobody says otherwise."""
    if sys.platform == "win32":
        return Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "holdfast" / "collector.toml"
    return Path("/etc/holdfast/collector.toml")


def load(path: Path, *, required: bool, environment: Mapping[str, str]) -> Config:
    """Read and check. A missing file is all defaults unless `required`. Raises ConfigInvalid with every mistake."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if required:
            raise ConfigInvalid([f"{path}: there is no such file"]) from None
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid([f"{path}: cannot be read: {error}"]) from error
    return parse(text, str(path), environment)


def parse(text: str, origin: str, environment: Mapping[str, str]) -> Config:
    """The configuration in `text`, which people know as `origin`. Raises ConfigInvalid with every mistake."""
    reading = Reading(Config, origin, text, environment)
    _check_mqtt(reading)
    _check_http(reading)
    _check_receivers(reading)
    for index, row in enumerate(reading.value.node_labels):
        for key in ("nodes", "labels"):
            if not getattr(row, key) and not reading.refused(("node_labels", index, key)):
                reading.refuse(("node_labels", index, key), _LABELS_WANT[key])
    check_groups(reading, reading.value.group, labels(reading.value))
    for name in ("events", "resolved", "history"):
        if getattr(reading.value.retention, name) < 86_400.0:
            reading.refuse(("retention", name), "at least a day, which the collector's own memory needs")
    if 0.0 < reading.value.retention.samples < 3600.0:
        reading.refuse(("retention", "samples"), 'at least an hour, or "0s" to record nothing')
    if reading.value.retention.samples_bytes < SAMPLES_BYTES_MIN:
        wanted = 'a size of at least 16 MiB, e.g. "500MiB" or "1GiB"'
        reading.refuse(("retention", "samples_size"), wanted)
    if reading.mistakes:
        raise ConfigInvalid(reading.mistakes)
    return reading.value


def labels(config: Config) -> list[NodeLabels]:
    """The labels of nodes as rules and groups know them."""
    return [NodeLabels(row.nodes, row.labels) for row in config.node_labels]


def mqtt_tls(mqtt: Mqtt) -> ssl.SSLContext | None:
    """What `mqtts://` needs beyond its defaults; None when nothing is configured. Raises OSError and ssl.SSLError."""
    if not (mqtt.ca_file or mqtt.cert_file):
        return None
    context = ssl.create_default_context(cafile=mqtt.ca_file or None)
    if mqtt.cert_file:
        context.load_cert_chain(mqtt.cert_file, mqtt.key_file)
    return context


def read_secret(path: str) -> str:
    """The first line of a secret's file. Checked to exist when the configuration is read; raises OSError if gone."""
    return Path(path).read_text(encoding="utf-8").splitlines()[0].strip()


def host_and_port(listen: str) -> tuple[str, int] | None:
    """`"127.0.0.1:9760"`, `"[::1]:9760"` → host and port; None when it is neither."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65_535:
        return None
    return host, int(port)


def _check_mqtt(reading: Reading[Config]) -> None:
    mqtt = reading.value.mqtt
    if not mqtt.brokers:
        reading.refuse(("mqtt", "brokers"), 'name at least one, e.g. ["mqtt://127.0.0.1:1883"]')
    for url in mqtt.brokers:
        _check_url(reading, ("mqtt", "brokers"), url, MQTT_SCHEMES)
    if not (mqtt.client_id.isascii() and mqtt.client_id.isprintable() and 0 < len(mqtt.client_id) <= 256):
        reading.refuse(("mqtt", "client_id"), "1 to 256 printable ASCII characters")
    if not 5.0 <= mqtt.keepalive <= 600.0:
        reading.refuse(("mqtt", "keepalive"), "between 5s and 10m")
    if not 60.0 <= mqtt.session_expiry < 2**32 - 1:
        reading.refuse(("mqtt", "session_expiry"), "at least 1m: a restart must not cost the session")
    if not RECEIVE_MAXIMUM_MIN <= mqtt.receive_maximum <= 65_535:
        reading.refuse(("mqtt", "receive_maximum"), f"between {RECEIVE_MAXIMUM_MIN} and 65535")
    if mqtt.password_file and not mqtt.username:
        reading.refuse(("mqtt", "password_file"), "a password without mqtt.username")
    before = len(reading.mistakes)
    _check_pair(reading, "mqtt", mqtt.cert_file, mqtt.key_file)
    _check_files(
        reading, ("mqtt",), mqtt, public=("ca_file", "cert_file"), secret=("key_file", "password_file")
    )
    if len(reading.mistakes) == before:
        try:
            mqtt_tls(mqtt)
        except (OSError, ssl.SSLError) as error:
            reading.refuse(("mqtt", "cert_file" if mqtt.cert_file else "ca_file"), f"cannot be used: {error}")


def _check_http(reading: Reading[Config]) -> None:
    http = reading.value.http
    _check_pair(reading, "http", http.cert_file, http.key_file)
    _check_files(
        reading,
        ("http",),
        http,
        public=("cert_file", "client_ca_file"),
        secret=("key_file", "token_file", "read_token_file"),
    )
    if http.client_ca_file and not http.cert_file:
        reading.refuse(("http", "client_ca_file"), "client certificates need TLS: set cert_file and key_file")
    if http.external_url:
        _check_url(reading, ("http", "external_url"), http.external_url, {"http": 80, "https": 443})
    place = host_and_port(http.listen)
    if place is None:
        reading.refuse(("http", "listen"), f"{http.listen!r} is no address and port, e.g. 127.0.0.1:9760")
        return
    if _loopback(place[0]):
        return
    if not http.cert_file:
        why = "beyond loopback needs TLS: set cert_file and key_file, or stay on 127.0.0.1"
        reading.refuse(("http", "listen"), why)
    if not (http.client_ca_file or http.token_file):
        why = "beyond loopback needs authentication: set token_file or client_ca_file"
        reading.refuse(("http", "listen"), why)


def _check_receivers(reading: Reading[Config]) -> None:
    names: set[str] = set()
    for index, receiver in enumerate(reading.value.receiver):
        place = ("receiver", index)
        if not receiver.name:
            reading.refuse((*place, "name"), "every receiver needs a name")
        elif receiver.name in names:
            reading.refuse((*place, "name"), f"{receiver.name!r} names another receiver already")
        names.add(receiver.name)
        _check_receiver(reading, place, receiver)
        _check_files(
            reading,
            place,
            receiver,
            public=("ca_file",),
            secret=("secret_file", "password_file", "bearer_token_file"),
        )


def _check_receiver(reading: Reading[Config], place: configuring.Path, receiver: ReceiverConfig) -> None:
    web = {"http": 80, "https": 443}
    match receiver.kind:
        case "webhook":
            if receiver.urls or not receiver.url:
                reading.refuse((*place, "url"), "a webhook has one url")
            else:
                _check_url(reading, (*place, "url"), receiver.url, web)
        case "alertmanager":
            if receiver.url or not receiver.urls:
                reading.refuse((*place, "urls"), "an alertmanager has urls, one for each peer of the cluster")
            for url in receiver.urls:
                _check_url(reading, (*place, "urls"), url, web)
            if receiver.secret_file:
                reading.refuse(
                    (*place, "secret_file"), "only webhooks are signed; alertmanager does not check"
                )
        case "" if not reading.refused((*place, "kind")):
            reading.refuse((*place, "kind"), "webhook or alertmanager")
    if not receiver.severities:
        reading.refuse((*place, "severities"), "none at all: the receiver would never hear anything")
    if not 5.0 <= receiver.resend <= 3600.0:
        reading.refuse((*place, "resend"), "between 5s and 1h")
    if not 1.0 <= receiver.timeout <= 120.0:
        reading.refuse((*place, "timeout"), "between 1s and 2m")
    if receiver.password_file and not receiver.username:
        reading.refuse((*place, "password_file"), "a password without a username")
    if receiver.username and receiver.bearer_token_file:
        reading.refuse((*place, "bearer_token_file"), "either this or username, not both")
    if receiver.proxy:
        _check_url(reading, (*place, "proxy"), receiver.proxy, web)


def _check_pair(reading: Reading[Config], section: str, cert_file: str, key_file: str) -> None:
    if cert_file and not key_file:
        reading.refuse((section, "key_file"), "cert_file is set and its key is not")
    if key_file and not cert_file:
        reading.refuse((section, "cert_file"), "key_file is set and its certificate is not")


def _check_url(reading: Reading[Config], path: configuring.Path, url: str, schemes: dict[str, int]) -> None:
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        reading.refuse(path, f"{url!r} is no address, e.g. {next(iter(schemes))}://host:port")
    elif parts.scheme not in schemes:
        hint = nearest(parts.scheme, schemes)
        reading.refuse(path, f"{url!r}: the scheme is one of {', '.join(schemes)}{hint}")
    elif parts.username or parts.password:
        reading.refuse(path, "no credentials in addresses: use the username and password_file keys")


def _check_files(
    reading: Reading[Config],
    place: configuring.Path,
    section: Struct,
    *,
    public: tuple[str, ...],
    secret: tuple[str, ...],
) -> None:
    """Files that are named must be readable now, and secrets by nobody else: at 3 a.m. is too late to find out."""
    for key in (*public, *secret):
        named: str = getattr(section, key)
        if not named:
            continue
        try:
            with open(named, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                empty = not file.read(1)
        except OSError as error:
            reading.refuse((*place, key), f"cannot read {named}: {error.strerror}")
            continue
        if empty:
            reading.refuse((*place, key), f"{named} is empty")
        if key in secret and sys.platform != "win32" and mode & (stat.S_IRWXO | stat.S_IWGRP):
            reading.refuse(
                (*place, key), f"{named} is a secret that others may read: chmod o-rwx,g-w {named}"
            )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
