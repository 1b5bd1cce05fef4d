"""Random records."""

from hypothesis import strategies as st

from sidecall_server.core.call import Approval
from sidecall_server.core.outcome import (
    BlobPart,
    Code,
    ExecutionState,
    Failure,
    JsonPart,
    LinkPart,
    Reason,
    Success,
    TextPart,
    Violation,
)
from sidecall_server.core.records import BATCH, PendingApproval, Record, Scope, ScopeKind

TEXTS = st.text(max_size=20)
TEXTS_OF_TOOLS = st.text(st.characters(), max_size=40)
"""With lone surrogates."""

PARTS = (
    st.builds(TextPart, TEXTS_OF_TOOLS)
    | st.builds(JsonPart, TEXTS_OF_TOOLS)
    | st.builds(BlobPart, TEXTS, st.binary(max_size=20), TEXTS)
    | st.builds(LinkPart, TEXTS, TEXTS, TEXTS)
)
SUCCESSES = st.builds(
    Success, TEXTS_OF_TOOLS, st.booleans(), st.lists(PARTS, max_size=3).map(tuple)
)
FAILURES = st.builds(
    Failure,
    st.sampled_from(Reason),
    TEXTS_OF_TOOLS,
    st.sampled_from(ExecutionState),
    st.none() | st.sampled_from(Code),
    st.lists(st.builds(Violation, TEXTS, TEXTS), max_size=2).map(tuple),
    st.none() | st.floats(0, 1e9),
    st.dictionaries(TEXTS, TEXTS, max_size=2),
)
APPROVALS = st.builds(
    PendingApproval,
    TEXTS,
    st.binary(max_size=8),
    st.none()
    | st.builds(
        Approval, st.booleans(), TEXTS, st.integers(0, 2**62), st.none() | TEXTS_OF_TOOLS, TEXTS
    ),
)
RECORDS = st.builds(
    Record,
    st.binary(max_size=8),
    st.booleans(),
    st.none() | SUCCESSES | FAILURES,
    st.integers(0, 5),
    st.none() | APPROVALS,
)
SCOPES = st.builds(Scope, st.sampled_from(ScopeKind), TEXTS, TEXTS, TEXTS)
INDEXES = st.integers(BATCH, 3)


def plain(record: Record) -> object:
    """A record as a value that can be compared: a Success is equal only to itself."""
    outcome = record.outcome
    if isinstance(outcome, Success):
        said: object = (outcome.text, outcome.is_json, outcome.parts)
    else:
        said = outcome
    return (record.digest, record.started, said, record.attempts, record.approval)
