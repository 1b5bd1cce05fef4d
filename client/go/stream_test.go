package sidecall_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sidecall.dev/go"
	"sidecall.dev/go/internal/fakesidecar"
	"sidecall.dev/go/sidecallv1"
)

func accept(stream fakesidecar.StreamServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	return send(stream, &sidecallv1.BatchEvent{
		Event: &sidecallv1.BatchEvent_Accepted{Accepted: &sidecallv1.BatchAccepted{}},
	})
}

func send(stream fakesidecar.StreamServer, events ...*sidecallv1.BatchEvent) error {
	return stream.Send(&sidecallv1.StreamBatchResponse{Events: events})
}

func resultEvent(index int32, call *sidecallv1.ToolCall) *sidecallv1.BatchEvent {
	finished := &sidecallv1.CallFinished{Index: index, Result: fakesidecar.ResultOf(call, "done")}
	return &sidecallv1.BatchEvent{Event: &sidecallv1.BatchEvent_Result{Result: finished}}
}

// serveTurn answers a turn as a sidecar does.
func serveTurn(stream fakesidecar.StreamServer) error {
	if err := accept(stream); err != nil {
		return err
	}
	sealed := false
	for !sealed {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if call := message.GetCall(); call != nil {
			if err := send(stream, resultEvent(call.GetIndex(), call.GetCall())); err != nil {
				return err
			}
		}
		sealed = message.GetSeal() != nil
	}
	summary := &sidecallv1.BatchSummary{Sealed: sealed, RequestId: "made"}
	if err := send(stream, &sidecallv1.BatchEvent{Event: &sidecallv1.BatchEvent_Summary{Summary: summary}}); err != nil {
		return err
	}
	if _, err := stream.Recv(); sealed && !errors.Is(err, io.EOF) {
		return status.Error(codes.InvalidArgument, "the client does not half-close")
	}
	return nil
}

func openTurn(t *testing.T, fake *fakesidecar.Fake) *sidecall.BatchStream {
	t.Helper()
	turn, err := clientOf(t, fake.Start(t)).StreamBatch(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(turn.Close)
	return turn
}

func TestATurnGivesEventsAndResults(t *testing.T) {
	turn := openTurn(t, &fakesidecar.Fake{Stream: serveTurn})
	for index, name := range []string{"a", "b"} {
		if err := turn.Send(index, callOf(t, name, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if err := turn.Seal(); err != nil {
		t.Fatal(err)
	}

	for event, err := range turn.Events() {
		if err != nil {
			t.Fatal(err)
		}
		if event.GetResult() != nil {
			break // The rest is for Results.
		}
	}
	answered, err := turn.Results()

	if err != nil || len(answered.Results) != 2 || answered.Results[1].GetName() != "b" {
		t.Fatal(answered, err)
	}
	if !turn.Summary().GetSealed() || turn.RequestID() != "made" || answered.RequestID != "made" {
		t.Error(turn.Summary())
	}
	if err := turn.Cancel(0); err != nil {
		t.Error(err)
	}
}

func TestWhatComesTooLateIsRefused(t *testing.T) {
	turn := openTurn(t, &fakesidecar.Fake{Stream: serveTurn})
	call := callOf(t, "a", nil)
	if err := turn.Send(0, call); err != nil {
		t.Fatal(err)
	}
	twice := turn.Send(0, call)
	if err := turn.Seal(); err != nil {
		t.Fatal(err)
	}

	for what, err := range map[string]error{
		"an index sent twice": twice, "a call after the seal": turn.Send(1, call), "a second seal": turn.Seal(),
	} {
		if !errors.Is(err, sidecall.ErrTurnEnded) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAnAbandonedTurnEndsInOrder(t *testing.T) {
	turn := openTurn(t, &fakesidecar.Fake{Stream: serveTurn})

	turn.Abandon()

	if _, err := turn.Results(); err != nil || turn.Summary().GetSealed() {
		t.Error(turn.Summary(), err)
	}
	if err := turn.Cancel(0); err != nil {
		t.Error("the turn is over, so nothing is left to cancel:", err)
	}
}

func TestNumbersThatMakeNoSense(t *testing.T) {
	client := clientOf(t, "unix:/none")
	for _, options := range []sidecall.BatchOptions{{MaxConcurrency: 1 << 32}, {MaxResponseBytes: -1}, {Timeout: -1}} {
		if _, err := client.StreamBatch(t.Context(), &options); err == nil || errors.As(err, new(*sidecall.Error)) {
			t.Errorf("%+v: %v", options, err)
		}
		if _, err := client.ExecuteBatch(t.Context(), nil, &options); err == nil || errors.As(err, new(*sidecall.Error)) {
			t.Errorf("%+v: %v", options, err)
		}
	}
}

func TestARefusedTurnStartedNothing(t *testing.T) {
	fake := &fakesidecar.Fake{Stream: func(fakesidecar.StreamServer) error {
		return fakesidecar.Refusal(codes.Unavailable, "DRAINING", -1)
	}}

	_, err := clientOf(t, fake.Start(t)).StreamBatch(t.Context(), nil)

	if failure := failureOf(t, err); !failure.NotStarted || !errors.Is(err, sidecall.ReasonDraining) {
		t.Error(failure)
	}
}

func TestATurnThatBreaksMayHaveStartedCalls(t *testing.T) {
	broken := make(chan struct{})
	turn := openTurn(t, &fakesidecar.Fake{Stream: func(stream fakesidecar.StreamServer) error {
		defer close(broken)
		if err := accept(stream); err != nil {
			return err
		}
		return fakesidecar.Refusal(codes.Unavailable, "DRAINING", -1)
	}})
	<-broken

	_, err := turn.Results()
	if failure := failureOf(t, err); failure.NotStarted || failure.Reason != sidecall.ReasonDraining {
		t.Error(failure)
	}
	if failure := failureOf(t, turn.Send(0, callOf(t, "a", nil))); failure.Reason != sidecall.ReasonDraining {
		t.Error("the sender is told something else:", failure)
	}
}

func TestTheContextEndsATurn(t *testing.T) {
	fake := &fakesidecar.Fake{Stream: func(stream fakesidecar.StreamServer) error {
		if err := accept(stream); err != nil {
			return err
		}
		<-stream.Context().Done()
		return stream.Context().Err()
	}}
	ctx, cancel := context.WithCancel(t.Context())
	turn, err := clientOf(t, fake.Start(t)).StreamBatch(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer turn.Close()

	cancel()

	if _, err := turn.Results(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestResultsThatAreMissingAreAnError(t *testing.T) {
	turn := openTurn(t, &fakesidecar.Fake{Stream: func(stream fakesidecar.StreamServer) error {
		if err := accept(stream); err != nil {
			return err
		}
		_, err := stream.Recv()
		return err
	}})
	if err := turn.Send(0, callOf(t, "a", nil)); err != nil {
		t.Fatal(err)
	}

	_, err := turn.Results()

	if failure := failureOf(t, err); failure.Code != codes.Internal || failure.NotStarted {
		t.Error(failure)
	}
}
