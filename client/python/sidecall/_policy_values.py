"""The values of policy keys: what people write, and what it means."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

from sidecall._durations import MAX_DURATION_S, parse_duration
from sidecall._errors import CODES

RETRIED_CODES = (
    "UNKNOWN",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
    "INTERNAL",
    "UNAVAILABLE",
)
"""Codes after which an attempt is repeated where a tool names none."""

MAX_RATE_PER_S = 1_000_000
MAX_ATTEMPTS = 100

_NS_PER_S = 1_000_000_000
MAX_COUNT = 2**31 - 1
_RATE = re.compile(r"\s*([0-9]{1,12})\s*/\s*(\S+)\s*")
_LANE_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[^{}]+")

Reader = Callable[[Any], Any]
"""Turns what was written into its meaning; raises ValueError or PolicyError."""


class Problem(NamedTuple):
    """What is wrong with one value.

    Attributes:
        path: Keys that lead to the value.
        text: What is expected, and what stands there.
        known: The keys that exist, where the last one of the path does not.
    """

    path: tuple[str, ...]
    text: str
    known: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{'.'.join(self.path)}: {self.text}"


class PolicyError(ValueError):
    """Values are wrong.

    Attributes:
        problems: What is wrong, one per value.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Takes the problems."""
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


class RateOptions(TypedDict, total=False):
    """A rate with a burst of its own.

    Attributes:
        limit: Starts per time, for example "10/s", "100/m" or "5/250ms".
        burst: Starts that may come at once after a pause.
    """

    limit: str
    burst: int


class RetryOptions(TypedDict, total=False):
    """How failed attempts are repeated.

    Attributes:
        attempts: Most attempts of one call, the first one too; 3 where unset.
        backoff: Bound of the first wait, which doubles with each attempt; 100 ms where unset.
        max_backoff: Bound of every wait; 10 s where unset.
        budget: Retries per first attempt in the long run; 0.2 where unset.
        on: Status codes of a tool's own failure after which it is tried again.
    """

    attempts: int
    backoff: float | str
    max_backoff: float | str
    budget: float
    on: Sequence[str]


class BreakerOptions(TypedDict, total=False):
    """When a failing tool is left alone for a while.

    Attributes:
        failure_ratio: Share of failed attempts at which it opens; 0.5 where unset.
        min_attempts: Attempts in the window below which it stays closed; 10 where unset.
        window: Time that is looked back; 30 s where unset.
        open: Time for which it stays open; 30 s where unset.
        probes: Attempts that must end well before it closes; 1 where unset.
    """

    failure_ratio: float
    min_attempts: int
    window: float | str
    open: float | str
    probes: int


class LaneOptions(TypedDict, total=False):
    """Which calls run one at a time.

    Attributes:
        key: Text in which `{name}` stands for the argument of that name, `{user.id}` for a
            field inside of one; `{{` and `}}` are braces.
        on_failure: "continue", or "skip_rest": a failed call ends the later calls of its
            batch and key.
    """

    key: str
    on_failure: str


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something may start.

    Attributes:
        count: Starts per period in the long run.
        period_ns: The period in nanoseconds.
        burst: Starts that may come at once after a pause.
    """

    count: int
    period_ns: int
    burst: int


@dataclass(frozen=True, slots=True)
class Retry:
    """How failed attempts are repeated.

    Attributes:
        max_attempts: Most attempts of one call.
        backoff_s: Bound of the first wait.
        max_backoff_s: Bound of every wait.
        budget: Retries per first attempt in the long run.
        codes: Names of the status codes after which it is tried again.
    """

    max_attempts: int = 3
    backoff_s: float = 0.1
    max_backoff_s: float = 10.0
    budget: float = 0.2
    codes: tuple[str, ...] = RETRIED_CODES


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a failing tool is left alone.

    Attributes:
        failure_ratio: Share of failed attempts at which it opens.
        min_attempts: Attempts within the window below which it stays closed.
        window_s: Seconds that are looked back.
        open_s: Seconds for which it stays open.
        probes: Attempts that must end well before it closes.
    """

    failure_ratio: float = 0.5
    min_attempts: int = 10
    window_s: float = 30.0
    open_s: float = 30.0
    probes: int = 1


@dataclass(frozen=True, slots=True)
class Lane:
    """Calls with one key run one at a time, in order.

    Attributes:
        template: Text in which `{name}` stands for an argument.
        skip_rest: Whether a failed call ends the later calls of its batch and key.
    """

    template: str
    skip_rest: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the arguments that the key is made of."""
        return tuple(path[0] for path in lane_paths(self.template))


