"""What calls get that an earlier send has run, and that this one does not come to."""

from dataclasses import replace

from sidecall_server.core.call import Call
from sidecall_server.core.outcome import ExecutionState, Failure, Outcome
from sidecall_server.engine.effects import may_have_happened
from sidecall_server.engine.log import Log
from sidecall_server.engine.registry import ToolTable


def replayed(call: Call, log: Log, tools: ToolTable) -> Outcome | None:
    """What is known of a call that must not run again; None where it may run.

    Args:
        call: The call; it counts as replayed where something is known.
        log: What is remembered of its request.
        tools: The tools in force for it.
    """
    entry = log.entries.get(call.index)
    if entry is None or entry.flight is not None:
        return None
    policies = tools.get(call.request.name)
    repeatable = policies is not None and policies.is_repeatable
    outcome = entry.settled(call.request.name, repeatable=repeatable)
    if outcome is not None:
        call.replayed = True
        call.attempt = entry.attempts
    return outcome


def known_instead(call: Call, outcome: Outcome, log: Log, tools: ToolTable) -> Outcome:
    """The outcome of a call that ends: what is known of it, where it has not run now.

    A resend may stop, or its time may be over, before it comes to calls that completed.
    """
    if not isinstance(outcome, Failure) or outcome.state is not ExecutionState.NOT_STARTED:
        return outcome
    entry = log.entries.get(call.index)
    if entry is not None and entry.flight is not None and entry.flight.leader is not call:
        return may_have_started(outcome, call, tools) if entry.flight.has_started else outcome
    return replayed(call, log, tools) or outcome


def note_decision(call: Call, log: Log) -> None:
    """Has a call say what was decided on it, and whether its batch brings something else."""
    entry = log.entries.get(call.index)
    asked = None if entry is None else entry.approval
    if asked is None or asked.decision is None:
        return
    held, brought = asked.decision, call.options.approvals.get(asked.id)
    call.decision = held
    call.decided_before = brought is not None and (
        (held.approved, held.arguments) != (brought.approved, brought.arguments)
    )


def may_have_started(failure: Failure, call: Call, tools: ToolTable) -> Failure:
    """The failure of a call that ends while another send of it runs."""
    policies = tools.get(call.request.name)
    warning = "" if policies is None else may_have_happened(policies.spec.effects)
    message = failure.message + warning
    return replace(failure, message=message, state=ExecutionState.UNKNOWN)
