"""Short words for turns in which a human decides."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.engines import Bench, Turn

from sidecall_server.core.call import Approval, Asked, Call, ToolCall
from sidecall_server.core.rejection import Rejection, RejectionReason

Decisions = Mapping[str, Approval]


def asked(call: Call) -> Asked:
    """What a human is asked about a call."""
    assert call.asked is not None
    return call.asked


def decide(call: Call, *, approved: bool = True, **fields: Any) -> Decisions:
    """A decision on a call that waits."""
    return {asked(call).approval_id: Approval(approved, **fields)}


def decisions(*some: Decisions) -> Decisions:
    """Several decisions in one."""
    return {approval_id: item for one in some for approval_id, item in one.items()}


async def resend(
    b: Bench,
    calls: Sequence[ToolCall],
    turn: Turn,
    approvals: Decisions | None = None,
    **options: Any,
) -> Turn:
    """Sends a turn again, with decisions where there are any."""
    request_id = turn.task.result().request_id
    return await b.start(calls, request_id=request_id, approvals=approvals or {}, **options)


def refusal(turn: Turn) -> RejectionReason:
    """Why a turn was not accepted."""
    error = turn.task.exception()
    assert isinstance(error, Rejection), error
    return error.reason
