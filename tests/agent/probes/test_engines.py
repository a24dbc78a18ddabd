"""Where each engine keeps its files, by arguments, environment and configuration: the layouts distributions ship."""

import posixpath

import pytest

from holdfast_agent.probes.engines.engine import Discovery, Engine, Running
from holdfast_agent.probes.engines.known import ENGINES, engine_named, engine_of


class Tree:
    """Files as a process sees them: path → text, None for a folder that may not be listed, a link as `-> target`."""

    def __init__(self, files: dict[str, str] | None = None) -> None:
        self._files = files or {}

    def text(self, path: str) -> str | None:
        text = self._files.get(path)
        return None if text is None or text.startswith("-> ") else text

    def names(self, path: str) -> list[str] | None:
        inside = [file.removeprefix(f"{path}/") for file in self._files if file.startswith(f"{path}/")]
        return sorted({name.partition("/")[0] for name in inside}) or None

    def link(self, path: str) -> str | None:
        text = self._files.get(path, "")
        return text[3:] if text.startswith("-> ") else None


def find(command: str, files: dict[str, str] | None = None, **more: object) -> Discovery:
    running = Running(arguments=tuple(command.split()), **more)  # type: ignore[arg-type]  # each test names what it gives
    engine = engine_of(running)
    assert engine is not None
    return engine.find(running, Tree(files))


def roles(discovery: Discovery) -> dict[str, str]:
    return {found.path: found.role for found in discovery.paths}


def sources(discovery: Discovery) -> dict[str, str]:
    return {found.path: found.source for found in discovery.paths}


DEBIAN = "/usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/15/main -c config_file=/etc/postgresql/15/main/postgresql.conf"


def test_debians_postgresql_keeps_its_configuration_apart() -> None:
    found = find(
        DEBIAN,
        {
            "/etc/postgresql/15/main/postgresql.conf": "data_directory = '/srv/pg' # moved\ninclude_dir = 'conf.d'\n",
            "/etc/postgresql/15/main/conf.d/log.conf": "logging_collector = on\nlog_directory = 'pg_log'\n",
            "/srv/pg/pg_tblspc/16385": "-> /mnt/fast",
        },
    )

    assert roles(found) == {
        "/srv/pg": "data",
        "/srv/pg/pg_wal": "wal",
        "/srv/pg/pg_tblspc/16385": "tablespace",
        "/srv/pg/pg_log": "log",
        "/etc/postgresql/15/main": "config",
    }
    assert found.missing == ()


@pytest.mark.parametrize(
    ("settings", "archives"),
    [
        ("archive_mode = on\narchive_command = 'test ! -f /mnt/wal/%f && cp %p /mnt/wal/%f'", ["/mnt/wal"]),
        ("archive_mode = always\narchive_command = 'gzip < %p > \"/srv/a/%f.gz\"'", ["/srv/a"]),
        ("archive_mode = on\nbasic_archive.archive_directory = '/srv/b'", ["/srv/b"]),
        ("archive_mode = off\narchive_command = 'cp %p /mnt/wal/%f'", []),
        ("archive_mode = on\narchive_command = 'pgbackrest --stanza=main archive-push %p'", []),
        ("archive_mode = on\narchive_command = 'scp %p vault:wal/%f'", []),
    ],
)
def test_postgresqls_archive_is_a_backup(settings: str, archives: list[str]) -> None:
    """Only a folder of this machine is one that can be looked at; tools and other machines are not."""
    found = find("postgres -D /pg", {"/pg/postgresql.conf": settings})

    assert [path for path, role in roles(found).items() if role == "backup"] == archives


def test_postgresqls_working_directory_is_its_data_whatever_the_arguments_say() -> None:
    found = find("postgres -D /etc/pg", directory="/data/pg")

    assert roles(found)["/data/pg"] == "data"
    assert sources(found)["/data/pg"] == "working directory"


