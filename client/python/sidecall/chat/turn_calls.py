"""The calls of one model turn: ids, names, and calls wrapped in another."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sidecall._tool_calls import escape_surrogates, make_tool_call
from sidecall._tool_formats import ToolNames
from sidecall.chat import text
from sidecall.chat.model import ModelCall
from sidecall.v1.execution_pb2 import ToolCall, ToolResult

_WRAPPERS = ("multi_tool_use.parallel", "multi_tool_use_parallel")
_ID_STEM = 32  # OpenAI refuses ids over 40 characters


@dataclass(frozen=True, slots=True)
class RefusedCall:
    """A call that is not run.

    Attributes:
        name: Name of the tool that the model meant.
        why: What the model is told.
    """

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class AnsweredCall:
    """A call of the model and the calls of the batch that stand for it.

    Attributes:
        call: The call as the model made it.
        call_id: Its id in the history: never empty and unique.
        first: Index of the first of its calls in the batch.
        count: How many calls it stands for; 1 unless it wraps others.
        wraps: Whether it wraps others; then its answer is a JSON list.
        refused: The calls of the batch that are not run, by index.
    """

    call: ModelCall
    call_id: str
    first: int
    count: int
    wraps: bool
    refused: Mapping[int, RefusedCall]

    @property
    def indexes(self) -> range:
        """Indexes of its calls in the batch."""
        return range(self.first, self.first + self.count)

    def content(self, results: Mapping[int, ToolResult]) -> str | None:
        """Returns the answer, or None while a result is missing."""
        contents = []
        for index in self.indexes:
            if index in self.refused:
                contents.append((self.refused[index].name, self.refused[index].why))
            elif index in results:
                contents.append((results[index].name, results[index].content))
            else:
                return None
        if not self.wraps:
            return contents[0][1]
        return json.dumps(
            [{"recipient_name": name, "content": content} for name, content in contents],
            ensure_ascii=False,
        )


class TurnCalls:
    """Collects the calls of one turn as the model finishes them.

    The batch has one call for each that the model made, in the model's order, so that
    "@N" in a reference is the Nth call as the model counts them. A
    `multi_tool_use.parallel` counts as the calls that it wraps, in its place; one that
    cannot be read counts as one call. A call that is refused here keeps its place: the
    sidecar is given a call of no tool instead, which fails there as TOOL_NOT_FOUND.

    Args:
        names: Maps the names that the model uses.
        mint_id: Makes the id of a call that has none, from the call's place in its turn.
        taken: Ids of earlier calls; a call that repeats one gets another in the history.
        offered_only: Whether calls of other tools than those in `names` are not run.
    """

    def __init__(
        self,
        names: ToolNames,
        mint_id: Callable[[int], str],
        taken: Iterable[str] = (),
        *,
        offered_only: bool = False,
    ) -> None:
        self._names = names
        self._mint_id = mint_id
        self._taken = set(taken)
        self._offered_only = offered_only
        self._refused: dict[int, RefusedCall] = {}
        self.answered: list[AnsweredCall] = []
        self.batch: list[ToolCall] = []

    def add(self, call: ModelCall) -> Sequence[ToolCall]:
        """Takes a call in and returns what it adds to the batch."""
        call_id = self._unique_id(call)
        first = len(self.batch)
        uses = self._tool_uses(call)
        if uses is None:
            # A repeated id goes to the sidecar as it is, where a reference to it is an
            # error; under another id the reference would silently mean the wrong call.
            refusal = "" if call.supported else text.NOT_SUPPORTED
            self._append(call.name, call.arguments, call.call_id or call_id, refusal)
        else:
            for number, use in enumerate(uses, 1):
                name, arguments, refusal = _read_use(use)
                self._append(name, arguments, f"{call_id}_{number}", refusal)
        count = len(self.batch) - first
        wraps = uses is not None
        self.answered.append(AnsweredCall(call, call_id, first, count, wraps, self._refused))
        return self.batch[first:]

    def settle(self, index: int, result: ToolResult) -> ToolResult:
        """Returns what a call came to: the sidecar's result, or why it was refused here."""
        refused = self._refused.get(index)
        if refused is None:
            return result
        settled = ToolResult()
        settled.CopyFrom(result)
        settled.name = refused.name
        settled.content = settled.status.message = refused.why
        return settled

    def _append(self, name: str, arguments: str, call_id: str, refusal: str) -> None:
        tool = self._names.to_tool(name)
        if not refusal and self._offered_only and tool not in self._names:
            refusal = text.not_offered(tool, self._names.provider_names)
        if refusal:
            self._refused[len(self.batch)] = RefusedCall(escape_surrogates(tool), refusal)
            tool, arguments = "", ""
        self.batch.append(make_tool_call(tool, arguments, call_id))

    def _unique_id(self, call: ModelCall) -> str:
        call_id = call.call_id or self._mint_id(len(self.answered))
        candidate, repeat = call_id, 2
        while candidate in self._taken:
            candidate, repeat = f"{call_id[:_ID_STEM]}_{repeat}", repeat + 1
        self._taken.add(candidate)
        return candidate

    def _tool_uses(self, call: ModelCall) -> list[Any] | None:
        """Returns what a wrapper wraps; None: it is an ordinary call."""
        if call.name not in _WRAPPERS or self._names.to_tool(call.name) in self._names:
            return None
        try:
            uses = json.loads(call.arguments)["tool_uses"]
        except (KeyError, RecursionError, TypeError, ValueError):
            return None
        return uses if isinstance(uses, list) else None


def _read_use(use: Any) -> tuple[str, str, str]:
    """Returns name, arguments and refusal of a wrapped call."""
    name = use.get("recipient_name") if isinstance(use, dict) else None
    if not isinstance(name, str):
        return "", "", text.NO_RECIPIENT
    parameters = use.get("parameters") or {}
    if isinstance(parameters, str):
        return name, parameters, ""
    try:
        return name, json.dumps(parameters), ""
    except RecursionError:
        return name, "", text.TOO_DEEP
