"""Which durable messages go when: in order, once, again only while it helps, and out by position and digest alone."""

import math

from holdfast_agent.core.delivery import (
    ACK_PATIENCE_SECONDS,
    WINDOW_BYTES_MAX,
    WINDOW_MESSAGES_MAX,
    Delivery,
    Load,
    Spooled,
)
from holdfast_wire import Acknowledgement, Position, content_digest


def message(seq: int, *, epoch: int = 1, size: int = 4) -> Spooled:
    payload = f"{seq:04}".encode().ljust(size, b".")
    return Spooled(Position(epoch, seq), content_digest(payload), payload)


def ack(*messages: Spooled) -> list[Acknowledgement]:
    return [Acknowledgement(each.position.epoch, each.position.seq, each.digest) for each in messages]


def seqs(messages: list[Spooled]) -> list[int]:
    return [each.position.seq for each in messages]


def delivery_with(*messages: Spooled) -> Delivery:
    """A new connection's window, filled from the spool."""
    delivery = Delivery()
    wish = delivery.load()
    assert wish is not None
    delivery.loaded(wish, list(messages))
    return delivery


def test_new_connection_asks_for_everything_oldest_first() -> None:
    assert Delivery().load() == Load(None, WINDOW_MESSAGES_MAX, WINDOW_BYTES_MAX)


def test_loaded_messages_leave_in_order_once() -> None:
    delivery = delivery_with(message(2), message(1), message(3, epoch=2))

    assert ([(m.position.epoch, m.position.seq) for m in delivery.due(0.0)], delivery.due(1.0)) == (
        [(1, 1), (1, 2), (2, 3)],
        [],
    )


def test_message_spooled_when_nothing_waits_leaves_at_once() -> None:
    delivery = delivery_with()
    delivery.spooled(message(1))

    assert (delivery.wake_at(5.0), seqs(delivery.due(5.0))) == (5.0, [1])


def test_message_spooled_before_the_first_load_comes_with_the_load() -> None:
    """Sent beside the load it would overtake older ones."""
    delivery = Delivery()
    delivery.spooled(message(7))
    assert delivery.due(0.0) == []
    wish = delivery.load()
    assert wish is not None
    delivery.loaded(wish, [message(1), message(7)])

    assert seqs(delivery.due(0.0)) == [1, 7]


def test_message_spooled_while_a_load_is_under_way_is_neither_lost_nor_doubled() -> None:
    for seen_by_load in (True, False):
        delivery = Delivery()
        wish = delivery.load()
        assert wish is not None
        delivery.spooled(message(2))
        delivery.loaded(wish, [message(1), message(2)] if seen_by_load else [message(1)])

        assert seqs(delivery.due(0.0)) == [1, 2]


def test_load_of_an_earlier_connection_is_not_heard() -> None:
    old = Delivery().load()
    assert old is not None
    delivery = Delivery()
    delivery.load()
    delivery.loaded(old, [message(1)])

    assert delivery.due(0.0) == []


def test_window_is_bounded_and_refills_when_half_empty() -> None:
    messages = [message(seq) for seq in range(1, WINDOW_MESSAGES_MAX + 1)]
    delivery = delivery_with(*messages)
    delivery.due(0.0)
    delivery.spooled(message(WINDOW_MESSAGES_MAX + 1))
    assert delivery.load() is None
    delivery.acked(ack(*messages[:249]), 1.0)
    assert delivery.load() is None
    delivery.acked(ack(messages[249]), 1.0)

    assert delivery.load() == Load(Position(1, WINDOW_MESSAGES_MAX), 250, WINDOW_BYTES_MAX - 250 * 4)


def test_window_is_bounded_in_bytes() -> None:
    """A window of large messages must not cost the agent its memory."""
    large = [message(seq, size=200_000) for seq in range(1, 12)]
    delivery = delivery_with(*large)
    delivery.due(0.0)
    delivery.spooled(message(12, size=200_000))
    assert delivery.due(0.0) == []
    delivery.acked(ack(*large[:6]), 1.0)

    assert delivery.load() == Load(Position(1, 11), WINDOW_MESSAGES_MAX - 5, WINDOW_BYTES_MAX - 1_000_000)


def test_acknowledged_message_never_goes_again() -> None:
    delivery = delivery_with(message(1), message(2))
    delivery.due(0.0)
    delivery.acked(ack(message(1)), 0.1)

    assert seqs(delivery.due(ACK_PATIENCE_SECONDS)) == [2]


def test_acknowledgement_with_another_digest_is_a_twins_and_takes_nothing() -> None:
    delivery = delivery_with(message(1))
    delivery.due(0.0)
    delivery.acked([Acknowledgement(1, 1, "0" * 16)], 0.1)

    assert delivery.in_flight == 1


def test_while_acknowledgements_flow_each_late_message_goes_again_with_growing_patience() -> None:
    delivery = delivery_with(message(1), message(2), message(3))
    delivery.due(0.0)
    delivery.acked(ack(message(3)), 14.0)
    assert seqs(delivery.due(14.9)) == []
    assert seqs(delivery.due(15.0)) == [1, 2]
    delivery.spooled(message(4))
    delivery.due(40.0)
    delivery.acked(ack(message(4)), 44.0)

    assert (seqs(delivery.due(44.9)), seqs(delivery.due(45.0))) == ([], [1, 2])


def test_while_the_collector_is_away_one_message_knocks_with_growing_pauses() -> None:
    """All of them, again and again, would only push each other out of the broker's queue."""
    delivery = delivery_with(*(message(seq) for seq in range(1, 101)))
    delivery.due(0.0)
    sent = []
    now = 0.0
    while (now := delivery.wake_at(now)) < 300.0:
        sent.append((now, seqs(delivery.due(now))))

    assert sent == [(15.0, [1]), (30.0, [2]), (60.0, [3]), (120.0, [4]), (240.0, [5])]


def test_first_acknowledgement_after_silence_sends_all_late_ones_at_once() -> None:
    delivery = delivery_with(message(1), message(2), message(3))
    delivery.due(0.0)
    delivery.due(100.0)
    delivery.acked(ack(message(1)), 101.0)

    assert seqs(delivery.due(101.0)) == [2, 3]


def test_new_message_leaves_at_once_though_older_ones_are_stuck() -> None:
    """An event must not wait for an older one's trouble."""
    delivery = delivery_with(message(1))
    delivery.due(0.0)
    delivery.due(20.0)
    delivery.spooled(message(2))

    assert seqs(delivery.due(20.1)) == [2]


def test_what_the_spool_dropped_is_not_sent_any_more() -> None:
    """A report has said that none of it will come again."""
    delivery = delivery_with(message(1), message(2), message(3))
    delivery.due(0.0)
    delivery.forget_before(Position(1, 3))
    delivery.acked([], 15.0)

    assert (seqs(delivery.due(15.0)), delivery.in_flight) == ([3], 1)


def test_idle_window_never_wakes() -> None:
    assert delivery_with().wake_at(7.0) == math.inf
