import grpc
import pytest

from sidecall._retry import DEFAULT_RETRIES, LONGEST_WAIT_S, Attempts
from sidecall._rpc_errors import SidecallError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def unavailable(*, not_started: bool = True, retry_after_s: float | None = None) -> SidecallError:
    return SidecallError(
        "gone",
        code=grpc.StatusCode.UNAVAILABLE,
        not_started=not_started,
        retry_after_s=retry_after_s,
    )


def test_retries_are_bounded_and_back_off() -> None:
    attempts = Attempts(3, None, jitter=lambda: 1.0)
    delays = [attempts.delay_s(unavailable()) for _ in range(4)]
    assert delays == [pytest.approx(0.1), pytest.approx(0.2), pytest.approx(0.4), None]


@pytest.mark.parametrize("drawn", [0.0, 0.5, 0.999])
def test_by_default_the_pauses_outlast_a_restart(drawn: float) -> None:
    attempts = Attempts(None, None, jitter=lambda: drawn)
    delays = [attempts.delay_s(unavailable()) for _ in range(DEFAULT_RETRIES + 1)]
    assert delays.index(None) == DEFAULT_RETRIES
    assert 3.5 < sum(delay for delay in delays if delay is not None) < 7.2


def test_what_may_have_started_is_asked_for_until_the_deadline() -> None:
    clock = Clock()
    attempts = Attempts(None, 1000.0, repeatable=True, clock=clock, jitter=lambda: 1.0)
    error = unavailable(not_started=False)
    while (delay_s := attempts.delay_s(error)) is not None:
        clock.now += delay_s
        error = unavailable()
    assert 998.0 <= clock.now < 1000.0


@pytest.mark.parametrize(
    ("retries", "timeout_s", "started"), [(None, None, True), (None, 1e6, False), (7, 1e6, True)]
)
def test_else_a_number_of_attempts_is_enough(
    retries: int | None, timeout_s: float | None, started: bool
) -> None:
    attempts = Attempts(retries, timeout_s, repeatable=True)
    delays = [attempts.delay_s(unavailable(not_started=not started)) for _ in range(8)]
    assert delays.index(None) == 7


def test_the_backoff_has_a_ceiling() -> None:
    attempts = Attempts(20, None, jitter=lambda: 1.0)
    assert max(attempts.delay_s(unavailable()) or 0 for _ in range(20)) == pytest.approx(2.0)


def test_what_may_have_started_is_not_sent_again() -> None:
    assert Attempts(3, None).delay_s(unavailable(not_started=False)) is None


def test_a_repeatable_request_is_sent_again_even_so() -> None:
    attempts = Attempts(3, None, repeatable=True)
    assert attempts.delay_s(unavailable(not_started=False)) is not None


def test_other_codes_are_final() -> None:
    error = SidecallError("no", code=grpc.StatusCode.INVALID_ARGUMENT, not_started=True)
    assert Attempts(3, None).delay_s(error) is None


def test_the_sidecars_delay_is_honoured() -> None:
    delay_s = Attempts(3, None, jitter=lambda: 0.0).delay_s(unavailable(retry_after_s=1.5))
    assert delay_s == pytest.approx(1.55)


def test_a_long_wait_is_the_callers_own() -> None:
    assert Attempts(3, None).delay_s(unavailable(retry_after_s=LONGEST_WAIT_S)) is not None
    error = unavailable(retry_after_s=LONGEST_WAIT_S + 0.1)
    assert Attempts(3, None).delay_s(error) is None
    assert Attempts(3, 3600.0).delay_s(error) is None


def test_no_attempt_begins_after_the_deadline() -> None:
    clock = Clock()
    attempts = Attempts(9, 1.0, clock=clock, jitter=lambda: 1.0)
    assert attempts.delay_s(unavailable()) == pytest.approx(0.1)
    clock.now = 0.95
    assert attempts.remaining_s() == pytest.approx(0.05)
    assert attempts.delay_s(unavailable()) is None
    clock.now = 2.0
    assert attempts.remaining_s() == 0.0


def test_an_error_speaks_of_all_attempts() -> None:
    attempts = Attempts(3, None, repeatable=True)
    certain, uncertain, draining = unavailable(), unavailable(not_started=False), unavailable()
    for error in (certain, uncertain, draining):
        assert attempts.delay_s(error) is not None
    assert certain.not_started
    assert not draining.not_started
