"""The operator's command. Exit codes: 0 good, 1 bad news, 2 the user's mistake."""

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import click

from holdfast import rules_command
from holdfast.api import Address, CollectorApi, Refused, Unreachable
from holdfast.broker_choice import NoBroker
from holdfast.simulate import Plan, Tally, simulate
from holdfast.simulated_node import Shape
from holdfast.terminal import Terminal, printable
from holdfast.up import ChildDied, UpRefused, Wishes, up

BAD_NEWS = 1
USERS_MISTAKE = 2
URL = click.option("--url", default="http://127.0.0.1:9760", show_default=True, help="The collector.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the collector's own answer.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="holdfast")
def main() -> None:
    """Prove that the state on your machines is durable, and hear when it is not."""


@main.command("up")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path(".holdfast"),
    show_default=True,
    help="All is kept there.",
)
@click.option("--port", default=9760, show_default=True, help="Of the status page, on 127.0.0.1.")
@click.option(
    "--broker", type=click.Choice(["auto", "mosquitto", "embedded"]), default="auto", show_default=True
)
@click.option("--for", "seconds", type=float, help="Stop after this many seconds.")
def run_up(data: Path, port: int, broker: str, seconds: float | None) -> None:
    """Run broker, collector and agent on this machine, with nothing to configure."""
    try:
        asyncio.run(up(Wishes(data=data, port=port, broker=broker, seconds=seconds), Terminal()))
    except (UpRefused, NoBroker) as error:
        click.echo(f"holdfast up: {error}", err=True)
        sys.exit(USERS_MISTAKE)
    except ChildDied as error:
        click.echo(f"holdfast up: {error}", err=True)
        sys.exit(BAD_NEWS)


@main.command("simulate")
@click.option("--nodes", default=100, show_default=True, help="How many.")
@click.option("--interval", default=10.0, show_default=True, help="Seconds between the reports of one node.")
@click.option("--broker", default="mqtt://127.0.0.1:1883", show_default=True, help="Where they publish.")
@click.option("--for", "seconds", type=float, help="Stop after this many seconds; without it, on Ctrl-C.")
def run_simulate(nodes: int, interval: float, broker: str, seconds: float | None) -> None:
    """Publish as many realistic nodes over real connections: to size a collector."""
    # The epoch must grow from run to run, and the clock does.
    shape = Shape(interval_seconds=interval, epoch=int(time.time()))
    plan = Plan(brokers=(broker,), nodes=nodes, shape=shape, seconds=seconds)
    terminal = Terminal()
    tally = asyncio.run(_simulate(plan, terminal))
    terminal.close()
    terminal.line(_told(tally))
    sys.exit(BAD_NEWS if tally.waiting or tally.refused or not tally.reports_taken else 0)


async def _simulate(plan: Plan, terminal: Terminal) -> Tally:
    stopping = asyncio.Event()
    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return await simulate(plan, lambda tally: terminal.live(_told(tally), time.monotonic()), stopping)


def _told(tally: Tally) -> str:
    trouble = f"; {printable(tally.trouble)}" if tally.trouble else ""
    return (
        f"{tally.connected} connected, {tally.reports_taken} of {tally.reports} reports taken, "
        f"{tally.durable_acknowledged} of {tally.durable} events acknowledged{trouble}"
    )


@main.group()
def rules() -> None:
    """Check and test rule packs before the collector sees them."""


@rules.command()
@click.argument("paths", nargs=-1)
def check(paths: tuple[str, ...]) -> None:
    """Find every mistake in packs (files or folders); without one, look at those shipped."""
    sys.exit(rules_command.check(paths))


@rules.command()
@click.argument("paths", nargs=-1)
def test(paths: tuple[str, ...]) -> None:
    """Run the tests beside packs; without one, those of the shipped packs."""
    sys.exit(rules_command.test(paths))


@main.command()
@URL
@AS_JSON
def alerts(url: str, as_json: bool) -> None:
    """List what fires; exit code 1 when something does."""
    found = _ask(url, "/api/v1/alerts")
    firing = [row for row in found["alerts"] if row["state"] == "firing" and row["alertname"] != "Watchdog"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for row in firing:
            click.echo(printable(f"{row['severity']:7} {row['alertname']}: {row['annotations']['summary']}"))
            click.echo(printable(f"        {row['key']}"))
        click.echo(f"{len(firing)} firing")
    sys.exit(BAD_NEWS if firing else 0)


@main.command()
@click.argument("key")
@click.option("--reason", required=True, help="Why; it stays with the alert.")
@URL
def ack(key: str, reason: str, url: str) -> None:
    """Acknowledge an alert by its key."""
    try:
        _api(url).post("/api/v1/acks", {"key": key, "reason": reason})
    except (Unreachable, Refused) as error:
        click.echo(f"holdfast: {error}", err=True)
        sys.exit(BAD_NEWS)
    click.echo("acknowledged")


def _api(url: str) -> CollectorApi:
    try:
        return CollectorApi(Address(url=url))
    except ValueError as error:
        click.echo(f"holdfast: {error}", err=True)
        sys.exit(USERS_MISTAKE)


def _ask(url: str, path: str) -> Any:
    try:
        return _api(url).get(path)
    except (Unreachable, Refused) as error:
        click.echo(f"holdfast: {error}", err=True)
        sys.exit(BAD_NEWS)


if __name__ == "__main__":
    main()
