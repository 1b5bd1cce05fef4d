package sidecall

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
)

// Violation is one thing that is wrong with the arguments of a call.
type Violation struct {
	// Field is the JSON Pointer of the offending value; empty for the arguments as a whole.
	Field string
	// Description says what is wrong there.
	Description string
}

// IsOK tells whether the tool returned.
func IsOK(result *ToolResult) bool { return CodeOf(result) == codes.OK }

// CodeOf returns the status code of a call.
func CodeOf(result *ToolResult) codes.Code {
	return codes.Code(result.GetStatus().GetCode())
}

// ReasonOf returns why a call failed; empty where it is OK or no reason was given.
func ReasonOf(result *ToolResult) Reason {
	if IsOK(result) {
		return ""
	}
	return reasonIn(result.GetStatus())
}

// ViolationsOf returns what is wrong with a call's arguments.
func ViolationsOf(result *ToolResult) []Violation {
	bad, _ := detailIn(result.GetStatus(), func(*errdetails.BadRequest) bool { return true })
	var violations []Violation
	for _, violation := range bad.GetFieldViolations() {
		violations = append(violations, Violation{violation.GetField(), violation.GetDescription()})
	}
	return violations
}

// RetryAfterOf returns the time after which a failed call may be made again; nil where
// nothing was said.
func RetryAfterOf(result *ToolResult) *time.Duration {
	if IsOK(result) {
		return nil
	}
	return retryDelayIn(result.GetStatus())
}

// PendingApprovals returns the results of the calls that wait for a human, in order. What such
// a call would run with is in its approval_arguments.
func PendingApprovals(results []*ToolResult) []*ToolResult {
	var pending []*ToolResult
	for _, result := range results {
		if result.GetApprovalId() != "" && ReasonOf(result) == ReasonApprovalRequired {
			pending = append(pending, result)
		}
	}
	return pending
}
