package toolhost

import (
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"sidecall.dev/go/sidecallv1"
)

// maxReportBytes of progress and partial output may wait; more is dropped.
const maxReportBytes = 4 << 20

// outbox holds what a host has still to send, in order. Functions may report faster than the
// sidecar reads. That must not fill the memory, nor keep results away, so reports are dropped
// then; the result has all of the output.
type outbox struct {
	mu          sync.Mutex
	messages    []outgoing
	reportBytes int
	closed      bool
	some        chan struct{} // Has an element where there is something new.
}

type outgoing struct {
	message     *sidecallv1.AttachRequest
	reportBytes int
}

func newOutbox() *outbox { return &outbox{some: make(chan struct{}, 1)} }

// put sends a message, unless the outbox is closed.
func (o *outbox) put(message *sidecallv1.AttachRequest) { o.add(outgoing{message, 0}) }

// report sends progress or partial output, if there is room.
func (o *outbox) report(message *sidecallv1.AttachRequest) {
	o.add(outgoing{message, max(1, proto.Size(message))})
}

func (o *outbox) add(item outgoing) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || item.reportBytes > 0 && o.reportBytes >= maxReportBytes {
		return
	}
	o.reportBytes += item.reportBytes
	o.messages = append(o.messages, item)
	o.signal()
}

// close takes no more; what waits is still sent.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.signal()
}

// drop takes no more, and forgets what waits.
func (o *outbox) drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed, o.messages = true, nil
	o.signal()
}

func (o *outbox) isClosed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed
}

// get waits for the next message; nil where none came in time. Not open: there will be none.
func (o *outbox) get(timeout time.Duration) (message *sidecallv1.AttachRequest, open bool) {
	var late <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		late = timer.C
	}
	for {
		if message, open := o.take(); message != nil || !open {
			return message, open
		}
		select {
		case <-o.some:
		case <-late:
			return nil, true
		}
	}
}

func (o *outbox) take() (message *sidecallv1.AttachRequest, open bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.messages) == 0 {
		return nil, !o.closed
	}
	item := o.messages[0]
	o.messages[0] = outgoing{}
	o.messages = o.messages[1:]
	o.reportBytes -= item.reportBytes
	return item.message, true
}

func (o *outbox) signal() {
	select {
	case o.some <- struct{}{}:
	default:
	}
}
