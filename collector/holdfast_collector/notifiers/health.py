"""Whether a receiver works, for the log: one line when it stops, one when it is back. Attempts are a metric."""

import structlog

from holdfast_collector.notifiers.http import Answer, Outcome

_FAILING_AFTER = 5
"""Failures in a row. A receiver that turns away every tenth request is busy, not broken."""


class ReceiverHealth:
    """The memory of one receiver's, or one peer's, answers."""

    def __init__(self, receiver: str, url: str) -> None:
        self._failures = 0
        self._log = structlog.get_logger().bind(receiver=receiver, url=url)

    @property
    def failing(self) -> bool:
        """It has failed too often in a row to be an accident."""
        return self._failures >= _FAILING_AFTER

    def answered(self, answer: Answer) -> None:
        """Note how an attempt ended."""
        if answer.outcome is Outcome.FAILED:
            self._failures += 1
            if self._failures == _FAILING_AFTER:
                self._log.error("receiver failing", detail=answer.detail)
            return
        if answer.outcome is Outcome.REFUSED:
            self._log.error("notice refused", detail=answer.detail)
        if self.failing:
            self._log.info("receiver recovered", failures=self._failures)
        self._failures = 0
