import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall import ToolNames, ToolResult
from sidecall.chat.model import ModelCall
from sidecall.chat.turn_calls import TurnCalls

NAMES = ToolNames(["a.b", "multi_tool_use.parallel.mine"])


def turn_calls(*taken: str) -> TurnCalls:
    return TurnCalls(NAMES, lambda place: f"call_{place}", taken)


def wrapper(*uses: object) -> ModelCall:
    return ModelCall("w", "multi_tool_use.parallel", json.dumps({"tool_uses": list(uses)}))


@given(st.lists(st.sampled_from(["", "x", "x_2", "call_0", "y" * 60])), st.sets(st.just("x")))
def test_ids_in_the_history_are_unique_and_short(ids: list[str], taken: set[str]) -> None:
    calls = turn_calls(*taken)
    for call_id in ids:
        calls.add(ModelCall(call_id, "t", "{}"))
    given_out = [answered.call_id for answered in calls.answered]
    assert all(given_out)
    assert len({*given_out, *taken}) == len(ids) + len(taken)
    assert all(len(call_id) <= 40 or call_id in ids for call_id in given_out)


def test_the_sidecar_is_given_the_ids_of_the_provider() -> None:
    calls = turn_calls()
    for call_id in ("x", "x", ""):
        calls.add(ModelCall(call_id, "a_b", "{}"))
    assert [call.id for call in calls.batch] == ["x", "x", "call_2"]
    assert [call.name for call in calls.batch] == ["a.b"] * 3


def test_a_wrapper_takes_one_answer() -> None:
    calls = turn_calls()
    calls.add(ModelCall("first", "t", "{}"))
    calls.add(
        wrapper(
            {"recipient_name": "functions.a_b", "parameters": {"n": 1}},
            {"recipient_name": "functions.unknown"},
        )
    )
    assert [(call.name, call.arguments) for call in calls.batch[1:]] == [
        ("a.b", '{"n": 1}'),
        ("functions.unknown", "{}"),
    ]
    answered = calls.answered[1]
    results = {1: ToolResult(name="a.b", content="one")}
    assert answered.content(results) is None
    results[2] = ToolResult(name="unknown", content="two")
    content = answered.content(results)
    assert content is not None
    assert [entry["content"] for entry in json.loads(content)] == ["one", "two"]


def test_an_empty_wrapper_is_answered_at_once() -> None:
    calls = turn_calls()
    assert calls.add(wrapper()) == []
    assert calls.answered[0].content({}) == "[]"


def test_a_tool_of_that_name_is_a_tool() -> None:
    names = ToolNames(["multi_tool_use.parallel"])
    calls = TurnCalls(names, str)
    calls.add(ModelCall("w", "multi_tool_use_parallel", '{"tool_uses": []}'))
    assert [call.name for call in calls.batch] == ["multi_tool_use.parallel"]


@pytest.mark.parametrize("depth", [10, 100_000])
def test_a_wrapper_that_cannot_be_read_is_an_ordinary_call(depth: int) -> None:
    calls = turn_calls()
    calls.add(ModelCall("w", "multi_tool_use.parallel", "[" * depth))
    assert [call.name for call in calls.batch] == ["multi_tool_use.parallel"]


def test_a_wrapper_of_no_list_is_an_ordinary_call() -> None:
    calls = turn_calls()
    calls.add(ModelCall("w", "multi_tool_use.parallel", '{"tool_uses": {"a": 1}}'))
    assert [call.name for call in calls.batch] == ["multi_tool_use.parallel"]


def test_another_kind_of_call_is_answered_but_not_run() -> None:
    calls = turn_calls()
    (sent,) = calls.add(ModelCall("c", "sql", "", supported=False))
    assert (sent.id, sent.name, sent.arguments) == ("c", "", "")
    assert calls.answered[0].content({}) == "NOT RUN: only function tools can be called here."


def test_what_is_refused_keeps_its_place() -> None:
    calls = TurnCalls(NAMES, str, offered_only=True)
    calls.add(ModelCall("1", "secret", '{"x": "$ref:@2"}'))
    uses = [{"recipient_name": "secret"}, {"recipient_name": "a_b"}, {"parameters": {}}, "x"]
    calls.add(wrapper(*uses))
    calls.add(ModelCall("6", "a_b", "{}"))
    assert [call.name for call in calls.batch] == ["", "", "a.b", "", "", "a.b"]
    assert [call.arguments for call in calls.batch[:2]] == ["", ""]
    assert [list(answered.indexes) for answered in calls.answered] == [[0], [1, 2, 3, 4], [5]]


def test_a_refused_call_is_answered_with_the_reason() -> None:
    calls = TurnCalls(NAMES, str, offered_only=True)
    calls.add(ModelCall("1", "secret", "{}"))
    calls.add(wrapper({"recipient_name": "a_b"}, {"recipient_name": "secret"}))
    found = ToolResult(name="a.b", content="one")
    lost = ToolResult(content="There is no tool ''.")
    lost.status.code = 5
    settled = [calls.settle(index, result) for index, result in enumerate((lost, found, lost))]
    assert [result.name for result in settled] == ["secret", "a.b", "secret"]
    assert settled[0].content == settled[0].status.message == calls.answered[0].content({})
    assert settled[0].status.code == 5
    assert settled[1] is found
    assert calls.answered[1].content({}) is None
    answer = json.loads(calls.answered[1].content(dict(enumerate(settled))) or "")
    assert answer[0] == {"recipient_name": "a.b", "content": "one"}
    assert "no tool 'secret'" in answer[1]["content"]
