package sidecall

import "sidecall.dev/go/sidecallv1"

// Messages of the contract.
type (
	// ToolCall is one call as the model made it.
	ToolCall = sidecallv1.ToolCall
	// ToolResult is the one result of one call.
	ToolResult = sidecallv1.ToolResult
	// Tool describes a tool.
	Tool = sidecallv1.Tool
	// Approval is a human's decision on one call.
	Approval = sidecallv1.Approval
	// Capabilities tells what a client can rely on.
	Capabilities = sidecallv1.GetCapabilitiesResponse
	// Schedule explains how long a batch took.
	Schedule = sidecallv1.Schedule
	// BatchEvent is something that happened in a turn of [Client.StreamBatch].
	BatchEvent = sidecallv1.BatchEvent
	// BatchSummary closes such a turn.
	BatchSummary = sidecallv1.BatchSummary
)

// ExecutionMode orders the calls of a batch against each other.
type ExecutionMode = sidecallv1.ExecutionMode

const (
	// Parallel starts each call the moment its own dependencies are final. The default.
	Parallel = sidecallv1.ExecutionMode_EXECUTION_MODE_PARALLEL
	// Sequential runs one call at a time, in call order.
	Sequential = sidecallv1.ExecutionMode_EXECUTION_MODE_SEQUENTIAL
)

// FailurePolicy says what a failed call means for the rest of its batch.
type FailurePolicy = sidecallv1.FailurePolicy

const (
	// Continue affects only the calls that depend on the failed one. The default.
	Continue = sidecallv1.FailurePolicy_FAILURE_POLICY_CONTINUE
	// Stop starts no call after a failure.
	Stop = sidecallv1.FailurePolicy_FAILURE_POLICY_STOP
)

// Effects says what running a tool may change.
type Effects = sidecallv1.Effects

const (
	// ReadOnly changes nothing.
	ReadOnly = sidecallv1.Effects_EFFECTS_READ_ONLY
	// Idempotent is as good once as twice with the same arguments.
	Idempotent = sidecallv1.Effects_EFFECTS_IDEMPOTENT
	// NonIdempotent may do harm when it is run twice. The default.
	NonIdempotent = sidecallv1.Effects_EFFECTS_NON_IDEMPOTENT
)
