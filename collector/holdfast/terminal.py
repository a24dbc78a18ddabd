"""What goes to the operator's terminal: plain lines, and below them one line that is rewritten.

Where standard output is no terminal (a pipe, a log) the rewritten line becomes a plain one now and then.
"""

import os
import re
import shutil
import sys
from typing import TextIO

PLAIN_PERIOD_SECONDS = 5.0
"""How often the live line becomes a plain one without a terminal: a minute of a log is twelve lines."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """The text without control characters: what machines report of themselves is hostile input."""
    return _CONTROL.sub("?", text)


class Terminal:
    """Standard output, with a live line at its end."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._rewrites = out.isatty() and os.environ.get("TERM", "") != "dumb"
        self._shown = ""
        self._plain_at = float("-inf")

    def line(self, text: str = "") -> None:
        """A line that stays."""
        self._erase()
        self._write(f"{text}\n")
        if self._shown:
            self._write(self._shown)

    def live(self, text: str, now: float) -> None:
        """The newest state. `now`: monotonic seconds, so that a pipe gets a line every PLAIN_PERIOD_SECONDS only."""
        if self._rewrites:
            self._erase()
            width = shutil.get_terminal_size().columns - 1
            self._shown = text if len(text) <= width else f"{text[: width - 1]}…"
            self._write(self._shown)
        elif now - self._plain_at >= PLAIN_PERIOD_SECONDS:
            self._plain_at = now
            self._write(f"{text}\n")

    def close(self) -> None:
        """Leave the live line standing and go below it."""
        if self._shown:
            self._write("\n")
            self._shown = ""

    def _erase(self) -> None:
        if self._shown:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except BrokenPipeError:
            # `holdfast up | head`: nobody reads on. Whoever started us still wants the rest done.
            self._out = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - lives as long as the process
