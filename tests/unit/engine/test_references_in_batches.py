"""References between calls, through the engine."""

import json

import pytest
from tests.support.engines import bench, bound, echo, fail, failure_of, reasons, text_of

from sidecall_server.core.call import Call, ToolCall
from sidecall_server.core.outcome import ExecutionState, Outcome, Success


async def dump(call: Call) -> str:
    """Returns its arguments as JSON text."""
    return json.dumps(call.arguments, ensure_ascii=False)


async def value(call: Call) -> Outcome:
    """Returns its argument `value` as a JSON value."""
    return Success(json.dumps(call.arguments["value"]), is_json=True)


async def text(call: Call) -> str:
    """Returns its argument `value` as text."""
    return str(call.arguments["value"])


TOOLS = [bound("dump", dump), bound("value", value), bound("text", text), bound("fail", fail)]


def call(name: str, depends_on: tuple[str, ...] = (), **arguments: object) -> ToolCall:
    return ToolCall(f"id-{name}", name, json.dumps(arguments), depends_on)


async def dumped(*calls: ToolCall) -> object:
    """What the last call, one of `dump`, was given."""
    async with bench(*TOOLS) as b:
        done = await b.run(calls)
        assert reasons(done) == ["OK"] * len(calls)
        return json.loads(text_of(done[-1]))


async def test_values_keep_their_type_and_text_stays_text() -> None:
    assert await dumped(
        call("value", value={"n": [1, 2.5, None, True]}),
        call("text", value='{"n": 7}'),
        call(
            "dump",
            whole="$ref:@1",
            part="$ref:value#/n/1",
            raw="$ref:@2",
            inside="$ref:text#/n",
            mixed="<${ref:id-value#/n}|${ref:@2}>",
        ),
    ) == {
        "whole": {"n": [1, 2.5, None, True]},
        "part": 2.5,
        "raw": '{"n": 7}',
        "inside": 7,
        "mixed": '<[1,2.5,null,true]|{"n": 7}>',
    }


async def test_escapes_are_undone_without_any_reference() -> None:
    assert await dumped(call("dump", a="$$ref:@1", b="$${ref:@9}", c="$15")) == {
        "a": "$ref:@1",
        "b": "${ref:@9}",
        "c": "$15",
    }


async def test_forward_references_work_and_results_come_in_call_order() -> None:
    async with bench(*TOOLS) as b:
        calls = await b.run([call("dump", a="$ref:@2"), call("value", value=1)])

        assert [text_of(c) for c in calls] == ['{"a": 1}', "1"]


async def test_text_of_a_result_is_never_resolved() -> None:
    poison = "$ref:@1 ${ref:@1} $ref:nothing"
    assert await dumped(call("text", value="secret"), call("dump", a="$$ref:@1")) == {
        "a": "$ref:@1"
    }

    async def poisoned(_: Call) -> str:
        return poison

    async with bench(bound("poisoned", poisoned), *TOOLS) as b:
        calls = await b.run(
            [
                call("text", value="secret"),
                call("poisoned"),
                call("dump", a="$ref:@2", b="<${ref:@2}>"),
            ]
        )
        assert json.loads(text_of(calls[2])) == {"a": poison, "b": f"<{poison}>"}


async def test_each_call_gets_a_value_of_its_own() -> None:
    seen: list[object] = []

    async def spoil(call: Call) -> str:
        seen.append(json.dumps(call.arguments))
        call.arguments["list"].append("spoiled")
        return "done"

    async with bench(bound("spoil", spoil), *TOOLS) as b:
        make = call("value", value=[1])
        await b.run([make, *(ToolCall("", "spoil", '{"list": "$ref:@1"}') for _ in range(3))])

        assert seen == ['{"list": [1]}'] * 3


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("$ref:nothing", "neither the id of a call"),
        ("$ref:@9", "this turn has 3 calls"),
        ("$ref:value#/missing", "no key 'missing' at the top; keys there: \"a\""),
        ("${ref:value#/a/b} text", "is a int, which has no 'b'"),
        ("$ref:same", "several calls have the id 'same'"),
        ("$ref:value#/\ud800", "no key"),
    ],
)
async def test_what_cannot_be_resolved_says_why(reference: str, message: str) -> None:
    async with bench(*TOOLS) as b:
        calls = await b.run(
            [
                ToolCall("same", "value", '{"value": {"a": 1}}'),
                ToolCall("same", "text", '{"value": "x"}'),
                call("dump", a=reference),
            ]
        )

        assert reasons(calls) == ["OK", "OK", "REFERENCE_UNRESOLVED"]
        failure = failure_of(calls[2])
        assert message in failure.message
        assert failure.state is ExecutionState.NOT_STARTED
        assert failure.message.encode()
        b.assert_idle()


