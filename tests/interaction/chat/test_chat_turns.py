"""Whole chats: the openai package, the scripted model, a sidecar."""

import json
from typing import Any

import openai
import pytest
from tests.interaction.chat.conftest import StartChat, answers
from tests.support.fake_tool_service import FakeToolService

from sidecall.chat import (
    CallFinished,
    CallReady,
    ErrorOccurred,
    RefusalDelta,
    TextDelta,
    TurnFinished,
    TurnStarted,
    Usage,
)
from sidecall.scripted import ModelRequest, ScriptedCall, ScriptedTurn

QUESTION = [{"role": "user", "content": "How is the weather in Rome and in Oslo?"}]
ROME = ScriptedCall("get_weather", {"city": "Rome"})
OSLO = ScriptedCall("get_weather", {"city": "Oslo"})


@pytest.fixture(
    params=[
        {"api": api, "stream": stream}
        for api in ("chat_completions", "responses")
        for stream in (False, True)
    ],
    ids=lambda way: f"{way['api']}-{'streamed' if way['stream'] else 'whole'}",
)
def way(request: Any) -> dict[str, Any]:
    """Each API, streamed and not."""
    options: dict[str, Any] = request.param
    return options


def summarise(request: ModelRequest) -> ScriptedTurn:
    return ScriptedTurn(text=" / ".join(request.results()))


async def test_results_reach_the_model_in_call_order(
    start_chat: StartChat, way: dict[str, Any]
) -> None:
    chat = await start_chat(ScriptedTurn(calls=[ROME, OSLO]), summarise, **way)
    result = await chat.loop.run(QUESTION.copy())
    assert result.text == "sunny in Rome / sunny in Oslo"
    assert result.stopped_reason == "completed"
    assert result.usage == Usage(20, 10)
    assert [turn.text for turn in result.turns] == ["", result.text]
    assert [call.name for call in result.turns[0].calls] == ["get_weather", "get_weather"]
    assert [item.content for item in result.turns[0].results] == [
        "sunny in Rome",
        "sunny in Oslo",
    ]


async def test_the_given_list_is_the_history(start_chat: StartChat, way: dict[str, Any]) -> None:
    messages = QUESTION.copy()
    chat = await start_chat(ScriptedTurn(calls=[ROME]), summarise, **way)
    result = await chat.loop.run(messages)
    assert result.messages is messages
    assert chat.loop.history is messages


async def test_a_conversation_goes_on(start_chat: StartChat, way: dict[str, Any]) -> None:
    chat = await start_chat(
        ScriptedTurn(calls=[ROME]), summarise, ScriptedTurn(text="You are welcome."), **way
    )
    await chat.loop.run("How is Rome?")
    result = await chat.loop.run("Thanks.")
    assert result.text == "You are welcome."
    assert chat.model.requests[-1].items[0] == {"role": "user", "content": "How is Rome?"}


async def test_events_tell_the_whole_story(start_chat: StartChat, way: dict[str, Any]) -> None:
    turn = ScriptedTurn(text="Let me look.", calls=[ROME], piece_chars=4)
    chat = await start_chat(turn, summarise, **way)
    await chat.loop.run("How is Rome?")
    assert [event.turn for event in chat.events_of(TurnStarted)] == [1, 2]
    assert [event.turn for event in chat.events_of(TurnFinished)] == [1, 2]
    texts = [event.text for event in chat.events_of(TextDelta) if event.turn == 1]
    assert "".join(texts) == "Let me look."
    assert (len(texts) > 1) is way["stream"]
    (ready,) = chat.events_of(CallReady)
    assert json.loads(ready.call.arguments) == {"city": "Rome"}
    (finished,) = chat.events_of(CallFinished)
    assert (finished.index, finished.result.content) == (0, "sunny in Rome")


async def test_names_are_mapped_there_and_back(start_chat: StartChat, way: dict[str, Any]) -> None:
    call = ScriptedCall("clock_now", {"zone": "UTC"})
    chat = await start_chat(ScriptedTurn(calls=[call]), summarise, **way)
    result = await chat.loop.run("What time is it?")
    assert "clock_now" in chat.model.requests[0].tool_names
    assert result.turns[0].calls[0].name == "clock.now"
    assert "clock.now" not in str(result.messages)
    assert json.loads(result.text) == {"zone": "UTC"}


async def test_only_chosen_tools_are_offered(start_chat: StartChat, way: dict[str, Any]) -> None:
    chat = await start_chat(ScriptedTurn(text="Hi."), **way, tools=["clock.now"])
    await chat.loop.run("Hello.")
    assert chat.model.requests[0].tool_names == ["clock_now"]


