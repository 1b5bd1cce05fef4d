// Command conformance runs the cases of the conformance suite with this client: JSON lines in,
// JSON lines out. The protocol is in tests/conformance/README.md.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync"

	"sidecall.dev/go"
)

type object = map[string]any

// request is a line of the harness; each kind reads the members that are its own.
type request struct {
	ID   string `json:"id"`
	Kind string `json:"kind"`
	raw  json.RawMessage
}

type runner struct {
	chats chats
	hosts hosts
	mu    sync.Mutex
	out   *json.Encoder
}

func main() {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	r := &runner{out: out}
	if err := r.serve(os.Stdin); err != nil {
		slog.Error("the runner failed", "error", err)
		os.Exit(1)
	}
}

// serve answers until the input ends.
func (r *runner) serve(input io.Reader) error {
	lines := bufio.NewReader(input)
	var answering sync.WaitGroup
	defer r.hosts.close()
	defer answering.Wait()
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) == 0 || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		asked := request{raw: line}
		if err := json.Unmarshal(line, &asked); err != nil {
			return fmt.Errorf("not a request: %w", err)
		}
		if asked.Kind == "cancel" {
			r.chats.cancelRun()
			continue
		}
		answering.Go(func() { r.answer(asked) })
	}
}

func (r *runner) answer(asked request) {
	answer, err := r.handle(asked)
	if err != nil {
		answer = object{"broken": err.Error()}
	}
	answer["id"] = asked.ID
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.out.Encode(answer); err != nil {
		slog.Error("an answer cannot be written", "id", asked.ID, "error", err)
	}
}

func (r *runner) handle(asked request) (answer object, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
		}
	}()
	switch asked.Kind {
	case "hello":
		return object{
			"language": "go", "version": sidecall.Version,
			"library": "openai-go " + openAIVersion(),
		}, nil
	case "chat":
		return r.chats.run(asked.raw)
	case "batch":
		return runBatch(asked.raw)
	case "host":
		return r.hosts.run(asked.raw)
	}
	return object{"unsupported": "there is no kind " + asked.Kind}, nil
}

func openAIVersion() string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if strings.Contains(module.Path, "openai-go") {
			return strings.TrimPrefix(module.Version, "v")
		}
	}
	return "unknown"
}
