//! What a model is told about references between calls.

const SAME_TURN: &str = "A reference reaches calls of the same turn only.";
const EARLIER_TURNS: &str = "A reference also reaches calls of earlier turns, by the id of the \
call: \"$ref:ID#/city/name\", for example; numbers and names of tools mean calls of the same turn \
only.";

/// What a model is told about references between the calls of a turn.
pub const REFERENCE_HINT: &str = "\
You can call several tools at once, also when one call needs the result of another. In any \
string argument, refer to the result of an earlier call of the same turn:
- \"$ref:@1\" as the whole string is replaced by the result of the first call (\"@2\" the \
second, and so on, in the order in which you make the calls; each call counts, also one \
that fails, and the calls inside multi_tool_use.parallel count one by one, in their place).
- \"$ref:@1#/city/name\" is replaced by a part of it (a JSON Pointer).
- \"Report for ${ref:@1#/city/name}\" puts it into longer text.
The type of the value is kept. Independent calls run in parallel and a call with a \
reference waits for its source, so make all calls that you can foresee in one turn. \
A reference reaches calls of the same turn only. For literal text write \"$$ref:\" or \"$${ref:\".";

/// What a model is told in a session, whose references reach earlier turns too.
#[must_use]
pub fn session_reference_hint() -> String {
    REFERENCE_HINT.replace(SAME_TURN, EARLIER_TURNS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_reaches_earlier_turns() {
        assert!(REFERENCE_HINT.contains(SAME_TURN));
        let hint = session_reference_hint();
        assert!(hint.contains(EARLIER_TURNS) && !hint.contains(SAME_TURN));
    }
}
