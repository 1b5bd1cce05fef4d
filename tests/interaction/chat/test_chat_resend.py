"""Turns whose connection is lost, and sessions."""

from typing import Any

import grpc
import pytest
from tests.interaction.chat.conftest import StartChat, answers
from tests.support.fake_tool_service import FakeToolService, RpcFailure

from sidecall import SidecallError
from sidecall.chat import REFERENCE_HINT, SESSION_REFERENCE_HINT, CallFinished
from sidecall.scripted import ModelRequest, ScriptedCall, ScriptedTurn

ROME = ScriptedCall("get_weather", {"city": "Rome"})
PAY = ScriptedCall("transfer", {"to": "Rome"})
LOST = RpcFailure(grpc.StatusCode.UNAVAILABLE)
EARLY = {"stream": True, "early_start": True}


@pytest.fixture(params=["chat_completions", "responses"])
def early(request: Any) -> dict[str, Any]:
    return {**EARLY, "api": request.param, "resend": True}


def summarise(request: ModelRequest) -> ScriptedTurn:
    return ScriptedTurn(text=" / ".join(request.results()))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_is_sent_again_and_runs_once(
    start_chat: StartChat, sidecar: FakeToolService, stream: bool
) -> None:
    sidecar.failures["answer"] = [LOST]
    script = [ScriptedTurn(calls=[PAY, ROME]), ScriptedTurn(calls=[PAY]), summarise]
    chat = await start_chat(*script, resend=True, stream=stream)
    result = await chat.loop.run("Go.")
    assert result.text == '{"to": "Rome"} / sunny in Rome / {"to": "Rome"}'
    assert sidecar.started == ["transfer", "get_weather", "transfer"]
    first, again, second = [batch.request_id for batch in sidecar.batches]
    assert first
    assert first == again
    assert second != first


async def test_an_early_turn_that_was_released_is_sent_again_and_runs_once(
    start_chat: StartChat, sidecar: FakeToolService, early: dict[str, Any]
) -> None:
    sidecar.failures = {"seal": [LOST], "ExecuteBatch": [LOST]}
    chat = await start_chat(ScriptedTurn(calls=[ROME, PAY]), summarise, **early)
    result = await chat.loop.run("Go.")
    assert result.text == 'sunny in Rome / {"to": "Rome"}'
    assert sidecar.started == ["get_weather", "transfer"]
    (messages,) = sidecar.streams
    assert messages[0].start.request_id
    assert {batch.request_id for batch in sidecar.batches} == {messages[0].start.request_id}
    assert sorted(event.index for event in chat.events_of(CallFinished)) == [0, 1]


async def test_what_cannot_get_better_is_not_sent_again(
    start_chat: StartChat, sidecar: FakeToolService, early: dict[str, Any]
) -> None:
    sidecar.failures["seal"] = [RpcFailure(grpc.StatusCode.INTERNAL, "INTERNAL")]
    chat = await start_chat(ScriptedTurn(calls=[PAY]), **early)
    with pytest.raises(SidecallError):
        await chat.loop.run("Go.")
    assert sidecar.batches == []


async def test_a_lost_turn_whose_time_is_over_is_not_sent_again(
    start_chat: StartChat, sidecar: FakeToolService, early: dict[str, Any]
) -> None:
    sidecar.failures["seal"] = [LOST]
    chat = await start_chat(ScriptedTurn(calls=[PAY]), batch_timeout=1e-9, **early)
    with pytest.raises(SidecallError):
        await chat.loop.run("Go.")
    assert sidecar.batches == []
    assert len(answers(chat.loop.history)) == 1


async def test_an_abandoned_turn_is_a_new_request(
    start_chat: StartChat, sidecar: FakeToolService
) -> None:
    turn = ScriptedTurn(calls=[PAY, ROME], interleave=True, piece_chars=4)
    chat = await start_chat(turn, summarise, resend=True, **EARLY)
    await chat.loop.run("Go.")
    (batch,) = sidecar.batches
    assert batch.request_id
    assert batch.request_id != sidecar.streams[0][0].start.request_id


@pytest.mark.parametrize("early_start", [False, True])
async def test_nothing_has_a_request_id_unless_it_is_asked_for(
    start_chat: StartChat, sidecar: FakeToolService, early_start: bool
) -> None:
    chat = await start_chat(ScriptedTurn(calls=[PAY]), summarise, early_start=early_start)
    await chat.loop.run("Go.")
    assert [sent.request_id for sent in all_sent(sidecar)] == [""]


@pytest.mark.parametrize("early_start", [False, True])
async def test_a_session_is_passed_on_and_the_model_is_told(
    start_chat: StartChat, sidecar: FakeToolService, early_start: bool
) -> None:
    chat = await start_chat(
        ScriptedTurn(calls=[PAY]),
        summarise,
        session_id="s",
        reference_hint=True,
        early_start=early_start,
        batch_options={"session_id": "another"},
    )
    await chat.loop.run("Go.")
    assert [sent.session_id for sent in all_sent(sidecar)] == ["s"]
    assert chat.model.requests[0].items[0]["content"] == SESSION_REFERENCE_HINT
    assert "earlier turns" in SESSION_REFERENCE_HINT
    assert "earlier turns" not in REFERENCE_HINT


def all_sent(sidecar: FakeToolService) -> list[Any]:
    """The messages that said something about a whole batch."""
    return [*sidecar.batches, *(messages[0].start for messages in sidecar.streams)]
