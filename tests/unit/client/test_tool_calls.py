import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall import ToolCall, to_tool_call
from sidecall._tool_calls import escape_surrogates, make_tool_call, to_duration


def chat_object() -> Any:
    from openai.types.chat import ChatCompletionMessageFunctionToolCall  # noqa: PLC0415  slow

    return ChatCompletionMessageFunctionToolCall.model_validate(
        {"id": "i", "type": "function", "function": {"name": "n", "arguments": '{"a": 1}'}}
    )


def responses_object() -> Any:
    from openai.types.responses import ResponseFunctionToolCall  # noqa: PLC0415  slow

    return ResponseFunctionToolCall.model_validate(
        {"type": "function_call", "id": "fc", "call_id": "i", "name": "n", "arguments": '{"a": 1}'}
    )


@pytest.mark.parametrize(
    "call",
    [
        ToolCall(id="i", name="n", arguments='{"a": 1}'),
        {"id": "i", "name": "n", "arguments": {"a": 1}},
        {"id": "i", "name": "n", "arguments": '{"a": 1}'},
        {"id": "i", "type": "function", "function": {"name": "n", "arguments": '{"a": 1}'}},
        {"type": "function_call", "call_id": "i", "name": "n", "arguments": '{"a": 1}'},
        chat_object(),
        responses_object(),
    ],
)
def test_every_form_gives_the_same_call(call: Any) -> None:
    assert to_tool_call(call) == ToolCall(id="i", name="n", arguments='{"a": 1}')


def test_all_fields_of_a_dictionary_arrive() -> None:
    call = to_tool_call(
        {"name": "n", "depends_on": ["a", "b"], "timeout": 1.5, "idempotency_key": "k"}
    )
    assert list(call.depends_on) == ["a", "b"]
    assert call.timeout.ToMilliseconds() == 1500
    assert call.idempotency_key == "k"


@pytest.mark.parametrize(
    "call", [{"id": "i"}, {"name": "n", "argument": {}}, "get_weather", 3, SimpleNamespace(id="i")]
)
def test_anything_else_is_refused(call: Any) -> None:
    with pytest.raises(TypeError):
        to_tool_call(call)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ["n"]}, r"a call's name must be text, not \['n'\]"),
        ({"function": {"name": None}}, "a call's name must be text, not None"),
        ({"id": 3}, "a call's id must be text, not 3"),
        ({"arguments": [1]}, r"a call's arguments must be an object or JSON text, not \[1\]"),
        ({"arguments": []}, r"a call's arguments must be an object or JSON text, not \[\]"),
        ({"arguments": 0}, "a call's arguments must be an object or JSON text, not 0"),
        ({"arguments": False}, "a call's arguments must be an object or JSON text, not False"),
        ({"id": 0}, "a call's id must be text, not 0"),
        ({"function": {}}, r"a call's function needs a name; its keys are \[\]"),
        ({"depends_on": "a"}, "a call's depends_on must be a list of ids, not 'a'"),
        ({"depends_on": 3}, "a call's depends_on must be a list of ids, not 3"),
        ({"depends_on": [1]}, "a call's depends_on must be a list of ids, not 1"),
        ({"idempotency_key": 3}, "a call's idempotency_key must be text, not 3"),
    ],
)
def test_a_field_of_another_type_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        to_tool_call({"name": "n", **fields})


@given(st.text())
def test_arguments_survive_whatever_the_text(text: str) -> None:
    lone = text + "\ud800"
    call = make_tool_call("n", json.dumps({"a": lone}, ensure_ascii=False))
    sent = ToolCall.FromString(call.SerializeToString())
    assert json.loads(sent.arguments) == {"a": lone}


def test_text_without_surrogates_stays_as_it_is() -> None:
    assert escape_surrogates("grüß 😀 \\n") == "grüß 😀 \\n"


@given(st.floats(min_value=0, max_value=1e6))
def test_durations_keep_nanoseconds(seconds: float) -> None:
    assert to_duration(seconds).ToNanoseconds() == pytest.approx(seconds * 1e9, abs=1)