def lane_paths(template: str) -> list[tuple[str, ...]]:
    """The placeholders of a lane's key, as paths into the arguments.

    Raises:
        ValueError: The text is not a template.
    """
    paths: list[tuple[str, ...]] = []
    end = 0
    while end < len(template):
        token = _LANE_TOKEN.match(template, end)
        if token is None:
            raise ValueError(
                f"{template!r} has a brace without its other half; "
                "write {name} for an argument, {{ and }} for braces"
            )
        if token[1] is not None:
            path = tuple(token[1].split("."))
            if any(part.strip() != part or not part for part in path):
                raise ValueError(
                    f"{token[0]} in {template!r} names no argument; write {{name}} or {{user.id}}"
                )
            paths.append(path)
        end = token.end()
    return paths


def _refused(expected: str, value: object) -> ValueError:
    return ValueError(f"must be {expected}, not {value!r}")


def whole(least: int, most: int = MAX_COUNT) -> Reader:
    """Reads a whole number."""

    def read(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            bound = f"of at least {least}"
            if most != MAX_COUNT and isinstance(value, int):
                bound = f"from {least} to {most}"
            raise _refused(f"an integer {bound}", value)
        return value

    return read


def number(most: float) -> Reader:
    """Reads a number above 0."""

    def read(value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= most:
            raise _refused(f"a number above 0 and up to {most:g}", value)
        return float(value)

    return read


def duration(value: Any) -> float:
    """Reads a duration, in seconds: from a nanosecond, below which nothing counts, to a year.

    Raises:
        ValueError: It is none, or out of these bounds.
    """
    seconds = parse_duration(value)
    if not 1e-9 <= seconds <= MAX_DURATION_S:
        raise _refused(f"from a nanosecond to a year ({MAX_DURATION_S:.0f}s)", value)
    return seconds


def one_of(*allowed: object) -> Reader:
    """Reads one of some values."""

    def read(value: Any) -> Any:
        # True == 1: the type counts as well.
        if not any(type(value) is type(choice) and value == choice for choice in allowed):
            raise _refused(" or ".join(map(repr, allowed)), value)
        return value

    return read


def optional(read: Reader) -> Reader:
    """Reads None as the default in force."""
    return lambda value: None if value is None else read(value)


def names(value: Any) -> tuple[str, ...]:
    """Reads a list of different names.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _refused("a list of names", value)
    for item in value:
        if not isinstance(item, str) or not item.strip():
            raise ValueError(f"must be a list of names; {item!r} is none")
    if len(set(value)) < len(value):
        raise ValueError(f"names one thing twice: {', '.join(value)}")
    return tuple(value)


def rate(value: Any) -> Rate:
    """Reads a rate: text, or a mapping with `limit` and `burst`.

    Without a burst of its own, it lets start at once what it lets start in a second, at
    most one period's count and at least one.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, Mapping):
        return _rate_of_text(value)
    fields = _fields(value, {"limit": _rate_of_text, "burst": whole(1, MAX_RATE_PER_S)})
    if "limit" not in fields:
        raise ValueError('must have a limit, for example {limit: "10/s", burst: 20}')
    limit: Rate = fields["limit"]
    return Rate(limit.count, limit.period_ns, fields.get("burst", limit.burst))


def _rate_of_text(value: Any) -> Rate:
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise _refused('a rate like "10/s", "100/m" or "5/250ms"', value)
    count, unit = int(match[1]), match[2]
    try:
        period_ns = round(duration(unit if unit[0].isdigit() else f"1{unit}") * _NS_PER_S)
    except ValueError:
        raise ValueError(
            f"must be a rate per ms, s, m, h or a multiple of them, not {value!r}"
        ) from None
    if count < 1 or count * _NS_PER_S > MAX_RATE_PER_S * period_ns:
        raise _refused(f"from 1 start to {MAX_RATE_PER_S} starts a second", value)
    return Rate(count, period_ns, max(1, min(count, count * _NS_PER_S // period_ns)))


def retry(value: Any) -> Retry | None:
    """Reads how attempts are repeated; None where there is only one.

    Raises:
        ValueError: It is neither a number of attempts nor a mapping of its keys.
    """
    attempts = whole(1, MAX_ATTEMPTS)
    if not isinstance(value, Mapping):
        if isinstance(value, bool) or not isinstance(value, int):
            raise _refused("a number of attempts or a mapping", value)
        made = Retry(max_attempts=attempts(value))
    else:
        fields = _fields(
            value,
            {
                "attempts": attempts,
                "backoff": duration,
                "max_backoff": duration,
                "budget": number(MAX_ATTEMPTS),
                "on": _codes,
            },
        )
        made = _retry_of(fields)
    if made.backoff_s > made.max_backoff_s:
        raise ValueError("must have a max_backoff of at least its backoff")
    return made if made.max_attempts > 1 else None


def _retry_of(fields: Mapping[str, Any]) -> Retry:
    """Of the two bounds on a wait, one that is not given follows one that is."""
    default = Retry()
    backoff_s = fields.get("backoff", default.backoff_s)
    max_backoff_s = fields.get("max_backoff", default.max_backoff_s)
    if "backoff" not in fields:
        backoff_s = min(backoff_s, max_backoff_s)
    if "max_backoff" not in fields:
        max_backoff_s = max(backoff_s, max_backoff_s)
    return Retry(
        fields.get("attempts", default.max_attempts),
        backoff_s,
        max_backoff_s,
        fields.get("budget", default.budget),
        fields.get("on", default.codes),
    )


def breaker(value: Any) -> Breaker | None:
    """Reads when a tool is left alone; None and False are never.

    Raises:
        ValueError: It is neither True nor False nor a mapping of its keys.
    """
    if value is None or value is False:
        return None
    if value is True:
        return Breaker()
    if not isinstance(value, Mapping):
        raise _refused("True, False or a mapping", value)
    fields = _fields(
        value,
        {
            "failure_ratio": number(1),
            "min_attempts": whole(1),
            "window": duration,
            "open": duration,
            "probes": whole(1),
        },
    )
    return Breaker(
        **{f"{key}_s" if key in ("window", "open") else key: fields[key] for key in fields}
    )


def lane(value: Any) -> Lane | None:
    """Reads which calls run one at a time; None for no such order.

    Raises:
        ValueError: It is neither a template nor a mapping of its keys.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        return Lane(_template(value))
    fields = _fields(value, {"key": _template, "on_failure": one_of("continue", "skip_rest")})
    if "key" not in fields:
        raise ValueError('must have a key, for example {key: "account:{account_id}"}')
    return Lane(fields["key"], fields.get("on_failure") == "skip_rest")


def _template(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _refused('text like "account:{account_id}"', value)
    lane_paths(value)
    return value


def _codes(value: Any) -> tuple[str, ...]:
    codes = names(value)
    for code in codes:
        if code not in CODES:
            raise ValueError(f"{code!r} is not a status code; they are {', '.join(CODES)}")
    return codes


def _fields(value: Mapping[Any, Any], readers: Mapping[str, Reader]) -> dict[str, Any]:
    fields, problems = read_fields(value, readers)
    if problems:
        raise PolicyError(problems)
    return fields


def read_fields(
    value: Mapping[Any, Any], readers: Mapping[str, Reader]
) -> tuple[dict[str, Any], list[Problem]]:
    """Reads each field that is there; returns what they mean, and what is wrong."""
    fields: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, written in value.items():
        if key not in readers:
            known = tuple(readers)
            text = f"unknown keyword; known are {', '.join(known)}"
            problems.append(Problem((str(key),), text, known))
            continue
        try:
            fields[key] = readers[key](written)
        except PolicyError as error:
            problems += [item._replace(path=(key, *item.path)) for item in error.problems]
        except ValueError as error:
            problems.append(Problem((key,), str(error)))
    return fields, problems
