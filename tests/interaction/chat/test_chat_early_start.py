"""Calls go out while the model is still writing."""

import asyncio
from typing import Any

import grpc
import openai
import pytest
from tests.interaction.chat.conftest import StartChat, answers
from tests.support.fake_tool_service import FakeToolService, RpcFailure

from sidecall import SidecallError
from sidecall.chat import (
    CallFinished,
    CallPartialOutput,
    CallProgress,
    CallQueued,
    CallReady,
    CallStarted,
    ChatEvent,
    EarlyStartAbandoned,
    ErrorOccurred,
    ModelError,
)
from sidecall.scripted import ModelRequest, ScriptedCall, ScriptedTurn

ROME = ScriptedCall("get_weather", {"city": "Rome"})
OSLO = ScriptedCall("get_weather", {"city": "Oslo"})
PAY = ScriptedCall("transfer", {"to": "Rome"})
EARLY = {"stream": True, "early_start": True}


@pytest.fixture(params=["chat_completions", "responses"])
def early(request: Any) -> dict[str, Any]:
    return {**EARLY, "api": request.param}


def summarise(request: ModelRequest) -> ScriptedTurn:
    return ScriptedTurn(text=" / ".join(request.results()))


class Until:
    """A hook that tells when something has happened."""

    def __init__(self, kind: type[ChatEvent], index: int) -> None:
        self.events: list[ChatEvent] = []
        self.happened = asyncio.Event()
        self._wanted = (kind, index)

    def __call__(self, event: ChatEvent) -> None:
        self.events.append(event)
        if (type(event), getattr(event, "index", None)) == self._wanted:
            self.happened.set()

    async def before_last_call(self, number: int) -> None:
        """Holds the model's stream back, near its end, until it has happened."""
        if number == 9:
            await asyncio.wait_for(self.happened.wait(), 60)


async def test_a_call_ends_while_the_model_writes_the_next(
    start_chat: StartChat, early: dict[str, Any]
) -> None:
    hook = Until(CallFinished, 0)
    turn = ScriptedTurn(calls=[ROME, OSLO], piece_chars=4, before_chunk=hook.before_last_call)
    chat = await start_chat(turn, summarise, hooks=hook, **early)
    assert (await chat.loop.run("Go.")).text == "sunny in Rome / sunny in Oslo"
    ready = [event.index for event in hook.events if isinstance(event, CallReady)]
    assert ready == [0, 1]
    first_result = next(
        place for place, event in enumerate(hook.events) if isinstance(event, CallFinished)
    )
    before = [event for event in hook.events[:first_result] if isinstance(event, CallReady)]
    assert [event.index for event in before] == [0]


async def test_everything_about_a_call_is_reported(
    start_chat: StartChat, early: dict[str, Any]
) -> None:
    chat = await start_chat(ScriptedTurn(calls=[ROME, PAY]), summarise, **early)
    await chat.loop.run("Go.")
    (queued,) = chat.events_of(CallQueued)
    assert (queued.index, queued.cause) == (1, "BLOCK_CAUSE_SEAL")
    assert sorted(event.index for event in chat.events_of(CallStarted)) == [0, 1]
    (progress,) = chat.events_of(CallProgress)
    assert (progress.index, progress.progress, progress.total) == (0, 1.0, None)
    assert [event.text for event in chat.events_of(CallPartialOutput)] == ["asking"]
    assert sorted(event.index for event in chat.events_of(CallFinished)) == [0, 1]


async def test_one_batch_carries_the_whole_turn(
    start_chat: StartChat, sidecar: FakeToolService, early: dict[str, Any]
) -> None:
    chat = await start_chat(
        ScriptedTurn(calls=[ROME, PAY, OSLO]), summarise, context={"user": "u"}, **early
    )
    result = await chat.loop.run("Go.")
    assert [item.content for item in result.turns[0].results] == [
        "sunny in Rome",
        '{"to": "Rome"}',
        "sunny in Oslo",
    ]
    assert sidecar.batches == []
    (messages,) = sidecar.streams
    assert messages[0].start.context == {"user": "u"}
    assert [message.call.index for message in messages[1:4]] == [0, 1, 2]
    assert messages[4].seal.call_count == 3


async def test_a_turn_without_calls_opens_no_stream(
    start_chat: StartChat, sidecar: FakeToolService, early: dict[str, Any]
) -> None:
    chat = await start_chat(ScriptedTurn(text="Hi."), **early)
    await chat.loop.run("Hello.")
    assert sidecar.streams == []


