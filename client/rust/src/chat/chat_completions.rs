//! The Chat Completions API.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use crate::{
    ToolNames,
    chat::{
        assembly::{CallSlot, CallSlots, merge_extra},
        dialect::{Assembler, Dialect},
        errors::ModelError,
        json::without_nulls,
        model::{ModelCall, ModelTurn, Settings, StoppedReason, StreamPart, Usage, text_of},
    },
    result_formats::{attached_message, attached_parts},
    to_chat_completions_tools,
    v1::{Tool, ToolResult},
};

const OUTPUT_ONLY: [&str; 2] = ["annotations", "function_call"];
/// Members of a delta that are read; all others are the provider's own.
const DELTA_MEMBERS: [&str; 6] = [
    "audio",
    "content",
    "function_call",
    "refusal",
    "role",
    "tool_calls",
];
const CALL_MEMBERS: [&str; 4] = ["index", "id", "function", "type"];

/// Writes and reads conversations of the Chat Completions API.
pub(crate) struct ChatCompletions;

impl Dialect for ChatCompletions {
    fn request(
        &self,
        history: &[Value],
        tools: &[Tool],
        names: &ToolNames,
        settings: &Settings<'_>,
    ) -> Value {
        let mut request = settings.extra.clone();
        request.insert("model".into(), settings.model.into());
        request.insert("messages".into(), with_hint(history, settings.hint).into());
        let mut offered = to_chat_completions_tools(tools, names);
        if let Some(Value::Array(more)) = request.remove("tools") {
            offered.extend(more);
        }
        if !offered.is_empty() {
            request.insert("tools".into(), offered.into());
        }
        if settings.stream {
            request.insert("stream".into(), true.into());
            request
                .entry("stream_options")
                .or_insert_with(|| json!({"include_usage": true}));
        }
        request.into()
    }

    fn parse(&self, mut response: Value) -> Result<ModelTurn, ModelError> {
        let usage = usage(&response);
        let Some(choice) = response.pointer_mut("/choices/0") else {
            let error = &response["error"];
            return Err(ModelError(format!(
                "the model's answer holds no choice: {error}"
            )));
        };
        let finish_reason = text_of(choice, "finish_reason");
        let message = choice.get_mut("message").map(Value::take);
        let Some(Value::Object(message)) = message.map(without_nulls) else {
            return Err(ModelError("the model's answer holds no message".to_owned()));
        };
        Ok(turn(message, &finish_reason, usage))
    }

    fn assembler(&self) -> Box<dyn Assembler> {
        Box::<ChunkAssembler>::default()
    }

    fn set_call_ids(&self, items: &mut [Value], call_ids: &[&str]) {
        let calls = items
            .first_mut()
            .and_then(|item| item.get_mut("tool_calls"));
        let calls = calls.and_then(Value::as_array_mut).into_iter().flatten();
        for (call, call_id) in calls.zip(call_ids) {
            if let Some(members) = call.as_object_mut() {
                members.insert("id".into(), (*call_id).into());
            }
        }
    }

    fn answer(&self, _: &ModelCall, call_id: &str, content: &str) -> Value {
        json!({"role": "tool", "tool_call_id": call_id, "content": content})
    }

    fn set_content(&self, answer: &mut Value, content: &str, _: &[&ToolResult]) {
        answer["content"] = content.into();
    }

    fn attached_parts(&self, call_id: &str, results: &[&ToolResult]) -> Vec<Value> {
        attached_parts(call_id, results.iter().copied())
    }

    fn attached_message(&self, parts: Vec<Value>) -> Value {
        attached_message(parts)
    }

    fn call_ids(&self, history: &[Value]) -> Vec<String> {
        history
            .iter()
            .flat_map(calls_of)
            .map(|call| text_of(call, "id"))
            .collect()
    }

