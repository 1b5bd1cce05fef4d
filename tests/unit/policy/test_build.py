"""The order of the policies."""

from tests.support.clock import settle
from tests.support.engines import Gate, bench, bound, reasons

from sidecall_server.core.call import BatchOptions, Call, ToolCall
from sidecall_server.core.outcome import Outcome, Success
from sidecall_server.core.ports import Handler, Layer
from sidecall_server.policy.build import stack


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
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    gate = Gate()
    tool = bound("t", gate, input_schema=schema, max_concurrency=1, max_queue=0)
    async with bench(tool) as made:
        running = await made.start([ToolCall("", "t")])
        calls = await made.run([ToolCall("", "t", '{"unknown": 1}'), ToolCall("", "t")])
        assert reasons(calls) == ["ARGUMENTS_INVALID", "QUEUE_FULL"]
        gate.open(0)
        await settle()
        assert reasons(running.calls()) == ["OK"]