def test_alter_system_wins_over_the_file_and_the_command_line_over_both() -> None:
    files = {
        "/data/pg/postgresql.conf": "logging_collector = on\nlog_directory = '/var/log/one'\n",
        "/data/pg/postgresql.auto.conf": "log_directory = '/var/log/two'\n",
    }

    assert "/var/log/two" in roles(find("postgres -D /data/pg", files))
    assert "/var/log/three" in roles(find("postgres -D /data/pg --log-directory=/var/log/three", files))


def test_a_data_directory_that_may_not_be_listed_says_what_stays_unknown() -> None:
    found = find("postgres -D /data/pg", {})

    assert roles(found)["/data/pg/pg_wal"] == "wal"
    assert [words for words in found.missing if "tablespaces outside /data/pg are not known" in words]


@pytest.mark.parametrize("switch", ["-F", "-c fsync=off", "--fsync=no"])
def test_postgresql_without_fsync_on_its_command_line_is_told(switch: str) -> None:
    assert find(f"postgres -D /data/pg {switch}").syncs_disabled_by
    assert not find("postgres -D /data/pg -c fsync=on").syncs_disabled_by


def test_postgresqls_children_are_not_taken_for_databases() -> None:
    assert engine_of(Running(arguments=("postgres: checkpointer ",))) is None


def test_mysqls_files_are_read_in_order_and_the_command_line_last() -> None:
    found = find(
        "/usr/sbin/mysqld --innodb-log-group-home-dir=/redo",
        {
            "/etc/my.cnf": "[mysqld]\ndatadir=/one\ntmpdir = /scratch:/scratch2\n",
            "/etc/mysql/my.cnf": "[mysqld]\ndatadir = '/two' \nlog_bin = /logs/binlog ; old\n!includedir /etc/mysql/more/\n",
            "/etc/mysql/more/a.cnf": "[mysqldump]\ndatadir = /nowhere\n[mysqld]\ninnodb_undo_directory=undo\n",
            "/two/shop": "-> /elsewhere/shop",
        },
    )

    assert roles(found) == {
        "/two": "data",
        "/redo": "wal",
        "/two/undo": "data",
        "/logs": "binlog",
        "/scratch": "temp",
        "/scratch2": "temp",
        "/two/shop": "tablespace",
    }


def test_mysql_may_be_told_to_skip_what_a_file_turned_on() -> None:
    files = {"/etc/my.cnf": "[mysqld]\nlog_bin=/logs/binlog\n"}

    assert "/logs" in roles(find("mysqld", files))
    assert "/logs" not in roles(find("mysqld --skip-log-bin", files))
    assert "/logs" not in roles(find("mysqld --no-defaults", files))


def test_mysql_without_a_readable_file_is_taken_at_its_default_and_says_so() -> None:
    found = find("mysqld")

    assert roles(found)["/var/lib/mysql"] == "data"
    assert found.missing[0].startswith("no option file can be read")


def test_innodb_that_never_syncs_is_told() -> None:
    assert find("mysqld --innodb-flush-method=nosync").syncs_disabled_by == "innodb_flush_method = nosync"


REDIS = "/usr/bin/redis-server unixsocket:/run/redis/redis.sock"
STARTED = ("/usr/bin/redis-server", "/etc/redis/redis.conf", "--supervised", "systemd")


def test_redis_behind_its_title_is_read_by_how_systemd_started_it() -> None:
    files = {
        "/etc/redis/redis.conf": 'dir /var/lib/redis\nappendonly yes\nlogfile "/var/log/redis/redis.log"\n'
    }

    found = find(REDIS, files, directory="/var/lib/redis", started_as=STARTED)

    assert roles(found) == {
        "/var/lib/redis": "data",
        "/var/lib/redis/appendonlydir": "wal",
        "/var/log/redis/redis.log": "log",
    }


