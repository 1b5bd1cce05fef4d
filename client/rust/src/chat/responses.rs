//! The Responses API.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use crate::{
    ToolNames,
    chat::{
        assembly::CallSlots,
        dialect::{Assembler, Dialect},
        errors::ModelError,
        json::without_nulls,
        model::{ModelCall, ModelTurn, Settings, StoppedReason, StreamPart, Usage, text_of},
    },
    result_formats::responses_output,
    to_responses_tools,
    v1::{Tool, ToolResult},
};

const CALLS: [&str; 2] = ["function_call", "custom_tool_call"];
const OUTPUTS: [&str; 2] = ["function_call_output", "custom_tool_call_output"];

/// Writes and reads conversations of the Responses API.
///
/// The history holds all items of a turn, reasoning included, so that it can be sent whole each
/// time, whether or not the provider stores it.
pub(crate) struct Responses;

impl Dialect for Responses {
    fn request(
        &self,
        history: &[Value],
        tools: &[Tool],
        names: &ToolNames,
        settings: &Settings<'_>,
    ) -> Value {
        let mut request = settings.extra.clone();
        request.insert("model".into(), settings.model.into());
        request.insert("input".into(), history.to_vec().into());
        if !settings.hint.is_empty() {
            let hint = settings.hint;
            let instructions = match request.get("instructions").and_then(Value::as_str) {
                Some(given) if !given.is_empty() => format!("{given}\n\n{hint}"),
                _ => hint.to_owned(),
            };
            request.insert("instructions".into(), instructions.into());
        }
        let mut offered = to_responses_tools(tools, names);
        if let Some(Value::Array(more)) = request.remove("tools") {
            offered.extend(more);
        }
        if !offered.is_empty() {
            request.insert("tools".into(), offered.into());
        }
        if settings.stream {
            request.insert("stream".into(), true.into());
        }
        request.into()
    }

    fn parse(&self, response: Value) -> Result<ModelTurn, ModelError> {
        turn(response, BTreeMap::new())
    }

    fn assembler(&self) -> Box<dyn Assembler> {
        Box::<EventAssembler>::default()
    }

    fn set_call_ids(&self, items: &mut [Value], call_ids: &[&str]) {
        let calls = items.iter_mut().filter(|item| is_one_of(item, &CALLS));
        for (call, call_id) in calls.zip(call_ids) {
            call["call_id"] = (*call_id).into();
        }
    }

    fn answer(&self, call: &ModelCall, call_id: &str, content: &str) -> Value {
        let kind = OUTPUTS[usize::from(call.unsupported)];
        json!({"type": kind, "call_id": call_id, "output": content})
    }

    fn set_content(&self, answer: &mut Value, content: &str, results: &[&ToolResult]) {
        answer["output"] = responses_output(content, results.iter().copied());
    }

    fn attached_parts(&self, _: &str, _: &[&ToolResult]) -> Vec<Value> {
        // The output holds all that can be sent.
        Vec::new()
    }

    fn attached_message(&self, parts: Vec<Value>) -> Value {
        json!({"role": "user", "content": parts})
    }

    fn call_ids(&self, history: &[Value]) -> Vec<String> {
        history
            .iter()
            .filter(|item| is_one_of(item, &CALLS))
            .map(|item| text_of(item, "call_id"))
            .collect()
    }

    fn open_calls(&self, history: &[Value]) -> Vec<(usize, ModelCall)> {
        let answered: HashSet<_> = history
            .iter()
            .filter(|item| is_one_of(item, &OUTPUTS))
            .map(|item| text_of(item, "call_id"))
            .collect();
        history
            .iter()
            .enumerate()
            .filter(|(_, item)| is_one_of(item, &CALLS))
            .filter(|(_, item)| !answered.contains(&text_of(item, "call_id")))
            .map(|(place, item)| (place + 1, read_call(item)))
            .collect()
    }
}

/// Puts the events of one streamed answer together.
#[derive(Default)]
struct EventAssembler {
    calls: CallSlots,
    /// Places of the calls, by their output's index.
    by_output: BTreeMap<u64, usize>,
    done_items: BTreeMap<u64, Value>,
    response: Option<Value>,
}

