"""`sidecall demo`."""

import shutil
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from sidecall import __version__
from sidecall.chat import ChatLoop
from sidecall_server.cli import strategies
from sidecall_server.cli.chat_view import ChatView
from sidecall_server.cli.connection import run
from sidecall_server.cli.output import console, counted
from sidecall_server.cli.provider import (
    Api,
    Model,
    ModelChoice,
    model_errors_explained,
    model_options,
    open_model,
)
from sidecall_server.cli.sidecar_process import SidecarProcess, sidecar_process
from sidecall_server.demo.conversation import QUESTION

_TOOLS = "sidecall_server.demo.city_tools"
_TOOL_NAMES = ("find_contact", "get_news", "get_time", "get_weather", "send_postcard")
_CALL_COUNT, _CALL_S = 5, 0.5


@click.command("demo")
@model_options
def command(**model: Any) -> None:
    """Watch a chat turn's tool calls run in parallel.

    Starts a sidecar in a process of its own and asks a model a question that takes several
    tools: the OpenAI API where a key is set, else a scripted model on loopback that speaks
    the same protocol. The answers are streamed, and calls start while the model still
    writes.
    """
    choice = ModelChoice(**model)
    if not choice.has_provider:
        choice = replace(choice, scripted=True)
    out = console()
    run(_demo(choice, out))
    _say_what_is_next(out)


async def _demo(choice: ModelChoice, out: Console) -> None:
    async with AsyncExitStack() as stack:
        sidecar = await stack.enter_async_context(sidecar_process([_TOOLS, strategies.TOOLS]))
        model = await stack.enter_async_context(open_model(choice))
        _introduce(out, sidecar, model)
        with model_errors_explained():
            await _chat(out, sidecar, model, choice.api)
        _headline(out, "The same work, four ways")
        out.print(f"{_CALL_COUNT} tool calls of {_CALL_S:g} s each, without a model:\n")
        out.print(strategies.table(await strategies.compare(sidecar.client, _CALL_COUNT, _CALL_S)))


async def _chat(out: Console, sidecar: SidecarProcess, model: Model, api: Api) -> None:
    view = ChatView(out, waterfalls=True)
    loop = ChatLoop(
        sidecar.client,
        model.client,
        model=model.name,
        api=api,
        stream=True,
        early_start=True,
        reference_hint=True,
        tools=_TOOL_NAMES,
        hooks=view,
    )
    view.ask()
    result = await loop.run(QUESTION)
    calls = sum(len(turn.calls) for turn in result.turns)
    out.print()
    turns = len(result.turns)
    out.print(f"{counted(calls, 'tool call')}, {counted(turns, 'turn')} of the model.")
    if result.stopped_reason != "completed":
        out.print(f"It stopped early: {result.stopped_reason}.")


def _say_what_is_next(out: Console) -> None:
    _headline(out, "Next")
    program = "sidecall" if shutil.which("sidecall") else sys.argv[0]
    for arguments in (
        "chat --scripted",
        f"serve --tools {_TOOLS}",
        'call get_time \'{"timezone": "Asia/Tokyo"}\'',
    ):
        out.print(f"{program} {arguments}", soft_wrap=True)


def _introduce(out: Console, sidecar: SidecarProcess, model: Model) -> None:
    _headline(out, f"Sidecall {__version__}")
    out.print(f"sidecar   process {sidecar.pid}, gRPC at {sidecar.address}", soft_wrap=True)
    out.print(f"model     {model.described}", soft_wrap=True)
    if model.name == "scripted-model":
        out.print("          (set OPENAI_API_KEY to ask a real one)")
    out.print("tools     times are real; weather, news and friends are sample data")
    _headline(out, "Question")
    out.print(QUESTION + "\n")


def _headline(out: Console, text: str) -> None:
    out.print()
    out.rule(Text(text, style="bold"), align="left", characters="─")
