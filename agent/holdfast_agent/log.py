"""Where log lines go: JSON to standard output, or readable ones to a terminal.

This is the one module that imports structlog, because it must be imported without `rich`: structlog takes rich up
when it is installed, for tracebacks in colour, and that adds 5 MB to an agent that shall have 28.
"""

import os
import sys
from typing import Any, Literal, TextIO

import msgspec

_had_rich = "rich" in sys.modules
if not _had_rich:
    sys.modules["rich"] = None  # type: ignore[assignment]  # None makes the import fail (import system, 5.3.1)
import structlog  # after the line above

if not _had_rich:
    del sys.modules["rich"]

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "console"]

SECRET_WORDS = ("password", "secret", "token", "private")
_SYSLOG_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def configure(level: LogLevel, format_: LogFormat, *, journal: bool, out: TextIO = sys.stdout) -> None:
    """Set up the process's log. `journal`: lines go to the journal and carry its priority prefix (sd-daemon(3))."""
    console = format_ == "console" or (format_ == "auto" and out.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
            redact,
            *([structlog.dev.ConsoleRenderer(colors=out.isatty())] if console else [_json_line(journal)]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )


def journal_is_out() -> bool:
    """Whether standard output goes to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        stat = os.fstat(sys.stdout.fileno())
    except OSError:
        return False
    return (device, inode) == (str(stat.st_dev), str(stat.st_ino))


def redact(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Blank every value whose key names a secret. A path to a secret (`…_file`) is none."""
    for key in event:
        if any(word in key.lower() for word in SECRET_WORDS) and not key.endswith("_file"):
            event[key] = "(redacted)"
    return event


def _json_line(journal: bool) -> Any:
    def render(_logger: Any, _method: str, event: structlog.typing.EventDict) -> str:
        ordered = {
            "at": event.pop("timestamp"),
            "level": event.pop("level"),
            "event": event.pop("event"),
            **event,
        }
        prefix = f"<{_SYSLOG_PRIORITY.get(ordered['level'], 6)}>" if journal else ""
        return prefix + msgspec.json.encode(ordered, enc_hook=str).decode()

    return render
