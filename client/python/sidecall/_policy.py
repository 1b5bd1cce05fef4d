"""The limits and promises that a tool declares about itself."""

from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

from sidecall._durations import parse_duration
from sidecall._errors import ToolDefinitionError

Effects = Literal["read_only", "idempotent", "non_idempotent"]
Isolation = Literal["process"]


class PolicyOptions(TypedDict, total=False):
    """Keywords of `tool` and `Tool`; the same keys stand in the configuration.

    Attributes:
        max_concurrency: Most calls that run at a time.
        max_queue: Most calls that may be ready and waiting.
        timeout: Time that one attempt may take: seconds, or text such as "5s".
        queue_timeout: Time that a ready call may wait.
        effects: What running the tool may change; "non_idempotent" where unset.
        isolation: "process" for code that must be killable; None for the service's own process.
        references: Whether references in the arguments are resolved.
    """

    max_concurrency: int | None
    max_queue: int | None
    timeout: float | str | None
    queue_timeout: float | str | None
    effects: Effects
    isolation: Isolation | None
    references: bool


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """What a tool declares about itself. None means: the default in force.

    Attributes:
        max_concurrency: Most calls that run at a time.
        max_queue: Most calls that may be ready and waiting.
        timeout_s: Seconds that one attempt may take.
        queue_timeout_s: Seconds that a ready call may wait.
        effects: What running the tool may change.
        isolation: "process", or None for the service's own process.
        references: Whether references in the arguments are resolved.
    """

    max_concurrency: int | None = None
    max_queue: int | None = None
    timeout_s: float | None = None
    queue_timeout_s: float | None = None
    effects: Effects = "non_idempotent"
    isolation: Isolation | None = None
    references: bool = True


def make_policy(name: str, options: PolicyOptions) -> ToolPolicy:
    """Checks the keywords of a tool.

    Raises:
        ToolDefinitionError: A keyword is unknown, or its value is not allowed.
    """
    unknown = sorted(set(options) - set(PolicyOptions.__annotations__))
    if unknown:
        known = ", ".join(PolicyOptions.__annotations__)
        raise ToolDefinitionError(
            f"tool {name!r}: unknown keyword {', '.join(unknown)}; known are {known}"
        )
    effects = options.get("effects", "non_idempotent")
    if effects not in get_args(Effects):
        raise _refused(name, "effects", effects, " or ".join(map(repr, get_args(Effects))))
    isolation = options.get("isolation")
    if isolation not in (None, *get_args(Isolation)):
        raise _refused(name, "isolation", isolation, "None or 'process'")
    references = options.get("references", True)
    if not isinstance(references, bool):
        raise _refused(name, "references", references, "True or False")
    return ToolPolicy(
        max_concurrency=_count(name, "max_concurrency", options.get("max_concurrency"), least=1),
        max_queue=_count(name, "max_queue", options.get("max_queue"), least=0),
        timeout_s=_seconds(name, "timeout", options.get("timeout")),
        queue_timeout_s=_seconds(name, "queue_timeout", options.get("queue_timeout")),
        effects=effects,
        isolation=isolation,
        references=references,
    )


def _count(name: str, key: str, value: int | None, least: int) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise _refused(name, key, value, f"an integer of at least {least}")
    return value


def _seconds(name: str, key: str, value: float | str | None) -> float | None:
    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ToolDefinitionError(f"tool {name!r}: {key}: {error}") from None


def _refused(name: str, key: str, value: object, expected: str) -> ToolDefinitionError:
    return ToolDefinitionError(f"tool {name!r}: {key} must be {expected}, not {value!r}")