async def test_without_streaming_the_calls_go_out_together(
    start_chat: StartChat, sidecar: FakeToolService
) -> None:
    chat = await start_chat(ScriptedTurn(calls=[ROME, PAY]), summarise, early_start=True)
    await chat.loop.run("Go.")
    assert len(sidecar.streams) == 1
    assert chat.events_of(CallStarted)


@pytest.mark.parametrize("quietly", [False, True])
async def test_a_model_that_breaks_off_has_no_effect(
    start_chat: StartChat, sidecar: FakeToolService, early: dict[str, Any], quietly: bool
) -> None:
    broken = ScriptedTurn(
        calls=[PAY, ROME, PAY], piece_chars=100, break_after=7, break_quietly=quietly
    )
    chat = await start_chat(broken, **early)
    with pytest.raises((ModelError, openai.APIError)):
        await chat.loop.run("Go.")
    assert len(chat.loop.history) == 1
    assert chat.events_of(CallReady)
    await asyncio.wait_for(sidecar.idle.wait(), 60)
    assert "transfer" not in sidecar.started


async def test_calls_that_were_cut_off_have_no_effect(
    start_chat: StartChat, sidecar: FakeToolService, early: dict[str, Any]
) -> None:
    cut = ScriptedTurn(calls=[PAY, ScriptedCall("transfer", '{"to": "R')], finish_reason="length")
    chat = await start_chat(cut, **early)
    result = await chat.loop.run("Go.")
    assert result.stopped_reason == "length"
    assert len(answers(result.messages)) == 2
    assert "transfer" not in sidecar.started


async def test_a_delta_that_comes_late_sends_the_turn_again(
    start_chat: StartChat, sidecar: FakeToolService
) -> None:
    turn = ScriptedTurn(calls=[PAY, ROME], interleave=True, piece_chars=4)
    chat = await start_chat(turn, summarise, **EARLY)
    result = await chat.loop.run("Go.")
    assert result.text == '{"to": "Rome"} / sunny in Rome'
    assert len(chat.events_of(EarlyStartAbandoned)) == 1
    assert len(sidecar.batches) == 1
    assert sidecar.started.count("transfer") == 1


async def test_interleaved_calls_are_no_problem_where_each_is_reported_done(
    start_chat: StartChat, sidecar: FakeToolService
) -> None:
    turn = ScriptedTurn(calls=[PAY, ROME, OSLO], interleave=True, piece_chars=4)
    chat = await start_chat(turn, summarise, api="responses", **EARLY)
    result = await chat.loop.run("Go.")
    assert result.text == '{"to": "Rome"} / sunny in Rome / sunny in Oslo'
    assert sidecar.batches == []


@pytest.mark.parametrize(
    "failure",
    [
        RpcFailure(grpc.StatusCode.UNIMPLEMENTED),
        RpcFailure(grpc.StatusCode.UNAVAILABLE, "DRAINING"),
    ],
)
async def test_a_stream_that_is_refused_becomes_a_batch(
    start_chat: StartChat, sidecar: FakeToolService, early: dict[str, Any], failure: RpcFailure
) -> None:
    sidecar.failures["StreamBatch"] = [failure]
    chat = await start_chat(ScriptedTurn(calls=[PAY, ROME]), summarise, **early)
    assert (await chat.loop.run("Go.")).text == '{"to": "Rome"} / sunny in Rome'
    assert sidecar.started.count("transfer") == 1
    assert len(chat.events_of(EarlyStartAbandoned)) == 1


async def test_a_wrapper_is_unwrapped(start_chat: StartChat, early: dict[str, Any]) -> None:
    uses = [
        {"recipient_name": "functions.get_weather", "parameters": {"city": city}}
        for city in ("Rome", "Oslo")
    ]
    wrapper = ScriptedCall("multi_tool_use.parallel", {"tool_uses": uses}, id="w")
    chat = await start_chat(ScriptedTurn(calls=[wrapper, PAY]), summarise, **early)
    result = await chat.loop.run("Go.")
    assert [event.index for event in chat.events_of(CallReady)] == [0, 1, 2]
    assert answers(result.messages)["w"].count("sunny") == 2


async def test_calls_that_take_too_long_are_cancelled(
    start_chat: StartChat, early: dict[str, Any]
) -> None:
    hook = Until(CallFinished, 0)
    turn = ScriptedTurn(
        calls=[ROME, ScriptedCall("hang", {})], piece_chars=4, before_chunk=hook.before_last_call
    )
    chat = await start_chat(turn, summarise, hooks=hook, batch_timeout="50ms", **early)
    result = await chat.loop.run("Go.")
    rome, hung = answers(result.messages).values()
    assert rome == "sunny in Rome"
    assert "cancelled" in hung


