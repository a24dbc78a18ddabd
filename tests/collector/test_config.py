"""The configuration: every mistake at once, with its place and the cure, before anything is touched."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import Struct, structs

from holdfast_collector.config import (
    Config,
    Http,
    Log,
    Mqtt,
    NodeLabelsConfig,
    ReceiverConfig,
    Retention,
    Rules,
    host_and_port,
    load,
    mqtt_tls,
    parse,
    read_secret,
)
from holdfast_collector.errors import ConfigInvalid
from holdfast_collector.group_config import GroupConfig

README = Path(__file__).parents[2] / "collector" / "README.md"


def mistakes(text: str, **environment: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        parse(text, "c.toml", environment)
    return caught.value.mistakes


def test_empty_configuration_suits_a_collector_beside_its_broker() -> None:
    assert parse("", "c.toml", {}) == Config()


def test_everything_can_be_said(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    secret.chmod(0o640)
    text = f"""
data_dir = "/srv/holdfast"
[mqtt]
brokers = ["mqtts://a.example", "mqtt://b.example:1884"]
client_id = "collector-2"
username = "collector"
password_file = "{secret}"
keepalive = "30s"
session_expiry = "2d"
receive_maximum = 500
[http]
listen = "[::1]:9000"
external_url = "https://holdfast.example"
token_file = "{secret}"
[rules]
shipped = false
directories = ["/etc/holdfast/rules.d", "/srv/rules"]
[retention]
events = "90d"
history = "2000d"
[log]
level = "debug"
[[receiver]]
name = "oncall"
kind = "webhook"
url = "https://hooks.example/x"
severities = ["page"]
secret_file = "{secret}"
[[receiver]]
name = "cluster"
kind = "alertmanager"
urls = ["http://a:9093", "http://b:9093"]
resend = "30s"
resolved = false
"""

    assert parse(text, "c.toml", {}) == Config(
        data_dir="/srv/holdfast",
        mqtt=Mqtt(
            brokers=("mqtts://a.example", "mqtt://b.example:1884"),
            client_id="collector-2",
            username="collector",
            password_file=str(secret),
            keepalive=30.0,
            session_expiry=2 * 86_400.0,
            receive_maximum=500,
        ),
        http=Http(listen="[::1]:9000", external_url="https://holdfast.example", token_file=str(secret)),
        rules=Rules(shipped=False, directories=("/etc/holdfast/rules.d", "/srv/rules")),
        retention=Retention(events=90 * 86_400.0, history=2000 * 86_400.0),
        log=Log(level="debug"),
        receiver=(
            ReceiverConfig(
                name="oncall",
                kind="webhook",
                url="https://hooks.example/x",
                severities=("page",),
                secret_file=str(secret),
            ),
            ReceiverConfig(
                name="cluster",
                kind="alertmanager",
                urls=("http://a:9093", "http://b:9093"),
                resend=30.0,
                resolved=False,
            ),
        ),
    )
    assert read_secret(str(secret)) == "s3cret"


def test_all_mistakes_are_reported_at_once_with_their_lines() -> None:
    text = """data_dri = "/x"
