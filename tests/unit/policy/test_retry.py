"""Which failed attempts are repeated, when, and how often."""

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecall_server.core.outcome import Code, ExecutionState, Failure, Reason
from sidecall_server.core.tool import Effects, Retry
from sidecall_server.policy.retry import Retrier

FOREVER_NS = 10**18
CODES = frozenset({Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED})


def spec(**changes: Any) -> Retry:
    values: dict[str, Any] = {
        "max_attempts": 3,
        "backoff_s": 0.1,
        "max_backoff_s": 10.0,
        "budget": 0.2,
        "codes": CODES,
    }
    return Retry(**{**values, **changes})


def retrier(random: float = 0.5, **changes: Any) -> Retrier:
    return Retrier(spec(**changes), lambda: random)


def failed(
    reason: Reason = Reason.TOOL_TIMEOUT,
    code: Code | None = None,
    state: ExecutionState = ExecutionState.UNKNOWN,
    retry_after_s: float | None = None,
) -> Failure:
    return Failure(reason, "It failed.", state, code, retry_after_s=retry_after_s)


REPEATED = [
    failed(Reason.TOOL_TIMEOUT),
    failed(Reason.TOOL_CRASHED),
    failed(Reason.TOOL_UNAVAILABLE, state=ExecutionState.NOT_STARTED),
    failed(Reason.TOOL_UNAVAILABLE),
    failed(Reason.HOST_DETACHED, state=ExecutionState.NOT_STARTED),
    failed(Reason.HOST_DETACHED),
    failed(Reason.TOOL_FAILED, Code.UNAVAILABLE, ExecutionState.COMPLETED),
    failed(Reason.TOOL_FAILED, Code.RESOURCE_EXHAUSTED, ExecutionState.COMPLETED),
]


@pytest.mark.parametrize("failure", REPEATED)
@pytest.mark.parametrize("effects", [Effects.READ_ONLY, Effects.IDEMPOTENT])
def test_failures_of_the_tool_are_repeated_where_that_is_safe(
    failure: Failure, effects: Effects
) -> None:
    assert retrier().delay_ns(1, failure, effects, FOREVER_NS) == 50_000_000


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("state", ExecutionState)
def test_nothing_that_may_have_run_is_repeated_for_a_non_idempotent_tool(
    reason: Reason, state: ExecutionState
) -> None:
    delay_ns = retrier().delay_ns(
        1, failed(reason, Code.UNAVAILABLE, state), Effects.NON_IDEMPOTENT, FOREVER_NS
    )

    away = reason in (Reason.TOOL_UNAVAILABLE, Reason.HOST_DETACHED)
    cannot_have_run = away and state is ExecutionState.NOT_STARTED
    assert (delay_ns is not None) == cannot_have_run


@pytest.mark.parametrize(
    "reason",
    [r for r in Reason if r is not Reason.TOOL_FAILED and all(r is not f.reason for f in REPEATED)],
)
def test_what_is_not_the_tools_failure_is_final(reason: Reason) -> None:
    failure = failed(reason, Code.UNAVAILABLE, ExecutionState.NOT_STARTED)

    assert retrier().delay_ns(1, failure, Effects.READ_ONLY, FOREVER_NS) is None


@pytest.mark.parametrize("code", [None, Code.NOT_FOUND, Code.INTERNAL])
def test_a_tools_own_failure_is_final_where_its_code_is_not_listed(code: Code | None) -> None:
    failure = failed(Reason.TOOL_FAILED, code, ExecutionState.COMPLETED)

    assert retrier().delay_ns(1, failure, Effects.READ_ONLY, FOREVER_NS) is None


def test_waits_double_up_to_their_bound() -> None:
    made = retrier(max_attempts=9, max_backoff_s=0.5)

    delays = [made.delay_ns(n, failed(), Effects.READ_ONLY, FOREVER_NS) for n in range(1, 6)]

    assert delays == [50_000_000, 100_000_000, 200_000_000, 250_000_000, 250_000_000]


