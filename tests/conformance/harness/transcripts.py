"""Makes turns of the scripted model of a case's transcript."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

from tests.conformance.harness.bench import Bench, until
from tests.conformance.harness.cases import CaseError, Way

from sidecall.scripted import ScriptedCall, ScriptedTurn

_CHUNK = {
    "id": "chatcmpl-raw",
    "object": "chat.completion.chunk",
    "created": 1_700_000_000,
    "model": "scripted-model",
}
_APIS = {"chat_completions", "responses"}
_EVER_S = 3600.0
_COMPLETION = {**_CHUNK, "object": "chat.completion"}
_PLAIN = {field.name for field in fields(ScriptedTurn)} - {"calls", "raw", "before_chunk"}
_MEMBERS = {*_PLAIN, "calls", "raw", "hold"}


class Transcript:
    """The model's side of a chat.

    Attributes:
        turns: Its turns, as one API writes them.
        problems: What it waited for in vain.
    """

    def __init__(self, model: Iterable[Mapping[str, Any]], way: Way, bench: Bench) -> None:
        """Reads a transcript.

        Args:
            model: What the case says.
            way: The way in which it is run.
            bench: Where tools and requests are seen.
        """
        self.problems: list[str] = []
        self._way = way
        self._bench = bench
        self.turns = [self._turn(entry) for entry in model]

    def _turn(self, entry: Mapping[str, Any]) -> ScriptedTurn:
        if unknown := entry.keys() - _MEMBERS:
            raise CaseError(f"a turn of the model has no {', '.join(sorted(unknown))}")
        own = {name: _for_api(value, self._way) for name, value in entry.items()}
        entry = {name: value for name, value in own.items() if value is not None}
        return ScriptedTurn(
            calls=[ScriptedCall(**call) for call in entry.get("calls", ())],
            raw=_raw(entry["raw"], self._way) if "raw" in entry else (),
            before_chunk=self._hold(entry["hold"]) if "hold" in entry else None,
            **{name: value for name, value in entry.items() if name in _PLAIN},
        )

    def _hold(self, hold: Mapping[str, Any]) -> Callable[[int], Awaitable[None]]:
        number_held = _for_api(hold["before_chunk"], self._way)

        async def before_chunk(number: int) -> None:
            if number == number_held:
                try:
                    await self._until(hold)
                except TimeoutError:
                    self.problems.append(f"the model waited in vain: {hold}")
                for name in hold.get("then_release", ()):
                    self._bench.log.release(name)

        return before_chunk

    async def _until(self, hold: Mapping[str, Any]) -> None:
        if "until_started" in hold:
            await self._bench.log.until(hold["until_started"])
        elif "until_sent" in hold:
            # No client sends calls of a turn early unless it is told to.
            if self._way.early_start:
                await until(lambda: self._bench.proxy.messages_sent() >= hold["until_sent"])
        else:
            await asyncio.sleep(hold["pause_ms"] / 1000 if "pause_ms" in hold else _EVER_S)


def _for_api(value: Any, way: Way) -> Any:
    """A value that each API may have of its own; None where this one has none."""
    if isinstance(value, dict) and not value.keys().isdisjoint(_APIS):
        return value.get(way.api)
    return value


def _raw(raw: Mapping[str, Any], way: Way) -> list[Any]:
    if not way.stream:
        return [{**_COMPLETION, **raw["whole"]} if way.api == "chat_completions" else raw["whole"]]
    if way.api == "chat_completions":
        return [{**_CHUNK, **chunk} for chunk in raw["stream"]]
    return [{**event, "sequence_number": number} for number, event in enumerate(raw["stream"])]
