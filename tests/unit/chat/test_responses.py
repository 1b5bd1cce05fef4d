"""What providers do to the Responses API."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._models import construct_type
from openai.types.responses import Response, ResponseStreamEvent

from sidecall.chat.model import CallDone, CallReopened, ModelCall, ModelError, ModelTurn, StreamPart
from sidecall.chat.responses import Responses
from sidecall.scripted import ScriptedCall, ScriptedTurn
from sidecall.scripted import responses as wire


def assemble(events: list[Any]) -> tuple[list[StreamPart], ModelTurn]:
    assembler = Responses().assembler()
    parts: list[StreamPart] = []
    for event in events:
        parts += assembler.feed(construct_type(type_=ResponseStreamEvent, value=event))
    return parts, assembler.finish()


def parse(body: Any) -> ModelTurn:
    return Responses().parse(construct_type(type_=Response, value=body))


def events_of(*calls: ScriptedCall, **options: Any) -> list[Any]:
    script = ScriptedTurn(calls=calls, **options)
    ids = [f"call_{number}" for number in range(len(calls))]
    return list(wire.events(script, "m", "x", ids))


CALLS = st.lists(
    st.builds(ScriptedCall, name=st.sampled_from(["t", "u"]), arguments=st.text(max_size=30)),
    max_size=5,
)


@given(CALLS, st.text(max_size=30), st.integers(1, 12), st.booleans(), st.sampled_from(["", "Hm"]))
def test_a_streamed_turn_equals_the_whole_one(
    calls: list[ScriptedCall], text: str, piece_chars: int, interleave: bool, reasoning: str
) -> None:
    script = ScriptedTurn(
        text=text,
        calls=calls,
        piece_chars=piece_chars,
        interleave=interleave,
        reasoning=reasoning,
    )
    ids = [f"call_{number}" for number in range(len(calls))]
    expected = parse(wire.response(script, "m", "x", ids))
    parts, turn = assemble(list(wire.events(script, "m", "x", ids)))
    assert turn == expected
    assert tuple(part.call for part in parts if isinstance(part, CallDone)) == turn.calls


def test_a_last_event_without_the_output_is_filled_from_the_others() -> None:
    events = events_of(ScriptedCall("t", "{}"), reasoning="Hm.")
    _, whole = assemble(events)
    events[-1]["response"]["output"] = []
    assert assemble(events)[1] == whole


def test_a_server_that_only_reports_whole_items_is_understood() -> None:
    events = events_of(ScriptedCall("t", '{"n": 1}'))
    kept = [event for event in events if event["type"] != "response.output_item.added"]
    few = [event for event in kept if "function_call_arguments" not in event["type"]]
    parts, turn = assemble(few)
    assert parts == [CallDone(ModelCall("call_0", "t", '{"n": 1}'))]
    assert len(turn.calls) == 1


def test_an_item_that_differs_from_its_arguments_reopens_the_call() -> None:
    events = events_of(ScriptedCall("t", "{}"))
    for event in events:
        if event["type"] == "response.output_item.done":
            event["item"] = {**event["item"], "arguments": '{"n": 1}'}
    parts, _ = assemble(events)
    assert parts == [CallDone(ModelCall("call_0", "t", "{}")), CallReopened()]


def test_arguments_of_nothing_are_an_error() -> None:
    events = events_of(ScriptedCall("t", "{}"))
    kept = [event for event in events if event["type"] != "response.output_item.added"]
    with pytest.raises(ModelError, match="never began"):
        assemble(kept)


def test_an_error_event_is_an_error() -> None:
    error = {"type": "error", "message": "overloaded", "code": "x", "sequence_number": 1}
    with pytest.raises(ModelError, match="overloaded"):
        assemble([error])


def test_a_failed_response_is_an_error() -> None:
    body = wire.response(ScriptedTurn(), "m", "x", [])
    body |= {"status": "failed", "error": {"code": "server_error", "message": "burnt down"}}
    with pytest.raises(ModelError, match="burnt down"):
        parse(body)


def test_a_stream_without_its_end_is_an_error() -> None:
    with pytest.raises(ModelError):
        assemble(events_of(ScriptedCall("t", "{}"))[:-1])


def test_a_custom_tool_call_is_kept_and_marked() -> None:
    body = wire.response(ScriptedTurn(), "m", "x", [])
    custom = {"type": "custom_tool_call", "call_id": "c", "name": "sql", "input": "select"}
    body["output"] = [custom]
    turn = parse(body)
    assert turn.calls == (ModelCall("c", "sql", "", supported=False),)
    answer = Responses().answer(turn.calls[0], "c", "no")
    assert answer == {"type": "custom_tool_call_output", "call_id": "c", "output": "no"}


def test_a_custom_tool_call_keeps_its_place_in_a_stream() -> None:
    custom = {"type": "custom_tool_call", "call_id": "c", "id": "i", "name": "sql", "input": "x"}
    begun, *events = events_of(ScriptedCall("t", "{}"))
    for event in events:
        if "output_index" in event:
            event["output_index"] += 1
    events[-1]["response"]["output"].insert(0, custom)
    brought = [
        {"type": f"response.output_item.{kind}", "output_index": 0, "item": custom}
        for kind in ("added", "done")
    ]
    parts, turn = assemble([begun, *brought, *events])
    assert [call.name for call in turn.calls] == ["sql", "t"]
    assert tuple(part.call for part in parts if isinstance(part, CallDone)) == turn.calls
