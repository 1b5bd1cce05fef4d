"""When a failing tool is left alone, and when it is tried again."""

from typing import Any

import pytest

from sidecall_server.core.outcome import (
    Code,
    ExecutionState,
    Failure,
    Outcome,
    Reason,
    Success,
)
from sidecall_server.core.tool import Breaker
from sidecall_server.policy.breaker import BreakerState, CircuitBreaker, verdict

S = 1_000_000_000
GOOD = Success("fine")
BAD = Failure(Reason.TOOL_FAILED, "It failed.", ExecutionState.COMPLETED)
START_NS = 1_000 * S


def spec(**changes: Any) -> Breaker:
    values: dict[str, Any] = {
        "failure_ratio": 0.5,
        "min_attempts": 4,
        "window_s": 10.0,
        "open_s": 30.0,
        "probes": 2,
    }
    return Breaker(**{**values, **changes})


def ticket(breaker: CircuitBreaker, now_ns: int) -> int:
    admitted = breaker.admit(now_ns)
    assert isinstance(admitted, int), admitted
    return admitted


def run(breaker: CircuitBreaker, outcome: Outcome | None, now_ns: int) -> bool:
    return breaker.ended(ticket(breaker, now_ns), outcome, now_ns)


def refused(breaker: CircuitBreaker, now_ns: int) -> Failure:
    failure = breaker.admit(now_ns)
    assert isinstance(failure, Failure)
    return failure


def opened(**changes: Any) -> CircuitBreaker:
    """A breaker that opened at START_NS."""
    breaker = CircuitBreaker(spec(**changes), "search")
    while not run(breaker, BAD, START_NS):
        pass
    return breaker


@pytest.mark.parametrize(
    ("outcomes", "opens"),
    [
        ([BAD, BAD, BAD], False),
        ([BAD, BAD, BAD, BAD], True),
        ([GOOD, GOOD, BAD, BAD], True),
        ([GOOD, GOOD, GOOD, BAD], False),
        ([BAD, BAD, BAD, GOOD], False),
        ([BAD, BAD, BAD, GOOD, BAD], True),
        ([BAD, BAD, BAD, None, None], False),
        ([GOOD, GOOD, GOOD, GOOD, GOOD, BAD, BAD, BAD, BAD, BAD], True),
    ],
)
def test_it_opens_with_the_failure_that_is_too_much(
    outcomes: list[Outcome | None], opens: bool
) -> None:
    breaker = CircuitBreaker(spec(), "search")

    assert [run(breaker, outcome, START_NS) for outcome in outcomes[:-1]].count(True) == 0
    assert run(breaker, outcomes[-1], START_NS) is opens
    assert breaker.state is (BreakerState.OPEN if opens else BreakerState.CLOSED)


@pytest.mark.parametrize("percent", range(1, 101))
def test_the_ratio_is_reached_exactly(percent: int) -> None:
    breaker = CircuitBreaker(spec(min_attempts=100, failure_ratio=percent / 100), "search")
    outcomes = [GOOD] * (100 - percent) + [BAD] * percent

    assert [run(breaker, outcome, START_NS) for outcome in outcomes] == [False] * 99 + [True]


def test_old_attempts_are_forgotten() -> None:
    breaker = CircuitBreaker(spec(), "search")
    for second in range(40):
        assert not run(breaker, BAD, START_NS + 4 * second * S)

    assert breaker.statistics().attempts == 3
    assert run(breaker, BAD, START_NS + 157 * S)


@pytest.mark.parametrize(
    "outcome",
    [
        None,
        Failure(Reason.TOOL_FAILED, "", ExecutionState.COMPLETED, Code.CANCELLED),
        *(
            Failure(reason, "", ExecutionState.UNKNOWN)
            for reason in Reason
            if reason
            not in (
                Reason.TOOL_FAILED,
                Reason.TOOL_TIMEOUT,
                Reason.TOOL_CRASHED,
                Reason.TOOL_UNAVAILABLE,
                Reason.HOST_DETACHED,
                Reason.RESULT_TOO_LARGE,
            )
        ),
    ],
)
def test_what_callers_cause_shows_nothing(outcome: Outcome | None) -> None:
    assert verdict(outcome) is None


@pytest.mark.parametrize(
    "code",
    [
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.ALREADY_EXISTS,
        Code.PERMISSION_DENIED,
        Code.FAILED_PRECONDITION,
        Code.OUT_OF_RANGE,
        Code.UNIMPLEMENTED,
        Code.UNAUTHENTICATED,
    ],
)
def test_a_tool_that_refuses_works(code: Code) -> None:
    assert verdict(Failure(Reason.TOOL_FAILED, "", ExecutionState.COMPLETED, code)) is True


