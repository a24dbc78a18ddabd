"""The configuration: every mistake at once, with its place and what would be right; and nothing unsaid."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct, structs

from holdfast_agent import config
from holdfast_agent.broker import BrokerAddress
from holdfast_agent.errors import ConfigInvalid
from holdfast_agent.probe import Observation, Poll
from holdfast_agent.registry import ProbeKind, probe_kinds
from holdfast_wire.configuring import Seconds

README = Path(__file__).parents[2] / "agent" / "README.md"


class ShelfSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the probe below can be told."""

    boards: tuple[str, ...] = ("top",)
    patience: Seconds = 3.0
    strength: dict[
        Annotated[str, Meta(pattern="^/", description="an absolute path")], Literal["weak", "strong"]
    ] = {}


class Shelf(Poll[int]):
    """A probe with settings of its own."""

    name = "shelf"
    platforms = frozenset({"linux"})
    cost = "nobody counts the books"
    settings_type = ShelfSettings

    def read(self) -> int:
        return 0

    def interpret(self, raw: int) -> Observation:
        return Observation()


KINDS = {"shelf": ProbeKind(name="shelf", classes=(Shelf,))}
MINIMAL = '[broker]\nurls = ["mqtt://localhost"]\n'


def load(folder: Path, text: str, environment: dict[str, str] | None = None, **how: bool) -> config.Loaded:
    path = folder / "agent.toml"
    path.write_text(text)
    return config.load(path, environment or {}, KINDS, **how)


