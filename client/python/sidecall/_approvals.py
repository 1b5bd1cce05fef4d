"""What a human decides on calls that wait for it."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from sidecall._results import reason_of
from sidecall._tool_calls import escape_surrogates
from sidecall.v1.execution_pb2 import (
    DECISION_APPROVE,
    DECISION_REJECT,
    Approval,
    Decision,
    ToolResult,
)


class AwaitsApproval(Protocol):
    """Something with an approval id: a `ToolResult`, or a chat's `ApprovalRequested`."""

    @property
    def approval_id(self) -> str:
        """Id under which a human can decide on a call."""
        ...


def pending_approvals(results: Iterable[ToolResult]) -> list[ToolResult]:
    """Returns the results of the calls that wait for a human, in the order of `results`.

    What such a call would run with is in `ToolResult.approval_arguments`.
    """
    return [
        result
        for result in results
        if result.approval_id and reason_of(result) == "APPROVAL_REQUIRED"
    ]


def approve(
    pending: AwaitsApproval | str,
    *,
    by: str = "",
    arguments: str | Mapping[str, Any] | None = None,
    when: datetime | None = None,
) -> Approval:
    """Lets a call run.

    The decision takes effect when the same calls are sent again with `approvals` and the
    `request_id` of the `BatchResults` that asked for it.

    Args:
        pending: What waits for approval, or its approval id.
        by: Who decides.
        arguments: JSON text, or an object that is made into it, to run the call with
            instead of the model's arguments; references in them are not resolved.
        when: When it was decided; with a time zone. By default now.

    Raises:
        ValueError: Nothing waits for approval there, or `when` has no time zone.
        TypeError: An argument has a value of another type.
    """
    approval = _decision(DECISION_APPROVE, pending, by, when)
    if isinstance(arguments, Mapping):
        arguments = json.dumps(dict(arguments))
    if arguments is not None:
        approval.arguments = _text("arguments", arguments)
    return approval


def reject(
    pending: AwaitsApproval | str,
    *,
    by: str = "",
    comment: str = "",
    when: datetime | None = None,
) -> Approval:
    """Keeps a call from running; takes effect as `approve` does.

    Args:
        pending: What waits for approval, or its approval id.
        by: Who decides.
        comment: What to tell the model.
        when: When it was decided; with a time zone. By default now.

    Raises:
        ValueError: Nothing waits for approval there, or `when` has no time zone.
        TypeError: An argument has a value of another type.
    """
    approval = _decision(DECISION_REJECT, pending, by, when)
    approval.comment = _text("comment", comment)
    return approval


def _decision(
    decision: "Decision.ValueType", pending: AwaitsApproval | str, by: str, when: datetime | None
) -> Approval:
    approval_id = pending if isinstance(pending, str) else pending.approval_id
    if not approval_id:
        raise ValueError("the call does not wait for approval: it has no approval_id")
    if when is not None and when.tzinfo is None:
        raise ValueError("when needs a time zone")
    decide_time = Timestamp()
    decide_time.FromDatetime(when or datetime.now(UTC))
    return Approval(
        approval_id=approval_id,
        decision=decision,
        decided_by=_text("by", by),
        decide_time=decide_time,
    )


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, not {value!r}")
    return escape_surrogates(value)