[mqtt]
brokers = ["mqt://a"]
keepalive = 20
[http]
listen = "0.0.0.0:9760"
[[receiver]]
name = "a"
kind = "webhok"
[[receiver]]
name = "a"
kind = "alertmanager"
urls = ["http://user:pw@b"]
resend = "1s"
"""

    assert mistakes(text) == [
        "c.toml:1: data_dri: no such key; did you mean 'data_dir'?",
        """c.toml:4: mqtt.keepalive: 20 is no duration: write it with its unit, e.g. "30s", "5m", "7d\"""",
        "c.toml:9: receiver[1].kind: 'webhok' is none of webhook, alertmanager; did you mean 'webhook'?",
        "c.toml:3: mqtt.brokers: 'mqt://a': the scheme is one of mqtt, mqtts; did you mean 'mqtt'?",
        "c.toml:6: http.listen: beyond loopback needs TLS: set cert_file and key_file, or stay on 127.0.0.1",
        "c.toml:6: http.listen: beyond loopback needs authentication: set token_file or client_ca_file",
        "c.toml:11: receiver[2].name: 'a' names another receiver already",
        "c.toml:13: receiver[2].urls: no credentials in addresses: use the username and password_file keys",
        "c.toml:14: receiver[2].resend: between 5s and 1h",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mqtt]\nbrokers = []", "mqtt.brokers: name at least one"),
        ('[mqtt]\nbrokers = ["mqtt://:1883"]', "is no address"),
        ('[mqtt]\nbrokers = ["mqtt://a:99999"]', "is no address"),
        ('[mqtt]\nclient_id = ""', "1 to 256 printable ASCII"),
        ('[mqtt]\nkeepalive = "1s"', "between 5s and 10m"),
        ('[mqtt]\nsession_expiry = "1s"', "a restart must not cost the session"),
        ("[mqtt]\nreceive_maximum = 1", "between 20 and 65535"),
        ('[mqtt]\npassword_file = "/nowhere"', "cannot read /nowhere: No such file"),
        ('[mqtt]\npassword_file = "/nowhere"', "a password without mqtt.username"),
        ('[mqtt]\ncert_file = "/nowhere"', "mqtt.key_file: cert_file is set and its key is not"),
        ('[http]\nkey_file = "/nowhere"', "http.cert_file: key_file is set and its certificate is not"),
        ('[http]\nclient_ca_file = "/nowhere"', "client certificates need TLS"),
        ('[http]\nlisten = "9760"', "is no address and port"),
        ('[http]\nlisten = "127.0.0.1:99999"', "is no address and port"),
        ('[http]\nexternal_url = "holdfast.example"', "is no address"),
        ('[retention]\nevents = "1h"', "at least a day"),
        ('[retention]\nhistory = "12h"', "retention.history: at least a day"),
        ('[retention]\nsamples = "10m"', "retention.samples: at least an hour"),
        (
            '[retention]\nsamples_size = "1GB"',
            'retention.samples_size: a size of at least 16 MiB, e.g. "500MiB"',
        ),
        ('[retention]\nsamples_size = "1MiB"', "a size of at least 16 MiB"),
        ('[log]\nlevel = "warn"', "did you mean 'warning'?"),
        ('[[node_labels]]\nlabels = { role = "db" }', "node_labels[1].nodes: which nodes"),
        ('[[node_labels]]\nnodes = ["db-*"]', "node_labels[1].labels: which labels"),
        ('[[node_labels]]\nnodes = ["db-*"]\nlabels = { role = 5 }', "node_labels[1].labels: "),
        ("receiver = 5", "is a repeated section: write [[receiver]]"),
        ("mqtt = 5", "is a section: write [mqtt]"),
        ('[[receiver]]\nkind = "webhook"\nurl = "http://a"', "receiver[1].name: every receiver needs a name"),
        ('[[receiver]]\nname = "a"', "receiver[1].kind: webhook or alertmanager"),
        ('[[receiver]]\nname = "a"\nkind = "webhook"', "a webhook has one url"),
        ('[[receiver]]\nname = "a"\nkind = "alertmanager"\nurl = "http://a"', "one for each peer"),
        ('[[receiver]]\nname = "a"\nkind = "webhook"\nurl = "http://a"\nseverities = []', "none at all"),
        ('[[receiver]]\nname = "a"\nkind = "webhook"\nurl = "http://a"\ntimeout = "1h"', "between 1s and 2m"),
        (
            '[[receiver]]\nname = "a"\nkind = "webhook"\nurl = "http://a"\nproxy = "socks://b"',
            "the scheme is one of",
        ),
        ("[mqtt\n", "c.toml:1:6: no TOML: "),
    ],
)
def test_each_mistake_is_named(text: str, said: str) -> None:
    assert any(said in mistake for mistake in mistakes(text)), mistakes(text)


