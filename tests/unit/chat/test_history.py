import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall import ToolNames, ToolResult
from sidecall.chat.chat_completions import ChatCompletions
from sidecall.chat.history import TurnRecord, answer_open_calls
from sidecall.chat.model import Dialect, ModelCall, ModelTurn, Usage
from sidecall.chat.responses import Responses
from sidecall.chat.turn_calls import TurnCalls
from sidecall.scripted.validation import refusal
from sidecall.v1.execution_pb2 import Blob, ResultPart

APIS: dict[str, Dialect] = {
    "/v1/chat/completions": ChatCompletions(),
    "/v1/responses": Responses(),
}


def is_accepted(path: str, history: list[Any]) -> bool:
    key = "input" if path.endswith("responses") else "messages"
    return refusal(path, {"model": "m", key: history}) is None


def turn_of(path: str, calls: list[ModelCall]) -> ModelTurn:
    items: list[dict[str, Any]]
    if path.endswith("responses"):
        items = [
            {"type": "function_call", "call_id": c.call_id, "name": c.name, "arguments": "{}"}
            for c in calls
        ]
    else:
        function = {"name": "t", "arguments": "{}"}
        made = [{"id": c.call_id, "type": "function", "function": function} for c in calls]
        items = [{"role": "assistant", "content": None, "tool_calls": made}]
    return ModelTurn("", "", tuple(calls), "completed", Usage(), items)


@pytest.mark.parametrize("path", list(APIS))
@given(ids=st.lists(st.sampled_from(["", "a", "b"]), min_size=1, max_size=6), order=st.randoms())
def test_a_turn_is_answered_at_every_moment(path: str, ids: list[str], order: Any) -> None:
    calls = TurnCalls(ToolNames(["t"]), lambda place: f"call_{place}")
    turn = turn_of(path, [ModelCall(call_id, "t", "{}") for call_id in ids])
    for call in turn.calls:
        calls.add(call)
    history: list[Any] = [{"role": "user", "content": "Go."}]
    record = TurnRecord(history, APIS[path], turn, calls)
    assert is_accepted(path, history)
    indexes = list(range(len(ids)))
    order.shuffle(indexes)
    for index in indexes:
        record.add_result(index, ToolResult(content=f"result {index}"))
        assert is_accepted(path, history)
    record.fail("never seen")
    contents = [item.get("content") or item.get("output") for item in history[-len(ids) :]]
    assert contents == [f"result {index}" for index in range(len(ids))]


@pytest.mark.parametrize("path", list(APIS))
def test_why_a_call_was_refused_outlives_the_failure_of_the_rest(path: str) -> None:
    calls = TurnCalls(ToolNames(["t"]), str, offered_only=True)
    turn = turn_of(path, [ModelCall("a", "secret", "{}"), ModelCall("b", "t", "{}")])
    for call in turn.calls:
        calls.add(call)
    history: list[Any] = []
    record = TurnRecord(history, APIS[path], turn, calls)
    record.fail("the connection failed")
    refused, failed = [item.get("content") or item.get("output") for item in history[-2:]]
    assert refused.startswith("NOT RUN: there is no tool 'secret'.")
    assert failed == "the connection failed"


@pytest.mark.parametrize("path", list(APIS))
@given(
    turns=st.lists(st.lists(st.booleans(), min_size=1, max_size=4), max_size=4),
)
def test_any_history_with_open_calls_can_be_repaired(path: str, turns: list[list[bool]]) -> None:
    dialect = APIS[path]
    history: list[Any] = [{"role": "user", "content": "Go."}]
    for number, answered in enumerate(turns):
        calls = [ModelCall(f"{number}_{place}", "t", "{}") for place in range(len(answered))]
        history += turn_of(path, calls).items
        history += [
            dialect.answer(call, call.call_id, "done")
            for call, is_answered in zip(calls, answered, strict=True)
            if is_answered
        ]
    answer_open_calls(history, dialect)
    assert is_accepted(path, history)
    repaired = list(history)
    answer_open_calls(history, dialect)
    assert history == repaired


IMAGE = ResultPart(blob=Blob(media_type="image/png", data=b"\x89PNG\r\n\x1a\n"))


@pytest.mark.parametrize("path", list(APIS))
@given(shows=st.lists(st.booleans(), min_size=1, max_size=6), order=st.randoms())
def test_attachments_follow_the_answers_at_every_moment(
    path: str, shows: list[bool], order: Any
) -> None:
    calls = TurnCalls(ToolNames(["t"]), lambda place: f"call_{place}")
    turn = turn_of(path, [ModelCall(f"c{place}", "t", "{}") for place in range(len(shows))])
    for call in turn.calls:
        calls.add(call)
    history: list[Any] = [{"role": "user", "content": "Go."}]
    record = TurnRecord(history, APIS[path], turn, calls)
    indexes = list(range(len(shows)))
    order.shuffle(indexes)
    for index in indexes:
        parts = [IMAGE] if shows[index] else []
        record.add_result(index, ToolResult(name="t", content=f"result {index}", parts=parts))
        assert is_accepted(path, history)
    texts = re.findall(r"'text': '([^']*)'", str(history))
    if path.endswith("completions"):
        labels = [text for text in texts if text.startswith("Attachment ")]
        assert labels == [
            f"Attachment 1 of the result of call c{index} (t):"
            for index, show in enumerate(shows)
            if show
        ]
        assert len(history) == 2 + len(shows) + any(shows)
    else:
        shown = [index for index, show in enumerate(shows) if show]
        assert [text for text in texts if text.startswith("result")] == [
            f"result {index}" for index in shown
        ]


@pytest.mark.parametrize("path", list(APIS))
def test_a_result_that_is_replaced_takes_its_attachments_with_it(path: str) -> None:
    calls = TurnCalls(ToolNames(["t"]), lambda place: f"call_{place}")
    turn = turn_of(path, [ModelCall("a", "t", "{}")])
    calls.add(turn.calls[0])
    history: list[Any] = [{"role": "user", "content": "Go."}]
    record = TurnRecord(history, APIS[path], turn, calls)
    record.add_result(0, ToolResult(name="t", content="seen", parts=[IMAGE]))
    assert "base64" in str(history)
    record.reopen([0])
    assert "base64" not in str(history)
    assert is_accepted(path, history)
    record.add_result(0, ToolResult(name="t", content="seen", parts=[IMAGE]))
    assert str(history).count("base64") == 1
    assert is_accepted(path, history)
