"""Fixtures of all tests: a real broker, a real receiver. What they are stands in `broker.py` and `receiver.py`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import Broker
from tests.receiver import Receiver


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A running mosquitto that keeps nothing on disk. Skips where mosquitto is not installed."""
    broker = Broker(tmp_path / "broker", lines=["persistence false", "max_queued_messages 0"])
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """An HTTP receiver that takes everything until told otherwise."""
    with Receiver() as receiver:
        yield receiver
