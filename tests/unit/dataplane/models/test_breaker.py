from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenantplane.dataplane.models.breaker import Breaker, BreakerRules, Breakers, Outcome

RULES = BreakerRules(failure_percent=50, least_calls=4, window_seconds=30, open_seconds=10)
SUCCESS, FAILURE, NOTHING = Outcome.SUCCESS, Outcome.FAILURE, Outcome.NOTHING


def call(breaker: Breaker, now: float, outcome: Outcome) -> None:
    breaker.end(now, outcome, trial=breaker.begin(now))


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(RULES)
    for _ in range(RULES.least_calls):
        call(breaker, now, FAILURE)
    assert breaker.is_open
    return breaker


def test_it_opens_where_half_of_enough_calls_failed() -> None:
    breaker = Breaker(RULES)
    for outcome in (SUCCESS, FAILURE, SUCCESS):
        call(breaker, 0, outcome)
        assert breaker.wait_seconds(0) == 0
    call(breaker, 0, FAILURE)
    assert breaker.wait_seconds(0) == 10
    assert breaker.wait_seconds(4) == 6


def test_old_calls_do_not_count() -> None:
    breaker = Breaker(RULES)
    for _ in range(3):
        call(breaker, 0, FAILURE)
    call(breaker, 31, FAILURE)
    assert not breaker.is_open


def test_calls_that_say_nothing_do_not_count() -> None:
    breaker = Breaker(RULES)
    for _ in range(100):
        call(breaker, 0, NOTHING)
    for _ in range(3):
        call(breaker, 0, FAILURE)
    assert not breaker.is_open


def test_one_call_in_each_pause_tries() -> None:
    breaker = opened()
    assert breaker.wait_seconds(10) == 0
    assert breaker.begin(10)
    assert breaker.wait_seconds(10) == 10
    # One that hangs keeps the others out for one pause alone.
    assert breaker.wait_seconds(20) == 0
    assert breaker.begin(20)


def test_a_trial_that_succeeds_closes_it_and_old_failures_are_forgotten() -> None:
    breaker = opened()
    call(breaker, 10, SUCCESS)
    assert not breaker.is_open
    for _ in range(RULES.least_calls - 1):
        call(breaker, 10, FAILURE)
    assert not breaker.is_open


def test_a_trial_that_fails_begins_a_new_pause() -> None:
    breaker = opened()
    trial = breaker.begin(10)
    breaker.end(15, FAILURE, trial=trial)
    assert breaker.wait_seconds(15) == 10


def test_a_trial_whose_caller_left_leaves_the_next_one_free() -> None:
    breaker = opened()
    call(breaker, 10, NOTHING)
    assert breaker.is_open
    assert breaker.wait_seconds(10) == 0


def test_calls_from_before_the_pause_change_nothing() -> None:
    breaker = Breaker(RULES)
    early = breaker.begin(0)
    for _ in range(RULES.least_calls):
        call(breaker, 0, FAILURE)
    breaker.end(1, SUCCESS, trial=early)
    assert breaker.wait_seconds(1) == 9


steps = st.lists(
    st.tuples(st.floats(0, 20), st.sampled_from(Outcome), st.floats(0, 20)), max_size=60
)


@given(steps)
def test_against_a_list_of_all_calls(steps: list[tuple[float, Outcome, float]]) -> None:
    """Each call ends before the next begins; the oracle remembers every one."""
    breaker, now = Breaker(RULES), 0.0
    ended: list[tuple[float, Outcome]] = []
    for pause, outcome, took in steps:
        now += pause
        was_open = breaker.is_open
        if breaker.wait_seconds(now) > 0:
            assert was_open
            continue
        trial = breaker.begin(now)
        assert trial == was_open
        now += took
        breaker.end(now, outcome, trial=trial)
        if trial:
            assert breaker.is_open == (outcome is not SUCCESS)
            ended.clear()
            continue
        ended.append((now, outcome))
        recent = [o for at, o in ended if now - at < RULES.window_seconds and o is not NOTHING]
        if breaker.is_open:
            # It opens for a failure alone, and never on fewer calls than the rules ask for.
            assert outcome is FAILURE
            assert len(recent) >= RULES.least_calls
            assert FAILURE in recent
        surely = [o for at, o in ended if now - at < RULES.window_seconds / 2 and o is not NOTHING]
        if outcome is FAILURE and len(surely) >= RULES.least_calls and SUCCESS not in recent:
            assert breaker.is_open


def test_so_many_orgs_and_the_idle_one_is_forgotten() -> None:
    breakers = Breakers(RULES, most=2)
    first = breakers.of("a")
    second = breakers.of("b")
    assert breakers.of("a") is first
    breakers.of("c")
    assert len(breakers) == 2
    assert breakers.of("a") is first
    assert breakers.of("b") is not second
