"""The fixtures themselves: a rig that cannot fail a test proves nothing."""

import urllib.error
import urllib.request

import pytest

from tests.broker import Broker
from tests.ports import listening
from tests.receiver import Receiver
from tests.waiting import wait_for


def post(url: str, body: bytes) -> int:
    with urllib.request.urlopen(urllib.request.Request(url, data=body, method="POST"), timeout=10) as reply:
        return int(reply.status)


@pytest.mark.system
def test_broker_comes_back_on_its_port_after_a_kill(broker: Broker) -> None:
    first = broker.pid
    broker.kill()
    silent = not listening(broker.port)
    broker.start()

    assert (silent, listening(broker.port), broker.pid != first) == (True, True, True)


def test_receiver_records_what_it_is_sent(receiver: Receiver) -> None:
    post(f"{receiver.url}/hook", b'{"a": 1}')

    assert [(entry.path, entry.json(), entry.status) for entry in receiver.posts] == [
        ("/hook", {"a": 1}, 200)
    ]


def test_receiver_refuses_and_drops_at_the_ratios_it_is_given() -> None:
    """A dropped reply counts as taken: the sender cannot know, and a keyed receiver shows it once."""
    with Receiver(refuse_ratio=0.3, drop_ratio=0.2, seed=7) as receiver:
        outcomes = {"answered": 0, "refused": 0, "cut": 0}
        for number in range(60):
            try:
                post(receiver.url, str(number).encode())
                outcomes["answered"] += 1
            except urllib.error.HTTPError:
                outcomes["refused"] += 1
            except OSError:
                outcomes["cut"] += 1

        assert all(outcomes.values()), outcomes
        assert len(receiver.taken) == outcomes["answered"] + outcomes["cut"]


def test_waiting_in_vain_fails_and_says_for_what() -> None:
    with pytest.raises(AssertionError, match=r"waited 0\.05 s for the moon"):
        wait_for(lambda: None, timeout=0.05, what="the moon")
