import json
from typing import Any

import pytest

from sidecall_server.cli.batch_file import BatchFileError, read_calls

CALL = {"name": "n", "arguments": {"a": 1}, "id": "i"}
CHAT = {"id": "i", "type": "function", "function": {"name": "n", "arguments": '{"a": 1}'}}
RESPONSES = {"type": "function_call", "call_id": "i", "name": "n", "arguments": '{"a": 1}'}


@pytest.mark.parametrize(
    "document",
    [
        [CALL],
        {"calls": [CALL]},
        [CHAT],
        {"role": "assistant", "tool_calls": [CHAT]},
        {"choices": [{"message": {"tool_calls": [CHAT]}}]},
        [RESPONSES],
        {"output": [{"type": "reasoning", "summary": []}, RESPONSES]},
    ],
)
def test_shapes(document: Any) -> None:
    (call,) = read_calls(json.dumps(document))
    assert (call.id, call.name, json.loads(call.arguments)) == ("i", "n", {"a": 1})


def test_everything_that_a_call_can_say() -> None:
    (call,) = read_calls('[{"name": "n", "timeout": "250ms", "depends_on": ["@1", "x"]}]')
    assert call.timeout.ToMilliseconds() == 250
    assert list(call.depends_on) == ["@1", "x"]
    assert call.arguments == ""


def test_argument_text_is_left_as_it_is() -> None:
    (call,) = read_calls(json.dumps([{"name": "n", "arguments": '{"a": 1e400, oops'}]))
    assert call.arguments == '{"a": 1e400, oops'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ('"calls"', "no calls found"),
        ("{}", "no calls found"),
        ('{"choices": [{"message": {"content": "hello"}}]}', "no calls found"),
        ("[1]", "call 1: expected an object"),
        ('[{"name": "a"}, {"arguments": {}}]', "call 2: a call needs a name"),
        ('[{"function": {"arguments": "{}"}}]', "call 1: 'name' is missing"),
        ('[{"name": "a", "argumnets": {}}]', "call 1: a call has no argumnets"),
        ('[{"name": "a", "timeout": "soon"}]', "call 1: 'soon' is not a duration"),
    ],
)
def test_what_is_no_batch(text: str, message: str) -> None:
    with pytest.raises(BatchFileError, match=message):
        read_calls(text)
