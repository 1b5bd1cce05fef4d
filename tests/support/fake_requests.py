"""What the fake ToolService remembers of a request: what ran, and what humans decided."""

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable

from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2

from sidecall.v1.execution_pb2 import (
    DECISION_REJECT,
    EXECUTION_STATE_NOT_STARTED,
    Approval,
    ToolCall,
    ToolResult,
)

Start = Callable[[ToolCall], Awaitable[ToolResult]]
_REFERENCE = re.compile(r"\$ref:@(\d+)")


class FakeRequest:
    """All sends of one batch.

    Attributes:
        kept: Results of the calls that were started, by index.
        asked: Indexes of the calls that wait or waited for a human, by approval id.
        decided: What was decided, by index.
        lost: Whether the approvals that it waits for are forgotten.
    """

    def __init__(self) -> None:
        self.kept: dict[int, ToolResult] = {}
        self.asked: dict[str, int] = {}
        self.decided: dict[int, Approval] = {}
        self.lost = False

    def decide(self, approvals: Iterable[Approval]) -> bool:
        """Takes decisions in; returns whether all of them are on calls of this request."""
        approvals = list(approvals)
        if any(self.lost or approval.approval_id not in self.asked for approval in approvals):
            return False
        for approval in approvals:
            self.decided.setdefault(self.asked[approval.approval_id], approval)
        return True


class FakeSend:
    """One send of a batch."""

    def __init__(self, request: FakeRequest) -> None:
        self.request = request
        self._ended: defaultdict[int, asyncio.Future[ToolResult]] = defaultdict(
            asyncio.get_running_loop().create_future
        )

    async def run(
        self, call: ToolCall, index: int, start: Start, *, needs_approval: bool
    ) -> ToolResult:
        """Runs a call once the calls have ended that it refers to as "$ref:@N"."""
        result = ToolResult()
        result.CopyFrom(await self._run(call, index, start, needs_approval))
        self._ended[index].set_result(result)
        return result

    async def _run(
        self, call: ToolCall, index: int, start: Start, needs_approval: bool
    ) -> ToolResult:
        request = self.request
        if (kept := request.kept.get(index)) is not None:
            kept.replayed = True
            return kept
        for number in _REFERENCE.findall(call.arguments):
            if (await self._ended[int(number) - 1]).status.code:
                text = f"Not run: the call @{number} failed."
                return unstarted(call, code_pb2.FAILED_PRECONDITION, text, "DEPENDENCY_FAILED")
        decision = request.decided.get(index)
        if needs_approval and decision is None:
            return self._ask(call, index)
        if decision is not None and decision.decision == DECISION_REJECT:
            text = f"Not run: rejected. {decision.comment}"
            return unstarted(call, code_pb2.PERMISSION_DENIED, text, "APPROVAL_REJECTED")
        if decision is not None and decision.HasField("arguments"):
            call = ToolCall(id=call.id, name=call.name, arguments=decision.arguments)
        result = request.kept[index] = await start(call)
        return result

    def _ask(self, call: ToolCall, index: int) -> ToolResult:
        ids = {place: approval_id for approval_id, place in self.request.asked.items()}
        approval_id = ids.get(index) or f"approval-{index}"
        self.request.asked[approval_id] = index
        text = "Not run: a human has to approve it first."
        result = unstarted(call, code_pb2.FAILED_PRECONDITION, text, "APPROVAL_REQUIRED")
        result.approval_id = approval_id
        result.approval_arguments = call.arguments
        return result


def unstarted(call: ToolCall, code: int, content: str, reason: str) -> ToolResult:
    """The result of a call that was not started."""
    result = ToolResult(call_id=call.id, name=call.name)
    result.execution_state = EXECUTION_STATE_NOT_STARTED
    return failed(result, code, content, reason)


def failed(result: ToolResult, code: int, content: str, reason: str = "") -> ToolResult:
    """Makes a result one of a failure."""
    result.content = content
    result.status.code = code
    result.status.message = content
    if reason:
        info = error_details_pb2.ErrorInfo(reason=reason, domain="sidecall.dev")
        packed = AnyMessage()
        packed.Pack(info)
        result.status.details.append(packed)
    return result
