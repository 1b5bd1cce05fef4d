"""Texts that answer a call which has no result."""

from sidecall._rpc_errors import SidecallError

PENDING = (
    "CANCELLED: the conversation went on before this call had a result. "
    "It may have taken effect; check before you call it again."
)
NOT_RUN_LENGTH = (
    "NOT RUN: the answer that made this call was cut off at the output limit, so none of "
    "its calls was run."
)
NOT_RUN_FILTER = (
    "NOT RUN: the answer that made this call was stopped by a content filter, so none of "
    "its calls was run."
)
NOT_SUPPORTED = "NOT RUN: only function tools can be called here."


def failed(error: SidecallError) -> str:
    """Says that a whole batch has no results."""
    if error.not_started:
        return f"NOT RUN: the tools cannot be reached at present ({error})."
    return (
        f"UNKNOWN: the connection to the tools failed ({error}). This call may have taken "
        "effect; check before you call it again."
    )
