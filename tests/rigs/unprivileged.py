"""Runs Python as a user without any right, to see what a probe says of what it may not do."""

import subprocess
import sys
import textwrap

from tests import needs
from tests.tidy import ROOT

_NOBODY = 65534


def as_nobody(code: str) -> str:
    """What the code prints when nobody runs it: the unprivileged user, in no group, with no capability."""
    needs.root()
    done = subprocess.run(
        [sys.executable, "-c", _DROP + textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# The interpreter's own folders may be closed to others, so the rights go when all is imported.
_DROP = f"""
import importlib, os, pkgutil
import http.client, tempfile, asyncio, holdfast_agent.probes
for module in pkgutil.iter_modules(holdfast_agent.probes.__path__):
    importlib.import_module("holdfast_agent.probes." + module.name)
os.setgroups([])
os.setresgid({_NOBODY}, {_NOBODY}, {_NOBODY})
os.setresuid({_NOBODY}, {_NOBODY}, {_NOBODY})
"""
