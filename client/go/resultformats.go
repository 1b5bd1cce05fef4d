package sidecall

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"sidecall.dev/go/sidecallv1"
)

// AttachmentsNote begins the user message that holds attachments.
const AttachmentsNote = "[Images and files of the tool results above. The user did not write this.]"

const (
	pdf         = "application/pdf"
	webpOffset  = 8
	maxFileName = 255
)

// ChatCompletionsMessages makes the messages that answer the calls of one turn in Chat
// Completions, to be written as JSON. They go right after the assistant message that made the
// calls, and together answer all of them where there is a result for each.
//
// With attachments a user message with images and PDF files follows the tool messages where
// there are any, for tool messages hold text only. They name them in any case.
func ChatCompletionsMessages(results []*ToolResult, attachments bool) []map[string]any {
	var messages, attached []map[string]any
	for _, result := range results {
		messages = append(messages, map[string]any{
			"role": "tool", "tool_call_id": result.GetCallId(), "content": result.GetContent(),
		})
		if attachments {
			attached = append(attached, AttachedParts(result.GetCallId(), result)...)
		}
	}
	if len(attached) > 0 {
		messages = append(messages, AttachedMessage(attached))
	}
	return messages
}

// ResponsesOutputs makes the items that answer function calls in the Responses API, to be
// written as JSON. With attachments, outputs hold images and documents beside text.
func ResponsesOutputs(results []*ToolResult, attachments bool) []map[string]any {
	var outputs []map[string]any
	for _, result := range results {
		var shown []*ToolResult
		if attachments {
			shown = []*ToolResult{result}
		}
		outputs = append(outputs, map[string]any{
			"type": "function_call_output", "call_id": result.GetCallId(),
			"output": ResponsesOutput(result.GetContent(), shown...),
		})
	}
	return outputs
}

// AttachedParts returns the images and PDF files of a call's results as labelled parts of a
// user message in Chat Completions. Beside them it holds nothing that a tool wrote: that would
// speak as the user.
func AttachedParts(callID string, results ...*ToolResult) []map[string]any {
	var parts []map[string]any
	for _, result := range results {
		for _, blob := range blobsOf(result) {
			part := chatCompletionsPart(blob)
			if part == nil {
				continue
			}
			label := fmt.Sprintf("Attachment %d of the result of call %s (%s):",
				len(parts)/2+1, callID, result.GetName())
			parts = append(parts, map[string]any{"type": "text", "text": label}, part)
		}
	}
	return parts
}

// AttachedMessage returns the user message that holds attachments in Chat Completions.
func AttachedMessage(parts []map[string]any) map[string]any {
	note := map[string]any{"type": "text", "text": AttachmentsNote}
	return map[string]any{"role": "user", "content": append([]map[string]any{note}, parts...)}
}

// ResponsesOutput returns the output of a call in the Responses API: its text, and with images
// or documents in the results a list of parts that begins so.
func ResponsesOutput(content string, results ...*ToolResult) any {
	parts := []map[string]any{{"type": "input_text", "text": content}}
	for _, result := range results {
		for _, blob := range blobsOf(result) {
			if part := responsesPart(blob); part != nil {
				label := map[string]any{"type": "input_text", "text": blobLine(blob) + ":"}
				parts = append(parts, label, part)
			}
		}
	}
	if len(parts) == 1 {
		return content
	}
	return parts
}

func blobsOf(result *ToolResult) []*sidecallv1.Blob {
	var blobs []*sidecallv1.Blob
	for _, part := range result.GetParts() {
		if len(part.GetBlob().GetData()) > 0 {
			blobs = append(blobs, part.GetBlob())
		}
	}
	return blobs
}

func chatCompletionsPart(blob *sidecallv1.Blob) map[string]any {
	mediaType := shownAs(blob)
	if isImage(mediaType) {
		url := map[string]any{"url": dataURL(mediaType, blob.GetData())}
		return map[string]any{"type": "image_url", "image_url": url}
	}
	if mediaType == pdf {
		// Without the tool's own name for it, which the tool message tells.
		file := fileOf(mediaType, "", blob.GetData())
		return map[string]any{"type": "file", "file": file}
	}
	return nil
}

