package toolhost

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"sidecall.dev/go/sidecallv1"
)

const (
	completed  = sidecallv1.ExecutionState_EXECUTION_STATE_COMPLETED
	notStarted = sidecallv1.ExecutionState_EXECUTION_STATE_NOT_STARTED
	unknown    = sidecallv1.ExecutionState_EXECUTION_STATE_UNKNOWN
)

// returned is the result of a function that returned.
func returned(value any) (*sidecallv1.HostResult, error) {
	result := &sidecallv1.HostResult{ExecutionState: completed}
	switch value := value.(type) {
	case string:
		result.Value = &sidecallv1.HostResult_Text{Text: validText(value)}
		return result, nil
	case *Part:
		return returned(Parts{value})
	case []*Part:
		return returned(Parts(value))
	case Parts:
		parts := &sidecallv1.HostParts{Parts: validParts(value)}
		result.Value = &sidecallv1.HostResult_Parts{Parts: parts}
		return result, nil
	case struct{}:
		result.Value = &sidecallv1.HostResult_Json{Json: "null"}
		return result, nil
	}
	if text := reflect.ValueOf(value); text.Kind() == reflect.String {
		if _, special := value.(json.Marshaler); !special {
			result.Value = &sidecallv1.HostResult_Text{Text: validText(text.String())}
			return result, nil
		}
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	written := string(bytes.TrimSuffix(text.Bytes(), []byte("\n")))
	result.Value = &sidecallv1.HostResult_Json{Json: validText(written)}
	return result, nil
}

func failed(code codes.Code, message string, state sidecallv1.ExecutionState) *sidecallv1.HostResult {
	return &sidecallv1.HostResult{

		Status:         &rpcstatus.Status{Code: int32(code), Message: validText(message)},
		ExecutionState: state,
	}
}

// resultOf translates what a function came to. Only the text of a ToolError goes to the model.
func resultOf(log *slog.Logger, tool string, value any, err error) *sidecallv1.HostResult {
	var told *ToolError
	var arguments *argumentsError
	switch {
	case err == nil:
		result, err := returned(value)
		if err != nil {
			log.Warn("the returned value cannot be written as JSON", "tool", tool, "error", err)
			return failed(codes.Unknown, fmt.Sprintf(
				"Tool '%s' ran, but its result cannot be passed on: it cannot be written as JSON.", tool), completed)
		}
		return result
	case errors.As(err, &arguments):
		return failed(codes.InvalidArgument, arguments.Error(), notStarted)
	case errors.As(err, &told):
		return toldResult(tool, told)
	}
	id := errorID()
	log.Error("a tool failed", "tool", tool, "error_id", id, "error", err)
	return failed(codes.Unknown, fmt.Sprintf("Tool '%s' failed with an internal error (id %s).", tool, id), completed)
}

func toldResult(tool string, told *ToolError) *sidecallv1.HostResult {
	code, message := told.Code, told.Message
	if code == codes.OK || code > codes.Unauthenticated {
		code = codes.Unknown
	}
	if message == "" {
		message = fmt.Sprintf("Tool '%s' failed.", tool)
	}
	result := failed(code, message, completed)
	if told.RetryAfter > 0 {
		result.RetryAfter = durationpb.New(told.RetryAfter)
	}
	return result
}

// givenUp is the result of a call that nobody waits for.
func givenUp(ctx context.Context, state sidecallv1.ExecutionState) *sidecallv1.HostResult {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return failed(codes.DeadlineExceeded, "The time for the call was over.", state)
	}
	return failed(codes.Canceled, "The call was cancelled.", state)
}

// abandoned is the result of a call whose function still runs when the host ends.
func abandoned() *sidecallv1.HostResult {
	return failed(codes.Canceled, "The application ended while the tool ran.", unknown)
}

// fitting returns the message of a result; one that is too large is replaced by a refusal.
func fitting(result *sidecallv1.HostResult, maxBytes int64) *sidecallv1.AttachRequest {
	message := &sidecallv1.AttachRequest{Message: &sidecallv1.AttachRequest_Result{Result: result}}
	size := int64(proto.Size(message))
	if size <= maxBytes {
		return message
	}
	refusal := failed(codes.ResourceExhausted, fmt.Sprintf(
		"The tool ran, but its result of %d bytes is larger than the %d bytes that are allowed, and "+
			"was thrown away. The same call gives the same again: ask for less, for example with a "+
			"narrower query, fewer fields, or one page at a time.", size, maxBytes), result.GetExecutionState())
	refusal.AttemptId = result.GetAttemptId()
	return &sidecallv1.AttachRequest{Message: &sidecallv1.AttachRequest_Result{Result: refusal}}
}

func errorID() string {
	var id [4]byte
	_, _ = rand.Read(id[:]) // It never fails.
	return hex.EncodeToString(id[:])
}
