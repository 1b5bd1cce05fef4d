"""A conversation that is valid at every moment: each call has its answer."""

from collections.abc import Iterable
from typing import Any

from sidecall.chat import text
from sidecall.chat.model import Dialect, ModelTurn
from sidecall.chat.turn_calls import TurnCalls
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
    """

    def __init__(
        self, history: list[Any], dialect: Dialect, turn: ModelTurn, calls: TurnCalls
    ) -> None:
        self._dialect = dialect
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

    def add_result(self, index: int, result: ToolResult) -> None:
        """Takes in a call's result, in place of an earlier one, and fills in its answer."""
        self.results[index] = result
        if index not in self._answers:
            return
        answered, answer = self._answers[index]
        content = answered.content(self.results)
        if content is not None:
            self._dialect.set_content(answer, content)
            self._open.difference_update(answered.indexes)

    def reopen(self, indexes: Iterable[int]) -> None:
        """Makes answers provisional again: their calls are about to be run."""
        for index in self._answers.keys() & set(indexes):
            answered, answer = self._answers[index]
            self._dialect.set_content(answer, text.PENDING)
            self._open.update(answered.indexes)

    def fail(self, content: str) -> None:
        """Answers all calls that have no answer yet with the same content."""
        for index in self._open:
            self._dialect.set_content(self._answers[index][1], content)
        self._open.clear()


def answer_open_calls(history: list[Any], dialect: Dialect) -> None:
    """Answers calls that an earlier interruption left without an answer."""
    open_calls: Iterable[Any] = reversed(dialect.open_calls(history))
    for place, call in open_calls:
        history.insert(place, dialect.answer(call, call.call_id, text.PENDING))
