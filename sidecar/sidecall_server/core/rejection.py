"""Why a batch was not accepted: then none of its calls was started."""

from sidecall_server.core.outcome import Code, CodedReason


class RejectionReason(CodedReason):
    """Reason of a non-OK RPC status."""

    REQUEST_INVALID = Code.INVALID_ARGUMENT
    PAGE_TOKEN_INVALID = Code.INVALID_ARGUMENT
    DEADLINE_EXPIRED = Code.DEADLINE_EXCEEDED
    TOO_MANY_BATCHES = Code.RESOURCE_EXHAUSTED
    DRAINING = Code.UNAVAILABLE
    TOOLS_CHANGED = Code.ABORTED
    REQUEST_ID_REUSED = Code.ALREADY_EXISTS
    REQUEST_MEMORY_FULL = Code.RESOURCE_EXHAUSTED
    STORE_UNAVAILABLE = Code.UNAVAILABLE
    APPROVAL_UNKNOWN = Code.FAILED_PRECONDITION
    REQUEST_FORGOTTEN = Code.FAILED_PRECONDITION
    TOOL_NAME_TAKEN = Code.ALREADY_EXISTS
    TOO_MANY_HOSTS = Code.RESOURCE_EXHAUSTED
    HOST_SILENT = Code.DEADLINE_EXCEEDED
    INTERNAL = Code.INTERNAL


class Rejection(Exception):  # noqa: N818  it is what happens to the batch, not only an error
    """A batch or another request was refused.

    Attributes:
        reason: Why, for machines.
        message: Why, for people.
        field: Path of the request field that is wrong; empty where none is.
        retry_after_s: Seconds after which it may be sent again; None where it should not.
    """

    def __init__(
        self,
        reason: RejectionReason,
        message: str,
        field: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s


def invalid_field(field: str, why: str) -> Rejection:
    """The rejection of a request in which a field is wrong.

    Args:
        field: Path of the field.
        why: What is wrong with it.
    """
    return Rejection(RejectionReason.REQUEST_INVALID, f"{field}: {why}", field)
