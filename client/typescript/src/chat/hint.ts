/** What a model is told about references between calls. */

const SAME_TURN = "A reference reaches calls of the same turn only.";
const EARLIER_TURNS =
  "A reference also reaches calls of earlier turns, by the id of the call: " +
  '"$ref:ID#/city/name", for example; numbers and names of tools mean calls of the same turn ' +
  "only.";

/** Tells a model how calls of a turn refer to each other's results. */
export const REFERENCE_HINT =
  "You can call several tools at once, also when one call needs the result of another. In any " +
  "string argument, refer to the result of an earlier call of the same turn:\n" +
  '- "$ref:@1" as the whole string is replaced by the result of the first call ("@2" the ' +
  "second, and so on, in the order in which you make the calls; each call counts, also one " +
  "that fails, and the calls inside multi_tool_use.parallel count one by one, in their place).\n" +
  '- "$ref:@1#/city/name" is replaced by a part of it (a JSON Pointer).\n' +
  '- "Report for ${ref:@1#/city/name}" puts it into longer text.\n' +
  "The type of the value is kept. Independent calls run in parallel and a call with a " +
  "reference waits for its source, so make all calls that you can foresee in one turn. " +
  `${SAME_TURN} For literal text write "$$ref:" or "$\${ref:".`;

/** The same for a chat in a session, which keeps the results of earlier turns. */
export const SESSION_REFERENCE_HINT = REFERENCE_HINT.replace(SAME_TURN, () => EARLIER_TURNS);
