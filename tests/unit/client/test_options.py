"""What is told of options that make no sense."""

from typing import Any

import pytest

from sidecall import ExecuteOptions, approve
from sidecall._options import READERS
from sidecall._requests import batch_request, stream_start


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": {"a": 1}}, "context['a'] must be text, not 1"),
        ({"context": {1: "a"}}, "context must have text as keys, not 1"),
        ({"context": [1]}, "context must be a mapping from text to text, not [1]"),
        ({"request_id": 5}, "request_id must be text, not 5"),
        ({"session_id": b"s"}, "session_id must be text, not b's'"),
        ({"sent_to_instance": True}, "sent_to_instance must be text, not True"),
        ({"max_concurrency": "3"}, "max_concurrency must be an integer, not '3'"),
        ({"max_concurrency": True}, "max_concurrency must be an integer, not True"),
        ({"max_response_bytes": 2.5}, "max_response_bytes must be an integer, not 2.5"),
        ({"disable_references": "no"}, "disable_references must be True or False, not 'no'"),
        ({"approvals": 5}, "approvals must be a list of what approve() and reject() make, not 5"),
        (
            {"approvals": ["x"]},
            "approvals must be a list of what approve() and reject() make, not ['x']",
        ),
        ({"foo": 1}, "a batch has no option 'foo'; it has approvals, context, disable_references"),
        ({"calls": []}, "a batch has no option 'calls'; it has approvals"),
        ({"contxt": {}}, "a batch has no option 'contxt'; did you mean 'context'?"),
        ({"time_out": 5}, "a batch has no option 'time_out'; did you mean 'timeout'?"),
        ({"foo": None}, "a batch has no option 'foo'"),
    ],
)
def test_an_option_of_another_type_or_name_is_refused(options: Any, message: str) -> None:
    for make in (lambda options: batch_request([], options), stream_start):
        with pytest.raises(TypeError) as caught:
            make(options)
        assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "paralel"}, "mode must be 'parallel' or 'sequential', not 'paralel'"),
        ({"on_failure": ["stop"]}, "on_failure must be 'continue' or 'stop', not ['stop']"),
        ({"max_concurrency": 2**31}, "max_concurrency must be from 0 to 2147483647"),
        ({"max_concurrency": -1}, "max_concurrency must be from 0 to 2147483647, not -1"),
    ],
)
def test_an_option_of_another_value_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        batch_request([], options)
    assert str(caught.value).startswith(message)


def test_every_option_is_read() -> None:
    assert READERS.keys() == ExecuteOptions.__annotations__.keys()


def test_options_that_make_sense() -> None:
    decision = approve("a")
    request = batch_request(
        [],
        {
            "mode": "sequential",
            "context": {"user": "\ud800"},
            "approvals": (decision,),
            "session_id": None,
            "max_response_bytes": 2**40,
        },
    )
    assert request.context == {"user": "\\ud800"}
    assert list(request.approvals) == [decision]
