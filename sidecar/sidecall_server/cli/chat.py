"""`sidecall chat`."""

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import click

from sidecall import SidecallError
from sidecall.chat import ApprovalRequested, ChatEvent, ChatLoop
from sidecall_server.cli.chat_approvals import ask, can_ask
from sidecall_server.cli.chat_view import ChatView
from sidecall_server.cli.connection import connect, endpoint_options, explained, run, stop_signals
from sidecall_server.cli.errors import SettingsError
from sidecall_server.cli.open_questions import OpenQuestions
from sidecall_server.cli.output import console
from sidecall_server.cli.provider import (
    ModelChoice,
    model_errors_explained,
    model_options,
    open_model,
)

_DEMO_TOOLS = "sidecall_server.demo.city_tools"


@dataclass(frozen=True, slots=True)
class _Choices:
    endpoint: str | None
    tools: tuple[str, ...]
    model: ModelChoice
    max_turns: int
    waterfall: bool


@click.command("chat")
@click.argument("question", required=False)
@endpoint_options
@model_options
@click.option(
    "--max-turns",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Most answers of the model to one question.",
)
@click.option("--waterfall/--no-waterfall", default=True, help="Draw each turn's calls.")
def command(
    question: str | None,
    endpoint: str | None,
    tools: tuple[str, ...],
    max_turns: int,
    waterfall: bool,
    **model: Any,
) -> None:
    """Chat with a model whose tool calls run in a sidecar.

    With QUESTION it answers that and ends; without, it asks for questions until the end of
    the input. Answers are streamed, and calls of tools that only read start while the model
    still writes. At a terminal it asks about calls that need approval; elsewhere they are
    left open, and how to decide later is printed.
    """
    choice = ModelChoice(**model)
    if not (choice.scripted or choice.has_provider):
        raise SettingsError(
            "no model: set OPENAI_API_KEY, name another provider with --base-url, or pass "
            "--scripted for a model on loopback that plays the demonstration"
        )
    if choice.scripted and not endpoint and not tools:
        tools = (_DEMO_TOOLS,)
    choices = _Choices(endpoint, tools, choice, max_turns, waterfall)
    if question is not None:
        run(_answer_one(question, choices))
    else:
        _converse(choices)


async def _open(stack: AsyncExitStack, choices: _Choices) -> tuple[ChatLoop, ChatView]:
    client = await stack.enter_async_context(connect(choices.endpoint, choices.tools))
    await client.get_capabilities()
    model = await stack.enter_async_context(open_model(choices.model))
    view = ChatView(console(), waterfalls=choices.waterfall)
    questions = OpenQuestions(choices.endpoint, choices.tools)

    def watch(event: ChatEvent) -> None:
        view(event)
        questions(event)

    loop = ChatLoop(
        client,
        model.client,
        model=model.name,
        api=choices.model.api,
        stream=True,
        early_start=True,
        reference_hint=True,
        max_turns=choices.max_turns,
        hooks=watch,
        approve=ask if can_ask() else _leave_open,
    )
    return loop, view


def _leave_open(request: ApprovalRequested) -> None:
    """Answers for nobody; the question is told with what is needed to decide later."""
    del request


async def _ask(loop: ChatLoop, view: ChatView, question: str) -> None:
    view.ask()
    with model_errors_explained():
        result = await loop.run(question)
    if result.stopped_reason != "completed":
        click.echo(f"(stopped: {result.stopped_reason})", err=True)


async def _answer_one(question: str, choices: _Choices) -> None:
    async with AsyncExitStack() as stack:
        await _ask(*await _open(stack, choices), question)


def _converse(choices: _Choices) -> None:
    """Asks for questions on the main thread; the event loop runs only to answer them."""
    stack = AsyncExitStack()
    for number in stop_signals():
        signal.signal(number, _stop)
    with asyncio.Runner() as runner:
        try:
            try:
                chat = runner.run(_open(stack, choices))
            except SidecallError as error:
                raise explained(error) from None
            while (question := _next_question()) is not None:
                if question:
                    _answer(runner, chat, question)
        except BaseException:
            # An answer that a signal interrupts may fail as what it uses is closed: nobody asks.
            runner.get_loop().set_exception_handler(lambda *_: None)
            raise
        finally:
            runner.run(stack.aclose())


def _stop(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _answer(runner: asyncio.Runner, chat: tuple[ChatLoop, ChatView], question: str) -> None:
    try:
        runner.run(_ask(*chat, question))
    except KeyboardInterrupt:
        click.echo("\n(cancelled; the conversation goes on)", err=True)
    except SidecallError as error:
        explained(error).show()
    except click.ClickException as error:
        error.show()


def _next_question() -> str | None:
    """What the user asks; None at the end of the input."""
    try:
        if sys.stdin is None:
            return None
        prompt = "\nyou> " if sys.stdin.isatty() else ""
        return input(prompt).strip()
    except EOFError:
        return None