def test_redis_without_a_file_is_known_by_its_options() -> None:
    """So containers start it, and units that were written by hand: nothing is missing there."""
    options = ("redis-server", "--dir", "/data", "--appendonly", "yes")

    found = find(REDIS, {}, started_as=options)

    assert (roles(found), found.missing) == ({"/data": "data", "/data/appendonlydir": "wal"}, ())
    assert roles(find(REDIS, {}, started_as=("redis-server", "--save", "", "--dir", "/c"))) == {"/c": "cache"}


def test_redis_that_neither_saves_nor_appends_is_a_cache() -> None:
    """The catalogue's D-RD1: what needs not last must not be asked to."""
    files = {"/etc/redis/redis.conf": 'save ""\nappendonly no\n'}

    assert roles(find(REDIS, files, directory="/run/r", started_as=STARTED)) == {"/run/r": "cache"}


def test_redis_whose_file_nobody_may_read_is_taken_for_a_database() -> None:
    found = find(REDIS, {}, directory="/var/lib/redis", started_as=STARTED)

    assert roles(found) == {"/var/lib/redis": "data"}
    assert found.missing == (
        "/etc/redis/redis.conf cannot be read; whether the server saves anything is not known",
    )


def test_redis_of_which_nothing_can_be_read_has_no_path_and_says_why() -> None:
    assert find(REDIS).paths == ()
    assert len(find(REDIS).missing) == 2


def test_a_sentinel_is_no_database() -> None:
    assert engine_of(Running(arguments=("redis-server", "*:26379", "[sentinel]"))) is None


def test_etcds_file_makes_its_flags_void() -> None:
    files = {
        "/etc/etcd.yml": "name: a\ndata-dir: /srv/etcd\nwal-dir: /fast/wal   # apart\nunsafe-no-fsync: true\n"
    }

    found = find("etcd --config-file /etc/etcd.yml --data-dir /ignored", files)

    assert roles(found) == {"/srv/etcd": "data", "/fast/wal": "wal"}
    assert found.syncs_disabled_by == "--unsafe-no-fsync"


def test_etcd_listens_to_flags_before_its_environment_and_has_a_default() -> None:
    environment = {"ETCD_DATA_DIR": "/env", "ETCD_NAME": "n1"}

    assert "/flag" in roles(find("etcd --data-dir=/flag --unsafe-no-fsync", environment=environment))
    assert "/env" in roles(find("etcd", environment=environment))
    assert "/var/lib/x/n1.etcd" in roles(find("etcd --name n1", directory="/var/lib/x"))
    assert find("etcd").missing == ("its working directory cannot be read, and its data is in there",)


@pytest.mark.parametrize(
    "text",
    ["storage:\n  dbPath: /srv/mongo\nsystemLog:\n  path: /var/log/mongo.log\n", "dbpath=/srv/mongo\n"],
)
def test_mongodb_is_configured_in_yaml_or_the_old_form(text: str) -> None:
    found = find("mongod --config /etc/mongod.conf", {"/etc/mongod.conf": text})

    assert roles(found)["/srv/mongo"] == "data"
    assert roles(found)["/srv/mongo/journal"] == "wal"


def test_mongodb_whose_file_cannot_be_read_is_not_guessed_at() -> None:
    found = find("mongod --config /etc/mongod.conf")

    assert (found.paths, len(found.missing)) == ((), 1)
    assert "/data/db" in roles(find("mongod"))
    assert "/here" in roles(find("mongod -f /etc/mongod.conf --dbpath /here"))


def test_rabbitmq_names_its_database_in_arguments_or_environment() -> None:
    arguments = "/usr/lib/erlang/erts/bin/beam.smp -W w -- -rabbit boot -mnesia dir"
    found = find(f'{arguments} "/srv/mq/rabbit@a"', environment={"HOME": "/srv/mq"})

    assert roles(found) == {"/srv/mq/rabbit@a": "data", "/srv/mq/.erlang.cookie": "keys"}
    assert "/base" in roles(find("beam.smp -s rabbit", environment={"RABBITMQ_MNESIA_BASE": "/base"}))
    assert engine_of(Running(arguments=("beam.smp", "-s", "couch"))) is None