def mistakes(folder: Path, text: str, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        load(folder, text, environment)
    return [mistake.replace(f"{folder}/", "") for mistake in caught.value.mistakes]


def test_one_line_is_enough(tmp_path: Path) -> None:
    loaded = load(tmp_path, 'node = "db-1"\n' + MINIMAL)

    assert (loaded.config.node, loaded.config.interval, loaded.config.probes["shelf"].enabled) == (
        "db-1",
        10.0,
        True,
    )
    assert loaded.config.link_options().brokers == (BrokerAddress("localhost", 1883, False),)


def test_every_mistake_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    text = """\
node = "DB_1"
intervall = "10s"
interval = 10
state_dir = "relative"
[broker]
urls = ["http://b", "mqtt://user:secret@b", "mqtt://b/topic"]
protocol = "4"
key_file = "/nowhere/key.pem"
[spool]
bytes_max = 10
[log]
level = "loud"
[probes.shelve]
enabled = false
[probes.shelf]
period = "0.01s"
board = ["low"]
"""

    said = mistakes(tmp_path, text)

    for wanted in (
        "agent.toml:1: node: 'DB_1': it cannot name a node",
        "agent.toml:2: intervall: no such key; did you mean 'interval'?",
        "agent.toml:3: interval: 10 is no duration",
        "agent.toml:4: state_dir: 'relative' is no absolute path",
        "agent.toml:6: broker.urls: 'http://b' is no broker",
        "agent.toml:6: broker.urls: holds a user name or password",
        "agent.toml:6: broker.urls: 'mqtt://b/topic' has something after the port",
        "agent.toml:7: broker.protocol: '4' is none of auto, 5, 3.1.1",
        "agent.toml:8: broker.key_file: needs cert_file beside it",
        "agent.toml:8: broker.key_file: /nowhere/key.pem: No such file or directory",
        "agent.toml:10: spool.bytes_max: is 10; must be at least 1048576",
        "agent.toml:12: log.level: 'loud' is none of",
        "agent.toml:13: probes.shelve: no such key; did you mean 'shelf'?",
        "agent.toml:16: probes.shelf.period: is 0.01",
        "agent.toml:17: probes.shelf.board: no such key; did you mean 'boards'?",
    ):
        assert [mistake for mistake in said if mistake.startswith(wanted)], (wanted, said)
    assert "secret" not in "".join(said), "a password in a URL must not end up in a log"


def test_settings_of_a_probe_stand_beside_what_every_probe_has(tmp_path: Path) -> None:
    text = MINIMAL + '[probes.shelf]\nenabled = false\nperiod = "1m"\nboards = ["low"]\npatience = "1h"\n'
    probe = load(tmp_path, text).config.probes["shelf"]

    assert probe == config.ProbeConfig(
        enabled=False, period=60.0, timeout=0.0, settings=ShelfSettings(boards=("low",), patience=3600.0)
    )


def test_a_table_of_the_users_own_keys_stands_in_line_or_by_itself(tmp_path: Path) -> None:
    inline = load(tmp_path, MINIMAL + '[probes.shelf]\nstrength = { "/top" = "weak" }\n')
    itself = load(tmp_path, MINIMAL + '[probes.shelf.strength]\n"/top" = "weak"\n')

    for loaded in (inline, itself):
        settings = loaded.config.probes["shelf"].settings
        assert isinstance(settings, ShelfSettings)
        assert settings.strength == {"/top": "weak"}
    assert ("probes.shelf.strength", '{"/top" = "weak"}') in [row[:2] for row in inline.rows]


def test_a_wrong_entry_of_such_a_table_is_told_with_its_place(tmp_path: Path) -> None:
    inline = MINIMAL + '[probes.shelf]\nstrength = { "/top" = "stong", "low" = "weak" }\n'
    itself = MINIMAL + '[probes.shelf.strength]\n"/top" = 3\n"low" = "weak"\n'
    variable = {"HOLDFAST__PROBES__SHELF__STRENGTH": '{ "/top" = "stong" }'}

    assert mistakes(tmp_path, inline) == [
        "agent.toml:4: probes.shelf.strength./top: 'stong' is none of weak, strong; did you mean 'strong'?",
        "agent.toml:4: probes.shelf.strength.low: 'low' is not an absolute path",
    ]
    assert mistakes(tmp_path, itself) == [
        "agent.toml:4: probes.shelf.strength./top: 3 is none of weak, strong",
        "agent.toml:5: probes.shelf.strength.low: 'low' is not an absolute path",
    ]
    assert mistakes(tmp_path, MINIMAL, variable) == [
        (
            "environment variable HOLDFAST__PROBES__SHELF__STRENGTH: probes.shelf.strength./top: 'stong' is none of weak, "
            "strong; did you mean 'strong'?"
        )
    ]
    assert mistakes(tmp_path, MINIMAL + '[probes.shelf]\nstrength = "weak"\n') == [
        "agent.toml:4: probes.shelf.strength: 'weak' is no table: write { KEY = VALUE, … }"
    ]


def test_environment_overrides_the_file(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        'interval = "10s"\n' + MINIMAL,
        {"HOLDFAST__INTERVAL": "3s", "HOLDFAST__PROBES__SHELF__ENABLED": "false", "PATH": "/bin"},
    )

    assert (loaded.config.interval, loaded.config.probes["shelf"].enabled) == (3.0, False)


def test_mistake_in_the_environment_names_the_variable(tmp_path: Path) -> None:
    assert mistakes(tmp_path, MINIMAL, {"HOLDFAST__LOG__LEVEL": "loud"}) == [
        "environment variable HOLDFAST__LOG__LEVEL: log.level: 'loud' is none of debug, info, warning, error"
    ]


def test_agent_without_a_broker_is_no_agent_but_may_be_looked_with(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "")[-1].startswith("agent.toml: broker.urls: is missing")
    assert load(tmp_path, "", link=False).config.broker.urls == ()


def test_missing_file_that_was_asked_for_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="no such file"):
        config.load(tmp_path / "absent.toml", {}, KINDS)


def test_file_that_is_no_toml_is_a_mistake_with_its_line(tmp_path: Path) -> None:
    assert re.search(r"line 2|toml:2", mistakes(tmp_path, MINIMAL.replace('"mqtt', "mqtt"))[0])


