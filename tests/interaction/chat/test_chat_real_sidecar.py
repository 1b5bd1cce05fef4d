"""Chats and clients against a real sidecar in this process."""

import asyncio
import json
from typing import Any

import pytest
from tests.interaction.chat.conftest import StartChat, answers
from tests.support.gate import Gate
from tests.support.serving import Serving

from sidecall import AsyncClient, Client, SidecallError
from sidecall.chat import CallFinished, CallQueued, CallReady, CallStarted
from sidecall.scripted import ModelRequest, ScriptedCall, ScriptedTurn
from sidecall.v1.execution_pb2 import EXECUTION_STATE_NOT_STARTED

WAYS = [
    {"api": api, **how}
    for api in ("chat_completions", "responses")
    for how in ({"stream": False}, {"stream": True}, {"stream": True, "early_start": True})
]


@pytest.fixture
async def real(start_sidecar: Any) -> Serving:
    serving: Serving = await start_sidecar()
    return serving


@pytest.fixture(params=WAYS, ids=lambda way: "-".join(map(str, way.values())))
def way(request: Any, real: Serving) -> dict[str, Any]:
    return {**request.param, "endpoint": real.address}


def summarise(request: ModelRequest) -> ScriptedTurn:
    return ScriptedTurn(text=" / ".join(request.results()))


async def test_calls_refer_to_each_other(start_chat: StartChat, way: dict[str, Any]) -> None:
    calls = [
        ScriptedCall("value", {"value": {"city": "Rome", "degrees": 21}}),
        ScriptedCall("write", {"text": "$ref:@1#/city"}),
        ScriptedCall("echo", {"text": "${ref:@1#/degrees} degrees in ${ref:@2}"}),
        ScriptedCall("echo", {"text": "$ref:@9"}),
    ]
    chat = await start_chat(ScriptedTurn(calls=calls), summarise, reference_hint=True, **way)
    result = await chat.loop.run("Go.")
    first, second, third, fourth = answers(result.messages).values()
    assert json.loads(first) == {"city": "Rome", "degrees": 21}
    assert second == "Rome"
    assert third == "21 degrees in Rome"
    assert "@9" in fourth
    assert len(chat.events_of(CallReady)) == len(chat.events_of(CallFinished)) == 4


async def test_a_position_counts_the_calls_as_the_model_made_them(
    start_chat: StartChat, way: dict[str, Any]
) -> None:
    apple, yacht = (ScriptedCall("value", {"value": price}) for price in (1, 1_000_000))
    uses = [
        {"recipient_name": "functions.fail", "parameters": {}},
        {"recipient_name": "functions.value", "parameters": {"value": 7}},
        {"recipient_name": "functions.value", "parameters": {"value": "$ref:@2"}},
    ]
    calls = [
        ScriptedCall("fail", {}),
        apple,
        yacht,
        ScriptedCall("write", {"text": "${ref:@2}"}),
        ScriptedCall("multi_tool_use.parallel", {"tool_uses": uses}),
        ScriptedCall("write", {"text": "${ref:@6} and ${ref:@7}"}),
        ScriptedCall("write", {"text": "${ref:@1}"}),
    ]
    chat = await start_chat(ScriptedTurn(calls=calls), summarise, tools=["value", "write"], **way)
    result = await chat.loop.run("Go.")
    secret, _, _, pay, wrapped, both, dependant = answers(result.messages).values()
    assert secret.startswith("NOT RUN: there is no tool 'fail'.")
    assert pay == "1"
    finished = {event.index: event.result for event in chat.events_of(CallFinished)}
    assert (finished[0].name, finished[0].content) == ("fail", secret)
    assert [entry["content"] for entry in json.loads(wrapped)][1:] == ["7", "1"]
    assert both == "7 and 1"
    failed = result.turns[0].results[8]
    assert failed.content == dependant
    assert failed.execution_state == EXECUTION_STATE_NOT_STARTED