    fn open_calls(&self, history: &[Value]) -> Vec<(usize, ModelCall)> {
        let mut found = Vec::new();
        for (index, message) in history.iter().enumerate() {
            if message["role"] != "assistant" || calls_of(message).is_empty() {
                continue;
            }
            let answers = history[index + 1..]
                .iter()
                .take_while(|answer| answer["role"] == "tool");
            let answered: HashSet<_> = answers
                .clone()
                .map(|answer| text_of(answer, "tool_call_id"))
                .collect();
            let end = index + 1 + answers.count();
            found.extend(
                calls_of(message)
                    .iter()
                    .map(|call| text_of(call, "id"))
                    .filter(|id| !answered.contains(id))
                    .map(|call_id| {
                        let call = ModelCall {
                            call_id,
                            ..ModelCall::default()
                        };
                        (end, call)
                    }),
            );
        }
        found
    }
}

/// Puts the chunks of one streamed answer together.
#[derive(Default)]
struct ChunkAssembler {
    text: String,
    refusal: String,
    extra: Map<String, Value>,
    calls: CallSlots,
    /// Places of the calls that grow, by the index that the provider gives them.
    by_index: HashMap<Option<u64>, usize>,
    finish_reason: Option<String>,
    usage: Usage,
}

impl Assembler for ChunkAssembler {
    fn feed(&mut self, chunk: &Value) -> Result<Vec<StreamPart>, ModelError> {
        if chunk["usage"].is_object() {
            self.usage = usage(chunk);
        }
        let mut parts = Vec::new();
        for choice in items(&chunk["choices"]) {
            // Other choices than the first are nobody's turn.
            if choice["index"].as_u64().unwrap_or_default() != 0 {
                continue;
            }
            self.feed_delta(&choice["delta"], &mut parts);
            if let Some(reason) = choice["finish_reason"].as_str() {
                self.finish_reason = Some(reason.to_owned());
                if end_of(reason).is_none() {
                    self.calls.finish_all();
                }
            }
        }
        self.calls.report(&mut parts);
        Ok(parts)
    }

    fn finish(self: Box<Self>) -> Result<ModelTurn, ModelError> {
        let Some(finish_reason) = self.finish_reason else {
            return Err(ModelError(
                "the model's stream broke off before its end".to_owned(),
            ));
        };
        let mut message = Map::new();
        message.insert("role".into(), "assistant".into());
        message.insert("content".into(), self.text.into());
        message.extend(self.extra);
        if !self.refusal.is_empty() {
            message.insert("refusal".into(), self.refusal.into());
        }
        let calls: Vec<_> = self.calls.slots.into_iter().map(call_item).collect();
        message.insert("tool_calls".into(), calls.into());
        Ok(turn(message, &finish_reason, self.usage))
    }
}

impl ChunkAssembler {
    fn feed_delta(&mut self, delta: &Value, parts: &mut Vec<StreamPart>) {
        let content = text_of(delta, "content");
        if !content.is_empty() {
            self.text.push_str(&content);
            parts.push(StreamPart::Text(content));
        }
        let refusal = text_of(delta, "refusal");
        if !refusal.is_empty() {
            self.refusal.push_str(&refusal);
            parts.push(StreamPart::Refusal(refusal));
        }
        merge_extra(&mut self.extra, others(delta, &DELTA_MEMBERS));
        for call in items(&delta["tool_calls"]) {
            self.feed_call(call);
        }
    }

    fn feed_call(&mut self, delta: &Value) {
        let index = delta["index"].as_u64();
        let id = text_of(delta, "id");
        let growing = self.by_index.get(&index).copied().filter(|place| {
            // Some providers give every call of a turn the same index; a new id tells them apart.
            let known = &self.calls.slots[*place].call.call_id;
            id.is_empty() || known.is_empty() || id == *known
        });
        let place = growing.unwrap_or_else(|| {
            self.calls.finish_all();
            let place = self.calls.add(ModelCall::default());
            self.by_index.insert(index, place);
            place
        });
        let slot = &mut self.calls.slots[place];
        if slot.call.call_id.is_empty() {
            slot.call.call_id = id;
        }
        if slot.call.name.is_empty() {
            slot.call.name = text_of(&delta["function"], "name");
        }
        let arguments = delta["function"]["arguments"].as_str().unwrap_or_default();
        slot.call.arguments.push_str(arguments);
        merge_extra(&mut slot.extra, others(delta, &CALL_MEMBERS));
    }
}

