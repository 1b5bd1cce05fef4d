package toolhost_test

import (
	"context"
	"fmt"
	"log"
	"os/signal"
	"syscall"

	"google.golang.org/grpc/codes"

	"sidecall.dev/go"
	"sidecall.dev/go/toolhost"
)

type priceArgs struct {
	Product string `json:"product" jsonschema:"name of the product"`
}

func getPrice(_ context.Context, args priceArgs) (map[string]float64, error) {
	prices := map[string]float64{"apple": 0.4}
	price, known := prices[args.Product]
	if !known {
		return nil, toolhost.NewToolError(codes.NotFound, "There are: apple.")
	}
	return map[string]float64{"price": price}, nil
}

func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	client, err := sidecall.NewClient()
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	tool, err := toolhost.NewTool("get_price", "Returns the price of a product in euros.", getPrice,
		&toolhost.ToolOptions{Effects: sidecall.ReadOnly})
	if err != nil {
		log.Fatal(err)
	}
	host, err := toolhost.New(client, []*toolhost.Tool{tool}, &toolhost.Options{Name: "prices"})
	if err != nil {
		log.Fatal(err)
	}
	if err := host.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

func ExampleCallFrom() {
	work := func(ctx context.Context, args priceArgs) (string, error) {
		call := toolhost.CallFrom(ctx)
		call.Progress(1, 2, "looking "+args.Product+" up")
		return "found", ctx.Err()
	}
	// Without a host, reports go nowhere: a function can be called in a test.
	fmt.Println(work(context.Background(), priceArgs{"apple"}))
	// Output: found <nil>
}