async def test_a_call_that_is_refused_stops_what_comes_after_it(
    start_chat: StartChat, way: dict[str, Any]
) -> None:
    calls = [
        ScriptedCall("write", {"text": "before"}),
        ScriptedCall("fail", {}),
        ScriptedCall("write", {"text": "after"}),
    ]
    options = {"mode": "sequential", "on_failure": "stop"}
    chat = await start_chat(
        ScriptedTurn(calls=calls), summarise, tools=["write"], batch_options=options, **way
    )
    result = await chat.loop.run("Go.")
    before, refused, after = answers(result.messages).values()
    assert before == "before"
    assert refused.startswith("NOT RUN: there is no tool 'fail'.")
    assert "earlier call" in after


async def test_failures_can_be_repaired(start_chat: StartChat, way: dict[str, Any]) -> None:
    calls = [
        ScriptedCall("ecko", {"text": "x"}),
        ScriptedCall("echo", {"text": 3}),
        ScriptedCall("echo", "{"),
        ScriptedCall("echo", {"text": "x"}),
    ]
    chat = await start_chat(ScriptedTurn(calls=calls), summarise, **way)
    result = await chat.loop.run("Go.")
    unknown, wrong, broken, fine = answers(result.messages).values()
    assert "echo" in unknown
    assert "text" in wrong
    assert "JSON" in broken
    assert fine == "x"


@pytest.mark.parametrize("api", ["chat_completions", "responses"])
async def test_a_read_only_call_runs_while_the_model_writes(
    start_chat: StartChat, real: Serving, gate: Gate, api: str
) -> None:
    async def hold(number: int) -> None:
        if number == 7:
            visit = await gate.arrived("early")
            visit.release("went early")

    held = ScriptedCall("hold", {"gate": gate.path, "name": "early"})
    turn = ScriptedTurn(
        calls=[held, ScriptedCall("write", {"text": "$ref:@1"})],
        piece_chars=len(held.text) // 3,
        before_chunk=hold,
    )
    chat = await start_chat(
        turn, summarise, stream=True, early_start=True, api=api, endpoint=real.address
    )
    result = await chat.loop.run("Go.")
    assert result.text == "went early / went early"
    assert {event.index for event in chat.events_of(CallStarted)} == {0, 1}
    assert chat.events_of(CallQueued)[-1].index == 1


async def test_cancelling_a_chat_cancels_its_calls(
    start_chat: StartChat, real: Serving, way: dict[str, Any], gate: Gate
) -> None:
    call = ScriptedCall("hold_write", {"gate": gate.path, "name": "late"})
    chat = await start_chat(ScriptedTurn(calls=[call]), summarise, **way)
    running = asyncio.create_task(chat.loop.run("Go."))
    await gate.arrived("late")
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    await real.until(lambda statistics: not statistics.open_batches)
    assert answers(chat.loop.history).popitem()[1].startswith("CANCELLED")
    await chat.loop.run("Go on.")


async def test_capabilities_and_tools(real: Serving) -> None:
    with Client(real.address) as client:
        capabilities = await asyncio.to_thread(client.wait_until_ready)
        tools = await asyncio.to_thread(client.list_tools)
    assert "stream_batch" in capabilities.features
    assert {"echo", "hold"} <= {tool.name for tool in tools}


async def test_what_makes_no_sense_is_refused(real: Serving) -> None:
    async with AsyncClient(real.address) as client:
        with pytest.raises(SidecallError) as caught:
            await client.call("echo", {"text": "x"}, request_id="x" * 300)
        assert caught.value.reason == "REQUEST_INVALID"
        assert caught.value.not_started
        with pytest.raises(SidecallError) as caught:
            async with client.stream_batch(request_id="x" * 300):
                pass
        assert caught.value.not_started


async def test_an_abandoned_turn_starts_nothing_that_was_held(real: Serving) -> None:
    async with AsyncClient(real.address) as client, client.stream_batch() as turn:
        await turn.send(0, {"name": "write", "arguments": {"text": "x"}})
        await turn.abandon()
        (result,) = await turn.results()
    assert result.execution_state == EXECUTION_STATE_NOT_STARTED
