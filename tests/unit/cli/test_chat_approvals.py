import io
import os
import pty
import signal
from collections.abc import Callable, Iterator

import pytest

from sidecall.chat import ApprovalRequested
from sidecall.v1.execution_pb2 import DECISION_APPROVE, DECISION_REJECT
from sidecall_server.cli.chat_approvals import ask

REQUEST = ApprovalRequested(1, 0, "call", "pay", '{"to": "Rome"}', "approval")

Types = Callable[..., int]
END = "\x04"


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> Iterator[Types]:
    """Somebody at a terminal who types these lines."""
    terminal, theirs = pty.openpty()
    with open(theirs, encoding="utf-8") as stdin:  # noqa: PTH123  a descriptor
        monkeypatch.setattr("sys.stdin", stdin)
        yield lambda *lines: os.write(terminal, "".join(lines).encode())
    os.close(terminal)


def test_yes(types: Types, capsys: pytest.CaptureFixture[str]) -> None:
    types("y\n")
    approval = ask(REQUEST)
    assert approval is not None
    assert approval.decision == DECISION_APPROVE
    assert approval.approval_id == "approval"
    assert not approval.HasField("arguments")
    assert approval.decided_by
    assert capsys.readouterr().out.startswith("@1 pay: ")


@pytest.mark.parametrize(("line", "comment"), [("n", ""), ("No", ""), ("n  too much ", "too much")])
def test_no(types: Types, line: str, comment: str) -> None:
    types(line, "\n")
    approval = ask(REQUEST)
    assert approval is not None
    assert (approval.decision, approval.comment) == (DECISION_REJECT, comment)


@pytest.mark.parametrize("typed", ["\n", END, f"e\n{END}\n", "e\n\n\n"])
def test_left_open(types: Types, typed: str) -> None:
    types(typed)
    assert ask(REQUEST) is None


def test_edited(types: Types, capsys: pytest.CaptureFixture[str]) -> None:
    types("e\n", "[1]\n", '{"to": \n', '{"to": "Oslo"}\n')
    approval = ask(REQUEST)
    assert approval is not None
    assert approval.arguments == '{"to": "Oslo"}'
    printed = capsys.readouterr()
    assert printed.out.count("arguments> ") == 3
    assert printed.err.count("arguments are a JSON object") == 2


@pytest.mark.parametrize("line", ["yes please", "edit it", "maybe", "yn"])
def test_nothing_is_approved_by_accident(
    types: Types, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    types(line, "\n\n")
    assert ask(REQUEST) is None
    printed = capsys.readouterr()
    assert printed.out.count("@1 pay: ") == 2
    assert "is no answer" in printed.err


@pytest.mark.parametrize(
    ("number", "raised"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, SystemExit),
        (signal.SIGHUP, SystemExit),
    ],
)
@pytest.mark.usefixtures("types")
def test_a_signal_ends_the_question(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, raised: type[BaseException]
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr("sidecall_server.cli.chat_approvals.stdout", lambda: _SendsSignal(number))
    with pytest.raises(raised):
        ask(REQUEST)
    assert signal.getsignal(number) is before


class _SendsSignal(io.StringIO):
    """Sends a signal as soon as something is printed."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self._number = number

    def write(self, text: str) -> int:
        signal.raise_signal(self._number)
        return len(text)
