"""Chats whose sidecar dies in the middle of a turn."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.interaction.chat.conftest import StartChat, answers
from tests.interaction.conftest import StartProcess
from tests.support.gate import Gate
from tests.support.restarts import TOOLS, Restarts

from sidecall import SidecallError
from sidecall.scripted import ModelRequest, ScriptedCall, ScriptedTurn

WAYS = [{"stream": False}, {"stream": True, "early_start": True}]


def summarise(request: ModelRequest) -> ScriptedTurn:
    return ScriptedTurn(text=" / ".join(request.results()))


@pytest.mark.parametrize("way", WAYS, ids=["batch", "early"])
@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_turn_whose_sidecar_dies_runs_nothing_twice(
    start_chat: StartChat,
    start_process: StartProcess,
    folder: Path,
    gate: Gate,
    store: str,
    way: dict[str, Any],
) -> None:
    url = f"sqlite:///{folder}/calls.db" if store == "sqlite" else "memory"
    sidecar = Restarts(start_process("unix", tools=TOOLS, store=url), folder)
    running = sidecar.arguments("running", gate=gate.path)
    turn = ScriptedTurn(
        calls=[
            ScriptedCall("write", sidecar.arguments("done"), id="done"),
            ScriptedCall("write", running, id="running"),
        ]
    )
    chat = await start_chat(
        turn, summarise, resend=True, retries=99, endpoint=sidecar.process.address, **way
    )
    task = asyncio.create_task(chat.loop.run("Go."))
    await gate.arrived("running")
    await sidecar.until_started(2)
    await sidecar.restart()
    if store == "sqlite":
        told = answers((await task).messages)
        assert "in an earlier send" in told["running"]
        assert told["done"] == "did done" or "in an earlier send" in told["done"]
    else:
        with pytest.raises(SidecallError) as caught:
            await task
        assert caught.value.reason == "REQUEST_FORGOTTEN"
        assert not caught.value.not_started
        told = answers(chat.loop.history)
        assert "may have taken effect" in told["running"]
        assert "NOT RUN" not in told["done"]
    assert sidecar.lines() == {"done": 1, "running": 1}
