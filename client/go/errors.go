package sidecall

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const errorDomain = "sidecall.dev"

// Error is an RPC to the sidecar that ended with a status other than OK. Failures of single
// calls are not errors: they are in the results.
//
// errors.Is finds its [Reason], and context.Canceled or context.DeadlineExceeded where the
// caller's context ended the RPC.
type Error struct {
	// Code is the status code of the RPC.
	Code codes.Code
	// Reason is what the sidecar said; empty where no sidecar made the error.
	Reason Reason
	// Message is for people.
	Message string
	// RetryAfter is the time after which the sidecar wants to be asked again; nil where it
	// did not say.
	RetryAfter *time.Duration
	// NotStarted tells whether it is certain that no call was started, by this RPC or by one
	// that it repeats. False means that calls may have run.
	NotStarted bool
	// SentToInstance is what to send a batch with a request id again with: the sidecar that may
	// have received it. Empty where none has, or it is not known which; in the latter case
	// (NotStarted is false) it must not be sent again.
	SentToInstance string

	cause error
}

// Error returns code, reason and message.
func (e *Error) Error() string {
	name := CodeName(e.Code)
	if e.Reason != "" {
		name += "/" + string(e.Reason)
	}
	return name + ": " + e.Message
}

// Is tells whether target is the error's reason.
func (e *Error) Is(target error) bool {
	reason, ok := target.(Reason)
	return ok && reason != "" && reason == e.Reason
}

// Unwrap returns the error of the caller's context, or of what could not be sent.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus returns code and message, for functions of package grpc/status.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

// IsTransient tells whether the same RPC may succeed a little later: after a lost connection,
// for example.
func (e *Error) IsTransient() bool { return e.Code == codes.Unavailable || e.RetryAfter != nil }

// CodeName returns the canonical name of a status code, such as "NOT_FOUND".
func CodeName(c codes.Code) string {
	if name, ok := code.Code_name[int32(c)]; ok {
		return name
	}
	return fmt.Sprintf("CODE_%d", uint32(c))
}

// ErrorFrom translates what an RPC on [Client.Conn] ended with; ctx is that of the RPC.
func ErrorFrom(ctx context.Context, err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	rpc := status.Convert(err)
	made := fromStatus(rpc.Proto())
	if len(rpc.Proto().GetDetails()) == 0 {
		made.NotStarted = rpc.Code() == codes.Unavailable && neverConnected(rpc.Message())
	}
	if ctx.Err() != nil && (made.Code == codes.Canceled || made.Code == codes.DeadlineExceeded) {
		made.cause = ctx.Err()
	} else if made.Code == codes.DeadlineExceeded && made.Reason == "" {
		// gRPC's timer may be ahead of the context's.
		made.cause = context.DeadlineExceeded
	}
	return made
}

func fromStatus(s *rpcstatus.Status) *Error {
	message := s.GetMessage()
	if message == "" {
		message = "no details"
	}
	reason := reasonIn(s)
	return &Error{
		Code:       codes.Code(s.GetCode()),
		Reason:     reason,
		Message:    message,
		RetryAfter: retryDelayIn(s),
		NotStarted: reason.refuses(),
	}
}

// neverConnected tells whether gRPC says that it has no connection: nothing of the RPC left
// this process then.
func neverConnected(message string) bool {
	for _, prefix := range []string{
		`connection error: desc = "transport: Error while dialing`,
		`connection error: desc = "transport: error while dialing`,
		`connection error: desc = "transport: authentication handshake failed`,
		`connection error: desc = "error reading server preface`,
		"name resolver error",
		"dns: ",
	} {
		if strings.HasPrefix(message, prefix) {
			return true
		}
	}
	return false
}

// detailIn returns the first detail of a type that fits; nil where there is none.
func detailIn[M proto.Message](s *rpcstatus.Status, fits func(M) bool) (found M, ok bool) {
	for _, packed := range s.GetDetails() {
		message, err := packed.UnmarshalNew()
		if err != nil {
			continue // A detail that this client does not know.
		}
		if detail, is := message.(M); is && fits(detail) {
			return detail, true
		}
	}
	return found, false
}

func reasonIn(s *rpcstatus.Status) Reason {
	info, _ := detailIn(s, func(i *errdetails.ErrorInfo) bool { return i.GetDomain() == errorDomain })
	return Reason(info.GetReason())
}

func retryDelayIn(s *rpcstatus.Status) *time.Duration {
	info, ok := detailIn(s, func(*errdetails.RetryInfo) bool { return true })
	if !ok {
		return nil
	}
	delay := max(0, info.GetRetryDelay().AsDuration())
	return &delay
}
