"""The calls of one model turn: ids, names, and calls wrapped in another."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sidecall._tool_calls import make_tool_call
from sidecall._tool_formats import ToolNames
from sidecall.chat import text
from sidecall.chat.model import ModelCall
from sidecall.v1.execution_pb2 import ToolCall, ToolResult

_WRAPPERS = ("multi_tool_use.parallel", "multi_tool_use_parallel")
_ID_STEM = 32  # OpenAI refuses ids over 40 characters


@dataclass(frozen=True, slots=True)
class AnsweredCall:
    """A call of the model and the calls that the sidecar runs for it.

    Attributes:
        call: The call as the model made it.
        call_id: Its id in the history: never empty and unique.
        first: Index of the first of its calls in the batch.
        count: How many calls it stands for; 1 unless it wraps others.
        wraps: Whether it wraps others; then its answer is a JSON list.
        refusal: Why it is not run; empty where it is.
    """

    call: ModelCall
    call_id: str
    first: int
    count: int
    wraps: bool
    refusal: str

    @property
    def indexes(self) -> range:
        """Indexes of its calls in the batch."""
        return range(self.first, self.first + self.count)

    def content(self, results: Mapping[int, ToolResult]) -> str | None:
        """Returns the answer, or None while a result is missing."""
        if self.refusal:
            return self.refusal
        if any(index not in results for index in self.indexes):
            return None
        if not self.wraps:
            return results[self.first].content
        return json.dumps(
            [
                {"recipient_name": results[index].name, "content": results[index].content}
                for index in self.indexes
            ],
            ensure_ascii=False,
        )


class TurnCalls:
    """Collects the calls of one turn as the model finishes them.

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
        self.answered: list[AnsweredCall] = []
        self.batch: list[ToolCall] = []

    def add(self, call: ModelCall) -> Sequence[ToolCall]:
        """Takes a call in and returns what it adds to the batch."""
        call_id = self._unique_id(call)
        inner = self._unwrap(call, call_id)
        # A repeated id goes to the sidecar as it is, where a reference to it is an error;
        # under another id the reference would silently mean the wrong call.
        own_id = call.call_id or call_id
        added = (
            [make_tool_call(self._names.to_tool(call.name), call.arguments, own_id)]
            if inner is None
            else inner
        )
        refusal = self._refusal(call, added)
        if refusal:
            added = []
        self.answered.append(
            AnsweredCall(
                call,
                call_id,
                first=len(self.batch),
                count=len(added),
                wraps=inner is not None,
                refusal=refusal,
            )
        )
        self.batch.extend(added)
        return added

    def _refusal(self, call: ModelCall, added: Sequence[ToolCall]) -> str:
        if not call.supported:
            return text.NOT_SUPPORTED
        if self._offered_only:
            for wanted in added:
                if wanted.name not in self._names:
                    return text.not_offered(wanted.name, self._names.provider_names)
        return ""

    def _unique_id(self, call: ModelCall) -> str:
        call_id = call.call_id or self._mint_id(len(self.answered))
        candidate, repeat = call_id, 2
        while candidate in self._taken:
            candidate, repeat = f"{call_id[:_ID_STEM]}_{repeat}", repeat + 1
        self._taken.add(candidate)
        return candidate

    def _unwrap(self, call: ModelCall, call_id: str) -> list[ToolCall] | None:
        """Returns the calls in the arguments of a wrapper; None: it is an ordinary call."""
        if call.name not in _WRAPPERS or self._names.to_tool(call.name) in self._names:
            return None
        try:
            uses = json.loads(call.arguments)["tool_uses"]
            return [
                make_tool_call(
                    self._names.to_tool(use["recipient_name"]),
                    use.get("parameters") or {},
                    f"{call_id}_{number}",
                )
                for number, use in enumerate(uses, 1)
            ]
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            return None
