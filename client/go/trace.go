package sidecall

import "context"

const (
	traceParentKey = "traceparent"
	traceStateKey  = "tracestate"
)

type traceKey struct{}

type traceContext struct{ parent, state string }

// WithTraceContext has the RPCs of a context belong to a trace: traceparent and tracestate are
// sent as they are (W3C Trace Context); tracestate may be empty. It is not needed with an
// OpenTelemetry stats handler, see [WithDialOptions].
func WithTraceContext(ctx context.Context, traceparent, tracestate string) context.Context {
	if traceparent == "" {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, traceContext{traceparent, tracestate})
}

// TraceContext returns what [WithTraceContext] was given; empty without.
func TraceContext(ctx context.Context) (traceparent, tracestate string) {
	trace, _ := ctx.Value(traceKey{}).(traceContext)
	return trace.parent, trace.state
}
