"""Retries: which failed attempts are repeated, and when.

The waits are exponential with full jitter. What retries may cost is bounded by a token
balance per tool, as in Finagle's RetryBudget and gRPC's retry throttling (proposal A6): a
tool that fails for everybody is not also sent several times the calls.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sidecall_server.core.outcome import ExecutionState, Failure, Reason
from sidecall_server.core.tool import Effects, Retry

_TOKEN = 1_000_000  # counts are exact where sums of fractions would not be
_FIRST_BALANCE = 10 * _TOKEN
_MOST_BALANCE = 100 * _TOKEN
_MOST_DOUBLINGS = 1_000  # a float holds so many

_NOTHING_RAN = frozenset({Reason.TOOL_UNAVAILABLE, Reason.HOST_DETACHED})
_REPEATABLE = frozenset({Reason.TOOL_TIMEOUT, Reason.TOOL_CRASHED, *_NOTHING_RAN})


@dataclass(frozen=True, slots=True)
class RetryStatistics:
    """What retries of one tool have cost.

    Attributes:
        retries: Retries that were granted.
        refused: Retries that the empty budget refused.
        balance: Retries that the budget would grant now.
    """

    retries: int
    refused: int
    balance: float


class Retrier:
    """The retries of one tool. Belongs to the tool's name.

    The budget begins with 10 retries, so that a tool that is seldom called has some. Each
    first attempt adds `spec.budget`, each retry takes one, and at most 100 are saved: a
    long time without failures does not pay for a storm.

    Attributes:
        spec: The rules in force; a reload may replace them, the budget stays.
    """

    __slots__ = ("_balance", "_random", "_refused", "_retries", "spec")

    def __init__(self, spec: Retry, random: Callable[[], float]) -> None:
        """Takes the rules, and a source of numbers from 0 up to but without 1."""
        self.spec = spec
        self._random = random
        self._balance = _FIRST_BALANCE
        self._retries = 0
        self._refused = 0

    def first_attempt(self) -> None:
        """Takes note of the first attempt of a call."""
        if self._balance < _MOST_BALANCE:
            self._balance = min(_MOST_BALANCE, self._balance + round(self.spec.budget * _TOKEN))

    def delay_ns(
        self, attempt: int, failure: Failure, effects: Effects, remaining_ns: int
    ) -> int | None:
        """When a failed attempt is to be repeated: this takes one retry from the budget.

        Args:
            attempt: Number of the attempt that failed, from 1.
            failure: What became of it.
            effects: What running the tool may change.
            remaining_ns: Time until the call must have ended.

        Returns:
            Nanoseconds to wait; None where the failure is final: also where its
            `retry_after_s` is longer than any wait may be.
        """
        if attempt >= self.spec.max_attempts or not self._is_repeatable(failure, effects):
            return None
        delay_s = self._random() * self._bound_s(attempt)
        if failure.retry_after_s is not None:
            delay_s = max(failure.retry_after_s, delay_s)
        # This way round: it may be infinite, or not a number.
        if not (delay_s <= self.spec.max_backoff_s and delay_s * 1e9 < remaining_ns):
            return None
        if self._balance < _TOKEN:
            self._refused += 1
            return None
        self._balance -= _TOKEN
        self._retries += 1
        return int(delay_s * 1e9)

    def wants(self, failure: Failure, effects: Effects) -> bool:
        """Whether an attempt that failed like that may be repeated at all."""
        return self.spec.max_attempts > 1 and self._is_repeatable(failure, effects)

    def statistics(self) -> RetryStatistics:
        """Its state now."""
        return RetryStatistics(self._retries, self._refused, self._balance / _TOKEN)

    def _is_repeatable(self, failure: Failure, effects: Effects) -> bool:
        if effects is Effects.NON_IDEMPOTENT:
            # Only where the tool cannot have been run: no other word of a backend counts.
            return failure.state is ExecutionState.NOT_STARTED and failure.reason in _NOTHING_RAN
        if failure.reason is Reason.TOOL_FAILED:
            return failure.status_code in self.spec.codes
        return failure.reason in _REPEATABLE

    def _bound_s(self, attempt: int) -> float:
        doublings = min(attempt - 1, _MOST_DOUBLINGS)
        return min(self.spec.max_backoff_s, self.spec.backoff_s * 2.0**doublings)
