"""Tools that refuse results that are too large."""

import pytest
from tests.support.engines import bound
from tests.support.handler_calls import make_call

from sidecall_server.core.call import Call
from sidecall_server.core.outcome import (
    BlobPart,
    Code,
    ExecutionState,
    Failure,
    Outcome,
    Reason,
    Success,
    TextPart,
)
from sidecall_server.core.ports import BoundTool
from sidecall_server.core.tool import LargeResult
from sidecall_server.policy.result_size import result_size_layer


def returning(outcome: Outcome, max_result_bytes: int | None = 10) -> BoundTool:
    async def run(call: Call) -> Outcome:
        return outcome

    return bound("t", run, max_result_bytes=max_result_bytes, large_result=LargeResult.REFUSE)


async def outcome_of(tool: BoundTool) -> Outcome:
    layer = result_size_layer(tool)
    assert layer is not None
    return await layer(tool.handler)(make_call("t"))


@pytest.mark.parametrize(
    "success",
    [
        Success("x" * 11),
        Success("é" * 6),
        Success("x" * 5, False, (TextPart("x" * 5), BlobPart("image/png", b"123456"))),
    ],
)
async def test_a_result_over_the_bound_is_refused(success: Success) -> None:
    outcome = await outcome_of(returning(success))
    assert isinstance(outcome, Failure)
    assert outcome.reason is Reason.RESULT_TOO_LARGE
    assert outcome.status_code is Code.RESOURCE_EXHAUSTED
    assert outcome.state is ExecutionState.COMPLETED
    assert "ask for less" in outcome.message
    assert outcome.metadata["max_result_bytes"] == "10"
    assert int(outcome.metadata["result_bytes"]) > 10


@pytest.mark.parametrize(
    "outcome",
    [
        Success("x" * 10),
        Success("é" * 5),
        Failure(Reason.TOOL_FAILED, "x" * 11, ExecutionState.COMPLETED),
    ],
)
async def test_everything_else_passes(outcome: Outcome) -> None:
    assert await outcome_of(returning(outcome)) is outcome


async def test_only_tools_that_want_it_have_the_layer() -> None:
    assert result_size_layer(returning(Success(""), None)) is None

    async def run(call: Call) -> str:
        return ""

    assert result_size_layer(bound("t", run, max_result_bytes=10)) is None
