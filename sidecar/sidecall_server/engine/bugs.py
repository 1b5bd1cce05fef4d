"""What a call ends with when the sidecar itself is at fault."""

import logging
import secrets

from sidecall_server.core.call import Call
from sidecall_server.core.outcome import ExecutionState, Failure, Reason

_log = logging.getLogger("sidecall.engine")


def internal_failure(call: Call, state: ExecutionState) -> Failure:
    """Logs the exception in hand and returns a failure with an id that leads to it.

    The exception's text stays in the log.
    """
    error_id = _log_exception(f"call of {call.request.name}")
    return Failure(Reason.INTERNAL, _told(error_id), state, metadata={"error_id": error_id})


def internal_error(what: str) -> str:
    """Logs the exception in hand and returns what others are told: an id that leads to it.

    Args:
        what: What failed, for the log.
    """
    return _told(_log_exception(what))


def _log_exception(what: str) -> str:
    error_id = secrets.token_hex(4)
    _log.exception("%s failed (error %s)", what, error_id)
    return error_id


def _told(error_id: str) -> str:
    return f"Internal error {error_id}."
