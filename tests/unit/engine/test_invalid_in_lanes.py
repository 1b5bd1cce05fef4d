"""A call that is refused whatever the others do does not wait for its lane."""

import json

import pytest
from tests.support.engines import bench, bound, reasons
from tests.support.policies import Stage

from sidecall_server.core.call import OnFailure, ToolCall
from sidecall_server.core.ports import BoundTool
from sidecall_server.core.tool import Lane

LANE = Lane("key:{key}")
SCHEMA = {
    "type": "object",
    "properties": {"key": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["key"],
}


def on(call_id: str, n: object = 1, key: str = "a") -> ToolCall:
    return ToolCall(call_id, "tool", json.dumps({"key": key, "n": n}))


def tool(stage: Stage, lane: Lane = LANE) -> BoundTool:
    return bound("tool", stage, lane=lane, input_schema=SCHEMA)


@pytest.mark.parametrize(
    "bad", [on("bad", "x"), ToolCall("bad", "tool", "no JSON"), ToolCall("bad", "tool", "{}")]
)
async def test_a_call_with_invalid_arguments_fails_at_once(bad: ToolCall) -> None:
    stage, finished = Stage(), list[int]()

    async with bench(tool(stage)) as b:
        turn = await b.start(
            [on("1"), bad, on("3")],
            lambda event: (
                finished.append(event.index) if type(event).__name__ == "Finished" else None
            ),
        )
        assert finished == [1]
        assert stage.running == ["1"]
        await stage.end("1")
        assert stage.running == ["3"], "it still comes after the first"
        await stage.end("3")
        assert reasons(turn.calls()) == ["OK", "ARGUMENTS_INVALID", "OK"]
        assert turn.calls()[1].blocked_ns is None
        b.assert_idle()


async def test_what_arguments_are_with_a_reference_is_known_only_later() -> None:
    stage = Stage()
    async with bench(tool(stage)) as b:
        turn = await b.start([on("1"), on("2", "$ref:@1"), on("3")])
        await stage.end("1")
        assert stage.running == ["3"]
        await stage.end("3")
        assert reasons(turn.calls()) == ["OK", "ARGUMENTS_INVALID", "OK"]


async def test_with_stop_it_fails_at_its_turn() -> None:
    stage = Stage()
    async with bench(tool(stage)) as b:
        turn = await b.start([on("1"), on("2"), on("3", "x")], on_failure=OnFailure.STOP)
        await stage.end("1")
        await stage.end("2")
        assert reasons(turn.calls()) == ["OK", "OK", "ARGUMENTS_INVALID"]


async def test_a_call_that_waits_for_another_one_does_not_free_its_key_before() -> None:
    stage = Stage()
    lane = Lane("key:{key}", skip_rest=True)
    async with bench(tool(stage, lane), bound("other", stage)) as b:
        bad = ToolCall("bad", "tool", '{"key": "a", "n": "x"}', ("first",))
        turn = await b.start([ToolCall("first", "other"), bad, on("3")])
        await stage.end("first")
        assert reasons(turn.calls()) == ["OK", "ARGUMENTS_INVALID", "STOPPED"]
        assert stage.started == ["first"]