ELASTIC = "/usr/share/elasticsearch/jdk/bin/java -Xms1g -Des.path.home=/usr/share/elasticsearch -Des.path.conf=/etc/es -cp x org.elasticsearch.server/x"


def test_elasticsearch_may_have_its_data_in_several_places() -> None:
    one = {"/etc/es/elasticsearch.yml": "path:\n  data:\n    - /srv/a\n    - /srv/b\n  logs: /var/log/es\n"}
    other = {"/etc/es/elasticsearch.yml": "path.data: [/srv/a, /srv/b]\npath.logs: /var/log/es\n"}
    expected = {"/srv/a": "data", "/srv/b": "data", "/var/log/es": "log"}

    assert [roles(find(ELASTIC, files)) for files in (one, other)] == [expected, expected]
    assert roles(find(ELASTIC, {"/etc/es/elasticsearch.yml": ""})) == {
        "/usr/share/elasticsearch/data": "data"
    }
    assert find(ELASTIC).missing == (
        "/etc/es/elasticsearch.yml cannot be read; where the indices are is not known",
    )


def test_kafka_reads_its_properties_and_what_overrides_them() -> None:
    files = {
        "/etc/kafka/server.properties": "# sample\nlog.dirs=/srv/k1, /srv/k2\nmetadata.log.dir = /srv/meta\n"
    }

    assert roles(find("java -cp x kafka.Kafka /etc/kafka/server.properties", files)) == {
        "/srv/k1": "data",
        "/srv/k2": "data",
        "/srv/meta": "wal",
    }
    override = "java kafka.Kafka /etc/kafka/server.properties --override log.dirs=/o"
    assert "/o" in roles(find(override, files))
    assert roles(find("java kafka.Kafka /k", {"/k": ""})) == {"/tmp/kafka-logs": "data"}
    assert find("java kafka.Kafka /k").paths == ()


def test_sql_server_keeps_everything_in_one_place_unless_told_otherwise() -> None:
    moved = {
        "/var/opt/mssql/mssql.conf": "[filelocation]\ndefaultdatadir = /data\ndefaultlogdir=/log\n[network]\ntcpport = 1\n"
    }

    assert roles(find("/opt/mssql/bin/sqlservr", moved)) == {
        "/data": "data",
        "/log": "wal",
        "/var/opt/mssql/data": "data",
        "/var/opt/mssql/log": "log",
        "/var/opt/mssql/secrets": "keys",
    }
    assert len(find("/opt/mssql/bin/sqlservr").missing) == 1


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_an_engine_is_found_by_its_name_and_takes_no_shell_for_itself(engine: Engine) -> None:
    assert engine_named(engine.name) is engine
    assert not engine.runs(Running(arguments=("/bin/sh", "-c", f"{engine.name} {posixpath.sep}")))


HOSTILE = [
    "",
    "=",
    "[",
    "include include",
    "- - -",
    ":",
    "a: [",
    "\x00\x01",
    "!include",
    "!includedir",
    "'",
    "include 'a'",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_files_that_make_no_sense_are_passed_over(text: str) -> None:
    """Whatever stands in a file, an engine's paths are found or missing; nothing raises, and includes of itself end."""
    every = dict.fromkeys(("/a", "/etc/my.cnf", "/d/postgresql.conf", "/d/a", "/e/elasticsearch.yml"), text)
    commands = (
        "postgres -D /d", "mysqld", "etcd --config-file /a", "mongod --config /a", "java kafka.Kafka /a",
        "java -Des.path.home=/e -Des.path.conf=/e", "sqlservr", "redis-server /a",
    )  # fmt: skip

    assert [find(command, every, directory="/w") for command in commands]
