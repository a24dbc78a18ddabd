"""Asks a filesystem that may never answer: one child process per question, which may hang in our stead.

statfs(2) on a dead NFS server or a stopped FUSE process blocks in the kernel, often beyond any signal. In a thread it
would keep the agent from ever ending. So `stat -f` (coreutils) asks; a child that does not answer in time is left to
its fate, and no second one is sent while it still waits: its end tells that the filesystem answers again.
"""

import contextlib
import os
import selectors
import shutil
import subprocess
import time
import weakref
from collections.abc import Iterable

from msgspec import Struct

from holdfast_agent.probes.filesystem_raw import Space

ANSWER_SECONDS = 2.0
"""Far above what a healthy server needs, far below the probe's time-out."""
_FORMAT = "%S %b %a %c %d"


class Answer(Struct, frozen=True):
    """What became of a question."""

    space: Space | None = None
    error: str = ""
    """The error's own words, or why nobody could ask."""
    hung_seconds: float | None = None
    """No answer for this long."""


class _Question(Struct):
    child: subprocess.Popen[bytes]
    asked: float


class IsolatedStatfs:
    """Keeps track of the children, across polls."""

    def __init__(self) -> None:
        self._program = shutil.which("stat", path="/usr/bin:/bin")
        self._waiting: dict[str, _Question] = {}
        self._finalizer = weakref.finalize(self, _abandon, self._waiting)

    def ask(self, paths: Iterable[str]) -> dict[str, Answer]:
        """Ask all at once; returns when every one has answered, at the latest after `ANSWER_SECONDS`."""
        if self._program is None:
            return dict.fromkeys(
                paths, Answer(error="stat (coreutils) is not installed; nobody can ask safely")
            )
        paths = list(paths)
        fresh = [path for path in paths if path not in self._waiting]
        for path in fresh:
            self._waiting[path] = self._send(self._program, path)
        self._wait(fresh)
        return {path: self._answer(path) for path in paths}

    def _send(self, program: str, path: str) -> _Question:
        child = subprocess.Popen(
            [program, "-f", "-c", _FORMAT, "--", path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"LC_ALL": "C"},
        )
        return _Question(child, time.monotonic())

    def _wait(self, paths: list[str]) -> None:
        """Until each child has closed its output, which it does by ending."""
        deadline = time.monotonic() + ANSWER_SECONDS
        with selectors.DefaultSelector() as selector:
            for path in paths:
                output = self._waiting[path].child.stdout
                assert output is not None
                selector.register(output, selectors.EVENT_READ)
            while selector.get_map() and (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    selector.unregister(key.fileobj)

    def _answer(self, path: str) -> Answer:
        question = self._waiting[path]
        try:
            # It has written its line; what is left is to end, which takes it no time unless it hangs.
            said, _ = question.child.communicate(timeout=0.2 if _readable(question) else 0)
        except subprocess.TimeoutExpired:
            return Answer(hung_seconds=time.monotonic() - question.asked)
        del self._waiting[path]
        text = said.decode("utf-8", "replace").strip()
        if question.child.returncode != 0:
            return Answer(error=text.rpartition(": ")[2] or f"stat ended with {question.child.returncode}")
        try:
            return Answer(space=Space(*(int(number) for number in text.split())))
        except (TypeError, ValueError):
            return Answer(error=f"stat said {text[:80]!r}")


def _readable(question: _Question) -> bool:
    output = question.child.stdout
    assert output is not None
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        return bool(selector.select(0))


def _abandon(waiting: dict[str, _Question]) -> None:
    """Kill what still hangs when nobody will ask for it any more; none is waited for."""
    for question in waiting.values():
        with contextlib.suppress(OSError):
            os.kill(question.child.pid, 9)
