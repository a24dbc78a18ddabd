"""The command `holdfast-collector`: `run`, and `check-config` to find every mistake before it matters.

Exit codes: 0 good; 1 the collector could not go on, and its supervisor should start it again; 2 a mistake of the
user's, which starting again does not mend.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast_collector import config as configuration
from holdfast_collector.config import Config
from holdfast_collector.errors import AlreadyRunning, ConfigInvalid, ListenFailed, StoreNewer

if TYPE_CHECKING:
    from holdfast_rules import RuleSet

    Read = Callable[[], tuple[Config, RuleSet]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="holdfast-collector", description=metadata.metadata("holdfast")["Summary"]
    )
    parser.add_argument("--version", action="version", version=metadata.version("holdfast"))
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, help_ in (
        ("run", "work until SIGTERM; SIGHUP reads configuration and rules again"),
        ("check-config", "report every mistake in configuration and rules, and touch nothing"),
    ):
        command = verbs.add_parser(verb, help=help_, description=help_)
        command.add_argument(
            "--config", type=Path, metavar="FILE", help=f"default: {configuration.default_path()}"
        )
    asked = parser.parse_args(arguments)
    try:
        return _run(asked.config) if asked.verb == "run" else _check(asked.config)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library.startswith("holdfast"):
            raise
        print(
            f"the collector needs {library}, which is not installed: pip install 'holdfast[collector]'",
            file=sys.stderr,
        )
    except (AlreadyRunning, ListenFailed, StoreNewer) as error:
        print(error, file=sys.stderr)
    except ConfigInvalid as error:
        _complain(error.mistakes)
    return 2


def _run(path: Path | None) -> int:
    from holdfast_collector import app

    read = _reader(path)
    config, rules = read()
    return app.run(config, rules, version=metadata.version("holdfast"), environment=os.environ, reread=read)


def _check(path: Path | None) -> int:
    config, rules = _reader(path)()
    told = ", ".join(receiver.name for receiver in config.receiver) or "nobody: there is no [[receiver]]"
    print(f"good: {len(rules.rules)} rules, brokers {', '.join(config.mqtt.brokers)}, alerts go to {told}")
    return 0


def _reader(path: Path | None) -> "Read":
    """Reads configuration and rules. Raises ConfigInvalid with the mistakes of both."""
    from holdfast_collector import packs
    from holdfast_rules import PackError

    def read() -> "tuple[Config, RuleSet]":
        config = configuration.load(
            path or configuration.default_path(), required=path is not None, environment=os.environ
        )
        try:
            rules = packs.load_rules(
                map(Path, config.rules.directories),
                shipped=config.rules.shipped,
                labels=configuration.labels(config),
            )
            return config, rules
        except PackError as error:
            raise ConfigInvalid([str(mistake) for mistake in error.mistakes]) from error

    return read


def _complain(mistakes: Sequence[str]) -> None:
    for mistake in mistakes:
        print(mistake, file=sys.stderr)
    print(f"{len(mistakes)} mistake{'s' if len(mistakes) != 1 else ''}; nothing was started", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
