"""What a tool is, apart from where it lives."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from sidecall_server.core.outcome import Code


class Effects(enum.IntEnum):
    """What running a tool may change. The numbers are those of the contract."""

    READ_ONLY = 1
    IDEMPOTENT = 2
    NON_IDEMPOTENT = 3


class LargeResult(enum.Enum):
    """What becomes of a result that is larger than its tool allows."""

    CUT = "cut"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something may start: a token bucket.

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
    """How failed attempts are repeated: exponential backoff with full jitter.

    Attributes:
        max_attempts: Most attempts of one call.
        backoff_s: Bound of the first wait; doubles with each attempt.
        max_backoff_s: Bound of every wait.
        budget: Retries per first attempt that the tool may cost in the long run.
        codes: Status codes of a tool's own failure after which it is tried again.
    """

    max_attempts: int
    backoff_s: float
    max_backoff_s: float
    budget: float
    codes: frozenset[Code]


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a failing tool is left alone for a while.

    Attributes:
        failure_ratio: Share of failed attempts at which it opens.
        min_attempts: Attempts within the window below which it stays closed.
        window_s: Seconds that are looked back.
        open_s: Seconds for which it stays open.
        probes: Attempts that must end well, one after the other, before it closes.
    """

    failure_ratio: float
    min_attempts: int
    window_s: float
    open_s: float
    probes: int


@dataclass(frozen=True, slots=True)
class Lane:
    """Calls with one key run one at a time, in order.

    Attributes:
        template: Text in which `{name}` stands for the argument of that name.
        skip_rest: Whether a failed call ends the later calls of its batch and key.
    """

    template: str
    skip_rest: bool = False


@dataclass(frozen=True, slots=True)
class Sharing:
    """When one run answers several identical calls. For read_only tools.

    Attributes:
        coalesce: Whether a call joins an identical one in flight.
        cache_ttl_s: Seconds for which a result answers identical calls; None for not at all.
        all_callers: Whether callers share results with each other.
        context_keys: Keys of the batch's context whose values make calls differ; None for
            all of them.
    """

    coalesce: bool
    cache_ttl_s: float | None
    all_callers: bool
    context_keys: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Group:
    """A limit that several tools share.

    Attributes:
        max_concurrency: Most attempts that run at a time; None for no bound.
        rate: How often they may start; None for no bound.
    """

    max_concurrency: int | None = None
    rate: Rate | None = None


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
        rate: How often it may start; None for no bound.
        retry: How failed attempts are repeated; None for not at all.
        breaker: When it is left alone; None for never.
        lane: Which calls run one at a time; None for no such order.
        sharing: When one run answers several calls; None for never.
        requires_approval: Whether a human decides on each call.
        max_result_bytes: Bytes that one result may take; None for no bound of its own.
        large_result: What becomes of a larger one.
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
    rate: Rate | None = None
    retry: Retry | None = None
    breaker: Breaker | None = None
    lane: Lane | None = None
    sharing: Sharing | None = None
    requires_approval: bool = False
    max_result_bytes: int | None = None
    large_result: LargeResult = LargeResult.CUT
