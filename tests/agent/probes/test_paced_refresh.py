"""A storm of causes is few looks, and the last cause is never without one."""

from holdfast_agent.probes.paced_refresh import paced
from tests.waiting import wait_until


async def test_the_first_causes_look_at_once_and_a_storm_once_more_later() -> None:
    looks: list[int] = []
    ask = paced(lambda: looks.append(1))

    for _ in range(100):
        ask()
    at_once = len(looks)
    await wait_until(lambda: len(looks) > at_once)

    assert (at_once, len(looks)) == (5, 6)
