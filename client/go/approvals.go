package sidecall

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"sidecall.dev/go/sidecallv1"
)

// Approve lets the call with this approval id run. The decision takes effect when the same
// calls are sent again with it in [BatchOptions.Approvals] and the request id of the
// [BatchResults] that asked for it. by says who decides; it may be empty.
//
// To run the call with other arguments than the model's, set Arguments of what it returns.
func Approve(approvalID, by string) *Approval {
	return decide(sidecallv1.Decision_DECISION_APPROVE, approvalID, by)
}

// Reject keeps the call with this approval id from running; it takes effect as Approve does.
// The model is told the comment.
func Reject(approvalID, by, comment string) *Approval {
	approval := decide(sidecallv1.Decision_DECISION_REJECT, approvalID, by)
	approval.Comment = validText(comment)
	return approval
}

func decide(decision sidecallv1.Decision, approvalID, by string) *Approval {
	return &Approval{
		ApprovalId: approvalID,
		Decision:   decision,
		DecidedBy:  validText(by),
		DecideTime: timestamppb.New(time.Now()),
	}
}
