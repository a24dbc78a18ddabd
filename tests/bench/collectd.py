"""collectd, the peer that does both jobs over MQTT: as an agent that publishes, as a server that exposes.

Configuration after collectd.conf(5). Debian has the daemon without its own configuration in `collectd-core`.
"""

import subprocess
from pathlib import Path

from tests.bench.boxed_machine import BoxedMachine
from tests.bench.processes import Missing, Program, tool

_TYPES = "/usr/share/collectd/types.db"


def _start(
    folder: Path,
    plugins: str,
    interval_seconds: float,
    host: str = "bench",
    through: BoxedMachine | None = None,
) -> Program:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "collectd.conf"
    config.write_text(
        f"""Hostname "{host}"
FQDNLookup false
BaseDir "{folder}"
PIDFile "{folder}/collectd.pid"
TypesDB "{_TYPES}"
Interval {interval_seconds:g}
LoadPlugin logfile
<Plugin logfile>
  LogLevel info
  File stdout
</Plugin>
{plugins}""",
        encoding="utf-8",
    )
    command = [tool("collectd", package="collectd-core"), "-f", "-C", str(config)]
    if through is not None:
        through.share(folder)
        command = through.running(command)
    return Program("collectd", command, folder=folder)


def start_agent(
    folder: Path,
    *,
    broker_port: int,
    interval_seconds: float,
    processes: list[str],
    host: str = "bench",
    through: BoxedMachine | None = None,
) -> Program:
    """collectd as the agent of a machine: space and inodes of all volumes, the disks, named processes, over MQTT.

    Raises Missing.
    """
    tool("collectd", package="collectd-core")
    _check_libraries("mqtt", "libmosquitto1")
    watched = "\n".join(f'  Process "{name}"' for name in processes)
    plugins = f"""LoadPlugin df
LoadPlugin disk
LoadPlugin processes
LoadPlugin mqtt
<Plugin df>
  ReportInodes true
  ValuesPercentage true
</Plugin>
<Plugin processes>
{watched}
</Plugin>
<Plugin mqtt>
  <Publish "bench">
    Host "127.0.0.1"
    Port {broker_port}
    QoS 1
    Prefix "collectd"
  </Publish>
</Plugin>
"""
    return _start(folder, plugins, interval_seconds, host, through).wait_ready("Initialization complete")


def _check_libraries(plugin: str, package: str) -> None:
    """Debian only recommends the libraries of the plugins (ldd(1)). Raises Missing."""
    linked = subprocess.run(
        ["ldd", f"/usr/lib/collectd/{plugin}.so"], capture_output=True, text=True, check=False
    )
    if "not found" in linked.stdout:
        raise Missing(f"a library of collectd's {plugin} is not installed: apt install {package}")


def start_server(folder: Path, *, broker_port: int, http_port: int) -> Program:
    """collectd as the collector: subscribes to every value, exposes them to Prometheus. Raises Missing."""
    tool("collectd", package="collectd-core")
    _check_libraries("mqtt", "libmosquitto1")
    _check_libraries("write_prometheus", "libprotobuf-c1 libmicrohttpd12")
    plugins = f"""LoadPlugin mqtt
LoadPlugin write_prometheus
<Plugin mqtt>
  <Subscribe "bench">
    Host "127.0.0.1"
    Port {broker_port}
    QoS 1
    Topic "collectd/#"
  </Subscribe>
</Plugin>
<Plugin write_prometheus>
  Host "127.0.0.1"
  Port "{http_port}"
  StalenessDelta 3000
</Plugin>
"""
    return _start(folder, plugins, 10.0).wait_ready("Initialization complete")
