"""What happens to the calls of a batch, as frozen values for whoever watches."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Progress:
    """A running tool reported progress.

    Attributes:
        index: Position of the call in its batch.
        progress: Work done so far, in the tool's own unit.
        total: All of the work in the same unit; None where unknown.
        message: What the tool is doing.
    """

    index: int
    progress: float
    total: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class PartialOutput:
    """A running tool produced part of its output.

    Attributes:
        index: Position of the call in its batch.
        text: The part.
    """

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Queued:
    """A call waits.

    Attributes:
        index: Position of the call in its batch.
        cause: A BlockCause.
        waiting_for: Positions of the calls that it depends on and that are not final.
    """

    index: int
    cause: int
    waiting_for: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """An attempt of a call was started.

    Attributes:
        index: Position of the call in its batch.
        attempt: Number of the attempt, from 1.
    """

    index: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A call is final.

    Attributes:
        index: Position of the call in its batch.
    """

    index: int


CallEvent = Progress | PartialOutput | Queued | Started | Finished


class Observer(Protocol):
    """Watches one batch. Called on the engine's event loop; must not block or raise."""

    def __call__(self, event: CallEvent) -> None:
        """Takes note of one event."""
