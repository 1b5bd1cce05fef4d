package toolhost

import (
	"errors"
	"time"

	"google.golang.org/grpc/codes"
)

// ToolError is what a function returns to tell the model what went wrong.
type ToolError struct {
	// Code is a status code; codes.OK means codes.Unknown.
	Code codes.Code
	// Message is for the model: what went wrong and what it can do about it.
	Message string
	// RetryAfter is the time after which the call may be made again; 0 where it is not known.
	RetryAfter time.Duration
}

// NewToolError makes an error that the model is told.
func NewToolError(code codes.Code, message string) *ToolError {
	return &ToolError{Code: code, Message: message}
}

// Error returns the message.
func (e *ToolError) Error() string { return e.Message }

// ErrRunning is returned by [Host.Run] where it was called before.
var ErrRunning = errors.New("toolhost: a host can be run once; make another one")

// ErrDrainTimeout is returned by [Host.Run] where functions had not ended when the time for the
// drain was over.
var ErrDrainTimeout = errors.New("toolhost: functions had not ended when the host closed")
