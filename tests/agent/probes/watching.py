"""Runs a watch as the runner does, and keeps what it reports."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from holdfast_agent.probe import Happening, Watch
from tests.waiting import wait_until

Found = TypeVar("Found")


class Watched:
    """What a running watch has reported so far."""

    def __init__(self) -> None:
        self.happenings: list[Happening] = []
        self.refreshes = 0
        self._task: asyncio.Task[None] | None = None

    async def emit(self, happening: Happening) -> None:
        self.happenings.append(happening)

    def refresh(self) -> None:
        self.refreshes += 1

    def of(self, resource: str, type_: str | None = None) -> list[Happening]:
        """Reported of this resource; other tests on this machine make kernel lines of their own."""
        return [h for h in self.happenings if h.resource == resource and type_ in (None, h.type)]

    async def seen(self, resource: str, type_: str) -> Happening:
        """Wait for the first such event."""
        found = await self.until(lambda: self.of(resource, type_), f"{type_} of {resource}")
        return found[0]

    async def started(self) -> None:
        """Let the watch run until it waits for the first time."""
        await asyncio.sleep(0)

    async def refreshed(self, more_than: int = 0) -> None:
        await self.until(lambda: self.refreshes > more_than, "a refresh")

    async def until(self, condition: Callable[[], Found], what: str = "a condition") -> Found:
        """Wait for a condition while the watch runs; what ends the watch is raised."""

        def ended_or_met() -> Found:
            if self._task is not None and self._task.done():
                self._task.result()
                raise AssertionError("the watch returned")
            return condition()

        return await wait_until(ended_or_met, what=lambda: f"{what}; reported: {self.happenings}")


@asynccontextmanager
async def watching(watch: Watch) -> AsyncIterator[Watched]:
    """The watch runs while the block does."""
    watched = Watched()
    watched._task = asyncio.create_task(watch.watch(watched.emit, watched.refresh))
    try:
        yield watched
    finally:
        watched._task.cancel()
        await asyncio.gather(watched._task, return_exceptions=True)