fn call_item(slot: CallSlot) -> Value {
    let call = slot.call;
    let mut item = Map::new();
    item.insert("id".into(), call.call_id.into());
    item.insert("type".into(), "function".into());
    let function = json!({"name": call.name, "arguments": call.arguments});
    item.insert("function".into(), function);
    item.extend(slot.extra);
    item.into()
}

fn turn(mut message: Map<String, Value>, finish_reason: &str, usage: Usage) -> ModelTurn {
    for name in OUTPUT_ONLY {
        message.remove(name);
    }
    if let Some(audio) = message.get_mut("audio") {
        *audio = json!({"id": audio["id"]});
    }
    let mut item = Value::Object(message);
    let (text, refusal) = (text_of(&item, "content"), text_of(&item, "refusal"));
    let calls = item.get_mut("tool_calls").and_then(Value::as_array_mut);
    let calls: Vec<_> = calls.into_iter().flatten().map(read_call).collect();
    let members = item.as_object_mut().expect("a message is an object");
    if calls.is_empty() {
        members.remove("tool_calls");
    }
    // An answer without calls must have content; beside calls some providers refuse "".
    let content = if text.is_empty() && !(calls.is_empty() && refusal.is_empty()) {
        Value::Null
    } else {
        text.as_str().into()
    };
    members.insert("content".into(), content);
    let refused = !refusal.is_empty() && calls.is_empty();
    let end = end_of(finish_reason).unwrap_or(if refused {
        StoppedReason::Refusal
    } else {
        StoppedReason::Completed
    });
    ModelTurn {
        text,
        refusal,
        calls,
        end,
        usage,
        items: vec![item],
    }
}

fn read_call(call: &mut Value) -> ModelCall {
    let call_id = text_of(call, "id");
    let Some(function) = call.get_mut("function").and_then(Value::as_object_mut) else {
        return ModelCall {
            call_id,
            unsupported: true,
            ..ModelCall::default()
        };
    };
    let text = |key| {
        function
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (name, arguments) = (text("name"), text("arguments"));
    function.insert("arguments".into(), arguments.as_str().into());
    ModelCall {
        call_id,
        name,
        arguments,
        unsupported: false,
    }
}

fn end_of(finish_reason: &str) -> Option<StoppedReason> {
    match finish_reason {
        "length" => Some(StoppedReason::Length),
        "content_filter" => Some(StoppedReason::ContentFilter),
        _ => None,
    }
}

fn usage(response: &Value) -> Usage {
    Usage::read(response.get("usage"), "prompt_tokens", "completion_tokens")
}

fn with_hint(history: &[Value], hint: &str) -> Vec<Value> {
    if hint.is_empty() {
        return history.to_vec();
    }
    // Merged into the first message where that instructs already: many models' templates allow
    // one such message only.
    match history.split_first() {
        Some((first, rest)) if first["role"] == "system" || first["role"] == "developer" => {
            let content: Value = match &first["content"] {
                Value::String(text) => format!("{text}\n\n{hint}").into(),
                other => {
                    let mut parts = items(other).to_vec();
                    parts.push(json!({"type": "text", "text": hint}));
                    parts.into()
                }
            };
            let merged = json!({"role": first["role"], "content": content});
            std::iter::once(merged)
                .chain(rest.iter().cloned())
                .collect()
        }
        _ => std::iter::once(json!({"role": "system", "content": hint}))
            .chain(history.iter().cloned())
            .collect(),
    }
}

fn calls_of(message: &Value) -> &[Value] {
    items(&message["tool_calls"])
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn others<'a>(
    value: &'a Value,
    known: &'a [&str],
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    let members = value.as_object().into_iter().flatten();
    members.filter(|(key, _)| !known.contains(&key.as_str()))
}
