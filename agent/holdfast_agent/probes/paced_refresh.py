"""Paces a watch's wish to look: at once as a rule, but in a storm of causes only so often."""

import asyncio

from holdfast_agent.probe import Refresh

_AT_ONCE = 5
_MORE_PER_SECOND = 1.0


def paced(refresh: Refresh, at_once: int = _AT_ONCE, per_second: float = _MORE_PER_SECOND) -> Refresh:
    """`refresh`, at once the first few times, then once a second; none is lost, for the last one waits its turn.

    To be used on the running event loop. A look costs milliseconds, and a service in a crash loop or a dying disk
    would ask for a hundred a second.
    """
    loop = asyncio.get_running_loop()
    looks, counted = float(at_once), loop.time()
    waiting: asyncio.TimerHandle | None = None

    def look() -> None:
        nonlocal looks, waiting
        waiting = None
        looks -= 1.0
        refresh()

    def ask() -> None:
        nonlocal looks, counted, waiting
        if waiting is not None:
            return
        now = loop.time()
        looks, counted = min(float(at_once), looks + (now - counted) * per_second), now
        if looks >= 1.0:
            look()
        else:
            waiting = loop.call_later((1.0 - looks) / per_second, look)

    return ask
