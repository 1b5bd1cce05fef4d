"""Humans decide on calls while a chat goes on."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from tests.interaction.chat.conftest import StartChat, answers
from tests.support.fake_tool_service import FakeTool, FakeToolService, RpcFailure

from sidecall import Approval, SidecallError, approve, reason_of, reject
from sidecall.chat import (
    ApprovalDecided,
    ApprovalRequested,
    CallFinished,
    ChatEvent,
    ErrorOccurred,
)
from sidecall.scripted import ModelRequest, ScriptedCall, ScriptedTurn
from sidecall.scripted.validation import refusal

ROME = ScriptedCall("get_weather", {"city": "Rome"}, id="weather")
PAY = ScriptedCall("pay", {"to": "Rome"}, id="pay")
SHIP = ScriptedCall("ship", {"to": "Oslo"}, id="ship")
THANK = ScriptedCall("pay", {"to": "$ref:@1"}, id="thank")

WAYS = [
    {"api": api, **how}
    for api in ("chat_completions", "responses")
    for how in ({"stream": False}, {"stream": True}, {"stream": True, "early_start": True})
]


@pytest.fixture(params=WAYS, ids=lambda way: "-".join(map(str, way.values())))
def way(request: Any, sidecar: FakeToolService) -> dict[str, Any]:
    echo = sidecar.tools["transfer"].function
    for name in ("pay", "ship"):
        sidecar.tools[name] = FakeTool(echo, read_only=False, needs_approval=True)
    options: dict[str, Any] = request.param
    return options


def summarise(request: ModelRequest) -> ScriptedTurn:
    return ScriptedTurn(text=" / ".join(request.results()))


class Humans:
    """An approve hook whose answers the test gives, or a function does."""

    def __init__(self, answer: Callable[[ApprovalRequested], Approval | None] | None = None):
        self.asked: dict[str, ApprovalRequested] = {}
        self.answers: dict[str, asyncio.Future[Approval | None]] = {}
        self._answer = answer
        self._changed = asyncio.Event()

    async def __call__(self, request: ApprovalRequested) -> Approval | None:
        assert request.approval_id not in self.asked, "asked twice"
        self.asked[request.approval_id] = request
        if self._answer is not None:
            await asyncio.sleep(0)
            return self._answer(request)
        answer = self.answers[request.tool_name] = asyncio.Future()
        self._changed.set()
        return await answer

    async def asked_about(self, *tools: str) -> None:
        async with asyncio.timeout(60):
            while set(tools) - set(self.answers):
                self._changed.clear()
                await self._changed.wait()


async def test_an_approved_call_runs_once(
    start_chat: StartChat, sidecar: FakeToolService, way: dict[str, Any]
) -> None:
    humans = Humans(lambda request: approve(request, by="ada"))
    chat = await start_chat(ScriptedTurn(calls=[ROME, PAY]), summarise, approve=humans, **way)
    result = await chat.loop.run("Go.")
    assert result.text == 'sunny in Rome / {"to": "Rome"}'
    (request,) = humans.asked.values()
    assert (request.tool_name, request.call_id, request.arguments) == ("pay", "pay", PAY.text)
    assert (request.turn, request.index) == (1, 1)
    assert [item.content for item in result.turns[0].results] == ["sunny in Rome", PAY.text]
    assert sidecar.started == ["get_weather", "pay"]
    (approval,) = sidecar.batches[-1].approvals
    assert (approval.decided_by, approval.approval_id) == ("ada", request.approval_id)
    assert approval.decide_time.seconds


async def test_each_result_is_reported_once_and_when_it_is_final(
    start_chat: StartChat, way: dict[str, Any]
) -> None:
    chat = await start_chat(
        ScriptedTurn(calls=[ROME, PAY, SHIP]),
        summarise,
        approve=lambda request: approve(request) if request.tool_name == "pay" else None,
        **way,
    )
    await chat.loop.run("Go.")
    told = [
        (type(event).__name__, event.index)
        for event in chat.events
        if isinstance(event, CallFinished | ApprovalRequested | ApprovalDecided)
    ]
    assert told == [
        ("CallFinished", 0),
        ("ApprovalRequested", 1),
        ("ApprovalRequested", 2),
        ("ApprovalDecided", 1),
        ("ApprovalDecided", 2),
        ("CallFinished", 1),
        ("CallFinished", 2),
    ]
    approved, left_open = chat.events_of(ApprovalDecided)
    assert approved.approval.approval_id
    assert left_open.approval is None
    _, paid, shipped = [event.result for event in chat.events_of(CallFinished)]
    assert paid.content == PAY.text
    assert reason_of(shipped) == "APPROVAL_REQUIRED"


async def test_calls_are_decided_on_at_the_same_time_each_for_itself(
    start_chat: StartChat, sidecar: FakeToolService, way: dict[str, Any]
) -> None:
    humans = Humans()
    chat = await start_chat(ScriptedTurn(calls=[PAY, SHIP]), summarise, approve=humans, **way)
    running = asyncio.create_task(chat.loop.run("Go."))
    await humans.asked_about("pay", "ship")
    by_tool = {request.tool_name: request for request in humans.asked.values()}
    humans.answers["ship"].set_result(approve(by_tool["ship"], arguments={"to": "Bergen"}))
    humans.answers["pay"].set_result(reject(by_tool["pay"], comment="Too much."))
    result = await asyncio.wait_for(running, 60)
    assert result.text == 'Not run: rejected. Too much. / {"to": "Bergen"}'
    assert sidecar.started == ["ship"]


async def test_what_depends_on_an_approved_call_may_be_asked_about_next(
    start_chat: StartChat, sidecar: FakeToolService, way: dict[str, Any]
) -> None:
    calls = [PAY, ROME, THANK, ScriptedCall("get_weather", {"city": "$ref:@3"}, id="last")]
    humans = Humans(approve)
    chat = await start_chat(ScriptedTurn(calls=calls), summarise, approve=humans, **way)
    result = await chat.loop.run("Go.")
    assert [request.call_id for request in humans.asked.values()] == ["pay", "thank"]
    assert sidecar.started.count("pay") == 2
    assert sidecar.started.count("get_weather") == 2
    assert len({batch.request_id for batch in sidecar.batches if batch.approvals}) == 1
    assert all(not item.status.code for item in result.turns[0].results)
    assert sorted(event.index for event in chat.events_of(CallFinished)) == [0, 1, 2, 3]


async def test_without_a_hook_the_model_is_told(
    start_chat: StartChat, sidecar: FakeToolService, way: dict[str, Any]
) -> None:
    chat = await start_chat(ScriptedTurn(calls=[PAY, ROME]), summarise, **way)
    result = await chat.loop.run("Go.")
    assert result.text == "Not run: a human has to approve it first. / sunny in Rome"
    assert chat.events_of(ApprovalRequested) == []
    assert len(chat.events_of(CallFinished)) == 2
    assert len(sidecar.batches) + len(sidecar.streams) == 1


async def test_an_undecided_call_is_left_open(
    start_chat: StartChat, sidecar: FakeToolService, way: dict[str, Any]
) -> None:
    chat = await start_chat(
        ScriptedTurn(calls=[PAY]), summarise, approve=lambda request: None, **way
    )
    result = await chat.loop.run("Go.")
    assert result.text == "Not run: a human has to approve it first."
    assert sidecar.started == []


async def test_a_hook_that_fails_loses_no_other_decision(
    start_chat: StartChat, sidecar: FakeToolService, way: dict[str, Any]
) -> None:
    def answer(request: ApprovalRequested) -> Approval:
        if request.tool_name == "pay":
            raise LookupError("nobody there")
        return approve(request)

    chat = await start_chat(ScriptedTurn(calls=[PAY, SHIP, ROME]), approve=Humans(answer), **way)
    with pytest.raises(LookupError, match="nobody there"):
        await chat.loop.run("Go.")
    assert answers(chat.loop.history) == {
        "pay": "Not run: a human has to approve it first.",
        "ship": SHIP.text,
        "weather": "sunny in Rome",
    }
    assert "pay" not in sidecar.started
    assert len(chat.events_of(CallFinished)) == 3
    assert isinstance(chat.events[-1], ErrorOccurred)


@pytest.mark.parametrize("wait", [False, True])
async def test_hooks_that_fail_are_all_told(
    start_chat: StartChat, way: dict[str, Any], wait: bool
) -> None:
    def answer(request: ApprovalRequested) -> Any:
        if request.tool_name == "pay":
            return "yes"
        return approve("another call")

    hook = Humans(answer) if wait else answer
    chat = await start_chat(ScriptedTurn(calls=[PAY, SHIP]), approve=hook, **way)
    with pytest.raises(ExceptionGroup) as caught:
        await chat.loop.run("Go.")
    assert [type(error) for error in caught.value.exceptions] == [TypeError, ValueError]
    assert len(set(answers(chat.loop.history).values())) == 1


async def test_who_watches_and_fails_loses_no_decision(
    start_chat: StartChat, sidecar: FakeToolService, way: dict[str, Any]
) -> None:
    def fussy(event: ChatEvent) -> None:
        if isinstance(event, ApprovalDecided) and event.index == 0:
            raise LookupError("enough")

    chat = await start_chat(ScriptedTurn(calls=[PAY, SHIP]), approve=approve, hooks=fussy, **way)
    with pytest.raises(LookupError, match="enough"):
        await chat.loop.run("Go.")
    assert sidecar.started == ["pay", "ship"]
    assert answers(chat.loop.history) == {"pay": PAY.text, "ship": SHIP.text}


async def test_cancelled_while_a_human_thinks(
    start_chat: StartChat, sidecar: FakeToolService, way: dict[str, Any]
) -> None:
    humans = Humans()
    chat = await start_chat(ScriptedTurn(calls=[PAY, ROME, SHIP]), approve=humans, **way)
    running = asyncio.create_task(chat.loop.run("Go."))
    await humans.asked_about("pay", "ship")
    humans.answers["pay"].set_result(approve(next(iter(humans.asked))))
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert humans.answers["ship"].cancelled()
    assert sidecar.started == ["get_weather"]
    assert answers(chat.loop.history) == {
        "pay": "Not run: a human has to approve it first.",
        "weather": "sunny in Rome",
        "ship": "Not run: a human has to approve it first.",
    }
    assert_valid(chat.loop.history, way)


async def test_cancelled_while_an_approved_call_runs(
    start_chat: StartChat, sidecar: FakeToolService, way: dict[str, Any]
) -> None:
    started = asyncio.Event()

    async def hang(arguments: dict[str, Any]) -> str:
        started.set()
        await asyncio.Event().wait()
        return str(arguments)

    sidecar.tools["pay"].function = hang
    hook = Humans(lambda request: approve(request) if request.tool_name == "pay" else None)
    chat = await start_chat(ScriptedTurn(calls=[PAY, ROME, SHIP]), approve=hook, **way)
    running = asyncio.create_task(chat.loop.run("Go."))
    await asyncio.wait_for(started.wait(), 60)
    running.cancel()
    await asyncio.wait([running])
    pay, rome, ship = answers(chat.loop.history).values()
    assert "may have taken effect" in pay
    assert rome == "sunny in Rome"
    assert ship == "Not run: a human has to approve it first."
    assert_valid(chat.loop.history, way)


async def test_a_decision_that_comes_too_late_runs_nothing(
    start_chat: StartChat, sidecar: FakeToolService, way: dict[str, Any]
) -> None:
    def forget(request: ApprovalRequested) -> Approval:
        for kept in sidecar.requests.values():
            kept.lost = True
        return approve(request)

    chat = await start_chat(
        ScriptedTurn(calls=[PAY, ROME, THANK]), summarise, approve=Humans(forget), **way
    )
    result = await chat.loop.run("Go.")
    pay, rome, thank = answers(result.messages).values()
    assert pay.startswith("NOT RUN: a human decided on this call, but too late")
    assert result.turns[0].results[0].content == pay
    assert rome == "sunny in Rome"
    assert thank == "Not run: the call @1 failed."
    assert sidecar.started == ["get_weather"]


async def test_an_answer_to_a_decision_that_is_lost_is_asked_for_again(
    start_chat: StartChat, sidecar: FakeToolService, way: dict[str, Any]
) -> None:
    def lose(request: ApprovalRequested) -> Approval:
        sidecar.failures["answer"] = [RpcFailure(grpc.StatusCode.UNAVAILABLE)]
        return approve(request)

    chat = await start_chat(ScriptedTurn(calls=[PAY]), summarise, approve=lose, **way)
    assert (await chat.loop.run("Go.")).text == PAY.text
    assert sidecar.started == ["pay"]


async def test_a_sidecar_that_fails_after_the_decision_leaves_the_outcome_open(
    start_chat: StartChat, sidecar: FakeToolService, way: dict[str, Any]
) -> None:
    def fail(request: ApprovalRequested) -> Approval:
        sidecar.failures["answer"] = [RpcFailure(grpc.StatusCode.INTERNAL)]
        return approve(request)

    chat = await start_chat(ScriptedTurn(calls=[PAY, ROME]), approve=fail, **way)
    with pytest.raises(SidecallError):
        await chat.loop.run("Go.")
    pay, rome = answers(chat.loop.history).values()
    assert "may have taken effect" in pay
    assert rome == "sunny in Rome"


async def test_wrapped_calls_are_decided_on_one_by_one(
    start_chat: StartChat, way: dict[str, Any]
) -> None:
    uses = [
        {"recipient_name": f"functions.{name}", "parameters": {"to": name}}
        for name in ("pay", "get_nothing", "ship")
    ]
    wrapper = ScriptedCall("multi_tool_use.parallel", {"tool_uses": uses}, id="w")
    hook = Humans(lambda request: approve(request) if request.tool_name == "ship" else None)
    chat = await start_chat(ScriptedTurn(calls=[wrapper]), summarise, approve=hook, **way)
    result = await chat.loop.run("Go.")
    assert [request.call_id for request in hook.asked.values()] == ["w_1", "w_3"]
    assert '"content": "{\\"to\\": \\"ship\\"}"' in result.text
    assert "a human has to approve" in result.text


def assert_valid(history: list[Any], way: dict[str, Any]) -> None:
    responses = way["api"] == "responses"
    path = "/v1/responses" if responses else "/v1/chat/completions"
    assert refusal(path, {"model": "m", "input" if responses else "messages": history}) is None
