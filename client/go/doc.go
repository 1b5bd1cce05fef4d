// Package sidecall is the Go client of Sidecall, a gRPC sidecar that executes the tool
// calls of a language model.
//
// A [Client] sends the calls of one assistant turn with [Client.ExecuteBatch] and gets one
// result per call, in call order, each ready to be sent to the model. [Client.StreamBatch]
// sends them one by one while the model is still writing. Messages are those of the contract,
// package [sidecall.dev/go/sidecallv1]; the most used ones have a name here as well.
//
// The chat loop is in package chat, and package toolhost offers the functions of an
// application as tools. Neither is needed here, and this package imports neither.
//
// A failed RPC is an [*Error]. A failed call is no error: it is a result, with a content that
// a model can read and a [Reason].
package sidecall

// Version is the version of this client, equal to that of the sidecar it was made with.
const Version = "0.1.0"
