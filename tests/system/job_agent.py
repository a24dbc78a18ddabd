"""A whole agent whose one probe watches jobs fail: real spool, real link, events at the pace the test allows.

    python -m tests.system.job_agent CONFIG FOLDER

The folder is the conversation with the test: `allowed` holds how many jobs may have failed so far, `begun` gets a line
before each event is handed to the agent and `spooled` one after the agent has confirmed it. What stands in `spooled`
must not be lost; what is told and does not stand in `begun` did not happen.
"""

import os
import sys
from pathlib import Path

from holdfast_agent import app, config, registry
from holdfast_agent.core.happening import Happening
from holdfast_agent.probe import Emit, Refresh, Watch
from tests.waiting import wait_until

FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()


def job_name(number: int) -> str:
    """The service that fails as the `number`th."""
    return f"job-{number:05d}.service"


def count(path: Path) -> int:
    """How many lines the ledger has."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


async def allowed(number: int) -> None:
    """Until the test lets the `number`th job fail."""
    await wait_until(lambda: number < int((FOLDER / "allowed").read_text()), timeout=3600)


class JobsWatch(Watch):
    """Reports each job that fails, in order, from where the ledger ends."""

    name = "jobs"
    platforms = frozenset({"linux"})
    cost = "nobody knows that a job failed"
    emits = ()
    events = ("unit_failed",)

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        number = count(FOLDER / "spooled")
        with (
            (FOLDER / "begun").open("ab", buffering=0) as begun,
            (FOLDER / "spooled").open("ab", buffering=0) as spooled,
        ):
            while True:
                await allowed(number)
                job = job_name(number)
                begun.write(f"{job}\n".encode())
                await emit(
                    Happening(
                        type="unit_failed",
                        resource_kind="service",
                        resource=job,
                        at=self.context.wall_clock(),
                        summary=f"{job}: exit-code",
                    )
                )
                spooled.write(f"{job}\n".encode())
                number += 1


if __name__ == "__main__":
    kinds = registry.probe_kinds([JobsWatch])
    loaded = config.load(Path(sys.argv[1]), os.environ, kinds)
    sys.exit(app.serve(loaded, kinds, lambda: loaded))
