"""The operator's command `holdfast`. The only file that knows click.

Exit codes: 0 good; 1 bad news, among them a collector that does not answer; 2 the user's mistake.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

try:
    import click
except ModuleNotFoundError:
    sys.stderr.write(
        "holdfast comes with the collector, which is not installed: pip install 'holdfast[collector]'\n"
    )
    sys.exit(2)

from msgspec import structs

from holdfast import replay_command, rules_command
from holdfast.api import Address, CollectorApi, Refused, Unreachable
from holdfast.broker_choice import NoBroker
from holdfast.explaining import explanation_lines
from holdfast.history_lines import history_lines
from holdfast.simulate import Plan, Tally, simulate
from holdfast.simulated_node import shape_for
from holdfast.standing import alert_lines, firing, status_lines, tally_line, troubled
from holdfast.terminal import Terminal, printable
from holdfast.up import ChildDied, UpRefused, Wishes, up
from holdfast.witness_lines import lost, witness_lines
from holdfast_collector.config import default_path
from holdfast_collector.ingest.mqtt import PORTS
from holdfast_wire import topic
from holdfast_wire.configuring import duration_seconds

BAD_NEWS = 1
USERS_MISTAKE = 2

Command = TypeVar("Command", bound=Callable[..., Any])


class Duration(click.ParamType[float]):
    """Seconds, or a number with a unit: `20`, `20s`, `5m`, `1h30m`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            seconds = float(value)
        except ValueError:
            seconds = duration_seconds(value) or 0.0
        if not 0.0 < seconds < 1e9:
            self.fail(f"{value!r} is no duration: write 20, 20s, 5m or 1h30m", param, ctx)
        return seconds


