"""The agent's configuration: one TOML file, overridden by environment variables, read at the composition root.

Every key is described in agent/README.md, which a test compares with the Structs below.
"""

import os
import re
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import NODEFAULT, UNSET, Struct, defstruct, field, structs

from holdfast_agent.broker import BrokerAddress, LinkOptions, MqttVersion
from holdfast_agent.core.chain import SLOTS_MAX, SLOTS_MIN
from holdfast_agent.errors import ConfigInvalid
from holdfast_agent.log import LogFormat, LogLevel
from holdfast_agent.registry import ProbeKind
from holdfast_agent.witness.witness_choice import WitnessConfig
from holdfast_wire.configuring import Reading, Seconds
from holdfast_wire.topic import NODE, down_topic, node_name_valid, up_topic

DEFAULT_PATH = Path("/etc/holdfast/agent.toml")
PORTS = {"mqtt": 1883, "mqtts": 8883}
"""As registered with IANA."""


class BrokerConfig(Struct, frozen=True, kw_only=True):
    """`[broker]`"""

    urls: tuple[str, ...] = ()
    protocol: MqttVersion = "auto"
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    keepalive: Seconds = 30.0
    will_delay: Seconds = 10.0


class SpoolConfig(Struct, frozen=True, kw_only=True):
    """`[spool]`"""

    bytes_max: int = 64 * 1024 * 1024
    messages_max: int = 100_000


class LogConfig(Struct, frozen=True, kw_only=True):
    """`[log]`"""

    level: LogLevel = "info"
    format: LogFormat = "auto"


class ProbeConfig(Struct, frozen=True, kw_only=True):
    """`[probes.NAME]`: what every probe has, and the probe's own settings beside it."""

    enabled: bool = True
    period: Seconds = 0.0
    timeout: Seconds = 0.0
    settings: Struct


class AgentConfig(Struct, frozen=True, kw_only=True):
    """The whole configuration, checked."""

    node: str = ""
    interval: Seconds = 10.0
    state_dir: str = "/var/lib/holdfast-agent"
    broker: BrokerConfig = BrokerConfig()
    spool: SpoolConfig = SpoolConfig()
    log: LogConfig = LogConfig()
    witness: WitnessConfig = WitnessConfig()
    probes: dict[str, ProbeConfig] = field(default_factory=dict)
    """Every probe of this platform, whether the file names it or not."""

    def link_options(self) -> LinkOptions:
        """What the link needs of it."""
        broker = self.broker
        return LinkOptions(
            brokers=tuple(parse_broker(url) for url in broker.urls),
            client_id=self.node,
            up_topic=up_topic(self.node),
            down_topic=down_topic(self.node),
            protocol=broker.protocol,
            username=broker.username,
            password_file=broker.password_file,
            ca_file=broker.ca_file,
            cert_file=broker.cert_file,
            key_file=broker.key_file,
            server_name=broker.server_name,
            keepalive_seconds=broker.keepalive,
            will_delay_seconds=broker.will_delay,
        )


class Loaded(Struct, frozen=True, kw_only=True):
    """A configuration and where each of its values comes from."""

    config: AgentConfig
    rows: list[tuple[str, str, str]]
    """(dotted key, value as TOML, origin) of every value in effect."""
    warnings: list[str]
    """What is allowed and still unwise."""


_COMMON = ("enabled", "period", "timeout")


def load(
    path: Path | None, environment: Mapping[str, str], kinds: dict[str, ProbeKind], *, link: bool = True
) -> Loaded:
    """Read and check. Without a path the default one is used if it exists.

    `link`: a broker must be named; `once` and `doctor` need none. Raises ConfigInvalid with every mistake.
    """
    origin, text = _text(path)
    reading: Reading[Any] = Reading(_file_type(kinds), origin, text, environment)
    raw = reading.value
    if not raw.node:
        raw = structs.replace(raw, node=socket.gethostname().lower())
    config = AgentConfig(
        node=raw.node,
        interval=raw.interval,
        state_dir=raw.state_dir,
        broker=raw.broker,
        spool=raw.spool,
        log=raw.log,
        witness=raw.witness,
        probes={name: _probe(kind, getattr(raw.probes, name)) for name, kind in kinds.items()},
    )
    _check(reading, config, link=link)
    if reading.mistakes:
        raise ConfigInvalid(reading.mistakes)
    rows = [_in_effect(row, kinds, config.interval) for row in _rows(reading, raw, ())]
    return Loaded(config=config, rows=rows, warnings=_warnings(config))