impl Assembler for EventAssembler {
    fn feed(&mut self, chunk: &Value) -> Result<Vec<StreamPart>, ModelError> {
        let mut parts = Vec::new();
        let output = chunk["output_index"].as_u64().unwrap_or_default();
        match chunk["type"].as_str().unwrap_or_default() {
            "response.output_text.delta" => parts.push(StreamPart::Text(text_of(chunk, "delta"))),
            "response.refusal.delta" => parts.push(StreamPart::Refusal(text_of(chunk, "delta"))),
            "response.output_item.added" => self.begin(output, &chunk["item"]),
            "response.function_call_arguments.delta" => {
                let place = self.place(output)?;
                let delta = text_of(chunk, "delta");
                self.calls.slots[place].call.arguments.push_str(&delta);
            }
            "response.function_call_arguments.done" => {
                self.finish_call(output, text_of(chunk, "arguments"))?;
            }
            "response.output_item.done" => self.finish_item(output, &chunk["item"])?,
            "error" => {
                let text = text_of(chunk, "message");
                return Err(ModelError(format!(
                    "the model's stream reports an error: {text}"
                )));
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.response = Some(chunk["response"].clone());
            }
            _ => {}
        }
        self.calls.report(&mut parts);
        Ok(parts)
    }

    fn finish(self: Box<Self>) -> Result<ModelTurn, ModelError> {
        match self.response {
            Some(response) => turn(response, self.done_items),
            None => Err(ModelError(
                "the model's stream broke off before its end".to_owned(),
            )),
        }
    }
}

impl EventAssembler {
    fn begin(&mut self, output: u64, item: &Value) {
        if is_one_of(item, &CALLS) {
            // Its arguments follow.
            let mut call = read_call(item);
            call.arguments.clear();
            let place = self.calls.add(call);
            self.by_output.insert(output, place);
        }
    }

    fn place(&self, output: u64) -> Result<usize, ModelError> {
        let place = self.by_output.get(&output).copied();
        place.ok_or_else(|| {
            ModelError(format!(
                "the model's stream never began its output {output}"
            ))
        })
    }

    fn finish_call(&mut self, output: u64, arguments: String) -> Result<(), ModelError> {
        let place = self.place(output)?;
        let slot = &mut self.calls.slots[place];
        slot.call.arguments = arguments;
        slot.done = true;
        Ok(())
    }

    fn finish_item(&mut self, output: u64, item: &Value) -> Result<(), ModelError> {
        self.done_items.insert(output, item.clone());
        if is_one_of(item, &CALLS) && item["status"] != "incomplete" {
            if !self.by_output.contains_key(&output) {
                self.begin(output, item);
            }
            self.finish_call(output, text_of(item, "arguments"))?;
        }
        Ok(())
    }
}

/// The turn of a response. Some servers leave the output out of the last event: then it is what
/// was streamed.
fn turn(mut response: Value, streamed: BTreeMap<u64, Value>) -> Result<ModelTurn, ModelError> {
    let status = text_of(&response, "status");
    if !response.is_object() || matches!(status.as_str(), "failed" | "cancelled") {
        let error = &response["error"];
        return Err(ModelError(format!("the model's answer {status}: {error}")));
    }
    let whole = response["output"].take().as_array_mut().map(std::mem::take);
    let mut items: Vec<_> = whole
        .filter(|items| !items.is_empty())
        .unwrap_or_else(|| streamed.into_values().collect())
        .into_iter()
        .map(without_nulls)
        .collect();
    let calls: Vec<_> = items
        .iter()
        .filter(|item| is_one_of(item, &CALLS))
        .map(read_call)
        .collect();
    let text = contents(&items, "output_text", "text");
    let refusal = contents(&items, "refusal", "refusal");
    let mut end = StoppedReason::Completed;
    if !refusal.is_empty() && calls.is_empty() {
        end = StoppedReason::Refusal;
    }
    if status == "incomplete" {
        end = match response["incomplete_details"]["reason"].as_str() {
            Some("content_filter") => StoppedReason::ContentFilter,
            _ => StoppedReason::Length,
        };
        // Reasoning that led to nothing is refused in later requests.
        while items.last().is_some_and(|item| item["type"] == "reasoning") {
            items.pop();
        }
    }
    for item in &mut items {
        if item["type"] == "function_call" {
            item["arguments"] = text_of(item, "arguments").into();
        }
    }
    Ok(ModelTurn {
        text,
        refusal,
        calls,
        end,
        usage: Usage::read(response.get("usage"), "input_tokens", "output_tokens"),
        items,
    })
}

fn contents(items: &[Value], kind: &str, key: &str) -> String {
    items
        .iter()
        .filter(|item| item["type"] == "message")
        .filter_map(|item| item["content"].as_array())
        .flatten()
        .filter(|part| part["type"] == kind)
        .filter_map(|part| part[key].as_str())
        .collect()
}

fn read_call(item: &Value) -> ModelCall {
    ModelCall {
        call_id: text_of(item, "call_id"),
        name: text_of(item, "name"),
        arguments: text_of(item, "arguments"),
        unsupported: item["type"] != CALLS[0],
    }
}

fn is_one_of(item: &Value, kinds: &[&str]) -> bool {
    item["type"]
        .as_str()
        .is_some_and(|kind| kinds.contains(&kind))
}
