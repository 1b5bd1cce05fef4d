"""Fitting results into the budgets of their tool and of their batch.

Texts are cut, the largest first, and to the same size, but to less than says anything only
where all else has gone that is said elsewhere. Images, files and links count as what they
take, and are left out as a whole where they are among the largest. What a human decides on
is never cut: nobody approves what cannot be seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from sidecall.v1 import execution_pb2
from sidecall_server.policy.budget import (
    MARKER_BYTES,
    USEFUL_BYTES,
    Sizes,
    common_cap,
    utf8_bytes,
)
from sidecall_server.policy.json_budget import cut_result
from sidecall_server.transport.result_parts import (
    LEFT_OUT_BYTES,
    leave_out,
    put_content_for_texts,
)
from sidecall_server.transport.status import short_content, thin_status

_FRAME_BYTES = 16
"""About what the lengths around a result and its content take."""

_SHORT_CONTENT_BELOW_BYTES = 80
"""Room below which a failure says no more than its reason."""

_NOT_ASKED = (
    "Not run: a person has to approve this call of {name!r} first, and its arguments do not fit "
    "into the response. Send the batch again with a larger max_response_bytes, or make fewer "
    "such calls at a time."
)

Result = execution_pb2.ToolResult


def fit_result(result: Result, max_bytes: int) -> None:
    """Cuts one result to what its tool allows; the content and the blobs count."""
    sizes = _Sizes.of(result)
    texts = [sizes.content]
    plan = _Plan.make(texts, [(size, 0, place) for size, place in sizes.large_parts], max_bytes)
    if plan.cap is not None or plan.left_out:
        _apply(result, sizes, plan.cap, plan.left_out.get(0, []))


def fit(results: Sequence[Result], max_bytes: int) -> Iterator[None]:
    """Cuts results so that they take at most `max_bytes` together, in short steps.

    First contents and parts, the largest first; where that leaves too little of contents,
    what statuses say beside their reason and what parts hold, since the content says it as
    well; and at last whole questions to humans, the largest first.
    """
    sizes: list[_Sizes] = []
    yield from _measure(results, sizes)
    for make_smaller in (_thin, _strip):
        if _least_bytes(sizes, USEFUL_BYTES) <= max_bytes:
            break
        yield
        for result in results:
            make_smaller(result)
            yield
        yield from _measure(results, sizes)
    if _least_bytes(sizes) > max_bytes:
        yield from _take_questions_back(results, sizes, max_bytes)
    yield
    texts = [size for item in sizes for size in item.texts]
    yield
    parts = [(size, i, place) for i, item in enumerate(sizes) for size, place in item.large_parts]
    room = max_bytes - sum(item.fixed for item in sizes)
    yield
    plan = _Plan.make(texts, parts, max(0, room))
    if plan.cap is None and not plan.left_out:
        return
    for index, result in enumerate(results):
        _apply(result, sizes[index], plan.cap, plan.left_out.get(index, []))
        yield


def _measure(results: Sequence[Result], sizes: "list[_Sizes]") -> Iterator[None]:
    sizes.clear()
    for result in results:
        sizes.append(_Sizes.of(result))
        yield


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What a result takes, in bytes.

    Attributes:
        content: Its content.
        arguments: The arguments that a human decides on; a part of `fixed`.
        in_parts: Texts among its parts, which the content holds as well.
        large_parts: Its parts that can be left out: size and place.
        fixed: Everything else.
    """

    content: int
    arguments: int
    in_parts: int
    large_parts: Sequence[tuple[int, int]]
    fixed: int

    @classmethod
    def of(cls, result: Result) -> "_Sizes":
        """Measures a result."""
        content = utf8_bytes(result.content)
        arguments = utf8_bytes(result.approval_arguments)
        in_parts = 0
        large: list[tuple[int, int]] = []
        for place, part in enumerate(result.parts):
            if part.WhichOneof("part") in ("text", "json"):
                in_parts += utf8_bytes(part.text or part.json)
            elif (size := part.ByteSize()) > LEFT_OUT_BYTES:
                large.append((size, place))
        cuttable = content + in_parts + sum(size for size, _ in large)
        return cls(content, arguments, in_parts, large, result.ByteSize() - cuttable + _FRAME_BYTES)

    @property
    def texts(self) -> list[int]:
        """Sizes of the texts that can be cut; those in parts are made the content then."""
        texts = [self.content]
        if self.in_parts:
            texts.append(self.content)
        return texts


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be cut.

    Attributes:
        cap: Bytes that each text may keep; None where none is cut.
        left_out: Places of the parts that are left out, by index of their result.
    """

    cap: int | None
    left_out: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def make(
        cls, texts: Sequence[int], parts: Sequence[tuple[int, int, int]], room: int
    ) -> "_Plan":
        """Plans for texts of these sizes, and parts given by size, result and place."""
        by_size = sorted(parts, key=itemgetter(0), reverse=True)
        by_size.reverse()  # of equal ones the first is the last
        kept_texts, kept_parts = Sizes(texts), Sizes(map(itemgetter(0), by_size))
        count = len(by_size)

        def cap_without(left_out: int) -> int | None:
            """The cap where so many parts, the largest, are left out."""
            kept = (kept_texts, len(texts)), (kept_parts, count - left_out)
            return common_cap(kept, max(0, room - left_out * LEFT_OUT_BYTES))

        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            cap = cap_without(middle)
            if cap is None or by_size[count - 1 - middle][0] <= cap:
                high = middle
            else:
                low = middle + 1
        plan = cls(cap_without(low))
        for _, index, place in by_size[count - low :]:
            plan.left_out.setdefault(index, []).append(place)
        return plan


def _least_bytes(sizes: Sequence[_Sizes], text_bytes: int = MARKER_BYTES) -> int:
    """What results take when all texts are cut to so much, and large parts left out."""
    return sum(
        item.fixed
        + sum(max(MARKER_BYTES, min(size, text_bytes)) for size in item.texts)
        + len(item.large_parts) * LEFT_OUT_BYTES
        for item in sizes
    )


def _apply(result: Result, sizes: _Sizes, cap: int | None, left_out: Sequence[int]) -> None:
    if left_out:
        leave_out(result, left_out)
    if cap is None:
        return
    if sizes.content > cap:
        brief = short_content(result) if cap < _SHORT_CONTENT_BELOW_BYTES else ""
        result.content = brief or cut_result(result.content, cap)
        result.truncated = True
        if sizes.in_parts:
            put_content_for_texts(result)


def _take_questions_back(
    results: Sequence[Result], sizes: "list[_Sizes]", max_bytes: int
) -> Iterator[None]:
    """Has humans not asked about the calls whose arguments are the largest, until they fit."""
    excess = _least_bytes(sizes) - max_bytes
    asked = sorted((-item.arguments, i) for i, item in enumerate(sizes) if item.arguments)
    for _, index in asked:
        if excess <= 0:
            return
        result, before = results[index], _least_bytes(sizes[index : index + 1])
        result.ClearField("approval_id")
        result.ClearField("approval_arguments")
        result.content = _NOT_ASKED.format(name=result.name)
        result.truncated = True
        sizes[index] = _Sizes.of(result)
        excess -= before - _least_bytes(sizes[index : index + 1])
        yield


def _thin(result: Result) -> None:
    """Keeps of statuses what machines need."""
    thin_status(result.status)
    for attempt in result.failed_attempts:
        thin_status(attempt.status)


def _strip(result: Result) -> None:
    """Leaves out all that the content says as well, earlier attempts, and who decided."""
    if result.parts:
        blobs = [place for place, part in enumerate(result.parts) if part.HasField("blob")]
        if blobs:
            # The content must not tell of a file as if it were there.
            leave_out(result, blobs)
        del result.parts[:]
        result.truncated = True
    del result.failed_attempts[:]
    result.ClearField("approval_decision")
