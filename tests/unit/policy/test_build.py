"""The order of the policies."""

from sidecall_server.core.call import BatchOptions, Call, ToolCall
from sidecall_server.core.outcome import Outcome, Success
from sidecall_server.core.ports import Handler, Layer
from sidecall_server.policy.build import ADMISSION, stack


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


def test_a_call_is_validated_before_it_waits() -> None:
    assert ADMISSION.index("references") < ADMISSION.index("arguments") < ADMISSION.index("queue")
    assert ADMISSION[-1] == "permits"
