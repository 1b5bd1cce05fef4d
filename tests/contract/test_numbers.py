"""The core's enums stand for those of the contract, number by number."""

import enum
from typing import Any

import pytest

from sidecall.v1 import execution_pb2, tool_pb2
from sidecall_server.core.call import BlockCause
from sidecall_server.core.outcome import ExecutionState
from sidecall_server.core.tool import Effects


@pytest.mark.parametrize(
    ("core", "contract", "prefix"),
    [
        (BlockCause, execution_pb2.BlockCause, "BLOCK_CAUSE_"),
        (ExecutionState, execution_pb2.ExecutionState, "EXECUTION_STATE_"),
        (Effects, tool_pb2.Effects, "EFFECTS_"),
    ],
)
def test_the_numbers_are_those_of_the_contract(
    core: type[enum.IntEnum], contract: Any, prefix: str
) -> None:
    ours = {member.name: int(member) for member in core if member}
    theirs = {name.removeprefix(prefix): number for name, number in contract.items() if number}

    assert ours == theirs