class BrokerUrl(click.ParamType[str]):
    """`mqtt://HOST:PORT`."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        scheme, found, rest = str(value).partition("://")
        port = rest.rpartition(":")[2] if ":" in rest else "1"
        if not found or scheme not in PORTS or not rest or not port.isdecimal() or not 0 < int(port) < 65_536:
            self.fail(f"{value!r} is no broker: write mqtt://HOST:PORT", param, ctx)
        return str(value)


def asks_a_collector(command: Command) -> Command:
    """The options of a command that talks to a running collector."""
    options = (
        click.option("--url", default="http://127.0.0.1:9760", show_default=True, help="The collector."),
        click.option(
            "--token-file",
            type=click.Path(exists=True, dir_okay=False),
            help="The bearer token, where the collector wants one.",
        ),
        click.option(
            "--ca-file",
            type=click.Path(exists=True, dir_okay=False),
            help="Whom to trust with https; default: the system's authorities.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="holdfast")
def main() -> None:
    """Prove that the state on your machines is durable, and hear when it is not.

    Exit codes: 0 good, 1 bad news, 2 your mistake.
    """


@main.command("up")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".holdfast"),
    show_default=True,
    help="Everything is written below this folder.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=9760,
    show_default=True,
    help="Of page, metrics and API, on 127.0.0.1; 0 for any that is free.",
)
@click.option(
    "--broker",
    type=click.Choice(["auto", "mosquitto", "embedded"]),
    default="auto",
    show_default=True,
    help="auto: mosquitto where it is installed, else the embedded one.",
)
@click.option("--for", "seconds", type=Duration(), help="Stop this long after everything runs, e.g. 20s.")
def run_up(data: Path, port: int, broker: str, seconds: float | None) -> None:
    """Run broker, collector and agent on this machine, with nothing to configure."""
    try:
        asyncio.run(up(Wishes(data=data, port=port, broker=broker, seconds=seconds), Terminal()))
    except (UpRefused, NoBroker) as error:
        _fail(f"holdfast up: {error}", USERS_MISTAKE)
    except ChildDied as error:
        _fail(f"holdfast up: {error}", BAD_NEWS)


@main.command("simulate")
@click.option(
    "--nodes", type=click.IntRange(1, 99_999), default=100, show_default=True, help="How many machines."
)
@click.option(
    "--interval", type=Duration(), default=10.0, show_default=True, help="Between the reports of one node."
)
@click.option(
    "--broker",
    "brokers",
    type=BrokerUrl(),
    multiple=True,
    default=("mqtt://127.0.0.1:1883",),
    show_default=True,
    help="Where they publish; repeat it for a list to be tried in turn.",
)
@click.option("--for", "seconds", type=Duration(), help="Stop after this long; without it, on Ctrl-C.")
@click.option(
    "--facts",
    type=click.IntRange(1, 2000),
    default=51,
    show_default=True,
    help="About how many facts an ordinary report carries: 17 for each volume.",
)
@click.option(
    "--events",
    type=click.FloatRange(0.0),
    default=1.0,
    show_default=True,
    help="Events, which must not be lost, per node and hour.",
)
@click.option("--prefix", default="sim", show_default=True, help="Nodes are called PREFIX-00001 and so on.")
@click.option("--seed", default=1, show_default=True, help="The same seed makes the same machines.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON at the end.")
def run_simulate(
    nodes: int,
    interval: float,
    brokers: tuple[str, ...],
    seconds: float | None,
    facts: int,
    events: float,
    prefix: str,
    seed: int,
    as_json: bool,
) -> None:
    """Publish many realistic nodes over real connections: to size a collector, or to try rules."""
    if not topic.node_name_valid(f"{prefix}-00001"):
        raise click.BadParameter(f"{prefix!r} cannot begin a node's name", param_hint="--prefix")
    # The epoch must grow from run to run, and the clock does.
    shape = shape_for(facts, interval, events, epoch=int(time.time()))
    plan = Plan(brokers=brokers, nodes=nodes, shape=shape, seconds=seconds, prefix=prefix, seed=seed)
    terminal = Terminal()
    tally = asyncio.run(_simulate(plan, terminal, quiet=as_json))
    terminal.close()
    if as_json:
        click.echo(json.dumps(structs.asdict(tally) | {"waiting": tally.waiting}))
    else:
        click.echo(printable(tally_line(tally)))
    if not tally.reports_taken:
        _fail(f"holdfast simulate: nothing was published: {printable(tally.trouble)}", BAD_NEWS)
    if tally.refused or tally.waiting:
        said = (
            f"{tally.refused} messages refused by the broker, {tally.waiting} not acknowledged by a collector"
        )
        _fail(f"holdfast simulate: {said}: does one listen on this broker?", BAD_NEWS)


async def _simulate(plan: Plan, terminal: Terminal, *, quiet: bool) -> Tally:
    stopping = asyncio.Event()
    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)

    def progress(tally: Tally) -> None:
        if not quiet:
            terminal.live(printable(tally_line(tally)), time.monotonic())

    return await simulate(plan, progress, stopping)


@main.group()
def rules() -> None:
    """Check, test, replay and export rule packs."""


@rules.command()
@click.argument("paths", nargs=-1)
@click.option(
    "--against", metavar="URL", help="A running collector: also find rules that its fleet cannot fire."
)
@click.option("--token-file", type=click.Path(exists=True, dir_okay=False), help="Its bearer token.")
@click.option("--ca-file", type=click.Path(exists=True, dir_okay=False), help="Whom to trust with https.")
@click.option("--strict", is_flag=True, help="Exit code 1 when a rule or a `where` can do nothing there.")
def check(
    paths: tuple[str, ...], against: str | None, token_file: str | None, ca_file: str | None, strict: bool
) -> None:
    """Find every mistake in packs (files or folders); without one, look at those shipped."""
    if not against:
        sys.exit(rules_command.check(paths))
    api = _api(against, token_file, ca_file)
    sys.exit(rules_command.check(paths, lambda: _asked(lambda: api.get("/api/v1/facts")), strict=strict))


@rules.command()
@click.argument("paths", nargs=-1)
def test(paths: tuple[str, ...]) -> None:
    """Run the tests beside packs; without one, those of the shipped packs."""
    sys.exit(rules_command.test(paths))


@rules.command()
@click.option("--prometheus", "as_prometheus", is_flag=True, required=True, help="As a Prometheus rule file.")
@click.argument("paths", nargs=-1)
def export(as_prometheus: bool, paths: tuple[str, ...]) -> None:
    """Print packs as rules for another system; without one, those shipped."""
    assert as_prometheus, "there is no other format, and click insists"
    sys.exit(rules_command.export(paths))


@rules.command()
@click.option(
    "--from", "since", default="-24h", show_default=True, help="RFC 3339 with its zone, or an age: -2h."
)
@click.option("--to", "until", default="now", show_default=True, help="The same, or now.")
@click.option(
    "--pack", "packs", multiple=True, help="A changed or new pack, or a folder; replaces the one of its name."
)
@click.option(
    "--against",
    type=click.Choice(["running", "shipped"]),
    default="running",
    show_default=True,
    help="What to compare with: the packs that the collector's configuration names, or the shipped ones alone.",
)
@click.option("--node", "nodes", multiple=True, help="Only nodes like this, * for any characters.")
@click.option("--store", type=click.Path(exists=True, path_type=Path), help="The data_dir, or a copy of it.")
@click.option(
    "--config", type=click.Path(path_type=Path), help="The collector's; default: where it reads it."
)
@click.option("--url", help="Fetch the recording from a running collector instead.")
@click.option(
    "--token-file", type=click.Path(exists=True, dir_okay=False), help="Its bearer token, for --url."
)
@click.option("--ca-file", type=click.Path(exists=True, dir_okay=False), help="Whom to trust with https.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def replay(
    since: str,
    until: str,
    packs: tuple[str, ...],
    against: str,
    nodes: tuple[str, ...],
    store: Path | None,
    config: Path | None,
    url: str | None,
    token_file: str | None,
    ca_file: str | None,
    as_json: bool,
) -> None:
    """Play recorded days under changed rules, and print what people would have been told otherwise.

    Exit code 0: no difference; 1: some; 2: your mistake.
    """
    now = time.time()
    try:
        times = replay_command.instant(since, now), replay_command.instant(until, now)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--from or --to") from None
    if times[0] >= times[1]:
        raise click.BadParameter(f"{since} is not before {until}", param_hint="--from")
    if url and store:
        raise click.UsageError("--store and --url are two places: give one")
    asked = replay_command.Asked(
        since=times[0],
        until=times[1],
        packs=packs,
        against=against,
        nodes=nodes,
        store=store,
        config=config or default_path(),
        config_required=config is not None,
        as_json=as_json,
    )
    sys.exit(replay_command.replay(asked, _api(url, token_file, ca_file) if url else None))


@main.command()
@asks_a_collector
def status(url: str, token_file: str | None, ca_file: str | None, as_json: bool) -> None:
    """Say how collector and fleet stand; exit code 1 unless all is well."""
    api = _api(url, token_file, ca_file)
    answer = _asked(lambda: api.get("/api/v1/status"))
    nodes = _asked(lambda: api.get("/api/v1/nodes", limit=1))
    if as_json:
        click.echo(json.dumps(answer | {"nodes": nodes["by_state"]}, indent=2))
    else:
        _print(status_lines(api.url, answer, nodes))
    sys.exit(BAD_NEWS if troubled(answer, nodes) else 0)


@main.command()
@asks_a_collector
@click.option("--all", "everything", is_flag=True, help="Pending, resolved and informative ones, too.")
@click.option("--node", help="Of this node only.")
def alerts(
    url: str, token_file: str | None, ca_file: str | None, as_json: bool, everything: bool, node: str | None
) -> None:
    """List what fires for a person to act on; exit code 1 when something does."""
    api = _api(url, token_file, ca_file)
    asked = {"limit": 10_000} | ({"node": node} if node else {})
    rows = _asked(lambda: api.get("/api/v1/alerts", **asked))["alerts"]
    shown = rows if everything else firing(rows)
    if as_json:
        click.echo(json.dumps(shown, indent=2))
    else:
        _print(alert_lines(shown, time.time()))
    sys.exit(BAD_NEWS if firing(rows) else 0)


@main.command()
@click.argument("alert")
@click.argument("node")
@click.argument("resource", required=False, default="")
@asks_a_collector
def explain(
    alert: str, node: str, resource: str, url: str, token_file: str | None, ca_file: str | None, as_json: bool
) -> None:
    """Say why ALERT fires on NODE, or does not: every operand, its age and source, and what would end it.

    RESOURCE is wanted where the rule judges several: a mount point, a unit. Exit code 1 when the rule holds.
    """
    api = _api(url, token_file, ca_file)
    answer = _asked(lambda: api.get("/api/v1/explain", alert=alert, node=node, resource=resource))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        _print(explanation_lines(answer))
    sys.exit(BAD_NEWS if answer["finding"] == "holds" else 0)


@main.command()
@click.argument("key")
@click.option("--reason", required=True, help="Who took over, and why; it stays with the alert.")
@asks_a_collector
def ack(key: str, reason: str, url: str, token_file: str | None, ca_file: str | None, as_json: bool) -> None:
    """Acknowledge the alert KEY, as `holdfast alerts` prints it."""
    api = _api(url, token_file, ca_file)
    answer = _asked(lambda: api.post("/api/v1/acks", {"key": key, "reason": reason}))
    click.echo(json.dumps(answer, indent=2) if as_json else f"acknowledged: {printable(key)}")


@main.command()
@click.argument("node")
@asks_a_collector
def witness(node: str, url: str, token_file: str | None, ca_file: str | None, as_json: bool) -> None:
    """What NODE's volumes promised to keep and kept: newest record, events survived, losses with their evidence.

    Exit code 1: a volume broke a promise, and nobody has taken note.
    """
    answer = _asked(lambda: _api(url, token_file, ca_file).get("/api/v1/witness", node=node))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        _print(witness_lines(answer, time.time()))
    sys.exit(BAD_NEWS if lost(answer["volumes"]) else 0)


@main.command()
@click.argument("node")
@click.argument("resource", required=False, default="")
@click.option("--kind", default="", help="Of resources of this kind only: volume, service, state_path, …")
@click.option("--group", "of_group", is_flag=True, help="NODE is the name of a group.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many lines.")
@asks_a_collector
def history(
    node: str,
    resource: str,
    kind: str,
    of_group: bool,
    limit: int,
    url: str,
    token_file: str | None,
    ca_file: str | None,
    as_json: bool,
) -> None:
    """Tell what happened to NODE, or to one RESOURCE of it: verdicts that turned, alerts that ended, boots, promises."""
    api = _api(url, token_file, ca_file)
    asked: dict[str, str | int] = {"kind": kind, "resource": resource, "limit": limit}
    if of_group and (kind or resource):
        raise click.UsageError("a group has no resources: leave RESOURCE and --kind out")
    where = "groups" if of_group else "nodes"
    answer = _asked(lambda: api.get(f"/api/v1/{where}/{quote(node, safe='')}/history", **asked))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        _print(history_lines(answer))


@main.group()
def restore() -> None:
    """Say beforehand that a node will be restored from a copy."""


@restore.command()
@click.argument("node")
@click.option("--for", "seconds", type=Duration(), required=True, help="How long it may take, e.g. 2h.")
@click.option("--reason", required=True, help="What is restored, and why; it stays with what is lost.")
@asks_a_collector
def announce(
    node: str,
    seconds: float,
    reason: str,
    url: str,
    token_file: str | None,
    ca_file: str | None,
    as_json: bool,
) -> None:
    """Announce that NODE is restored: what it loses meanwhile is measured, and nobody is called."""
    api = _api(url, token_file, ca_file)
    wish = {"node": node, "seconds": seconds, "reason": reason}
    answer = _asked(lambda: api.post("/api/v1/restores", wish))
    until = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(answer["until"]))
    click.echo(json.dumps(answer, indent=2) if as_json else f"announced: {printable(node)} until {until}")


def _api(url: str, token_file: str | None, ca_file: str | None) -> CollectorApi:
    try:
        return CollectorApi(Address(url=url, token_file=token_file or "", ca_file=ca_file or ""))
    except (ValueError, OSError) as error:
        _fail(f"holdfast: {error}", USERS_MISTAKE)


def _asked(question: Callable[[], Any]) -> Any:
    """The collector's answer. What it will not do because of the question (HTTP 4xx) is the user's mistake."""
    try:
        return question()
    except Unreachable as error:
        _fail(f"holdfast: no collector answers: {printable(str(error))}", BAD_NEWS)
    except Refused as error:
        mistake = 400 <= error.status < 500
        _fail(f"holdfast: {printable(str(error))}", USERS_MISTAKE if mistake else BAD_NEWS)


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(printable(line))


def _fail(message: str, code: int) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
