"""Reads what is said about a batch, and says what is wrong with it."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sidecall._tool_calls import escape_surrogates
from sidecall.v1.execution_pb2 import (
    EXECUTION_MODE_PARALLEL,
    EXECUTION_MODE_SEQUENTIAL,
    FAILURE_POLICY_CONTINUE,
    FAILURE_POLICY_STOP,
    Approval,
)

_MODES = {"parallel": EXECUTION_MODE_PARALLEL, "sequential": EXECUTION_MODE_SEQUENTIAL}
_FAILURE_POLICIES = {"continue": FAILURE_POLICY_CONTINUE, "stop": FAILURE_POLICY_STOP}
_MAX_INT32 = 2**31 - 1
_MAX_INT64 = 2**63 - 1

_Reader = Callable[[str, object], Any]


def option_fields(options: Mapping[str, object]) -> dict[str, Any]:
    """Makes fields of the contract's message of options; what is None is left out.

    Raises:
        TypeError: An option is unknown, or of another type.
        ValueError: An option has no such value.
    """
    if unknown := next((name for name in options if name not in READERS), None):
        raise TypeError(f"a batch has no option {unknown!r}; {_suggestion(unknown)}")
    return {
        name: READERS[name](name, value) for name, value in options.items() if value is not None
    }


def _suggestion(unknown: str) -> str:
    near = difflib.get_close_matches(unknown, [*READERS, "timeout"], n=1)
    return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(READERS))}"


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong_type(name, "text", value)
    return escape_surrogates(value)


def _texts(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise _wrong_type(name, "a mapping from text to text", value)
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{name} must have text as keys, not {key!r}")
    return {escape_surrogates(key): _text(f"{name}[{key!r}]", value[key]) for key in value}


def _boolean(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(name, "True or False", value)
    return value


def _integer_to(largest: int) -> _Reader:
    def read(name: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong_type(name, "an integer", value)
        if not 0 <= value <= largest:
            raise ValueError(f"{name} must be from 0 to {largest}, not {value}")
        return value

    return read


def _one_of(values: Mapping[str, int]) -> _Reader:
    def read(name: str, value: object) -> int:
        if not isinstance(value, str) or value not in values:
            raise ValueError(f"{name} must be {' or '.join(map(repr, values))}, not {value!r}")
        return values[value]

    return read


def _approvals(name: str, value: object) -> list[Approval]:
    items = list(value) if isinstance(value, Iterable) else [None]
    approvals = [item for item in items if isinstance(item, Approval)]
    if len(approvals) < len(items):
        raise _wrong_type(name, "a list of what approve() and reject() make", value)
    return approvals


def _wrong_type(name: str, expected: str, value: object) -> TypeError:
    return TypeError(f"{name} must be {expected}, not {value!r}")


READERS: dict[str, _Reader] = {
    "mode": _one_of(_MODES),
    "on_failure": _one_of(_FAILURE_POLICIES),
    "max_concurrency": _integer_to(_MAX_INT32),
    "context": _texts,
    "request_id": _text,
    "sent_to_instance": _text,
    "session_id": _text,
    "approvals": _approvals,
    "max_response_bytes": _integer_to(_MAX_INT64),
    "disable_references": _boolean,
}
"""What reads each option of `ExecuteOptions`: name and value to the message's value."""
