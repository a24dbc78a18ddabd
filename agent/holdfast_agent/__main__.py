"""The command `holdfast-agent`: one verb each for running, looking and finding out why something does not work.

Exit codes: 0 in order, 1 something is not, 2 wrong usage or configuration (`once --check`: as for Nagios plugins).
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from holdfast_agent.late_imports import imported_without

# Before anything imports asyncio, whose own TLS is not used: paho wraps its sockets itself.
with imported_without("ssl", "_hashlib"):
    import asyncio  # noqa: F401  # for the sake of importing it
    import hashlib  # noqa: F401  # likewise

from holdfast_agent import agent_version, config, registry
from holdfast_agent.errors import AlreadyRunning, ConfigInvalid

EXIT_OK, EXIT_WRONG, EXIT_USAGE = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run the verb; the process's exit code. Each verb's own modules are imported when it is chosen."""
    chosen = _parser().parse_args(arguments)
    verb: Callable[[argparse.Namespace], int] = chosen.verb
    try:
        return verb(chosen)
    except ConfigInvalid as error:
        for mistake in error.mistakes:
            print(mistake, file=sys.stderr)
        return EXIT_USAGE
    except AlreadyRunning as error:
        print(error, file=sys.stderr)
        return EXIT_WRONG
    except BrokenPipeError:
        # Whoever read our output has enough; the interpreter must not complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_WRONG


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="holdfast-agent",
        description="Observes this machine and says over MQTT whether its state survives.",
    )
    parser.add_argument("--version", action="version", version=f"holdfast-agent {agent_version()}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def add(name: str, verb: Callable[[argparse.Namespace], int], help_: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=help_, description=help_)
        added.set_defaults(verb=verb)
        added.add_argument(
            "--config", type=Path, metavar="FILE", help=f"the configuration (default: {config.DEFAULT_PATH})"
        )
        return added

    add("run", _run, "run as a service until told to stop")
    once = add("once", _once, "look once and print what is seen; send nothing")
    once.add_argument("--json", action="store_true", help="print the sections as JSON")
    once.add_argument("--check", action="store_true", help="print one line and exit as a Nagios plugin does")
    add("doctor", _doctor, "try every probe: what works, what is missing, and what that costs")
    add("test-connection", _test_connection, "try the way to the collector, step by step")
    add("check-config", _check_config, "check the configuration and print what is in effect, with its origin")
    record = add("record", _record, "print what a probe reads here, raw, as a recording for its tests")
    record.add_argument("probe", metavar="PROBE")
    # For the unit that has the rights: no configuration, so that nobody's file decides what root runs.
    asking = verbs.add_parser(
        "ask-devices", help="ask lvs and smartctl as root and leave the answers for the agent"
    )
    asking.set_defaults(verb=_ask_devices)
    asking.add_argument("folder", type=Path, metavar="FOLDER")
    return parser


def _load(chosen: argparse.Namespace, *, link: bool) -> config.Loaded:
    return config.load(chosen.config, os.environ, registry.probe_kinds(), link=link)


def _run(chosen: argparse.Namespace) -> int:
    if sys.platform == "linux":
        from holdfast_agent.heap_linux import use_one_heap

        use_one_heap()
    from holdfast_agent import app

    kinds = registry.probe_kinds()

    def load() -> config.Loaded:
        return config.load(chosen.config, os.environ, kinds)

    return app.serve(load(), kinds, load)


def _once(chosen: argparse.Namespace) -> int:
    from holdfast_agent.command import once

    return once.run(_load(chosen, link=False).config, json=chosen.json, check=chosen.check)


def _doctor(chosen: argparse.Namespace) -> int:
    from holdfast_agent.command import doctor

    return doctor.run(_load(chosen, link=False).config)


def _test_connection(chosen: argparse.Namespace) -> int:
    from holdfast_agent.command import connection_test

    return connection_test.run(_load(chosen, link=True).config)


def _check_config(chosen: argparse.Namespace) -> int:
    loaded = _load(chosen, link=True)
    width = min(50, max(len(f"{key} = {value}") for key, value, _ in loaded.rows))
    for key, value, origin in loaded.rows:
        print(f"{f'{key} = {value}':<{width}}  # {origin}")
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return EXIT_OK


def _record(chosen: argparse.Namespace) -> int:
    from holdfast_agent.command import record

    return record.run(_load(chosen, link=False).config, chosen.probe)


def _ask_devices(chosen: argparse.Namespace) -> int:
    from holdfast_agent.command import ask_devices

    return ask_devices.run(chosen.folder)


if __name__ == "__main__":
    sys.exit(main())
