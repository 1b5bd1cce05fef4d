//! Calls of a streamed turn, as they grow.

use serde_json::{Map, Value};

use crate::chat::model::{ModelCall, StreamPart};

/// A call that the model is writing.
#[derive(Default)]
pub(crate) struct CallSlot {
    pub(crate) call: ModelCall,
    /// A provider's own members.
    pub(crate) extra: Map<String, Value>,
    pub(crate) done: bool,
    reported: Option<ModelCall>,
}

/// The calls of one turn, in the order in which the model began them.
///
/// A call is reported once it and all before it are done, so that calls are reported in the order
/// that they have in the turn.
#[derive(Default)]
pub(crate) struct CallSlots {
    pub(crate) slots: Vec<CallSlot>,
    reopened: bool,
}

impl CallSlots {
    /// Begins a call and returns its place.
    pub(crate) fn add(&mut self, call: ModelCall) -> usize {
        self.slots.push(CallSlot {
            call,
            ..CallSlot::default()
        });
        self.slots.len() - 1
    }

    /// Marks all calls so far as done.
    pub(crate) fn finish_all(&mut self) {
        for slot in &mut self.slots {
            slot.done = true;
        }
    }

    /// Adds what is new. After a call was reopened, nothing is reported any more.
    pub(crate) fn report(&mut self, parts: &mut Vec<StreamPart>) {
        if self.reopened {
            return;
        }
        for slot in &mut self.slots {
            match &slot.reported {
                Some(reported) if *reported == slot.call => {}
                Some(_) => {
                    self.reopened = true;
                    parts.push(StreamPart::CallReopened);
                    return;
                }
                None if slot.done => {
                    slot.reported = Some(slot.call.clone());
                    parts.push(StreamPart::CallDone(slot.call.clone()));
                }
                None => return,
            }
        }
    }
}

/// Adds a provider's own members of a delta: texts grow, other values are replaced.
pub(crate) fn merge_extra<'a>(
    target: &mut Map<String, Value>,
    extra: impl IntoIterator<Item = (&'a String, &'a Value)>,
) {
    for (key, value) in extra {
        match (target.get_mut(key), value) {
            (_, Value::Null) => {}
            (Some(Value::String(present)), Value::String(more)) => present.push_str(more),
            (Some(Value::Object(present)), Value::Object(more)) => merge_extra(present, more),
            _ => {
                target.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(arguments: &str) -> ModelCall {
        ModelCall {
            arguments: arguments.into(),
            ..ModelCall::default()
        }
    }

    fn reported(slots: &mut CallSlots) -> Vec<StreamPart> {
        let mut parts = Vec::new();
        slots.report(&mut parts);
        parts
    }

    #[test]
    fn calls_are_reported_in_order() {
        let mut slots = CallSlots::default();
        slots.add(call("a"));
        let second = slots.add(call("b"));
        slots.slots[second].done = true;
        assert_eq!(reported(&mut slots), []);
        slots.finish_all();
        let both = [
            StreamPart::CallDone(call("a")),
            StreamPart::CallDone(call("b")),
        ];
        assert_eq!(reported(&mut slots), both);
        assert_eq!(reported(&mut slots), []);
    }

    #[test]
    fn a_reopened_call_ends_the_reports() {
        let mut slots = CallSlots::default();
        let first = slots.add(call("a"));
        slots.finish_all();
        reported(&mut slots);
        slots.slots[first].call.arguments.push('b');
        assert_eq!(reported(&mut slots), [StreamPart::CallReopened]);
        slots.add(call("c"));
        slots.finish_all();
        assert_eq!(reported(&mut slots), []);
    }

    #[test]
    fn texts_of_providers_grow() {
        let mut target = Map::new();
        for delta in [
            json!({"a": "x", "b": {"c": "y"}, "d": 1}),
            json!({"a": "z", "b": {"c": "w"}, "d": 2, "e": null}),
        ] {
            merge_extra(&mut target, delta.as_object().unwrap());
        }
        let expected = json!({"a": "xz", "b": {"c": "yw"}, "d": 2});
        assert_eq!(Value::Object(target), expected);
    }
}
