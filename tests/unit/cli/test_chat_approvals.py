import signal
from collections.abc import Callable, Iterable

import pytest

from sidecall.chat import ApprovalRequested
from sidecall.v1.execution_pb2 import DECISION_APPROVE, DECISION_REJECT
from sidecall_server.cli.chat_approvals import ask

REQUEST = ApprovalRequested(1, 0, "call", "pay", '{"to": "Rome"}', "approval")

Types = Callable[[Iterable[str]], list[str]]


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> Types:
    """Somebody who types these lines, then ends the input; returns what was asked."""

    def types(lines: Iterable[str]) -> list[str]:
        left, asked = list(lines), []

        def type_line(prompt: str) -> str:
            asked.append(prompt)
            if not left:
                raise EOFError
            return left.pop(0)

        monkeypatch.setattr("builtins.input", type_line)
        return asked

    return types


def test_yes(types: Types) -> None:
    asked = types(["y"])
    approval = ask(REQUEST)
    assert approval is not None
    assert approval.decision == DECISION_APPROVE
    assert approval.approval_id == "approval"
    assert not approval.HasField("arguments")
    assert approval.decided_by
    assert asked[0].startswith("@1 pay: ")


@pytest.mark.parametrize(("line", "comment"), [("n", ""), ("No", ""), ("n  too much ", "too much")])
def test_no(types: Types, line: str, comment: str) -> None:
    types([line])
    approval = ask(REQUEST)
    assert approval is not None
    assert (approval.decision, approval.comment) == (DECISION_REJECT, comment)


@pytest.mark.parametrize("lines", [[""], [], ["e"], ["e", "", ""]])
def test_left_open(types: Types, lines: list[str]) -> None:
    types(lines)
    assert ask(REQUEST) is None


def test_edited(types: Types, capsys: pytest.CaptureFixture[str]) -> None:
    asked = types(["e", "[1]", '{"to": ', '{"to": "Oslo"}'])
    approval = ask(REQUEST)
    assert approval is not None
    assert approval.arguments == '{"to": "Oslo"}'
    assert asked[1:] == ["arguments> "] * 3
    assert capsys.readouterr().err.count("arguments are a JSON object") == 2


@pytest.mark.parametrize("line", ["yes please", "edit it", "maybe", "yn"])
def test_nothing_is_approved_by_accident(
    types: Types, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    asked = types([line, ""])
    assert ask(REQUEST) is None
    assert len(asked) == 2
    assert "is no answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "raised"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, SystemExit),
        (signal.SIGHUP, SystemExit),
    ],
)
def test_a_signal_ends_the_question(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, raised: type[BaseException]
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr("builtins.input", lambda _: signal.raise_signal(number))
    with pytest.raises(raised):
        ask(REQUEST)
    assert signal.getsignal(number) is before
