"""What providers do to the Chat Completions API."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from sidecall.chat.chat_completions import ChatCompletions
from sidecall.chat.model import CallDone, CallReopened, ModelCall, ModelError, ModelTurn, StreamPart
from sidecall.scripted import ScriptedCall, ScriptedTurn
from sidecall.scripted import chat_completions as wire


def assemble(chunks: list[Any]) -> tuple[list[StreamPart], ModelTurn]:
    assembler = ChatCompletions().assembler()
    parts = [
        part
        for chunk in chunks
        for part in assembler.feed(ChatCompletionChunk.model_validate(chunk))
    ]
    return parts, assembler.finish()


def chunk(delta: dict[str, Any] | None, finish_reason: str | None = None, index: int = 0) -> Any:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish_reason}
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": [choice]}


def call_chunk(index: int, arguments: str = "", **fields: Any) -> Any:
    function = {"arguments": arguments}
    if "name" in fields:
        function["name"] = fields.pop("name")
    return chunk({"tool_calls": [{"index": index, "function": function, **fields}]})


END = chunk({}, "tool_calls")


def test_calls_with_the_same_index_are_told_apart_by_their_ids() -> None:
    parts, turn = assemble(
        [
            call_chunk(0, '{"n": 1}', id="a", name="t"),
            call_chunk(0, '{"n": 2}', id="b", name="t"),
            END,
        ]
    )
    wanted = (ModelCall("a", "t", '{"n": 1}'), ModelCall("b", "t", '{"n": 2}'))
    assert turn.calls == wanted
    assert parts == [CallDone(call) for call in wanted]


def test_an_id_and_a_name_may_be_repeated_in_each_delta() -> None:
    pieces = ['{"n"', ": 1}"]
    _, turn = assemble([*(call_chunk(0, piece, id="a", name="t") for piece in pieces), END])
    assert turn.calls == (ModelCall("a", "t", '{"n": 1}'),)


def test_a_call_is_not_done_because_its_arguments_parse() -> None:
    assembler = ChatCompletions().assembler()
    begun = ChatCompletionChunk.model_validate(call_chunk(0, "{}", id="a", name="t"))
    assert list(assembler.feed(begun)) == []


def test_a_late_delta_reopens_a_call_once() -> None:
    parts, turn = assemble(
        [
            call_chunk(0, "{", id="a", name="t"),
            call_chunk(1, "{}", id="b", name="t"),
            call_chunk(0, "}"),
            call_chunk(0, " "),
            END,
        ]
    )
    assert parts == [CallDone(ModelCall("a", "t", "{")), CallReopened()]
    assert turn.calls == (ModelCall("a", "t", "{} "), ModelCall("b", "t", "{}"))


def test_a_cut_turn_reports_no_last_call() -> None:
    parts, turn = assemble([call_chunk(0, '{"n', id="a", name="t"), chunk({}, "length")])
    assert parts == []
    assert turn.end == "length"


def test_other_choices_are_ignored() -> None:
    _, turn = assemble(
        [chunk({"content": "no"}, index=1), chunk({"content": "yes"}), chunk({}, "stop")]
    )
    assert turn.text == "yes"


def test_fields_of_the_provider_are_kept() -> None:
    _, turn = assemble(
        [
            chunk({"reasoning_content": "Let "}),
            chunk({"reasoning_content": "me."}),
            call_chunk(0, id="a", name="t", extra_content={"google": {"thought_signature": "s"}}),
            END,
        ]
    )
    assert turn.items[0]["reasoning_content"] == "Let me."
    (call,) = turn.items[0]["tool_calls"]
    assert call["extra_content"] == {"google": {"thought_signature": "s"}}


def test_a_stream_without_its_end_is_an_error() -> None:
    with pytest.raises(ModelError):
        assemble([chunk({"content": "Hel"})])


def test_an_answer_without_a_choice_is_an_error() -> None:
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []}
    with pytest.raises(ModelError, match="no choice"):
        ChatCompletions().parse(ChatCompletion.model_validate(body))


def test_what_only_goes_out_is_not_sent_back() -> None:
    message = {
        "role": "assistant",
        "content": "Hi.",
        "annotations": [],
        "audio": {"id": "audio_1", "data": "x", "expires_at": 1, "transcript": "Hi."},
    }
    body = wire.completion(ScriptedTurn(), "m", "x", [])
    body["choices"][0]["message"] = message
    turn = ChatCompletions().parse(ChatCompletion.model_validate(body))
    assert turn.items == [{"role": "assistant", "content": "Hi.", "audio": {"id": "audio_1"}}]


def test_another_kind_of_call_is_kept_and_marked() -> None:
    custom = {"id": "c", "type": "custom", "custom": {"name": "sql", "input": "select"}}
    body = wire.completion(ScriptedTurn(), "m", "x", [])
    body["choices"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": [custom]}
    turn = ChatCompletions().parse(ChatCompletion.model_validate(body))
    assert turn.calls == (ModelCall("c", "", "", supported=False),)
    assert turn.items[0]["tool_calls"] == [custom]


CALLS = st.lists(
    st.builds(ScriptedCall, name=st.sampled_from(["t", "u"]), arguments=st.text(max_size=30)),
    max_size=5,
)


@given(CALLS, st.text(max_size=30), st.integers(1, 12), st.booleans())
def test_a_streamed_turn_equals_the_whole_one(
    calls: list[ScriptedCall], text: str, piece_chars: int, interleave: bool
) -> None:
    script = ScriptedTurn(text=text, calls=calls, piece_chars=piece_chars, interleave=interleave)
    ids = [f"call_{number}" for number in range(len(calls))]
    whole = wire.completion(script, "m", "x", ids)
    expected = ChatCompletions().parse(ChatCompletion.model_validate(whole))
    parts, turn = assemble(list(wire.chunks(script, "m", "x", ids, usage=True)))
    assert turn == expected
    done = [part.call for part in parts if isinstance(part, CallDone)]
    if not any(isinstance(part, CallReopened) for part in parts):
        assert tuple(done) == turn.calls
    assert interleave or len(done) == len(calls)
