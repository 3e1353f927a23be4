"""Pacing of requests, with a clock that is moved by hand."""

import heapq
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity.engines.api.pacing import FIRST_LIMIT, Bucket, Pacing


def grown(pacing: Pacing, rounds: int, now: float = 0.0) -> float:
    """The time after so many round trips of 1 second in which all that is permitted is used."""
    for _ in range(rounds):
        count = 0
        while pacing.wait(now) == 0:
            pacing.begin(now)
            count += 1
        now += 1
        for _ in range(count):
            pacing.end(now, now - 1, 0.0, 1.0)
    return now


def test_requests_at_once_grow_while_they_are_used_up_to_the_most():
    pacing = Pacing(most=100)
    assert pacing.limit == FIRST_LIMIT
    grown(pacing, 10)
    assert pacing.limit == 100
    idle = Pacing(most=100)
    for now in range(50):  # One at a time: there is no need for more.
        idle.begin(now)
        idle.end(now + 1, now, 0.0, 1.0)
    assert idle.limit == FIRST_LIMIT


def test_a_429_halves_once_per_round_trip_and_a_5xx_does_not():
    pacing = Pacing(most=64)
    now = grown(pacing, 10)
    for _ in range(10):
        pacing.begin(now)
    for _ in range(5):
        pacing.throttled(now + 1, now, None)
    assert pacing.limit == 32
    for _ in range(5):
        pacing.end(now + 1, now)  # Errors of the server.
    assert pacing.limit == 32
    pacing.begin(now + 2)
    pacing.throttled(now + 3, now + 2, None)
    assert pacing.limit == 16


def test_retry_after_holds_every_request_back():
    pacing = Pacing(most=8)
    pacing.begin(10.0)
    pacing.throttled(11.0, 10.0, retry_after=5.0)
    assert pacing.wait(12.0) == pytest.approx(4.0)
    assert pacing.wait(16.0) == 0.0


def test_requests_begin_apart():
    pacing = Pacing(most=4, spacing=0.5)
    assert pacing.wait(1.0) == 0
    pacing.begin(1.0)
    assert pacing.wait(1.0) == 0.5 and pacing.wait(1.4) == pytest.approx(0.1)
    assert pacing.wait(1.5) == 0
    pacing.begin(1.5)
    pacing.throttled(1.6, 1.5, 2.0)
    assert pacing.wait(1.6) == 2.0, "the longer of two waits"


def test_a_full_house_waits_for_one_to_end():
    pacing = Pacing(most=1)
    pacing.begin(0.0)
    assert pacing.wait(0.0) == math.inf
    pacing.end(1.0, 0.0, 0.0, 1.0)
    assert pacing.wait(1.0) == 0.0


@given(
    per_minute=st.floats(1, 6000),
    gaps=st.lists(st.floats(0, 30), min_size=1, max_size=60),
)
def test_no_window_of_time_has_more_requests_than_its_rate_and_a_burst(
    per_minute: float, gaps: list[float]
):
    bucket, now, starts = Bucket(per_minute), 0.0, []
    for gap in gaps:
        now += gap
        now += bucket.wait(now, 1.0)
        bucket.take(now, 1.0)
        starts.append(now)
    for first, begun in enumerate(starts):
        for last in range(first, len(starts)):
            most = bucket.capacity + (starts[last] - begun) * per_minute / 60
            assert last - first + 1 <= most + 1e-6


def test_tokens_are_corrected_by_what_was_used():
    pacing = Pacing(most=8, tokens_per_minute=6000)  # 100 a second, a burst of 25
    pacing.begin(0.0, 1000)
    assert pacing.wait(0.0, 10) == pytest.approx((10 + 975) / 100)
    pacing.end(0.0, 0.0, 1000, 20)
    assert pacing.wait(0.0, 5) == 0.0
    assert pacing.wait(0.0, 10) == pytest.approx(5 / 100)


def simulated(permitted: int, matches: int, rounds: int, latency: float, most: int) -> float:
    """Seconds for matches against a server that answers 429 to all above `permitted` at once."""
    pacing = Pacing(most=most)
    waiting = [(0.0, match, 0) for match in range(matches)]
    heapq.heapify(waiting)
    running: list[tuple[float, int, int, float, bool]] = []
    now, held = 0.0, 0
    while waiting or running:
        while waiting and waiting[0][0] <= now and pacing.wait(now) == 0:
            _, match, done = heapq.heappop(waiting)
            pacing.begin(now)
            refused = held >= permitted
            held += not refused
            end = now + (0.02 if refused else latency)
            heapq.heappush(running, (end, match, done, now, refused))
        ends = [running[0][0]] if running else []
        if waiting and waiting[0][0] > now:
            ends.append(waiting[0][0])
        now = min(ends)
        while running and running[0][0] <= now:
            _, match, done, began, refused = heapq.heappop(running)
            if refused:
                pacing.throttled(now, began, None)
                heapq.heappush(waiting, (now + 0.5, match, done))
                continue
            held -= 1
            pacing.end(now, began, 0.0, 1.0)
            if done + 1 < rounds:
                heapq.heappush(waiting, (now, match, done + 1))
    return now


@pytest.mark.parametrize("permitted", [5, 20, 60])
def test_a_thousand_matches_take_little_longer_than_the_server_permits(permitted: int):
    fastest = 1000 * 5 * 0.3 / permitted
    assert simulated(permitted, 1000, 5, 0.3, most=500) < 1.3 * fastest


def test_a_thousand_matches_against_a_server_without_limits_use_all_that_we_permit():
    fastest = 1000 * 5 * 0.3 / 100
    assert simulated(10**9, 1000, 5, 0.3, most=100) < 1.3 * fastest
