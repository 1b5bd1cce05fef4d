"""Images and files of results reach the model, and the history stays valid."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.interaction.chat.conftest import StartChat, answers
from tests.support.serving import Serving

from sidecall.scripted import ModelRequest, ScriptedCall, ScriptedTurn

PART_TOOLS = Path(__file__).parent.parent / "service" / "part_tools.py"
WAYS = [
    {"api": api, **how}
    for api in ("chat_completions", "responses")
    for how in ({"stream": False}, {"stream": True, "early_start": True})
]
DRAW = ScriptedCall("draw", {"size": 40}, id="call-a")
REPORT = ScriptedCall("report", {}, id="call-b")
REPEAT = ScriptedCall("repeat", {"text": "plain"}, id="call-c")


@pytest.fixture(params=WAYS, ids=lambda way: "-".join(map(str, way.values())))
async def way(request: Any, start_sidecar: Any) -> dict[str, Any]:
    serving: Serving = await start_sidecar(tools=str(PART_TOOLS))
    return {**request.param, "endpoint": serving.address}


def summarise(request: ModelRequest) -> ScriptedTurn:
    shown = ", ".join(request.media_types()) or "nothing"
    return ScriptedTurn(text=f"{len(request.results())} results, sees {shown}")


async def test_the_model_is_shown_what_tools_return(
    start_chat: StartChat, way: dict[str, Any]
) -> None:
    turn = ScriptedTurn(calls=[REPEAT, DRAW, REPORT])
    chat = await start_chat(turn, summarise, ScriptedTurn(text="Bye."), **way)
    result = await chat.loop.run("Draw it.")
    assert result.text == "3 results, sees image/png, application/pdf"
    await chat.loop.run("Thanks.")
    assert chat.model.requests[-1].media_types() == ["image/png", "application/pdf"]


async def test_the_model_reads_lines_where_it_has_no_eyes(
    start_chat: StartChat, way: dict[str, Any]
) -> None:
    chat = await start_chat(ScriptedTurn(calls=[DRAW, REPORT]), summarise, attachments=False, **way)
    result = await chat.loop.run("Draw it.")
    assert result.text == "2 results, sees nothing"
    drawn, reported = answers(result.messages).values()
    assert "[image/png, 40 bytes: chart.png]" in drawn
    assert reported == "[application/pdf, 12 bytes: report.pdf]"


async def test_each_turn_has_its_own(start_chat: StartChat, way: dict[str, Any]) -> None:
    again = ScriptedCall("draw", {"size": 60}, id="call-d")
    chat = await start_chat(
        ScriptedTurn(calls=[DRAW]), ScriptedTurn(calls=[again, REPEAT]), summarise, **way
    )
    result = await chat.loop.run("Draw it, then draw it again.")
    assert result.text == "3 results, sees image/png, image/png"


async def test_calls_in_a_wrapper_show_theirs(start_chat: StartChat, way: dict[str, Any]) -> None:
    uses = [
        {"recipient_name": "functions.draw", "parameters": {}},
        {"recipient_name": "functions.nest", "parameters": {}},
        {"recipient_name": "functions.report", "parameters": {}},
    ]
    wrapper = ScriptedCall("multi_tool_use.parallel", {"tool_uses": uses}, id="call-w")
    chat = await start_chat(ScriptedTurn(calls=[REPEAT, wrapper]), summarise, **way)
    result = await chat.loop.run("Draw all.")
    assert result.text == "2 results, sees image/png, application/pdf"


async def test_a_chat_that_is_cancelled_can_go_on(
    start_chat: StartChat, way: dict[str, Any]
) -> None:
    asked = asyncio.Event()

    async def hang(number: int) -> None:
        asked.set()
        await asyncio.Event().wait()

    # Asked again after its tools have run, the model does not answer.
    silent = ScriptedTurn(text="too late", before_chunk=hang)
    chat = await start_chat(
        ScriptedTurn(calls=[DRAW, REPEAT]), silent, summarise, **{**way, "stream": True}
    )
    running = asyncio.create_task(chat.loop.run("Draw it."))
    await asked.wait()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    result = await chat.loop.run("And now?")
    assert chat.model.requests[-1].media_types() == ["image/png"]
    assert result.text == "0 results, sees image/png"
