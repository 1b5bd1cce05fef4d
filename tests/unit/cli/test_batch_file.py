import json
from typing import Any

import pytest

from sidecall_server.cli.batch_file import BatchFileError, read_batch

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
    (call,) = read_batch(json.dumps(document)).calls
    assert (call.id, call.name, json.loads(call.arguments)) == ("i", "n", {"a": 1})


def test_everything_that_a_call_can_say() -> None:
    (call,) = read_batch('[{"name": "n", "timeout": "250ms", "depends_on": ["@1", "x"]}]').calls
    assert call.timeout.ToMilliseconds() == 250
    assert list(call.depends_on) == ["@1", "x"]
    assert call.arguments == ""


def test_argument_text_is_left_as_it_is() -> None:
    (call,) = read_batch(json.dumps([{"name": "n", "arguments": '{"a": 1e400, oops'}])).calls
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
        ('[{"function": {"arguments": "{}"}}]', "call 1: a call's function needs a name"),
        ('[{"name": "a", "arguments": []}]', "call 1: a call's arguments must be an object"),
        ('[{"name": "a", "argumnets": {}}]', "call 1: a call has no argumnets"),
        ('[{"name": "a", "timeout": "soon"}]', "call 1: 'soon' is not a duration"),
        ('[{"name": "a", "depends_on": "abc"}]', "call 1: depends_on is a list of strings"),
        ('[{"name": "a", "depends_on": [1]}]', "call 1: depends_on is a list of strings"),
        ('{"calls": [], "modus": 1}', "a batch has no 'modus'; .* mode, "),
        ('{"calls": [], "mode": "random"}', "mode is parallel or sequential"),
        ('{"calls": [], "on_failure": ["stop"]}', "on_failure is continue or stop"),
        ('{"calls": [], "max_concurrency": 0}', "max_concurrency is"),
        ('{"calls": [], "max_concurrency": 3000000000}', "max_concurrency is"),
        ('{"calls": [], "timeout": 0}', "timeout: a duration must be positive"),
        ('{"calls": [], "timeout": []}', "timeout: .* is not a duration"),
        ('{"calls": [], "context": {"a": 1}}', "context is an object of strings"),
        ("[" * 200_000 + "]" * 200_000, "nested too deep"),
        ('[{"name": "a", "arguments": {"n": 1' + "0" * 5000 + "}}]", "more than 4300 digits"),
    ],
)
def test_what_is_no_batch(text: str, message: str) -> None:
    with pytest.raises(BatchFileError, match=message):
        read_batch(text)


def test_a_batch_says_how_it_runs() -> None:
    said = {"mode": "sequential", "on_failure": "stop", "max_concurrency": 2, "timeout": "1m"}
    batch = read_batch(json.dumps({"calls": [CALL], **said, "context": {"user": "ann"}}))
    assert batch.options == {**said, "timeout": 60.0, "context": {"user": "ann"}}


def test_a_batch_says_where_it_was_sent_before() -> None:
    said = {"request_id": "r", "sent_to_instance": "i", "session_id": "s"}
    assert read_batch(json.dumps({"calls": [CALL], **said})).options == said
    with pytest.raises(BatchFileError, match="sent_to_instance is a string"):
        read_batch('{"calls": [], "sent_to_instance": 1}')


def test_what_a_provider_adds_to_its_answer_is_no_option() -> None:
    assert read_batch(json.dumps({"tool_calls": [CHAT], "role": "assistant"})).options == {}


def test_a_byte_order_mark_is_left_out() -> None:
    assert len(read_batch("\ufeff" + json.dumps([CALL])).calls) == 1