@pytest.mark.parametrize(
    ("result", "reference"),
    [
        (Success("[" * 230 + "]" * 230, is_json=True), "$ref:@1#/0"),
        (Success("[" * 900 + "]" * 900), "$ref:@1#/0"),
        (Success("1" + "0" * 5000, is_json=True), "$ref:@1"),
    ],
)
async def test_a_result_that_cannot_be_passed_on_costs_only_the_call_that_asks(
    result: Success, reference: str
) -> None:
    async def odd(_: Call) -> Outcome:
        return result

    async with bench(bound("odd", odd), *TOOLS) as b:
        calls = await b.run([call("odd"), call("dump", a=reference), call("text", value="x")])

        assert reasons(calls) == ["OK", "REFERENCE_UNRESOLVED", "OK"]
        b.assert_idle()


async def test_a_failed_dependency_is_named() -> None:
    async with bench(*TOOLS) as b:
        calls = await b.run(
            [call("fail"), call("dump", a="$ref:fail"), call("text", ("id-dump",), value="x")]
        )

        assert reasons(calls) == ["TOOL_FAILED", "DEPENDENCY_FAILED", "DEPENDENCY_FAILED"]
        assert failure_of(calls[1]).metadata == {
            "dependency_index": "0",
            "dependency_id": "id-fail",
        }
        assert failure_of(calls[2]).metadata["dependency_index"] == "1"
        assert {c.attempt for c in calls[1:]} == {0}


async def test_each_call_of_a_cycle_is_refused_and_what_depends_on_it_fails() -> None:
    async with bench(*TOOLS) as b:
        calls = await b.run(
            [
                call("dump", a="$ref:@2"),
                call("dump", a="$ref:@3"),
                call("dump", a="$ref:@1"),
                call("dump", a="$ref:@4"),
                call("dump", a="$ref:@1"),
                call("text", value="x"),
            ]
        )

        assert reasons(calls) == ["REFERENCE_CYCLE"] * 4 + ["DEPENDENCY_FAILED", "OK"]
        assert "@2" in failure_of(calls[0]).message


async def test_references_can_be_switched_off_for_a_batch() -> None:
    async with bench(*TOOLS) as b:
        calls = await b.run(
            [
                call("fail"),
                call("dump", a="$ref:@1", b="$$ref:x"),
                call("text", ("@1",), value="x"),
            ],
            references=False,
        )

        assert reasons(calls) == ["TOOL_FAILED", "OK", "DEPENDENCY_FAILED"]
        assert json.loads(text_of(calls[1])) == {"a": "$ref:@1", "b": "$$ref:x"}


async def test_references_can_be_switched_off_for_a_tool() -> None:
    async with bench(bound("literal", dump, references=False), *TOOLS) as b:
        calls = await b.run([call("fail"), call("literal", a="$ref:@1", b="$ref:nothing")])

        assert reasons(calls) == ["TOOL_FAILED", "OK"]
        assert json.loads(text_of(calls[1])) == {"a": "$ref:@1", "b": "$ref:nothing"}


async def test_what_is_filled_in_is_validated() -> None:
    schema = {"type": "object", "properties": {"text": {"type": "integer"}}}
    async with bench(bound("strict", echo, input_schema=schema), *TOOLS) as b:
        calls = await b.run(
            [call("text", value="5"), call("strict", text="$ref:@1"), call("value", value=5),
             call("strict", text="$ref:@3")]
        )  # fmt: skip

        assert reasons(calls) == ["OK", "ARGUMENTS_INVALID", "OK", "OK"]


async def test_a_chain_of_ten_thousand_calls() -> None:
    async with bench(*TOOLS) as b:
        chain = [ToolCall("", "text", '{"value": "x"}')]
        chain += [ToolCall("", "text", f'{{"value": "$ref:@{n}"}}') for n in range(1, 10_000)]
        turn = await b.start(chain)
        calls = (await turn.task).calls

        assert [text_of(calls[index]) for index in (0, 5_000, 9_999)] == ["x"] * 3


async def test_ten_thousand_dependants_fail_without_recursion() -> None:
    async with bench(*TOOLS) as b:
        chain = [ToolCall("", "fail")]
        chain += [ToolCall("", "text", "", (f"@{n}",)) for n in range(1, 10_000)]
        turn = await b.start(chain)
        calls = list((await turn.task).calls.values())

        assert reasons(calls) == ["TOOL_FAILED"] + ["DEPENDENCY_FAILED"] * 9_999
        b.assert_idle()