def parse_broker(url: str) -> BrokerAddress:
    """`mqtts://host:port` → address. Raises ValueError that says what would be right."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError(f"{url!r} is no broker: write mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS")
    if parts.username or parts.password:
        raise ValueError("holds a user name or password: use broker.username and broker.password_file")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{url!r} has something after the port: write {parts.scheme}://HOST:PORT")
    return BrokerAddress(parts.hostname, parts.port or PORTS[parts.scheme], parts.scheme == "mqtts")


def _text(path: Path | None) -> tuple[str, str]:
    chosen = path or DEFAULT_PATH
    try:
        return str(chosen), chosen.read_text(encoding="utf-8")
    except FileNotFoundError:
        if path is None:
            return f"{chosen} (not there)", ""
        raise ConfigInvalid([f"{path}: no such file"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid([f"{chosen}: cannot be read: {error}"]) from None


def _file_type(kinds: dict[str, ProbeKind]) -> type[Struct]:
    """The type of the file: AgentConfig with one table per probe, of the common keys and the probe's own."""
    tables = []
    for name, kind in kinds.items():
        own = structs.fields(kind.settings_type)
        assert not {each.name for each in own} & set(_COMMON), (
            f"probe {name} has a setting named like a common key"
        )
        fields: list[Any] = [("enabled", bool, True), ("period", Seconds, 0.0), ("timeout", Seconds, 0.0)]
        fields += [(each.name, each.type, _default(each)) for each in own]
        table = defstruct(f"Probe_{name}", fields, frozen=True, kw_only=True)
        tables.append((name, table, field(default_factory=table)))
    probes = defstruct("Probes", tables, frozen=True, kw_only=True)
    own_keys: list[Any] = [
        (each.name, each.type, _default(each))
        for each in structs.fields(AgentConfig)
        if each.name != "probes"
    ]
    return defstruct(
        "AgentFile", [*own_keys, ("probes", probes, field(default_factory=probes))], frozen=True, kw_only=True
    )


def _default(info: structs.FieldInfo) -> Any:
    if info.default_factory is not NODEFAULT:
        return field(default_factory=info.default_factory)
    assert info.default is not NODEFAULT, f"setting {info.name} has no default"
    return info.default


def _probe(kind: ProbeKind, table: Struct) -> ProbeConfig:
    values = structs.asdict(table)
    common = {key: values.pop(key) for key in _COMMON}
    return ProbeConfig(**common, settings=kind.settings_type(**values))


def _check(reading: Reading[Any], config: AgentConfig, *, link: bool) -> None:
    if not node_name_valid(config.node):
        said = "the host name" if reading.origin_of(("node",)) == "default" else "it"
        reading.refuse(
            ("node",), f"{config.node!r}: {said} cannot name a node; write one that matches {NODE.pattern}"
        )
    _check_range(reading, ("interval",), config.interval, 1.0, 3600.0, "between 1s and 1h")
    _check_range(reading, ("broker", "keepalive"), config.broker.keepalive, 5.0, 3600.0, "between 5s and 1h")
    _check_range(reading, ("broker", "will_delay"), config.broker.will_delay, 0.0, 600.0, "at most 10m")
    _check_range(
        reading, ("spool", "bytes_max"), config.spool.bytes_max, 2**20, 2**40, "at least 1048576 (1 MiB)"
    )
    _check_range(reading, ("spool", "messages_max"), config.spool.messages_max, 100, 10**9, "at least 100")
    if not Path(config.state_dir).is_absolute():
        reading.refuse(("state_dir",), f"{config.state_dir!r} is no absolute path")
    for name, probe in config.probes.items():
        for key in ("period", "timeout"):
            value = getattr(probe, key)
            if value:
                _check_range(reading, ("probes", name, key), value, 0.1, 86_400.0, "between 100ms and 1d")
    _check_broker(reading, config.broker, link=link)
    _check_witness(reading, config.witness)


