"""References that go wrong: each costs only its own call and its dependants."""

import json

import grpc
import pytest
from tests.support.batches import COMPLETED, NOT_STARTED, call, check_failure, reason, reasons
from tests.support.serving import Serving


@pytest.mark.parametrize(
    "reference",
    ["$ref:nobody", "$ref:@9", "$ref:@0", "${ref:nobody}", "$ref:nobody#/a/b"],
)
async def test_a_reference_to_nothing(sidecar: Serving, reference: str) -> None:
    good, bad = await sidecar.run(
        call("echo", {"text": "a"}, id="a"), call("echo", {"text": reference}, id="b")
    )
    assert good.content == "a"
    check_failure(bad, "REFERENCE_UNRESOLVED", grpc.StatusCode.FAILED_PRECONDITION, NOT_STARTED)


async def test_depends_on_nothing(sidecar: Serving) -> None:
    (bad,) = await sidecar.run(call("nothing", depends_on=["nobody"]))
    check_failure(bad, "REFERENCE_UNRESOLVED", grpc.StatusCode.FAILED_PRECONDITION, NOT_STARTED)


async def test_a_reference_to_itself(sidecar: Serving) -> None:
    bad, good = await sidecar.run(call("echo", {"text": "$ref:@1"}), call("write", {"text": "b"}))
    check_failure(bad, "REFERENCE_CYCLE", grpc.StatusCode.INVALID_ARGUMENT, NOT_STARTED)
    assert good.content == "b"


async def test_a_cycle_costs_each_call_of_it_and_what_depends_on_it(sidecar: Serving) -> None:
    results = await sidecar.run(
        call("echo", {"text": "$ref:c"}, id="a"),
        call("echo", {"text": "x ${ref:a} y"}, id="b"),
        call("nothing", depends_on=["b"], id="c"),
        call("echo", {"text": "$ref:a"}, id="d"),
        call("echo", {"text": "free"}, id="e"),
    )
    for result in results[:3]:
        check_failure(result, "REFERENCE_CYCLE", grpc.StatusCode.INVALID_ARGUMENT, NOT_STARTED)
    check_failure(results[3], "DEPENDENCY_FAILED", grpc.StatusCode.FAILED_PRECONDITION, NOT_STARTED)
    assert results[4].content == "free"


@pytest.mark.parametrize(
    ("path", "said"),
    [("/missing", "name"), ("/list/7", "2 items"), ("/list/x", "2 items"), ("/name/deep", "str")],
)
async def test_a_path_that_does_not_exist(sidecar: Serving, path: str, said: str) -> None:
    inside = {"name": "Oslo", "list": [1, 2]}
    good, bad = await sidecar.run(
        call("value", {"value": inside}), call("value", {"value": f"$ref:@1#{path}"})
    )
    assert json.loads(good.content) == inside
    check_failure(bad, "REFERENCE_UNRESOLVED", grpc.StatusCode.FAILED_PRECONDITION, NOT_STARTED)
    assert said in bad.content


async def test_a_reference_to_a_failed_call(sidecar: Serving) -> None:
    failed, first, second, free = await sidecar.run(
        call("fail", id="a"),
        call("echo", {"text": "$ref:a"}, id="b"),
        call("nothing", depends_on=["b"], id="c"),
        call("echo", {"text": "free"}, id="d"),
    )
    check_failure(failed, "TOOL_FAILED", grpc.StatusCode.UNKNOWN, COMPLETED)
    for result in (first, second):
        check_failure(result, "DEPENDENCY_FAILED", grpc.StatusCode.FAILED_PRECONDITION, NOT_STARTED)
    assert "@1" in first.content
    assert "'fail'" in first.content
    assert free.content == "free"


async def test_a_reference_to_a_repeated_id(sidecar: Serving) -> None:
    results = await sidecar.run(
        call("echo", {"text": "a"}, id="same"),
        call("echo", {"text": "b"}, id="same"),
        call("value", {"value": "$ref:same"}),
        call("value", {"value": "$ref:@2"}),
    )
    assert reasons(results) == ["OK", "OK", "REFERENCE_UNRESOLVED", "OK"]
    assert "@N" in results[2].content
    assert results[3].content == "b"


async def test_a_reference_to_a_tool_that_is_called_twice(sidecar: Serving) -> None:
    results = await sidecar.run(
        call("echo", {"text": "a"}),
        call("echo", {"text": "b"}),
        call("write", {"text": "c"}),
        call("value", {"value": "$ref:echo"}),
        call("value", {"value": "$ref:write"}),
    )
    assert reasons(results) == ["OK", "OK", "OK", "REFERENCE_UNRESOLVED", "OK"]
    assert results[4].content == "c"


async def test_a_reference_that_makes_arguments_invalid(sidecar: Serving) -> None:
    results = await sidecar.run(call("value", {"value": [1]}), call("echo", {"text": "$ref:@1"}))
    assert reason(results[1].status) == "ARGUMENTS_INVALID"


async def test_what_a_tool_returns_is_data(sidecar: Serving) -> None:
    source, copy = await sidecar.run(
        call("odd", {"kind": "reference"}), call("echo", {"text": "$ref:@1"})
    )
    assert source.content == "$ref:@1"
    assert copy.content == "$ref:@1"


async def test_escapes_and_near_misses_stay_text(sidecar: Serving) -> None:
    texts = ["$$ref:@1", "costs $15", "${x}", "$ref:", "$ref: a", "say $ref:@9 here", "$$${ref:a}"]
    wanted = ["$ref:@1", "costs $15", "${x}", "$ref:", "$ref: a", "say $ref:@9 here", "$$${ref:a}"]
    results = await sidecar.run(*[call("echo", {"text": text}) for text in texts])
    assert [result.content for result in results[:-1]] == wanted[:-1]


async def test_references_can_be_switched_off(sidecar: Serving) -> None:
    (result,) = await sidecar.run(call("echo", {"text": "$ref:nobody"}), disable_references=True)
    assert result.content == "$ref:nobody"


async def test_a_long_chain(sidecar: Serving) -> None:
    links = [call("echo", {"text": f"${{ref:@{n}}}."}) for n in range(1, 2_000)]
    results = await sidecar.run(call("echo", {"text": "start"}), *links)
    assert results[-1].content == "start" + "." * 1_999


async def test_a_long_chain_behind_a_failure(sidecar: Serving) -> None:
    links = [call("nothing", depends_on=[f"@{n}"]) for n in range(1, 2_000)]
    results = await sidecar.run(call("fail"), *links)
    assert set(reasons(results[1:])) == {"DEPENDENCY_FAILED"}


async def test_one_result_referenced_by_thousands(sidecar: Serving) -> None:
    readers = [call("value", {"value": "$ref:@1#/n"}) for _ in range(3_000)]
    results = await sidecar.run(call("value", {"value": {"n": 2**70}}), *readers)
    assert {result.content for result in results[1:]} == {str(2**70)}
