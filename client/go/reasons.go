package sidecall

// Reason says why a call or an RPC failed, in UPPER_SNAKE_CASE. It is an error, to compare
// with: errors.Is(err, sidecall.ReasonDraining). Sidecars may know more reasons than these.
type Reason string

// Error returns the reason.
func (r Reason) Error() string { return string(r) }

// Reasons of a refused RPC: nothing of it was started, except for the last four.
const (
	ReasonApprovalUnknown    Reason = "APPROVAL_UNKNOWN"
	ReasonDeadlineExpired    Reason = "DEADLINE_EXPIRED"
	ReasonFeatureUnsupported Reason = "FEATURE_UNSUPPORTED"
	ReasonPageTokenInvalid   Reason = "PAGE_TOKEN_INVALID"
	ReasonRequestIDReused    Reason = "REQUEST_ID_REUSED"
	ReasonRequestInvalid     Reason = "REQUEST_INVALID"
	ReasonRequestMemoryFull  Reason = "REQUEST_MEMORY_FULL"
	ReasonStoreUnavailable   Reason = "STORE_UNAVAILABLE"
	ReasonToolsChanged       Reason = "TOOLS_CHANGED"
	ReasonTooManyBatches     Reason = "TOO_MANY_BATCHES"
	ReasonRequestForgotten   Reason = "REQUEST_FORGOTTEN"
	ReasonToolNameTaken      Reason = "TOOL_NAME_TAKEN"
	ReasonTooManyHosts       Reason = "TOO_MANY_HOSTS"
	ReasonHostSilent         Reason = "HOST_SILENT"
)

// Reasons of RPCs and of calls.
const (
	ReasonDraining Reason = "DRAINING"
	ReasonInternal Reason = "INTERNAL"
)

// Reasons of a failed call.
const (
	ReasonApprovalRejected     Reason = "APPROVAL_REJECTED"
	ReasonApprovalRequired     Reason = "APPROVAL_REQUIRED"
	ReasonArgumentsInvalid     Reason = "ARGUMENTS_INVALID"
	ReasonBatchDeadline        Reason = "BATCH_DEADLINE"
	ReasonCallDeadline         Reason = "CALL_DEADLINE"
	ReasonCancelled            Reason = "CANCELLED"
	ReasonCircuitOpen          Reason = "CIRCUIT_OPEN"
	ReasonDependencyFailed     Reason = "DEPENDENCY_FAILED"
	ReasonHostDetached         Reason = "HOST_DETACHED"
	ReasonIdempotencyKeyReused Reason = "IDEMPOTENCY_KEY_REUSED"
	ReasonOutcomeUnknown       Reason = "OUTCOME_UNKNOWN"
	ReasonQueueFull            Reason = "QUEUE_FULL"
	ReasonQueueTimeout         Reason = "QUEUE_TIMEOUT"
	ReasonRateLimited          Reason = "RATE_LIMITED"
	ReasonReferenceCycle       Reason = "REFERENCE_CYCLE"
	ReasonReferenceUnresolved  Reason = "REFERENCE_UNRESOLVED"
	ReasonResultTooLarge       Reason = "RESULT_TOO_LARGE"
	ReasonStopped              Reason = "STOPPED"
	ReasonToolCrashed          Reason = "TOOL_CRASHED"
	ReasonToolFailed           Reason = "TOOL_FAILED"
	ReasonToolNotFound         Reason = "TOOL_NOT_FOUND"
	ReasonToolTimeout          Reason = "TOOL_TIMEOUT"
	ReasonToolUnavailable      Reason = "TOOL_UNAVAILABLE"
)

// refuses tells whether a sidecar that gives this reason started nothing of the request.
// INTERNAL says nothing; with REQUEST_FORGOTTEN an earlier send may have started calls.
func (r Reason) refuses() bool {
	switch r {
	case ReasonApprovalUnknown, ReasonDeadlineExpired, ReasonDraining, ReasonFeatureUnsupported,
		ReasonPageTokenInvalid, ReasonRequestIDReused, ReasonRequestInvalid,
		ReasonRequestMemoryFull, ReasonStoreUnavailable, ReasonToolsChanged,
		ReasonTooManyBatches:
		return true
	}
	return false
}
