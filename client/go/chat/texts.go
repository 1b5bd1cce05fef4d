package chat

import (
	"fmt"
	"strings"
	"unicode"

	"sidecall.dev/go"
)

// Texts that answer a call which has no result.
const (
	textPending = "CANCELLED: the conversation went on before this call had a result. " +
		"It may have taken effect; check before you call it again."
	textNotRunLength = "NOT RUN: the answer that made this call was cut off at the output limit. " +
		"None of its calls has taken effect."
	textNotRunFilter = "NOT RUN: the answer that made this call was stopped by a content filter. " +
		"None of its calls has taken effect."
	textApprovalLost = "NOT RUN: a human decided on this call, but too late: the tools no longer " +
		"know the question. Make the call again if it is still wanted."
	textNotSupported = "NOT RUN: only function tools can be called here."
	textNoRecipient  = "NOT RUN: each entry of tool_uses needs the name of a tool as recipient_name."
)

const maxNames = 20

// textNotOffered says that a tool was called that the chat does not offer.
func textNotOffered(name string, offered []string) string {
	known := strings.Join(offered[:min(maxNames, len(offered))], ", ")
	if len(offered) > maxNames {
		known += ", ..."
	}
	return fmt.Sprintf("NOT RUN: there is no tool %s. The tools are: %s.", quoted(name), known)
}

// textFailed says that a whole batch has no results.
func textFailed(err *sidecall.Error) string {
	if err.NotStarted {
		return fmt.Sprintf("NOT RUN: the tools cannot be reached at present (%s).", err)
	}
	return fmt.Sprintf("UNKNOWN: the connection to the tools failed (%s). This call may have taken "+
		"effect; check before you call it again.", err)
}

// quoted quotes a name as all clients do: in single quotes, or in double ones where it holds
// single ones alone.
func quoted(name string) string {
	quote := '\''
	if strings.ContainsRune(name, '\'') && !strings.ContainsRune(name, '"') {
		quote = '"'
	}
	var out strings.Builder
	out.WriteRune(quote)
	for _, r := range name {
		switch {
		case r == quote || r == '\\':
			out.WriteRune('\\')
			out.WriteRune(r)
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\r':
			out.WriteString(`\r`)
		case r == '\t':
			out.WriteString(`\t`)
		case r == ' ' || unicode.IsPrint(r):
			out.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&out, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			fmt.Fprintf(&out, `\U%08x`, r)
		}
	}
	out.WriteRune(quote)
	return out.String()
}

// jsonString writes text as JSON, with no more escapes than JSON demands.
func jsonString(text string) string {
	var out strings.Builder
	out.WriteByte('"')
	for _, r := range text {
		switch r {
		case '"', '\\':
			out.WriteByte('\\')
			out.WriteRune(r)
		case '\b':
			out.WriteString(`\b`)
		case '\f':
			out.WriteString(`\f`)
		case '\n':
			out.WriteString(`\n`)
		case '\r':
			out.WriteString(`\r`)
		case '\t':
			out.WriteString(`\t`)
		default:
			if r < 0x20 {
				fmt.Fprintf(&out, `\u%04x`, r)
			} else {
				out.WriteRune(r)
			}
		}
	}
	out.WriteByte('"')
	return out.String()
}
