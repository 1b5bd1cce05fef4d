package toolhost_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"sidecall.dev/go/internal/fakesidecar"
	"sidecall.dev/go/sidecallv1"
)

// desk is the sidecar's side of attachments: each gives its stream to the test, which says what
// it ends with.
type desk struct {
	fakesidecar.Fake
	streams  chan *attached
	attached *sidecallv1.HostAttached
}

type attached struct {
	t      *testing.T
	stream fakesidecar.HostServer
	offer  *sidecallv1.HostAttach
	end    chan error
}

func newDesk() *desk {
	d := &desk{streams: make(chan *attached), attached: &sidecallv1.HostAttached{
		HostId: "h", MaxMessageBytes: 1 << 20,
		HeartbeatInterval: durationpb.New(time.Hour), SilenceTimeout: durationpb.New(time.Hour),
	}}
	d.Host = func(stream fakesidecar.HostServer) error {
		first, err := stream.Recv()
		if err != nil {
			return err
		}
		a := &attached{stream: stream, offer: first.GetAttach(), end: make(chan error, 1)}
		select {
		case d.streams <- a:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
		select {
		case err := <-a.end:
			return err
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
	return d
}

// accept waits for the next attachment and accepts it.
func (d *desk) accept(t *testing.T) *attached {
	t.Helper()
	a := <-d.streams
	a.t = t
	a.send(&sidecallv1.AttachResponse{
		Message: &sidecallv1.AttachResponse_Attached{Attached: d.attached},
	})
	return a
}

func (a *attached) send(message *sidecallv1.AttachResponse) {
	a.t.Helper()
	if err := a.stream.Send(message); err != nil {
		a.t.Fatal(err)
	}
}

func (a *attached) call(id int64, tool, arguments string) {
	a.t.Helper()
	a.sendCall(&sidecallv1.HostCall{AttemptId: id, Name: tool, Arguments: arguments, Attempt: 1})
}

func (a *attached) sendCall(call *sidecallv1.HostCall) {
	a.t.Helper()
	a.send(&sidecallv1.AttachResponse{Message: &sidecallv1.AttachResponse_Call{Call: call}})
}

func (a *attached) sendDraining() {
	a.t.Helper()
	a.send(&sidecallv1.AttachResponse{
		Message: &sidecallv1.AttachResponse_Draining{Draining: &sidecallv1.HostDraining{}},
	})
}

func (a *attached) receive() *sidecallv1.AttachRequest {
	a.t.Helper()
	message, err := a.stream.Recv()
	if err != nil {
		a.t.Fatal(err)
	}
	return message
}

func (a *attached) result() *sidecallv1.HostResult {
	a.t.Helper()
	for {
		if result := a.receive().GetResult(); result != nil {
			return result
		}
	}
}