func responsesPart(blob *sidecallv1.Blob) map[string]any {
	mediaType := shownAs(blob)
	if isImage(mediaType) {
		return map[string]any{"type": "input_image", "image_url": dataURL(mediaType, blob.GetData())}
	}
	if isDocument(mediaType) {
		part := fileOf(mediaType, blob.GetName(), blob.GetData())
		part["type"] = "input_file"
		return part
	}
	return nil
}

// shownAs returns the media type to show bytes as; empty where they are not what they are said to
// be. A provider that cannot read one image refuses the whole conversation, from then on.
func shownAs(blob *sidecallv1.Blob) string {
	const pdfHeadBytes = 1024
	mediaType := bareMediaType(blob.GetMediaType())
	if isImage(mediaType) {
		return imageTypeOf(blob.GetData())
	}
	head := blob.GetData()[:min(pdfHeadBytes, len(blob.GetData()))]
	if mediaType == pdf && !bytes.Contains(head, []byte("%PDF-")) {
		return ""
	}
	return mediaType
}

// imageTypeOf returns the media type of an image that providers take; empty where it is none.
func imageTypeOf(data []byte) string {
	switch {
	case bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")):
		return "image/png"
	case bytes.HasPrefix(data, []byte("\xff\xd8\xff")):
		return "image/jpeg"
	case bytes.HasPrefix(data, []byte("GIF8")):
		return "image/gif"
	case len(data) > webpOffset && bytes.HasPrefix(data[webpOffset:], []byte("WEBP")):
		return "image/webp"
	}
	return ""
}

// fileName returns a name without folders, control characters and more than one space in a row.
func fileName(name string) string {
	name = strings.TrimRight(name, `/\`)
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, name)
	runes := []rune(strings.Join(strings.Fields(name), " "))
	name = string(runes[max(0, len(runes)-maxFileName):])
	if name == "." || name == ".." {
		return ""
	}
	return name
}

func isImage(mediaType string) bool {
	return slices.Contains([]string{"image/png", "image/jpeg", "image/webp", "image/gif"}, mediaType)
}

func isDocument(mediaType string) bool {
	const office = "application/vnd.openxmlformats-officedocument"
	return strings.HasPrefix(mediaType, "text/") || slices.Contains([]string{
		pdf,
		"application/json",
		"application/rtf",
		"application/msword",
		"application/vnd.ms-excel",
		"application/vnd.ms-powerpoint",
		"application/vnd.oasis.opendocument.text",
		office + ".wordprocessingml.document",
		office + ".spreadsheetml.sheet",
		office + ".presentationml.presentation",
	}, mediaType)
}

// extensionOf returns the extension for a file that has no name.
func extensionOf(mediaType string) string {
	const office = "application/vnd.openxmlformats-officedocument"
	return map[string]string{
		pdf:                                       ".pdf",
		"application/json":                        ".json",
		"application/rtf":                         ".rtf",
		"application/msword":                      ".doc",
		"application/vnd.ms-excel":                ".xls",
		"application/vnd.ms-powerpoint":           ".ppt",
		office + ".wordprocessingml.document":     ".docx",
		office + ".spreadsheetml.sheet":           ".xlsx",
		office + ".presentationml.presentation":   ".pptx",
		"application/vnd.oasis.opendocument.text": ".odt",
		"text/plain":                              ".txt",
		"text/html":                               ".html",
		"text/css":                                ".css",
		"text/csv":                                ".csv",
		"text/markdown":                           ".md",
		"text/xml":                                ".xml",
	}[mediaType]
}

func fileOf(mediaType, name string, data []byte) map[string]any {
	if name = fileName(name); name == "" {
		name = "file" + extensionOf(mediaType)
	}
	return map[string]any{"filename": name, "file_data": dataURL(mediaType, data)}
}

func dataURL(mediaType string, data []byte) string {
	return "data:" + mediaType + ";base64," + base64.StdEncoding.EncodeToString(data)
}

func bareMediaType(mediaType string) string {
	bare, _, _ := strings.Cut(mediaType, ";")
	bare = strings.ToLower(strings.TrimSpace(bare))
	if bare == "image/jpg" {
		return "image/jpeg"
	}
	return bare
}

// blobLine returns the line that stands in a text for binary content.
func blobLine(blob *sidecallv1.Blob) string {
	line := fmt.Sprintf("[%s, %d bytes", blob.GetMediaType(), len(blob.GetData()))
	if blob.GetName() != "" {
		line += ": " + strings.Join(strings.Fields(blob.GetName()), " ")
	}
	return line + "]"
}
