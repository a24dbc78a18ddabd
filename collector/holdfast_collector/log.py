"""Log events as JSON lines on standard error, those of libraries included."""

import logging
import sys

import structlog

from holdfast_collector.config import Log


class _Bridge(logging.Handler):
    """Gives what libraries log to structlog: one stream, one shape."""

    def emit(self, record: logging.LogRecord) -> None:
        event = structlog.get_logger().bind(logger=record.name)
        severe = record.levelno >= logging.ERROR
        (event.error if severe else event.warning)(
            "library complained", message=record.getMessage(), exc_info=record.exc_info
        )


def configure(log: Log) -> None:
    """Set up logging for the process; again after a reload."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, log.level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        # Loggers are made at start and must follow a change of level.
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    root.setLevel(logging.WARNING)
