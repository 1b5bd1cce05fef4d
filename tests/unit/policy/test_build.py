"""The order of the policies."""

from typing import Any

from sidecall_server.core.call import BatchOptions, BlockCause, Call, ToolCall
from sidecall_server.core.defaults import Limits
from sidecall_server.core.outcome import Failure, Outcome, Reason, Success
from sidecall_server.core.ports import BoundTool, Handler, Layer
from sidecall_server.core.tool import ToolSpec
from sidecall_server.policy.build import ToolPolicies, stack
from sidecall_server.policy.concurrency import Limiter
from sidecall_server.policy.queue import ToolQueue


def layer(name: str, log: list[str]) -> Layer:
    def wrap(handler: Handler) -> Handler:
        async def handle(call: Call) -> Outcome:
            log.append(f"{name} before")
            outcome = await handler(call)
            log.append(f"{name} after")
            return outcome

        return handle

    return wrap


async def test_the_first_layer_sees_the_attempt_first() -> None:
    log: list[str] = []

    async def handler(_: Call) -> Outcome:
        log.append("tool")
        return Success("done")

    stacked = stack(layer("outer", log), layer("inner", log))(handler)
    await stacked(Call(0, ToolCall("", "t"), BatchOptions(), None, 1))

    assert log == ["outer before", "inner before", "tool", "inner after", "outer after"]


def test_without_layers_the_handler_is_left_as_it_is() -> None:
    async def handler(_: Call) -> Outcome:
        return Success("done")

    assert stack()(handler) is handler


async def test_a_call_is_validated_before_the_queue_is_asked() -> None:
    async def handler(_: Call) -> Outcome:
        return Success("done")

    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    tool = BoundTool(ToolSpec("t", "", schema, max_queue=0), handler)
    full: Limiter[Any] = Limiter("t", BlockCause.TOOL_LIMIT, 0)
    policies = ToolPolicies(tool, Limits(), full, (), ToolQueue(0))

    def reason(arguments: str) -> Reason:
        call = Call(0, ToolCall("", "t", arguments), BatchOptions(), None, 1)
        failure = policies.admit(call, None)
        assert isinstance(failure, Failure)
        return failure.reason

    assert reason('{"unknown": 1}') is Reason.ARGUMENTS_INVALID
    assert reason("{}") is Reason.QUEUE_FULL
