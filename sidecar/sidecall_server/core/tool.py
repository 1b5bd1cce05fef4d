"""What a tool is, apart from where it lives."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Effects(enum.IntEnum):
    """What running a tool may change. The numbers are those of the contract."""

    READ_ONLY = 1
    IDEMPOTENT = 2
    NON_IDEMPOTENT = 3


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool's description and declared limits. None means: the default in force.

    Attributes:
        name: Unique name.
        description: What it does, for the model.
        input_schema: JSON Schema (2020-12) of the arguments, an object schema.
        output_schema: JSON Schema of the result, where declared.
        effects: What running it may change.
        max_concurrency: Most calls that run at a time.
        max_queue: Most calls that may be ready and waiting.
        timeout_s: Seconds that one attempt may take.
        queue_timeout_s: Seconds that a ready call may wait.
        references: Whether references in its arguments are resolved.
        groups: Names of limits that it shares with other tools.
    """

    name: str
    description: str
    input_schema: Mapping[str, object]
    output_schema: Mapping[str, object] | None = None
    effects: Effects = Effects.NON_IDEMPOTENT
    max_concurrency: int | None = None
    max_queue: int | None = None
    timeout_s: float | None = None
    queue_timeout_s: float | None = None
    references: bool = True
    groups: tuple[str, ...] = ()
