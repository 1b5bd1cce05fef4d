"""What is true of calls whose attempts may have taken effect."""

from dataclasses import replace

from sidecall_server.core.call import Call
from sidecall_server.core.outcome import ExecutionState, Failure, Outcome
from sidecall_server.core.tool import Effects

_TEXTS = {
    Effects.READ_ONLY: "",
    Effects.IDEMPOTENT: " It was started and may have taken effect; calling it again is safe.",
    Effects.NON_IDEMPOTENT: " It was started and may have taken effect, or still do: find "
    "out before you call it again.",
}


def may_have_happened(effects: Effects) -> str:
    """What a model must know of an attempt whose end nobody saw, with a space in front.

    Empty where there is nothing to know.
    """
    return _TEXTS[effects]


def with_effects_of_attempts(call: Call, outcome: Outcome) -> Outcome:
    """The outcome of a call that ends between attempts: it is not one that never started."""
    if isinstance(outcome, Failure) and outcome.state is ExecutionState.NOT_STARTED:
        state = max(attempt.failure.state for attempt in call.failed_attempts)
        return replace(outcome, state=state)
    return outcome
