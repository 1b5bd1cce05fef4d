package sidecall_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"sidecall.dev/go"
)

func Example() {
	client, err := sidecall.NewClient()
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	price, err := sidecall.NewCall("get_price", map[string]string{"product": "apple"})
	if err != nil {
		log.Fatal(err)
	}
	sum, err := sidecall.NewCall("add_up", `{"prices": ["$ref:@1#/price"]}`)
	if err != nil {
		log.Fatal(err)
	}
	answered, err := client.ExecuteBatch(ctx, []*sidecall.ToolCall{price, sum}, nil)
	if errors.Is(err, sidecall.ReasonDraining) {
		log.Fatal("the sidecar is shutting down")
	} else if err != nil {
		log.Fatal(err)
	}
	for _, result := range answered.Results {
		fmt.Println(result.GetName(), "->", result.GetContent())
	}
}

func ExampleClient_StreamBatch() {
	client, err := sidecall.NewClient()
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	turn, err := client.StreamBatch(context.Background(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer turn.Close()
	call, err := sidecall.NewCall("get_price", `{"product": "apple"}`)
	if err != nil {
		log.Fatal(err)
	}
	if err := errors.Join(turn.Send(0, call), turn.Seal()); err != nil {
		log.Fatal(err)
	}
	for event, err := range turn.Events() {
		if err != nil {
			log.Fatal(err)
		}
		if finished := event.GetResult(); finished != nil {
			fmt.Println(finished.GetIndex(), finished.GetResult().GetContent())
		}
	}
}

func ExampleNewToolNames() {
	names := sidecall.NewToolNames([]*sidecall.Tool{{Name: "clock.now"}, {Name: "add"}})

	fmt.Println(names.ProviderNames())
	fmt.Println(names.ToTool("clock_now"))
	// Output:
	// [add clock_now]
	// clock.now
}

func ExampleError() {
	var err error = &sidecall.Error{Reason: sidecall.ReasonDraining, Message: "try later", NotStarted: true}

	var failure *sidecall.Error
	if errors.As(err, &failure) && failure.NotStarted {
		fmt.Println("no call was started:", errors.Is(err, sidecall.ReasonDraining))
	}
	// Output: no call was started: true
}
