"""What calls wait for, as commands name and draw it."""

from collections.abc import Mapping
from dataclasses import dataclass

from sidecall.v1.execution_pb2 import BlockCause


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that calls wait for.

    Attributes:
        meaning: What it is, after "blocked on" and "waits for".
        letter: Its mark in plain text.
        block: Its mark in a terminal.
        style: Its colour in a terminal.
        remedy: What would have made the longest wait shorter; `{tool}` is the tool's name.
    """

    meaning: str
    letter: str
    block: str
    style: str
    remedy: str

    @property
    def waiting(self) -> str:
        """What a call does meanwhile."""
        return f"waits for {self.meaning}"


CAUSES: Mapping[str, Cause] = {
    "reference": Cause("another call's result", "r", "┄", "cyan", "only that call could be faster"),
    "order": Cause("its turn", "o", "╌", "blue", "--mode parallel lets calls run side by side"),
    "seal": Cause(
        "the end of the model's turn",
        "s",
        "┈",
        "yellow",
        "effects: read_only lets {tool} start before it",
    ),
    "lane": Cause(
        "its lane",
        "l",
        "▒",
        "blue",
        "a lane of {tool} with more keys lets more calls run side by side",
    ),
    "same_call": Cause(
        "the same call", "c", "▒", "cyan", "coalesce: false runs each call of {tool}"
    ),
    "tool_limit": Cause("its tool's limit", "t", "▒", "yellow", "raise max_concurrency of {tool}"),
    "group_limit": Cause(
        "a shared limit",
        "g",
        "▒",
        "magenta",
        "raise max_concurrency of the limits of {tool}, or threads, processes",
    ),
    "rate": Cause(
        "a rate", "p", "░", "yellow", "raise rate of {tool} or of its limits, or the burst"
    ),
    "batch_limit": Cause(
        "the batch's limit", "b", "░", "cyan", "raise max_concurrency of the batch"
    ),
    "global_limit": Cause(
        "the sidecar's limit", "w", "░", "red", "raise max_concurrency of the sidecar"
    ),
    "backoff": Cause("a retry's backoff", "a", "┈", "magenta", "lower backoff in retry of {tool}"),
}
"""By their names in the contract, in the order in which they come to pass."""


def cause_name(cause: BlockCause.ValueType) -> str | None:
    """Name of a cause; None for none."""
    if cause == BlockCause.BLOCK_CAUSE_UNSPECIFIED:
        return None
    if cause not in BlockCause.values():
        return str(cause)
    return BlockCause.Name(cause).removeprefix("BLOCK_CAUSE_").lower()


def timing_field(name: str) -> str:
    """Field of the contract's CallTiming with the time that a cause has blocked a call."""
    return f"blocked_on_{name}_ns"
