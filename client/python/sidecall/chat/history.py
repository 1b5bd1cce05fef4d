"""A conversation that is valid at every moment: each call has its answer."""

from collections.abc import Iterable, Sequence
from typing import Any

from sidecall.chat import text
from sidecall.chat.model import Dialect, HistoryItem, ModelTurn
from sidecall.chat.turn_calls import AnsweredCall, TurnCalls
from sidecall.v1.execution_pb2 import ToolResult


class TurnRecord:
    """A model's turn in the history, its answers filled in as results arrive.

    The turn and provisional answers to all of its calls enter the history in one step, so
    whatever interrupts the turn leaves a history that a provider accepts.

    Args:
        history: The conversation.
        dialect: How its items are written.
        turn: The model's turn.
        calls: The turn's calls.
        attachments: Whether images and files of results enter the history.
    """

    def __init__(
        self,
        history: list[Any],
        dialect: Dialect,
        turn: ModelTurn,
        calls: TurnCalls,
        *,
        attachments: bool = True,
    ) -> None:
        self._dialect = dialect
        self._attachments = attachments
        self.results: dict[int, ToolResult] = {}
        dialect.set_call_ids(turn.items, [answered.call_id for answered in calls.answered])
        answers = [
            dialect.answer(answered.call, answered.call_id, answered.content({}) or text.PENDING)
            for answered in calls.answered
        ]
        # Which answer a result belongs to.
        self._answers = {
            index: (answered, answer)
            for answered, answer in zip(calls.answered, answers, strict=True)
            if answered.content({}) is None
            for index in answered.indexes
        }
        # Indexes of the calls whose answers are still provisional.
        self._open = set(self._answers)
        history.extend([*turn.items, *answers])
        self._history = history
        self._last_answer = answers[-1] if answers else None
        # What the message after the answers holds, by index of the call that it belongs to.
        self._attached: dict[int, list[HistoryItem]] = {}
        self._attached_message: HistoryItem | None = None

    def add_result(self, index: int, result: ToolResult) -> None:
        """Takes in a call's result, in place of an earlier one, and fills in its answer."""
        self.results[index] = result
        if index not in self._answers:
            return
        answered, answer = self._answers[index]
        content = answered.content(self.results)
        if content is not None:
            results = [self.results[i] for i in answered.indexes if i in self.results]
            self._write(answered, answer, content, results)
            self._open.difference_update(answered.indexes)

    def reopen(self, indexes: Iterable[int]) -> None:
        """Makes answers provisional again: their calls are about to be run."""
        for index in self._answers.keys() & set(indexes):
            answered, answer = self._answers[index]
            self._write(answered, answer, text.PENDING)
            self._open.update(answered.indexes)

    def fail(self, content: str) -> None:
        """Answers all calls that have no answer yet with the same content."""
        for index in self._open:
            self._write(*self._answers[index], content)
        self._open.clear()

    def _write(
        self,
        answered: AnsweredCall,
        answer: HistoryItem,
        content: str,
        results: Sequence[ToolResult] = (),
    ) -> None:
        shown = [result for result in results if result.parts] if self._attachments else []
        self._dialect.set_content(answer, content, shown)
        parts = self._dialect.attached_parts(answered.call_id, shown) if shown else []
        if parts or answered.first in self._attached:
            self._attached[answered.first] = parts
            self._attach()

    def _attach(self) -> None:
        """Keeps the message that follows the answers up to date, in call order."""
        parts = [part for _, group in sorted(self._attached.items()) for part in group]
        written = self._dialect.attached_message(parts)
        message = self._attached_message
        if message is None:
            place = _place_of(self._history, self._last_answer) + 1
            self._attached_message = written
            self._history.insert(place, written)
        elif parts:
            message.update(written)
        else:
            del self._history[_place_of(self._history, message)]
            self._attached_message = None


def _place_of(history: Sequence[Any], item: Any) -> int:
    """The place of an item itself, which is near the end; the last one where it is gone."""
    places = reversed(range(len(history)))
    return next((place for place in places if history[place] is item), len(history) - 1)


def answer_open_calls(history: list[Any], dialect: Dialect) -> None:
    """Answers calls that an earlier interruption left without an answer."""
    open_calls: Iterable[Any] = reversed(dialect.open_calls(history))
    for place, call in open_calls:
        history.insert(place, dialect.answer(call, call.call_id, text.PENDING))
