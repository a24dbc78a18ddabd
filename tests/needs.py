"""What a test needs of the machine it runs on: skipped with the cure where absent, a failure in CI.

CI installs everything, so there a skipped test would hide a broken installation.
"""

import os
import shutil

import pytest

IN_CI = os.environ.get("CI") == "true"
# Debian keeps daemons in sbin, which is not on every user's PATH.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def _absent(reason: str) -> None:
    if IN_CI:
        pytest.fail(f"in CI nothing may be missing: {reason}", pytrace=False)
    pytest.skip(reason)


def find(name: str) -> str | None:
    """The absolute path of a program, or None."""
    return shutil.which(name, path=_PATH)


def tool(name: str, *, package: str) -> str:
    """The absolute path of a program the test runs; skips when it is not installed."""
    path = find(name)
    if path is None:
        _absent(f"{name} is not installed; on Debian or Ubuntu: apt install {package}")
    assert path is not None
    return path


def root() -> None:
    """Skip without root: the test mounts, traces or signals what only root may."""
    if os.geteuid() != 0:
        _absent("needs root; run: sudo make test")


def condition(met: bool, reason: str) -> None:
    """Skip unless the machine can do what `reason` names."""
    if not met:
        _absent(reason)
