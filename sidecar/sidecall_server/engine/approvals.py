"""Calls on which a human decides before they run."""

import json
import secrets

from sidecall_server.core.call import Approval, Arguments, Asked, Call
from sidecall_server.core.outcome import ExecutionState, Failure, Reason, Violation, not_started
from sidecall_server.core.records import PendingApproval
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.digests import arguments_digest
from sidecall_server.engine.ledger import Ledger
from sidecall_server.engine.log import Log
from sidecall_server.policy.argument_text import ArgumentsError, parse
from sidecall_server.policy.build import ToolPolicies

MAX_ARGUMENTS_BYTES = 256 * 1024
"""Most bytes of JSON that a human is shown: nobody approves what cannot be seen."""


class Approvals:
    """Asks, and finds what was decided."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def ask(
        self, batch: Batch, call: Call, values: Arguments, policies: ToolPolicies
    ) -> Arguments | Failure:
        """What a human says about a call.

        Args:
            batch: Its batch.
            call: The call.
            values: What it would run with.
            policies: Its tool.

        Returns:
            What to run it with, or why it must not run.
        """
        text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
        shown = text.encode("utf-8", "backslashreplace")
        if len(shown) > MAX_ARGUMENTS_BYTES:
            return _too_large(call, len(shown))
        text = shown.decode()
        log = self._log(batch)
        if log is None:
            return _no_room(call, self._ledger.retry_after_s)
        entry = self._ledger.entry(log, call.index, call.request)
        digest = arguments_digest(values)
        asked = entry.approval
        decision = None if asked is None else asked.decision
        if asked is not None and decision is None and asked.id in batch.options.approvals:
            decision = batch.options.approvals[asked.id]
            mistake = _mistake(decision, call, policies)
            if mistake is not None:
                # A slip of the pen is no decision: the question stays.
                return _asked(call, asked, text, f" {mistake}")
            self._ledger.decide(log, call.index, decision)
        if decision is not None and not decision.approved:
            return _rejected(call, decision)
        # What a human has not seen was not approved: results that it refers to may differ.
        if asked is None or asked.digest != digest:
            asked = entry.approval = PendingApproval(secrets.token_urlsafe(16), digest)
            decision = None
        if decision is None:
            return _asked(call, asked, text)
        return values if decision.arguments is None else edited(policies, call, decision.arguments)

    def edits(self, batch: Batch, call: Call) -> str | None:
        """JSON text that a human gave a call that runs; None where it runs as it is."""
        log = batch.log
        entry = None if log is None else log.entries.get(call.index)
        if entry is None or entry.approval is None or entry.approval.decision is None:
            return None
        return entry.approval.decision.arguments

    def _log(self, batch: Batch) -> Log | None:
        """What is remembered of a batch; None where there is no room."""
        if batch.log is not None:
            return batch.log
        if batch.minted is None:
            # Before anybody is asked: what cannot be remembered cannot be decided on.
            minted = self._ledger.mint(batch.options, secrets.token_urlsafe(16), len(batch.calls))
            batch.minted = batch.known.log = minted
        return batch.minted


def _asked(call: Call, asked: PendingApproval, shown: str, why: str = "") -> Failure:
    call.asked = Asked(asked.id, shown)
    return not_started(
        Reason.APPROVAL_REQUIRED,
        f"Not run: a person has to approve this call of {call.request.name!r} first.{why}",
    )


def _no_room(call: Call, retry_after_s: float) -> Failure:
    return Failure(
        Reason.APPROVAL_REQUIRED,
        f"Not run: a person has to approve this call of {call.request.name!r} first, and the "
        "sidecar has no room to remember the question at present. Make the call again later.",
        ExecutionState.NOT_STARTED,
        retry_after_s=retry_after_s,
    )


def _too_large(call: Call, size: int) -> Failure:
    message = (
        f"Not run: a person has to approve this call of {call.request.name!r}, and its arguments "
        f"are too large to be shown: {size} bytes of JSON with references resolved, at most "
        f"{MAX_ARGUMENTS_BYTES} are allowed. Call it with less."
    )
    violation = Violation("", f"must not be larger than {MAX_ARGUMENTS_BYTES} bytes of JSON")
    return Failure(
        Reason.ARGUMENTS_INVALID, message, ExecutionState.NOT_STARTED, violations=(violation,)
    )


def _rejected(call: Call, decision: Approval) -> Failure:
    by = f" by {decision.decided_by}" if decision.decided_by else ""
    comment = f" {decision.comment}" if decision.comment else ""
    return not_started(
        Reason.APPROVAL_REJECTED,
        f"Not run: the call of {call.request.name!r} was rejected{by}.{comment}",
    )


def edited(policies: ToolPolicies, call: Call, text: str) -> Arguments | Failure:
    """Arguments that a human gave a call; references in them are text."""
    try:
        values = parse(text, policies.arguments.max_depth)
    except ArgumentsError as error:
        return not_started(Reason.ARGUMENTS_INVALID, f"The edited arguments: {error}.")
    return policies.arguments.checked(call, values)


def _mistake(decision: Approval, call: Call, policies: ToolPolicies) -> str | None:
    """What is wrong with the arguments that a decision gives; None where nothing is."""
    if not decision.approved or decision.arguments is None:
        return None
    if not decision.arguments.strip():
        return "The edited arguments were not taken: they are empty; {} stands for none."
    values = edited(policies, call, decision.arguments)
    failure = values if isinstance(values, Failure) else policies.arguments.set(call, values)
    return None if failure is None else f"The edited arguments were not taken: {failure.message}"
