"""Failures of calls that are not started because of what became of other calls."""

from sidecall_server.core.call import Call
from sidecall_server.core.outcome import Failure, Reason, not_started

STOPPED = not_started(Reason.STOPPED, "Not run: an earlier call of the turn failed.")


def dependency_failed(call: Call) -> Failure:
    """What the calls get that depend on a call without a result."""
    outcome = call.outcome
    why = outcome.reason.name if isinstance(outcome, Failure) else "it failed"
    return not_started(
        Reason.DEPENDENCY_FAILED,
        f"Not run: it depends on the call @{call.index + 1} of {call.request.name!r}, "
        f"which has no result ({why}).",
        dependency_index=str(call.index),
        dependency_id=call.request.id,
    )


def behind_approval(call: Call) -> Failure:
    """What the calls get that come after one that waits for a person."""
    return not_started(
        Reason.APPROVAL_REQUIRED,
        f"Not run: the call @{call.index + 1}, which comes before it, waits for a "
        "person's approval.",
    )
