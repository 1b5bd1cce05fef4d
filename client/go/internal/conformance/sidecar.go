package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/openai/openai-go/v3"
	"google.golang.org/grpc/metadata"
	"sidecall.dev/go"
	"sidecall.dev/go/chat"
)

type sidecar struct {
	Endpoint        string            `json:"endpoint"`
	Token           *string           `json:"token"`
	Metadata        map[string]string `json:"metadata"`
	MaxMessageBytes *int              `json:"max_message_bytes"`
	TLS             *struct {
		CAFile   string `json:"ca_file"`
		CertFile string `json:"cert_file"`
		KeyFile  string `json:"key_file"`
	} `json:"tls"`
}

func (s sidecar) client() (*sidecall.Client, error) {
	options := []sidecall.Option{
		sidecall.WithEndpoint(s.Endpoint), sidecall.WithMetadata(metadata.New(s.Metadata)),
	}
	if s.Token != nil {
		options = append(options, sidecall.WithToken(*s.Token))
	}
	if s.MaxMessageBytes != nil {
		options = append(options, sidecall.WithMaxMessageBytes(*s.MaxMessageBytes))
	}
	if s.TLS != nil {
		config, err := sidecall.TLSFiles(s.TLS.CAFile, s.TLS.CertFile, s.TLS.KeyFile)
		if err != nil {
			return nil, err
		}
		options = append(options, sidecall.WithTLS(config))
	}
	return sidecall.NewClient(options...)
}

// invalidError is an argument or option that makes no sense.
type invalidError struct{ error }

func invalid(format string, values ...any) error {
	return invalidError{fmt.Errorf(format, values...)}
}

func errorOf(err error) object {
	told := object{"message": err.Error()}
	var (
		hook     *chat.HookError
		model    *chat.ModelError
		failed   *sidecall.Error
		provider *openai.Error
		refused  invalidError
	)
	switch {
	case errors.As(err, &hook):
		told["kind"], told["message"] = "hook", hook.Err.Error()
	case errors.As(err, &failed):
		told["kind"] = "sidecar"
		told["code"] = sidecall.CodeName(failed.Code)
		told["reason"] = string(failed.Reason)
		told["not_started"] = failed.NotStarted
	case errors.As(err, &model):
		told["kind"] = "model"
	case errors.As(err, &refused) || errors.Is(err, sidecall.ErrNoSuchTool):
		told["kind"] = "invalid"
	default:
		told["kind"] = "provider"
		if errors.As(err, &provider) {
			told["status"] = provider.StatusCode
		}
	}
	return told
}

func resultOf(result *sidecall.ToolResult) object {
	parts := []object{}
	for _, part := range result.GetParts() {
		switch {
		case part.GetBlob() != nil:
			blob := part.GetBlob()
			parts = append(parts, object{"blob": object{
				"media_type": blob.GetMediaType(), "name": blob.GetName(),
				"data": base64.StdEncoding.EncodeToString(blob.GetData()),
			}})
		case part.GetLink() != nil:
			link := part.GetLink()
			parts = append(parts, object{"link": object{
				"uri": link.GetUri(), "media_type": link.GetMediaType(), "name": link.GetName(),
			}})
		case part.GetJson() != "":
			parts = append(parts, object{"json": part.GetJson()})
		default:
			parts = append(parts, object{"text": part.GetText()})
		}
	}
	return object{
		"call_id":            result.GetCallId(),
		"name":               result.GetName(),
		"content":            result.GetContent(),
		"code":               sidecall.CodeName(sidecall.CodeOf(result)),
		"reason":             string(sidecall.ReasonOf(result)),
		"execution_state":    strings.TrimPrefix(result.GetExecutionState().String(), "EXECUTION_STATE_"),
		"attempts":           result.GetAttempts(),
		"truncated":          result.GetTruncated(),
		"replayed":           result.GetReplayed(),
		"coalesced":          result.GetCoalesced(),
		"approval_id":        result.GetApprovalId(),
		"approval_arguments": result.GetApprovalArguments(),
		"parts":              parts,
	}
}

func resultsOf(results []*sidecall.ToolResult) []object {
	told := []object{}
	for _, result := range results {
		told = append(told, resultOf(result))
	}
	return told
}
