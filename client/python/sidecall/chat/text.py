"""Texts that answer a call which has no result."""

from collections.abc import Sequence

from sidecall._rpc_errors import SidecallError

PENDING = (
    "CANCELLED: the conversation went on before this call had a result. "
    "It may have taken effect; check before you call it again."
)
NOT_RUN_LENGTH = (
    "NOT RUN: the answer that made this call was cut off at the output limit. None of its "
    "calls has taken effect."
)
NOT_RUN_FILTER = (
    "NOT RUN: the answer that made this call was stopped by a content filter. None of its "
    "calls has taken effect."
)
APPROVAL_LOST = (
    "NOT RUN: a human decided on this call, but too late: the tools no longer know the "
    "question. Make the call again if it is still wanted."
)
NOT_SUPPORTED = "NOT RUN: only function tools can be called here."
NO_RECIPIENT = "NOT RUN: each entry of tool_uses needs the name of a tool as recipient_name."
TOO_DEEP = "NOT RUN: the parameters are nested too deeply."
_MAX_NAMES = 20


def not_offered(name: str, offered: Sequence[str]) -> str:
    """Says that a tool was called that the chat does not offer."""
    known = ", ".join(offered[:_MAX_NAMES]) + (", ..." if len(offered) > _MAX_NAMES else "")
    return f"NOT RUN: there is no tool {name!r}. The tools are: {known}."


def failed(error: SidecallError) -> str:
    """Says that a whole batch has no results."""
    if error.not_started:
        return f"NOT RUN: the tools cannot be reached at present ({error})."
    return (
        f"UNKNOWN: the connection to the tools failed ({error}). This call may have taken "
        "effect; check before you call it again."
    )