async def test_a_tool_that_was_not_chosen_is_not_run(
    start_chat: StartChat, way: dict[str, Any], sidecar: FakeToolService
) -> None:
    uses = [{"recipient_name": "transfer"}, {"recipient_name": "functions.clock_now"}]
    calls = [
        ScriptedCall("transfer", {}),
        ScriptedCall("clock_now", {}),
        ScriptedCall("multi_tool_use.parallel", {"tool_uses": uses}),
    ]
    chat = await start_chat(ScriptedTurn(calls=calls), summarise, tools=["clock.now"], **way)
    result = await chat.loop.run("Go.")
    refused, fine, wrapped = answers(result.messages).values()
    assert refused == "NOT RUN: there is no tool 'transfer'. The tools are: clock_now."
    assert fine == "{}"
    inner = [entry["content"] for entry in json.loads(wrapped)]
    assert inner == [refused, "{}"]
    assert sidecar.started == ["clock.now", "clock.now"]
    assert [item.content for item in result.turns[0].results] == [refused, fine, *inner]
    told = sorted((event.index, event.result.content) for event in chat.events_of(CallFinished))
    assert [content for _, content in told] == [refused, fine, *inner]


async def test_a_chosen_tool_must_exist(start_chat: StartChat, way: dict[str, Any]) -> None:
    chat = await start_chat(**way, tools=["nothing"])
    with pytest.raises(ValueError, match="nothing"):
        await chat.loop.run("Hello.")


async def test_without_tools_none_are_sent(
    start_chat: StartChat, sidecar: FakeToolService, way: dict[str, Any]
) -> None:
    sidecar.tools.clear()
    chat = await start_chat(ScriptedTurn(text="Hi."), **way)
    assert (await chat.loop.run("Hello.")).text == "Hi."


async def test_failures_are_results(start_chat: StartChat, way: dict[str, Any]) -> None:
    calls = [
        ScriptedCall("fail", {}),
        ScriptedCall("nobody"),
        ScriptedCall("get_weather", "{broken"),
        ROME,
    ]
    chat = await start_chat(ScriptedTurn(calls=calls), summarise, **way)
    result = await chat.loop.run("Go.")
    contents = list(answers(result.messages).values())
    assert "no luck" in contents[0]
    assert "nobody" in contents[1]
    assert "not JSON" in contents[2]
    assert contents[3] == "sunny in Rome"


@pytest.mark.parametrize("ids", [["", ""], ["same", "same"], ["same", "same_2", "same"]])
async def test_missing_and_repeated_ids(
    start_chat: StartChat, way: dict[str, Any], ids: list[str], sidecar: FakeToolService
) -> None:
    calls = [ScriptedCall("clock_now", {"n": n}, id=call_id) for n, call_id in enumerate(ids)]
    chat = await start_chat(ScriptedTurn(calls=calls), summarise, **way)
    result = await chat.loop.run("Go.")
    contents = answers(result.messages)
    assert len(contents) == len(ids)
    assert [json.loads(content)["n"] for content in contents.values()] == list(range(len(ids)))
    # A repeated id stays repeated for the sidecar: there a reference to it is an error.
    sent = [call.id for call in sidecar.batches[0].calls]
    assert sent == (ids if all(ids) else list(contents))


async def test_minted_ids_differ_between_turns(start_chat: StartChat, way: dict[str, Any]) -> None:
    turn = ScriptedTurn(calls=[ScriptedCall("clock_now", {}, id="")])
    chat = await start_chat(turn, turn, summarise, **way)
    result = await chat.loop.run("Go.")
    assert list(answers(result.messages)) == ["call_1_0", "call_3_0"]


async def test_an_id_of_an_earlier_turn_is_not_used_twice(
    start_chat: StartChat, way: dict[str, Any]
) -> None:
    turns = [ScriptedTurn(calls=[ScriptedCall("clock_now", {"n": n}, id="0")]) for n in range(2)]
    chat = await start_chat(*turns, summarise, **way)
    result = await chat.loop.run("Go.")
    assert answers(result.messages) == {"0": '{"n": 0}', "0_2": '{"n": 1}'}


async def test_empty_arguments(start_chat: StartChat, way: dict[str, Any]) -> None:
    chat = await start_chat(ScriptedTurn(calls=[ScriptedCall("clock_now")]), summarise, **way)
    assert (await chat.loop.run("Go.")).text == "{}"


