"""Threads that never keep the process: for calls that may hang on a dead disk, mount or name server."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class BackgroundThreads(ThreadPoolExecutor):
    """An executor of one daemon thread per call, for `loop.set_default_executor`.

    The standard pool joins its threads when the interpreter ends, so one hung name resolution would outlast SIGTERM;
    and asyncio accepts no executor that is not such a pool.
    """

    def submit(self, function: Callable[P, T], /, *arguments: P.args, **keywords: P.kwargs) -> "Future[T]":
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*arguments, **keywords))
            except BaseException as error:  # noqa: BLE001  # handed on to whoever awaits the future
                future.set_exception(error)

        threading.Thread(target=run, name="background", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, **_: Any) -> None:
        """Nothing to wait for: whatever still runs may hang for ever."""
