package chat_test

import (
	"context"
	"fmt"
	"log"

	"github.com/openai/openai-go/v3"

	"sidecall.dev/go"
	"sidecall.dev/go/chat"
)

func Example() {
	sidecar, err := sidecall.NewClient()
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = sidecar.Close() }()
	loop, err := chat.NewLoop(sidecar, openai.NewClient(), chat.Options{
		Model: "gpt-5.4-mini", Stream: true, EarlyStart: true,
		OnEvent: func(_ context.Context, event chat.Event) error {
			if delta, ok := event.(chat.TextDelta); ok {
				fmt.Print(delta.Text)
			}
			return nil
		},
		Approve: func(_ context.Context, asked chat.ApprovalRequested) (*sidecall.Approval, error) {
			return sidecall.Reject(asked.ApprovalID, "nobody", "Nobody is there to ask."), nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := loop.Run(context.Background(), "What do an apple and a pear cost together?"); err != nil {
		log.Fatal(err)
	}
}

func ExampleItems() {
	items, err := chat.Items(openai.SystemMessage("Be brief."), chat.User("Hi."))
	fmt.Println(items[0]["role"], items[1]["role"], err)
	// Output: system user <nil>
}