async def test_a_parallel_wrapper_is_unwrapped(
    start_chat: StartChat, way: dict[str, Any], sidecar: FakeToolService
) -> None:
    uses = [
        {"recipient_name": "functions.get_weather", "parameters": {"city": "Rome"}},
        {"recipient_name": "functions.clock_now", "parameters": {}},
    ]
    wrapper = ScriptedCall("multi_tool_use.parallel", {"tool_uses": uses}, id="w")
    chat = await start_chat(ScriptedTurn(calls=[wrapper, OSLO]), summarise, **way)
    result = await chat.loop.run("Go.")
    contents = answers(result.messages)
    assert json.loads(contents["w"]) == [
        {"recipient_name": "get_weather", "content": "sunny in Rome"},
        {"recipient_name": "clock.now", "content": "{}"},
    ]
    assert list(contents.values())[1] == "sunny in Oslo"
    assert [call.id for call in sidecar.batches[0].calls][:2] == ["w_1", "w_2"]


@pytest.mark.parametrize("arguments", ["{broken", "[]", "null"])
async def test_a_malformed_wrapper_is_an_unknown_tool(
    start_chat: StartChat, way: dict[str, Any], arguments: str
) -> None:
    wrapper = ScriptedCall("multi_tool_use.parallel", arguments)
    chat = await start_chat(ScriptedTurn(calls=[wrapper]), summarise, **way)
    assert "multi_tool_use.parallel" in (await chat.loop.run("Go.")).text


async def test_calls_that_were_cut_off_are_not_run(
    start_chat: StartChat, way: dict[str, Any], sidecar: FakeToolService
) -> None:
    cut = ScriptedTurn(calls=[ROME, ScriptedCall("transfer", '{"to": "Ro')], finish_reason="length")
    chat = await start_chat(cut, summarise, **way)
    result = await chat.loop.run("Go.")
    assert result.stopped_reason == "length"
    assert sidecar.started == []
    assert all("output limit" in content for content in answers(result.messages).values())
    assert len(answers(result.messages)) == 2
    await chat.loop.run("Go on.")


async def test_a_content_filter_stops_the_chat(start_chat: StartChat, way: dict[str, Any]) -> None:
    cut = ScriptedTurn(text="I", calls=[ROME], finish_reason="content_filter")
    chat = await start_chat(cut, **way)
    result = await chat.loop.run("Go.")
    assert result.stopped_reason == "content_filter"
    assert "content filter" in answers(result.messages).popitem()[1]


async def test_a_finish_reason_that_forgets_the_calls(
    start_chat: StartChat, way: dict[str, Any]
) -> None:
    turn = ScriptedTurn(calls=[ROME], finish_reason="stop")
    chat = await start_chat(turn, summarise, **way)
    assert (await chat.loop.run("Go.")).text == "sunny in Rome"


async def test_a_refusal(start_chat: StartChat, way: dict[str, Any]) -> None:
    chat = await start_chat(
        ScriptedTurn(refusal="I will not do that."), ScriptedTurn(text="Fine."), **way
    )
    result = await chat.loop.run("Do it.")
    assert (result.text, result.refusal) == ("", "I will not do that.")
    assert result.stopped_reason == "refusal"
    assert "".join(event.text for event in chat.events_of(RefusalDelta)) == result.refusal
    assert (await chat.loop.run("Then not.")).text == "Fine."


async def test_an_empty_answer_keeps_the_history_valid(
    start_chat: StartChat, way: dict[str, Any]
) -> None:
    chat = await start_chat(ScriptedTurn(), ScriptedTurn(text="Yes?"), **way)
    assert (await chat.loop.run("Hello?")).text == ""
    assert (await chat.loop.run("Anybody?")).text == "Yes?"


async def test_max_turns(start_chat: StartChat, way: dict[str, Any]) -> None:
    endless = [ScriptedTurn(calls=[ROME])] * 3
    chat = await start_chat(*endless, summarise, **way, max_turns=3)
    result = await chat.loop.run("Go.")
    assert result.stopped_reason == "max_turns"
    assert len(result.turns) == 3
    assert (await chat.loop.run("And?")).stopped_reason == "completed"


async def test_lone_surrogates_go_through(start_chat: StartChat, way: dict[str, Any]) -> None:
    call = ScriptedCall("clock_now", json.dumps({"text": "\ud83d"}, ensure_ascii=False))
    chat = await start_chat(ScriptedTurn(text="odd \udc00", calls=[call]), summarise, **way)
    assert json.loads((await chat.loop.run("Go.")).text) == {"text": "\ud83d"}


async def test_a_model_that_fails_leaves_the_history_as_it_was(
    start_chat: StartChat, way: dict[str, Any]
) -> None:
    chat = await start_chat(
        ScriptedTurn(calls=[ROME]), ScriptedTurn(http_status=500), summarise, **way
    )
    with pytest.raises(openai.InternalServerError):
        await chat.loop.run("Go.")
    assert isinstance(chat.events[-1], ErrorOccurred)
    assert len(chat.loop.history) == 3
    assert (await chat.loop.run("Again.")).text == ""
