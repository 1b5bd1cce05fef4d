"""What goes wrong with tools, as exceptions."""

import math
from collections.abc import Sequence

CODES = (
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""Names of the canonical status codes that a failure can have."""


class ToolError(Exception):
    """Raised by a tool to tell the model what went wrong.

    Its text reaches the model. The text of any other exception stays in the process.

    Attributes:
        message: For the model: what went wrong and what it can do about it.
        code: Name of a canonical status code, for example "NOT_FOUND".
        retry_after_s: Seconds after which the call may be made again; None where unknown.
    """

    def __init__(
        self, message: str, code: str = "UNKNOWN", retry_after: float | None = None
    ) -> None:
        """Makes the error.

        Args:
            message: Text for the model.
            code: Name of a canonical status code other than OK.
            retry_after: Seconds after which the call may be made again; finite, from 0.

        Raises:
            ValueError: The code is not the name of a canonical status code, or
                `retry_after` is not such a number.
        """
        if code not in CODES:
            raise ValueError(f"{code!r} is not a status code; use one of {', '.join(CODES)}")
        if retry_after is not None and not _is_delay(retry_after):
            raise ValueError(f"retry_after must be finite seconds from 0, not {retry_after!r}")
        super().__init__(message)
        self.message = message
        self.code = code
        self.retry_after_s = retry_after


def _is_delay(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 <= value < math.inf


class ToolDefinitionError(TypeError):
    """A function cannot be made a tool; the text says why and what to write instead."""


class ArgumentError(ValueError):
    """Arguments do not fit the tool's parameters.

    Attributes:
        violations: One (JSON Pointer, message) pair per offending value.
    """

    def __init__(self, violations: Sequence[tuple[str, str]]) -> None:
        """Takes the violations."""
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{at or 'arguments'}: {what}" for at, what in self.violations))


class ResultError(ValueError):
    """A tool returned something that cannot be written as text or JSON."""