async def test_what_a_hook_raises_ends_the_chat(
    start_chat: StartChat, early: dict[str, Any]
) -> None:
    def fussy(event: ChatEvent) -> None:
        assert not isinstance(event, ErrorOccurred), "a hook that failed is left alone"
        if type(event) is CallFinished:
            raise LookupError("enough")

    chat = await start_chat(ScriptedTurn(calls=[ROME, PAY]), hooks=fussy, **early)
    with pytest.raises(LookupError, match="enough"):
        await chat.loop.run("Go.")
    assert len(answers(chat.loop.history)) in (0, 2)


async def test_a_sidecar_that_dies_after_the_seal_leaves_the_outcome_open(
    start_chat: StartChat, sidecar: FakeToolService, early: dict[str, Any]
) -> None:
    hook = Until(CallStarted, 1)
    turn = ScriptedTurn(calls=[ROME, ScriptedCall("hang_writing", {})])
    chat = await start_chat(turn, hooks=hook, **early)
    running = asyncio.create_task(chat.loop.run("Go."))
    await asyncio.wait_for(hook.happened.wait(), 60)
    await sidecar.__aexit__()
    with pytest.raises(SidecallError) as caught:
        await running
    assert not caught.value.not_started
    rome, hung = answers(chat.loop.history).values()
    assert rome == "sunny in Rome"
    assert "may have taken effect" in hung


@pytest.mark.parametrize("reason", ["INTERNAL", "REQUEST_INVALID", "DRAINING", ""])
async def test_a_turn_that_fails_after_its_seal_is_never_sent_again(
    start_chat: StartChat, sidecar: FakeToolService, early: dict[str, Any], reason: str
) -> None:
    sidecar.tools["transfer"].function = sidecar.tools["hang"].function
    sidecar.failures["seal"] = [RpcFailure(grpc.StatusCode.INTERNAL, reason)]
    chat = await start_chat(ScriptedTurn(calls=[PAY]), summarise, **early)
    with pytest.raises(SidecallError) as caught:
        await chat.loop.run("Go.")
    assert caught.value.reason == reason
    assert not caught.value.not_started
    (content,) = answers(chat.loop.history).values()
    assert "may have taken effect" in content
    assert (sidecar.started, sidecar.batches) == (["transfer"], [])


async def test_a_sidecar_that_dies_before_the_seal_has_had_no_effect(
    start_chat: StartChat, sidecar: FakeToolService, early: dict[str, Any]
) -> None:
    queued, abandoned = asyncio.Event(), asyncio.Event()

    def hook(event: ChatEvent) -> None:
        if isinstance(event, CallQueued):
            queued.set()
        elif isinstance(event, EarlyStartAbandoned):
            abandoned.set()

    async def hold(number: int) -> None:
        if number == 9:
            await asyncio.wait_for(abandoned.wait(), 60)

    turn = ScriptedTurn(calls=[PAY, ROME], piece_chars=4, before_chunk=hold)
    chat = await start_chat(turn, hooks=hook, **early)
    running = asyncio.create_task(chat.loop.run("Go."))
    await asyncio.wait_for(queued.wait(), 60)
    await sidecar.__aexit__()
    with pytest.raises(SidecallError) as caught:
        await running
    assert caught.value.not_started
    assert all(text.startswith("NOT RUN") for text in answers(chat.loop.history).values())
    assert sidecar.started == []


async def test_a_sidecar_that_does_not_answer_ends_the_turn_in_time(
    start_chat: StartChat,
    early: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def say_nothing(*_: object) -> None:
        pass

    monkeypatch.setattr("tests.support.fake_tool_service._Turn._finish", say_nothing)
    monkeypatch.setattr("sidecall.chat.early._ANSWER_S", 0.05)
    chat = await start_chat(ScriptedTurn(calls=[PAY]), batch_timeout="50ms", **early)
    with pytest.raises(SidecallError, match="did not answer") as caught:
        await asyncio.wait_for(chat.loop.run("Go."), 60)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not caught.value.not_started
    (content,) = answers(chat.loop.history).values()
    assert content.startswith("UNKNOWN: ")


async def test_a_slow_hook_is_not_taken_for_a_silent_sidecar(
    start_chat: StartChat, early: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecall.chat.early._ANSWER_S", 1.0)

    async def slow(event: ChatEvent) -> None:
        if isinstance(event, CallStarted):
            await asyncio.sleep(1.3)  # longer than the calls and the answer may take

    chat = await start_chat(
        ScriptedTurn(calls=[ROME]), summarise, hooks=slow, batch_timeout="1ms", **early
    )
    result = await chat.loop.run("Go.")
    assert len(answers(result.messages)) == 1
