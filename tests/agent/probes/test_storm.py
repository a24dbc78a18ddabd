"""A storm becomes its first few items and a count that is never lost."""

from holdfast_agent.probes.storm import PASS_MAX, WINDOW_SECONDS, Held, StormLimiter


def test_the_first_of_a_kind_pass_and_the_rest_is_held_back() -> None:
    limiter: StormLimiter[int] = StormLimiter()

    passed = [held for item in range(PASS_MAX + 5) for held in limiter.offer("sda", item, now=0.0)]

    assert passed == [Held(item, 0) for item in range(PASS_MAX)]


def test_one_kind_does_not_hold_back_another() -> None:
    limiter: StormLimiter[int] = StormLimiter()
    for item in range(PASS_MAX + 5):
        limiter.offer("sda", item, now=0.0)

    assert limiter.offer("sdb", 99, now=0.0) == [Held(99, 0)]


def test_the_end_of_the_window_tells_the_newest_and_how_many_there_were() -> None:
    limiter: StormLimiter[int] = StormLimiter()
    for item in range(PASS_MAX + 5):
        limiter.offer("sda", item, now=1.0)

    assert limiter.due(1.0 + WINDOW_SECONDS - 0.1) == []
    assert limiter.due(1.0 + WINDOW_SECONDS) == [Held(PASS_MAX + 4, 4)]
    assert limiter.due(1.0 + 2 * WINDOW_SECONDS) == []


def test_the_next_item_after_the_window_brings_the_count_first() -> None:
    limiter: StormLimiter[int] = StormLimiter()
    for item in range(PASS_MAX + 2):
        limiter.offer("sda", item, now=0.0)

    assert limiter.offer("sda", 77, now=WINDOW_SECONDS) == [Held(PASS_MAX + 1, 1), Held(77, 0)]


def test_it_says_when_it_wants_to_be_asked_again() -> None:
    limiter: StormLimiter[int] = StormLimiter()
    quiet = limiter.next_due_seconds(0.0)
    for item in range(PASS_MAX + 1):
        limiter.offer("sda", item, now=0.0)

    assert (quiet, limiter.next_due_seconds(20.0)) == (None, WINDOW_SECONDS - 20.0)


def test_it_knows_what_a_crash_now_would_leave_unreported() -> None:
    limiter: StormLimiter[int] = StormLimiter()
    for item in range(PASS_MAX + 3):
        limiter.offer("sda", item, now=0.0)

    assert limiter.first_held() == [PASS_MAX]