def _check_witness(reading: Reading[Any], witness: WitnessConfig) -> None:
    _check_range(reading, ("witness", "interval"), witness.interval, 1.0, 86_400.0, "between 1s and 1d")
    _check_range(
        reading,
        ("witness", "slots"),
        witness.slots,
        SLOTS_MIN,
        SLOTS_MAX,
        f"between {SLOTS_MIN} and {SLOTS_MAX}",
    )
    for mountpoint, seconds in witness.intervals.items():
        if not 1.0 <= seconds <= 86_400.0:
            said = f"is {seconds:g} for {mountpoint!r}; must be between 1s and 1d"
            reading.refuse(("witness", "intervals"), said)
        if not mountpoint.startswith("/"):
            said = f'{mountpoint!r} is no mountpoint: write it whole, e.g. "/srv" = "15s"'
            reading.refuse(("witness", "intervals"), said)
    for key in ("include", "exclude"):
        for pattern in getattr(witness, key):
            if not pattern.startswith(("/", "*", "?", "[")):
                reading.refuse(
                    ("witness", key), f'{pattern!r} matches no mountpoint: write it whole, e.g. "/srv/*"'
                )


def _check_range(
    reading: Reading[Any], path: tuple[str, ...], value: float, low: float, high: float, said: str
) -> None:
    if not low <= value <= high:
        reading.refuse(path, f"is {value:g}; must be {said}")


def _check_broker(reading: Reading[Any], broker: BrokerConfig, *, link: bool) -> None:
    addresses = []
    for url in broker.urls:
        try:
            addresses.append(parse_broker(url))
        except ValueError as error:
            reading.refuse(("broker", "urls"), str(error))
    if link and not broker.urls:
        reading.refuse(
            ("broker", "urls"), 'is missing: name at least one broker, e.g. urls = ["mqtts://broker:8883"]'
        )
    for key in ("ca_file", "cert_file", "key_file", "server_name"):
        if getattr(broker, key) and addresses and not any(address.tls for address in addresses):
            reading.refuse(("broker", key), "needs TLS, and no broker is an mqtts:// one")
    if broker.key_file and not broker.cert_file:
        reading.refuse(("broker", "key_file"), "needs cert_file beside it")
    if broker.password_file and not broker.username:
        reading.refuse(("broker", "password_file"), "needs username beside it")
    for key in ("ca_file", "cert_file"):
        _check_file(reading, key, getattr(broker, key), secret=False)
    for key in ("password_file", "key_file"):
        _check_file(reading, key, getattr(broker, key), secret=True)


def _check_file(reading: Reading[Any], key: str, path: str, *, secret: bool) -> None:
    if not path:
        return
    try:
        mode = os.stat(path).st_mode
        with open(path, "rb"):
            pass
    except OSError as error:
        reading.refuse(("broker", key), f"{path}: {error.strerror}")
        return
    # systemd guards its credentials by the folder and shows an access list as group bits (systemd.exec(5)).
    loose = (
        os.name == "posix"
        and mode & (stat.S_IRWXG | stat.S_IRWXO)
        and not path.startswith("/run/credentials/")
    )
    if secret and loose:
        reading.refuse(("broker", key), f"others can read {path} (mode {mode & 0o777:04o}): chmod 600 {path}")


def _warnings(config: AgentConfig) -> list[str]:
    clear = [
        str(address)
        for address in map(parse_broker, config.broker.urls)
        if not address.tls and not _local(address)
    ]
    if not clear:
        return []
    what = "the password and all facts travel" if config.broker.username else "all facts travel"
    return [f"{what} unencrypted to {', '.join(clear)}: use mqtts://"]


def _local(address: BrokerAddress) -> bool:
    return address.host in ("localhost", "::1") or re.fullmatch(r"127(\.\d+){3}", address.host) is not None


def _rows(reading: Reading[Any], value: Struct, path: tuple[str, ...]) -> list[tuple[str, str, str]]:
    rows = []
    for info in structs.fields(value):
        below = getattr(value, info.name)
        here = (*path, info.encode_name)
        if isinstance(below, Struct):
            rows += _rows(reading, below, here)
        else:
            shown = f"{below:g}s" if info.type == Seconds else below
            if info.type == dict[str, Seconds]:
                shown = {key: f"{seconds:g}s" for key, seconds in below.items()}
            rows.append((".".join(here), _toml(shown), reading.origin_of(here)))
    return rows


def _in_effect(
    row: tuple[str, str, str], kinds: dict[str, ProbeKind], interval: float
) -> tuple[str, str, str]:
    """The row, with a probe's own period or time-out in the place of the 0 that stands for it."""
    key, value, origin = row
    parts = key.split(".")
    if value != '"0s"' or parts[0] != "probes":
        return row
    period, timeout = kinds[parts[1]].timing(interval)
    return key, _toml(f"{period if parts[2] == 'period' else timeout:g}s"), origin


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, list | tuple | frozenset | set):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_toml(key)} = {_toml(below)}' for key, below in value.items())}}}"
    return "unset" if value is UNSET else str(value)