def test_secret_that_others_may_read_is_refused_with_the_cure(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("x")
    secret.chmod(0o644)

    assert mistakes(f'[mqtt]\nusername = "c"\npassword_file = "{secret}"') == [
        f"c.toml:3: mqtt.password_file: {secret} is a secret that others may read: chmod o-rwx,g-w {secret}"
    ]


def test_empty_secret_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.touch(mode=0o600)

    assert mistakes(f'[mqtt]\nusername = "c"\npassword_file = "{secret}"') == [
        f"c.toml:3: mqtt.password_file: {secret} is empty"
    ]


def test_certificate_that_cannot_be_used_is_found_before_it_is_needed(tmp_path: Path) -> None:
    for name in ("cert", "key"):
        (tmp_path / name).write_text("no certificate\n")
        (tmp_path / name).chmod(0o600)

    (mistake,) = mistakes(f'[mqtt]\ncert_file = "{tmp_path}/cert"\nkey_file = "{tmp_path}/key"')

    assert mistake.startswith("c.toml:2: mqtt.cert_file: cannot be used: ")
    assert mqtt_tls(Mqtt()) is None


def test_environment_overrides_the_file_and_is_named_in_mistakes() -> None:
    text = '[mqtt]\nclient_id = "file"\nreceive_maximum = 100'
    good = {"HOLDFAST__MQTT__CLIENT_ID": "5", "HOLDFAST__MQTT__BROKERS": '["mqtt://b"]', "OTHER__KEY": "x"}

    mqtt = parse(text, "c.toml", good).mqtt

    assert (mqtt.client_id, mqtt.brokers, mqtt.receive_maximum) == ("5", ("mqtt://b",), 100)
    assert mistakes("", HOLDFAST__MQTT__RECEIVE_MAXIMUM="many", HOLDFAST__MQT__X="1") == [
        "environment variable HOLDFAST__MQTT__RECEIVE_MAXIMUM: mqtt.receive_maximum: 'many': expected int, got str",
        "environment variable HOLDFAST__MQT__X: mqt: no such key; did you mean 'mqtt'?",
    ]


def test_address_is_host_and_port() -> None:
    read = [host_and_port(text) for text in ("127.0.0.1:9760", "[::1]:0", "host:80", ":80", "host", "host:x")]

    assert read == [("127.0.0.1", 9760), ("::1", 0), ("host", 80), None, None, None]


def test_missing_file_is_all_defaults_unless_it_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "collector.toml"

    assert load(path, required=False, environment={}) == Config()
    with pytest.raises(ConfigInvalid, match="there is no such file"):
        load(path, required=True, environment={})


SECTIONS: dict[str, type[Struct]] = {
    "mqtt": Mqtt,
    "http": Http,
    "rules": Rules,
    "retention": Retention,
    "log": Log,
}
REPEATED: dict[str, type[Struct]] = {
    "receiver": ReceiverConfig,
    "node_labels": NodeLabelsConfig,
    "group": GroupConfig,
}


def keys() -> list[str]:
    """Every key as the README must name it."""
    found = []
    for field in structs.fields(Config):
        section = SECTIONS.get(field.name)
        if field.name in REPEATED:
            found += [f"{field.name}.{inner.name}" for inner in structs.fields(REPEATED[field.name])]
        elif section is None:
            found.append(field.name)
        else:
            found += [f"{field.name}.{inner.name}" for inner in structs.fields(section)]
    return found


def test_every_key_is_in_the_readme_and_every_key_there_exists() -> None:
    table = README.read_text(encoding="utf-8").partition("## Configuration")[2].partition("\n## ")[0]
    documented = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]

    assert documented == keys()


def check_config(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "collector.toml"
    path.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "holdfast_collector", "check-config", "--config", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST__")},
    )


def test_check_config_finds_mistakes_in_configuration_and_exits_2(tmp_path: Path) -> None:
    done = check_config(tmp_path, 'data_dri = "x"\n[log]\nlevel = "loud"\n')

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == "2 mistakes; nothing was started"


def test_check_config_finds_mistakes_in_rules_and_exits_2(tmp_path: Path) -> None:
    folder = tmp_path / "rules.d"
    folder.mkdir()
    (folder / "own.yaml").write_text("rules:\n- alert: X\n")

    done = check_config(tmp_path, f'[rules]\ndirectories = ["{folder}"]\n')

    assert done.returncode == 2
    assert str(folder / "own.yaml") in done.stderr


def test_check_config_says_what_is_in_force(tmp_path: Path) -> None:
    done = check_config(tmp_path, f'[rules]\ndirectories = ["{tmp_path}/none"]\n')

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(
        "brokers mqtt://127.0.0.1:1883, alerts go to nobody: there is no [[receiver]]\n"
    )
