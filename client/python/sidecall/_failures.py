"""What a model is told where a tool did not return."""

import logging
import secrets
from dataclasses import dataclass

from sidecall._errors import ArgumentError, ResultError, ToolError
from sidecall._values import encodable

_log = logging.getLogger("sidecall.tools")


@dataclass(frozen=True, slots=True)
class ToolFailure:
    """Why a tool did not return.

    Attributes:
        message: For the model.
        code: Name of a canonical status code; None where the tool did not choose one.
        retry_after_s: Seconds after which the call may be made again; None where unknown.
        violations: What is wrong with the arguments: JSON Pointers and messages.
        error_id: Connects the message with the log; empty where the log says no more.
    """

    message: str
    code: str | None = None
    retry_after_s: float | None = None
    violations: tuple[tuple[str, str], ...] = ()
    error_id: str = ""


def failure_of_raise(name: str, error: BaseException) -> ToolFailure:
    """Translates what a tool raised. Only the text of a ToolError goes to the model.

    Args:
        name: Name of the tool.
        error: What it raised. Everything but a ToolError is logged.
    """
    if isinstance(error, ToolError):
        message = encodable(str(error.message)) or f"Tool {name!r} failed."
        return ToolFailure(message, error.code, error.retry_after_s)
    if isinstance(error, ResultError):
        _log.warning("tool %s: the returned value %s", name, error, exc_info=error)
        return ToolFailure(f"Tool {name!r} ran, but its result cannot be passed on: it {error}.")
    error_id = secrets.token_hex(4)
    _log.error("tool %s failed (error %s)", name, error_id, exc_info=error)
    return ToolFailure(
        f"Tool {name!r} failed with an internal error (id {error_id}).", error_id=error_id
    )


def failure_of_arguments(error: ArgumentError) -> ToolFailure:
    """Says what the tool's types refuse."""
    violations = tuple((at, encodable(what)) for at, what in error.violations)
    lines = "\n".join(f"- {at or 'arguments'}: {what}" for at, what in violations)
    return ToolFailure(
        f"The arguments are invalid. Correct them and call the tool again:\n{lines}",
        "INVALID_ARGUMENT",
        violations=violations,
    )


def too_large_text(result_bytes: int, max_bytes: int) -> str:
    """Says that a result was thrown away because of its size."""
    return (
        f"The tool ran, but its result of {result_bytes} bytes is larger than the {max_bytes} "
        "bytes that are allowed, and was thrown away. The same call gives the same again: ask "
        "for less, for example with a narrower query, fewer fields, or one page at a time."
    )
