package chat

import "strings"

const (
	sameTurn     = "A reference reaches calls of the same turn only."
	earlierTurns = `A reference also reaches calls of earlier turns, by the id of the call: ` +
		`"$ref:ID#/city/name", for example; numbers and names of tools mean calls of the same turn ` +
		`only.`
)

// ReferenceHint tells a model how calls refer to each other's results.
const ReferenceHint = `You can call several tools at once, also when one call needs the result of another. In any ` +
	`string argument, refer to the result of an earlier call of the same turn:
- "$ref:@1" as the whole string is replaced by the result of the first call ("@2" the ` +
	`second, and so on, in the order in which you make the calls; each call counts, also one ` +
	`that fails, and the calls inside multi_tool_use.parallel count one by one, in their place).
- "$ref:@1#/city/name" is replaced by a part of it (a JSON Pointer).
- "Report for ${ref:@1#/city/name}" puts it into longer text.
The type of the value is kept. Independent calls run in parallel and a call with a ` +
	`reference waits for its source, so make all calls that you can foresee in one turn. ` +
	sameTurn + ` For literal text write "$$ref:" or "$${ref:".`

// SessionReferenceHint is [ReferenceHint] for a chat with a session.
func SessionReferenceHint() string {
	return strings.Replace(ReferenceHint, sameTurn, earlierTurns, 1)
}