def test_a_tool_without_a_host_is_known_to_be_away() -> None:
    assert verdict(Failure(Reason.HOST_DETACHED, "", ExecutionState.NOT_STARTED)) is None


@pytest.mark.parametrize(
    "failure",
    [
        BAD,
        Failure(Reason.TOOL_FAILED, "", ExecutionState.COMPLETED, Code.UNAVAILABLE),
        Failure(Reason.TOOL_FAILED, "", ExecutionState.COMPLETED, Code.RESOURCE_EXHAUSTED),
        Failure(Reason.TOOL_TIMEOUT, "", ExecutionState.UNKNOWN),
        Failure(Reason.TOOL_CRASHED, "", ExecutionState.UNKNOWN),
        Failure(Reason.TOOL_UNAVAILABLE, "", ExecutionState.NOT_STARTED),
        Failure(Reason.HOST_DETACHED, "", ExecutionState.UNKNOWN),
    ],
)
def test_a_tool_that_fails_does_not_work(failure: Failure) -> None:
    assert verdict(failure) is False


def test_an_open_breaker_says_what_to_do() -> None:
    failure = refused(opened(), START_NS + 18_500_000_000)

    assert failure.reason is Reason.CIRCUIT_OPEN
    assert failure.state is ExecutionState.NOT_STARTED
    assert failure.retry_after_s == pytest.approx(11.5)
    assert failure.message == (
        "Not run: the tool 'search' fails at present and is left alone. "
        "Try again in 12 s, or do without it."
    )


def test_calls_that_wait_learn_it_without_a_ticket() -> None:
    breaker = CircuitBreaker(spec(), "search")
    assert breaker.refusal(START_NS) is None

    breaker = opened()

    assert breaker.refusal(START_NS) == refused(breaker, START_NS)
    assert breaker.refusal(START_NS + 30 * S) is None
    assert breaker.statistics().refused == 1


def test_good_probes_one_at_a_time_close_it() -> None:
    breaker = opened()
    now_ns = START_NS + 30 * S
    assert refused(breaker, now_ns - 1).retry_after_s is not None

    probe = ticket(breaker, now_ns)
    assert breaker.statistics().state is BreakerState.HALF_OPEN
    assert refused(breaker, now_ns).retry_after_s == 1.0
    assert not breaker.ended(probe, GOOD, now_ns)
    assert breaker.statistics().state is BreakerState.HALF_OPEN
    assert not run(breaker, GOOD, now_ns)

    assert breaker.state is BreakerState.CLOSED
    assert breaker.statistics().attempts == 0


def test_a_bad_probe_opens_it_again_for_the_whole_time() -> None:
    breaker = opened()
    now_ns = START_NS + 40 * S
    assert not run(breaker, GOOD, now_ns)
    assert run(breaker, BAD, now_ns + 5 * S)

    assert refused(breaker, now_ns + 5 * S).retry_after_s == pytest.approx(30)
    assert not run(breaker, GOOD, now_ns + 35 * S)
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_probe_without_a_verdict_frees_its_place_and_breaks_no_row() -> None:
    breaker = opened()
    now_ns = START_NS + 30 * S

    assert not run(breaker, GOOD, now_ns)
    assert not run(breaker, None, now_ns)
    assert not run(breaker, GOOD, now_ns)

    assert breaker.state is BreakerState.CLOSED


def test_late_results_count_for_nothing() -> None:
    breaker = CircuitBreaker(spec(), "search")
    late = [ticket(breaker, START_NS) for _ in range(9)]
    while not run(breaker, BAD, START_NS):
        pass

    now_ns = START_NS + 30 * S
    assert not breaker.ended(late[0], GOOD, now_ns)
    probe = ticket(breaker, now_ns)
    assert not breaker.ended(late[1], BAD, now_ns)
    assert not breaker.ended(late[2], GOOD, now_ns)
    assert isinstance(breaker.admit(now_ns), Failure)
    assert not breaker.ended(probe, GOOD, now_ns)
    assert not breaker.ended(probe, GOOD, now_ns)
    assert breaker.statistics().state is BreakerState.HALF_OPEN
    assert not run(breaker, GOOD, now_ns)
    for old in (*late[3:], probe):
        assert not breaker.ended(old, BAD, now_ns)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.statistics().attempts == 0


def test_a_reload_changes_the_rules_and_not_the_state() -> None:
    breaker = opened()

    breaker.spec = spec(open_s=5.0, probes=1)

    assert refused(breaker, START_NS).retry_after_s == pytest.approx(5)
    assert not run(breaker, GOOD, START_NS + 5 * S)
    assert breaker.state is BreakerState.CLOSED
