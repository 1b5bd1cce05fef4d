"""The model's side of a chat, as one of two servers plays it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.harness.aimock import Aimock
from tests.conformance.harness.bench import Bench
from tests.conformance.harness.cases import Case, Way
from tests.conformance.harness.transcripts import Transcript

from sidecall.scripted import ModelRequest, ScriptedModel

_MODEL = "scripted-model"


@dataclass(slots=True)
class ModelSide:
    """The model during one chat.

    Attributes:
        base_url: Where clients find it.
        name: Name of the model.
        requests: What it was asked, complete when the chat is over; None where the server
            does not tell.
        problems: What went wrong on its side.
    """

    base_url: str
    name: str
    requests: list[ModelRequest] | None = None
    problems: list[str] = field(default_factory=list)


Play = Callable[[Case, Way, Bench], AbstractAsyncContextManager[ModelSide]]
"""Plays the model of a case while the context lasts."""


@asynccontextmanager
async def scripted(case: Case, way: Way, bench: Bench) -> AsyncIterator[ModelSide]:
    """The SDK's own scripted model: it knows all oddities and refuses what providers refuse."""
    transcript = Transcript(case.data.get("model", ()), way, bench)
    async with ScriptedModel(transcript.turns, model=_MODEL) as model:
        side = ModelSide(model.base_url, model.model, model.requests, transcript.problems)
        yield side
        if model.turns_left:
            side.problems.append(f"the model was not asked for its last {model.turns_left} turns")


def on_aimock(server: Aimock) -> Play:
    """A model server that others wrote, for the transcripts that it can play."""

    @asynccontextmanager
    async def play(case: Case, way: Way, bench: Bench) -> AsyncIterator[ModelSide]:
        del way, bench
        turns = case.data.get("model", ())
        await server.script([_fixture(number, turn) for number, turn in enumerate(turns)])
        side = ModelSide(f"{server.url}/v1", _MODEL)
        yield side
        asked = await server.script([])
        if asked != len(turns):
            side.problems.append(f"the model was asked {asked} times instead of {len(turns)}")

    return play


def _fixture(number: int, turn: dict[str, Any]) -> dict[str, Any]:
    calls = [
        {"id": call["id"], "name": call["name"], "arguments": call.get("arguments", "")}
        for call in turn.get("calls", ())
    ]
    said = {"content": turn["text"]} if "text" in turn else {}
    response = {**said, "toolCalls": calls} if calls else said
    return {"match": {"sequenceIndex": number}, "response": response}