@pytest.mark.parametrize(("mode", "refused"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int, refused: bool) -> None:
    secret = tmp_path / "password"
    secret.write_text("geheim")
    secret.chmod(mode)
    text = MINIMAL + f'username = "u"\npassword_file = "{secret}"\n'

    if refused:
        assert mistakes(tmp_path, text) == [
            f"agent.toml:4: broker.password_file: others can read password (mode {mode:04o}): chmod 600 password"
        ]
    else:
        assert load(tmp_path, text).config.broker.password_file == str(secret)


@pytest.mark.parametrize("key", ["ca_file", "cert_file", "server_name"])
def test_tls_without_a_tls_broker_is_a_mistake(tmp_path: Path, key: str) -> None:
    """Whoever sets it believes the link encrypted."""
    (tmp_path / "file").write_text("")

    assert f"broker.{key}: needs TLS" in mistakes(tmp_path, MINIMAL + f'{key} = "{tmp_path}/file"\n')[0]


def test_clear_text_beyond_this_machine_is_warned_of(tmp_path: Path) -> None:
    remote = load(tmp_path, '[broker]\nurls = ["mqtt://10.0.0.1", "mqtts://b"]\n').warnings

    assert remote == ["all facts travel unencrypted to mqtt://10.0.0.1:1883: use mqtts://"]
    assert (
        load(
            tmp_path, '[broker]\nurls = ["mqtt://127.0.0.1", "mqtt://[::1]:1", "mqtt://localhost"]\n'
        ).warnings
        == []
    )


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://b", BrokerAddress("b", 1883, False)),
        ("mqtts://b", BrokerAddress("b", 8883, True)),
        ("mqtt://[fd00::1]:99", BrokerAddress("fd00::1", 99, False)),
    ],
)
def test_broker_address_has_the_registered_port_by_default(url: str, address: BrokerAddress) -> None:
    assert config.parse_broker(url) == address
    assert config.parse_broker(str(address)) == address


def test_rows_say_where_each_value_comes_from(tmp_path: Path) -> None:
    loaded = load(tmp_path, 'node = "a"\n' + MINIMAL, {"HOLDFAST__LOG__LEVEL": "debug"})
    rows = {key: (value, origin.rpartition("/")[2]) for key, value, origin in loaded.rows}

    assert {
        key: rows[key] for key in ("node", "log.level", "interval", "probes.shelf.period", "broker.urls")
    } == {
        "node": ('"a"', "agent.toml:1"),
        "log.level": ('"debug"', "environment variable HOLDFAST__LOG__LEVEL"),
        "interval": ('"10s"', "default"),
        "probes.shelf.period": ('"10s"', "default"),
        "broker.urls": ('["mqtt://localhost"]', "agent.toml:3"),
    }


def test_every_key_is_in_the_readme_and_every_key_there_exists() -> None:
    table = (
        README.read_text(encoding="utf-8").partition("| key | default | meaning |")[2].partition("\n\n")[0]
    )
    described = set(re.findall(r"^\| `([a-z_.NAME]+)`", table, re.MULTILINE))

    assert described == _keys(config.AgentConfig, ())


def _keys(type_: Any, path: tuple[str, ...]) -> set[str]:
    keys = set()
    for info in structs.fields(type_):
        if info.name == "probes":
            keys |= {f"probes.NAME.{key}" for key in ("enabled", "period", "timeout")}
            for kind in probe_kinds().values():
                keys |= {f"probes.{kind.name}.{own.name}" for own in structs.fields(kind.settings_type)}
        elif isinstance(info.type, type) and issubclass(info.type, Struct):
            keys |= _keys(info.type, (*path, info.name))
        else:
            keys.add(".".join((*path, info.name)))
    return keys


def test_witness_is_configured_per_mountpoint(tmp_path: Path) -> None:
    text = MINIMAL + '[witness]\ninterval = "2m"\nintervals = { "/mnt" = "15s" }\nexclude = ["/media/*"]\n'
    witness = load(tmp_path, text).config.witness

    assert (witness.interval_of("/"), witness.interval_of("/mnt"), witness.exclude) == (
        120.0,
        15.0,
        ("/media/*",),
    )


def test_mistakes_about_the_witness_are_told_with_their_place(tmp_path: Path) -> None:
    text = (
        MINIMAL
        + """\
[witness]
interval = "100ms"
intervalls = {}
slots = 3
exclude = ["srv"]
intervals = { "/mnt" = 15, "/big" = "2w", mnt = "30s" }
"""
    )

    assert mistakes(tmp_path, text) == [
        "agent.toml:5: witness.intervalls: no such key; did you mean 'intervals'?",
        'agent.toml:8: witness.intervals./mnt: 15 is no duration: write it with its unit, e.g. "30s", "5m", "7d"',
        "agent.toml:4: witness.interval: is 0.1; must be between 1s and 1d",
        "agent.toml:6: witness.slots: is 3; must be between 128 and 65536",
        "agent.toml:8: witness.intervals: is 1.2096e+06 for '/big'; must be between 1s and 1d",
        'agent.toml:8: witness.intervals: \'mnt\' is no mountpoint: write it whole, e.g. "/srv" = "15s"',
        "agent.toml:7: witness.exclude: 'srv' matches no mountpoint: write it whole, e.g. \"/srv/*\"",
    ]