@given(
    attempt=st.integers(1, 100_000),
    random=st.floats(0, 1, exclude_max=True),
    backoff_s=st.floats(0, 1e9),
    max_backoff_s=st.floats(0, 1e9),
    retry_after_s=st.none() | st.floats(),
    remaining_ns=st.integers(-1, 10**20),
)
@example(1_000, 0.999, 1e-9, 1e9, None, FOREVER_NS)
@example(1, 0.5, 1.0, 1.0, math.inf, FOREVER_NS)
@example(1, 0.5, 1.0, 1.0, math.nan, FOREVER_NS)
def test_a_wait_is_within_its_bounds_and_before_the_end(
    attempt: int,
    random: float,
    backoff_s: float,
    max_backoff_s: float,
    retry_after_s: float | None,
    remaining_ns: int,
) -> None:
    made = retrier(random, max_attempts=1_000_000, backoff_s=backoff_s, max_backoff_s=max_backoff_s)
    failure = failed(retry_after_s=retry_after_s)

    delay_ns = made.delay_ns(attempt, failure, Effects.READ_ONLY, remaining_ns)

    jitter_s = random * min(max_backoff_s, backoff_s * 2.0 ** min(attempt - 1, 1_000))
    asked_s = 0.0 if retry_after_s is None else retry_after_s
    if delay_ns is None:
        too_late = not max(jitter_s, asked_s) * 1e9 < remaining_ns - 1
        assert too_late or asked_s > max_backoff_s or math.isnan(asked_s)
    else:
        assert 0 <= delay_ns < remaining_ns
        assert delay_ns <= max_backoff_s * 1e9
        assert delay_ns == pytest.approx(max(jitter_s, asked_s) * 1e9, rel=1e-9, abs=1)


def test_a_refusal_is_not_repeated_before_the_time_it_names() -> None:
    made = retrier()
    failure = failed(retry_after_s=2.0)

    assert made.delay_ns(1, failure, Effects.READ_ONLY, FOREVER_NS) == 2_000_000_000
    assert made.delay_ns(1, failure, Effects.READ_ONLY, 2_000_000_000) is None


def test_a_refusal_for_longer_than_any_wait_is_final() -> None:
    made = retrier(max_backoff_s=10.0)

    assert made.delay_ns(1, failed(retry_after_s=10.0), Effects.READ_ONLY, FOREVER_NS) is not None
    assert made.delay_ns(1, failed(retry_after_s=10.1), Effects.READ_ONLY, FOREVER_NS) is None
    assert made.statistics().retries == 1


def test_attempts_are_bounded() -> None:
    made = retrier(max_attempts=3)
    delays = [made.delay_ns(n, failed(), Effects.READ_ONLY, FOREVER_NS) for n in (1, 2, 3, 4)]

    assert [delay is None for delay in delays] == [False, False, True, True]
    assert retrier(max_attempts=1).delay_ns(1, failed(), Effects.READ_ONLY, FOREVER_NS) is None


def test_a_retry_that_does_not_happen_costs_nothing() -> None:
    made = retrier()
    made.delay_ns(1, failed(), Effects.NON_IDEMPOTENT, FOREVER_NS)
    made.delay_ns(3, failed(), Effects.READ_ONLY, FOREVER_NS)
    made.delay_ns(1, failed(), Effects.READ_ONLY, 10)

    assert made.statistics().balance == 10
    assert made.statistics().refused == 0


@given(
    budget=st.floats(0, 2),
    calls=st.lists(st.integers(0, 5), max_size=300),
)
def test_retries_never_cost_more_than_the_budget(budget: float, calls: list[int]) -> None:
    """Each number is a call that fails so many times."""
    made = retrier(max_attempts=1_000, budget=budget)
    granted = 0
    for count, failures in enumerate(calls, 1):
        made.first_attempt()
        for attempt in range(1, failures + 1):
            delay_ns = made.delay_ns(attempt, failed(), Effects.READ_ONLY, FOREVER_NS)
            granted += delay_ns is not None
        assert granted <= 10 + count * budget + 1e-3
        assert 0 <= made.statistics().balance <= 100


def test_fractions_add_up_and_an_empty_budget_refuses() -> None:
    made = retrier(budget=0.1)

    def granted() -> bool:
        return made.delay_ns(1, failed(), Effects.READ_ONLY, FOREVER_NS) is not None

    assert [granted() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(9):
        made.first_attempt()
    assert not granted()
    made.first_attempt()
    assert [granted(), granted()] == [True, False]
    assert made.statistics().retries == 11
    assert made.statistics().refused == 3


def test_a_reload_keeps_the_budget() -> None:
    made = retrier()
    for _ in range(10):
        made.delay_ns(1, failed(), Effects.READ_ONLY, FOREVER_NS)

    made.spec = spec(max_attempts=50)

    assert made.delay_ns(40, failed(), Effects.READ_ONLY, FOREVER_NS) is None
    assert made.statistics().balance == 0
