// Package toolhost offers functions of an application as tools of a Sidecall sidecar. The
// application dials the sidecar: it needs no address of its own.
//
//	tool, err := toolhost.NewTool("get_price", "Returns the price of a product.", getPrice, nil)
//	host, err := toolhost.New(client, []*toolhost.Tool{tool}, nil)
//	err = host.Run(ctx)
//
// All policies of the sidecar hold for hosted tools: arguments arrive valid, with references
// resolved and defaults applied.
package toolhost
