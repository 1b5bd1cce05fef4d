"""Approvals, lost connections and sessions of chats, with a real sidecar."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.interaction.chat.conftest import StartChat, answers
from tests.interaction.conftest import TOOLS, StartProcess, StartServing
from tests.support.gate import Gate
from tests.support.proxy import CuttableProxy
from tests.support.serving import Serving

from sidecall import Approval, AsyncClient, Client, approve, is_ok, pending_approvals, reason_of
from sidecall import reject as say_no
from sidecall.chat import ApprovalRequested, CallFinished
from sidecall.scripted import ModelRequest, ScriptedCall, ScriptedTurn

APPROVAL_TOOLS = Path(__file__).parent / "approval_tools.py"

QUOTE = ScriptedCall("quote", {"item": "lamp"}, id="quote")
PAY = ScriptedCall("pay", {"price": "$ref:@1#/price"}, id="pay")
SHIP = ScriptedCall("ship", {"item": "lamp, ${ref:@2}"}, id="ship")
THANK = ScriptedCall("echo", {"text": "Thanks: ${ref:@3}"}, id="thank")
ORDER = ScriptedTurn(calls=[QUOTE, PAY, SHIP, THANK])

WAYS = [
    {"api": api, **how}
    for api in ("chat_completions", "responses")
    for how in ({"stream": False}, {"stream": True}, {"stream": True, "early_start": True})
]


@pytest.fixture
async def real(start_sidecar: StartServing) -> Serving:
    serving: Serving = await start_sidecar(tools=f"{TOOLS},{APPROVAL_TOOLS}")
    return serving


@pytest.fixture(params=WAYS, ids=lambda way: "-".join(map(str, way.values())))
def way(request: Any, real: Serving) -> dict[str, Any]:
    return {"endpoint": real.address, **request.param}


def summarise(request: ModelRequest) -> ScriptedTurn:
    return ScriptedTurn(text=" / ".join(request.results()))


class Asked:
    """An approve hook that keeps what it was asked."""

    def __init__(self, answer: Callable[[ApprovalRequested], Approval | None] = approve) -> None:
        self.requests: list[ApprovalRequested] = []
        self._answer = answer

    async def __call__(self, request: ApprovalRequested) -> Approval | None:
        self.requests.append(request)
        return self._answer(request)


async def test_each_call_of_a_chain_is_approved(start_chat: StartChat, way: dict[str, Any]) -> None:
    asked = Asked()
    chat = await start_chat(ORDER, summarise, approve=asked, **way)
    result = await chat.loop.run("Go.")
    *_, pay, ship, thank = result.text.split(" / ")
    assert (pay, ship) == ("paid 7 EUR", "shipped lamp, paid 7 EUR")
    assert thank == "Thanks: shipped lamp, paid 7 EUR"
    assert [json.loads(request.arguments) for request in asked.requests] == [
        {"price": 7, "currency": "EUR"},
        {"item": "lamp, paid 7 EUR"},
    ]
    assert sorted(event.index for event in chat.events_of(CallFinished)) == [0, 1, 2, 3]
    assert all(is_ok(item) for item in result.turns[0].results)


async def test_one_at_a_time_and_until_one_fails(
    start_chat: StartChat, way: dict[str, Any]
) -> None:
    options = {"mode": "sequential", "on_failure": "stop"}
    calls = [ScriptedCall("pay", {"price": price}) for price in (1, 2)]
    asked = Asked()
    chat = await start_chat(
        ScriptedTurn(calls=[*calls, ScriptedCall("fail", {}), QUOTE]),
        summarise,
        approve=asked,
        batch_options=options,
        **way,
    )
    result = await chat.loop.run("Go.")
    assert len(asked.requests) == 2
    reasons = [reason_of(item) for item in result.turns[0].results]
    assert reasons == ["", "", "TOOL_FAILED", "STOPPED"]


async def test_decisions_go_to_their_own_calls(start_chat: StartChat, way: dict[str, Any]) -> None:
    def answer(request: ApprovalRequested) -> Approval | None:
        price = json.loads(request.arguments)["price"]
        return {
            1: say_no(request, by="ada", comment="Too cheap."),
            2: approve(request, arguments={"price": 20, "currency": "NOK"}),
            3: approve(request, arguments={"price": "$ref:@1"}),
            4: None,
        }[price]

    calls = [ScriptedCall("pay", {"price": price}) for price in (1, 2, 3, 4)]
    chat = await start_chat(ScriptedTurn(calls=calls), summarise, approve=Asked(answer), **way)
    result = await chat.loop.run("Go.")
    rejected, edited, wrong, left_open = result.turns[0].results
    assert reason_of(rejected) == "APPROVAL_REJECTED"
    assert "Too cheap." in rejected.content
    assert edited.content == "paid 20 NOK"
    assert reason_of(wrong) == "APPROVAL_REQUIRED", "a slip of the pen decides nothing"
    assert "were not taken" in wrong.content
    assert reason_of(left_open) == "APPROVAL_REQUIRED"


async def test_without_a_hook_the_model_hears_that_a_human_has_to_decide(
    start_chat: StartChat, way: dict[str, Any]
) -> None:
    chat = await start_chat(ORDER, summarise, **way)
    result = await chat.loop.run("Go.")
    assert "approve" in answers(result.messages)["pay"]
    reasons = [reason_of(item) for item in result.turns[0].results]
    assert reasons == ["", "APPROVAL_REQUIRED", "DEPENDENCY_FAILED", "DEPENDENCY_FAILED"]


async def test_a_sidecar_that_was_replaced_runs_nothing_that_it_did_not_ask_about(
    start_chat: StartChat, start_process: StartProcess
) -> None:
    process = start_process("unix", tools=f"{TOOLS},{APPROVAL_TOOLS}")

    async def answer(request: ApprovalRequested) -> Approval:
        process.kill()
        process.launch()
        await asyncio.to_thread(process.wait_until_listening)
        return approve(request)

    chat = await start_chat(ORDER, summarise, approve=answer, endpoint=process.address)
    result = await chat.loop.run("Go.")
    assert answers(result.messages)["pay"].startswith("NOT RUN: a human decided on this call")


@pytest.mark.parametrize("way", [way for way in WAYS if way["api"] == "responses"], ids=str)
async def test_a_turn_whose_connection_is_cut_is_finished_and_runs_once(
    start_chat: StartChat, real: Serving, gate: Gate, way: dict[str, Any]
) -> None:
    calls = [
        ScriptedCall("hold_write", {"gate": gate.path, "name": "once"}),
        ScriptedCall("write", {"text": "Then: ${ref:@1}"}),
    ]
    async with CuttableProxy(real.address) as proxy:
        chat = await start_chat(
            ScriptedTurn(calls=calls), summarise, resend=True, endpoint=proxy.address, **way
        )
        running = asyncio.create_task(chat.loop.run("Go."))
        visit = await gate.arrived("once")
        before = proxy.connections
        proxy.cut()
        async with asyncio.timeout(60):
            while proxy.connections == before:  # noqa: ASYNC110  the channel connects by itself
                await asyncio.sleep(0.005)
        visit.release("held")
        result = await running
    assert result.text == "held / Then: held"
    assert gate.names == ["once"]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_batch_whose_connection_is_cut_runs_once(
    real: Serving, gate: Gate, kind: str
) -> None:
    call = {"name": "hold_write", "arguments": {"gate": gate.path, "name": "once"}}
    async with CuttableProxy(real.address) as proxy:
        client = (Client if kind == "sync" else AsyncClient)(proxy.address)
        running = asyncio.ensure_future(
            asyncio.to_thread(client.execute_batch, [call], request_id="r", timeout=60)
            if isinstance(client, Client)
            else client.execute_batch([call], request_id="r", timeout=60)
        )
        visit = await gate.arrived("once")
        proxy.cut()
        visit.release("held")
        (result,) = await running
        await (asyncio.to_thread(client.close) if isinstance(client, Client) else client.close())
    assert result.content == "held"
    assert gate.names == ["once"]


async def test_calls_refer_to_those_of_earlier_turns(
    start_chat: StartChat, way: dict[str, Any]
) -> None:
    later = ScriptedCall("write", {"text": "It costs ${ref:quote#/price}."}, id="later")
    chat = await start_chat(
        ScriptedTurn(calls=[QUOTE]),
        ScriptedTurn(calls=[later]),
        summarise,
        session_id="s",
        reference_hint=True,
        **way,
    )
    result = await chat.loop.run("Go.")
    assert answers(result.messages)["later"] == "It costs 7."


async def test_clients_decide_too(real: Serving) -> None:
    calls = [
        {"id": "pay", "name": "pay", "arguments": {"price": 1}},
        {"id": "ship", "name": "ship", "arguments": {"item": "${ref:pay}"}},
    ]
    async with AsyncClient(real.address) as client:
        asked = await client.execute_batch(calls)
        (pay,) = pending_approvals(asked)
        assert json.loads(pay.approval_arguments) == {"price": 1, "currency": "EUR"}
        asked = await client.execute_batch(
            calls, request_id=asked.request_id, approvals=[approve(pay)]
        )
        (ship,) = pending_approvals(asked)
        done = await client.execute_batch(
            calls, request_id=asked.request_id, approvals=[approve(ship)]
        )
    assert [result.content for result in done] == ["paid 1 EUR", "shipped paid 1 EUR"]
    assert [result.replayed for result in done] == [True, False]
    assert done.schedule.duration_ns > 0
