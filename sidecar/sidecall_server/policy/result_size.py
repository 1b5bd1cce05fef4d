"""Results that are too large are refused, for the tools that ask for it."""

from sidecall._failures import too_large_text
from sidecall_server.core.call import Call
from sidecall_server.core.outcome import (
    BlobPart,
    ExecutionState,
    Failure,
    Outcome,
    Reason,
    Success,
)
from sidecall_server.core.ports import BoundTool, Handler, Layer
from sidecall_server.core.tool import LargeResult
from sidecall_server.policy.budget import utf8_bytes


def result_size_layer(tool: BoundTool) -> Layer | None:
    """Refuses results over the tool's `max_result_bytes`; None unless it wants that.

    Where a tool cuts instead, nothing is done here: references read the uncut value.
    """
    spec = tool.spec
    max_bytes = spec.max_result_bytes
    if max_bytes is None or spec.large_result is not LargeResult.REFUSE:
        return None

    def layer(handler: Handler) -> Handler:
        async def handle(call: Call) -> Outcome:
            outcome = await handler(call)
            if type(outcome) is Success and (size := result_bytes(outcome)) > max_bytes:
                return _too_large(size, max_bytes)
            return outcome

        return handle

    return layer


def result_bytes(success: Success) -> int:
    """What a result takes: its text, and the bytes of its blobs."""
    blobs = sum(len(part.data) for part in success.parts if isinstance(part, BlobPart))
    return utf8_bytes(success.text) + blobs


def _too_large(size: int, max_bytes: int) -> Failure:
    return Failure(
        Reason.RESULT_TOO_LARGE,
        too_large_text(size, max_bytes),
        ExecutionState.COMPLETED,
        metadata={"result_bytes": str(size), "max_result_bytes": str(max_bytes)},
    )
