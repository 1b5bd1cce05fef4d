//! The calls of one model turn: ids, names, and calls wrapped in another.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
};

use serde_json::value::RawValue;

use crate::{
    ToolNames,
    chat::{
        json::{self, quoted},
        model::ModelCall,
        text,
    },
    v1::{ToolCall, ToolResult},
};

const WRAPPERS: [&str; 2] = ["multi_tool_use.parallel", "multi_tool_use_parallel"];
/// A provider refuses ids over 40 characters.
const ID_STEM: usize = 32;

type Members = HashMap<String, Box<RawValue>>;

/// A call that is not run.
#[derive(Debug)]
struct RefusedCall {
    /// Name of the tool that the model meant.
    name: String,
    /// What the model is told.
    why: &'static str,
    /// What it is told where that depends on the call.
    told: String,
}

impl RefusedCall {
    fn text(&self) -> &str {
        if self.told.is_empty() {
            self.why
        } else {
            &self.told
        }
    }
}

/// A call of the model and the calls of the batch that stand for it.
#[derive(Debug)]
pub(crate) struct AnsweredCall {
    /// The call as the model made it.
    pub(crate) call: ModelCall,
    /// Its id in the history: never empty and unique.
    pub(crate) call_id: String,
    /// Indexes of its calls in the batch: one, unless it wraps others.
    pub(crate) indexes: Range<usize>,
    /// Whether it wraps others; then its answer is a JSON list.
    wraps: bool,
}

/// Collects the calls of one turn as the model finishes them.
///
/// The batch has one call for each that the model made, in the model's order, so that "@N" in a
/// reference is the Nth call as the model counts them. A `multi_tool_use.parallel` counts as the
/// calls that it wraps, in its place; one that cannot be read counts as one call. A call that is
/// refused here keeps its place: the sidecar is given a call of no tool instead, which fails there
/// as `TOOL_NOT_FOUND`.
pub(crate) struct TurnCalls<'a> {
    names: &'a ToolNames,
    /// Number of the history's items when the turn was asked for.
    history_len: usize,
    taken: HashSet<String>,
    offered_only: bool,
    refused: BTreeMap<usize, RefusedCall>,
    pub(crate) answered: Vec<AnsweredCall>,
    pub(crate) batch: Vec<ToolCall>,
}

impl<'a> TurnCalls<'a> {
    /// # Arguments
    ///
    /// * `names`: maps the names that the model uses.
    /// * `history_len`: number of the history's items, which tells this turn from all others.
    /// * `taken`: ids of earlier calls; a call that repeats one gets another in the history.
    /// * `offered_only`: whether calls of other tools than those in `names` are not run.
    pub(crate) fn new(
        names: &'a ToolNames,
        history_len: usize,
        taken: Vec<String>,
        offered_only: bool,
    ) -> Self {
        Self {
            names,
            history_len,
            taken: taken.into_iter().collect(),
            offered_only,
            refused: BTreeMap::new(),
            answered: Vec::new(),
            batch: Vec::new(),
        }
    }

    /// Takes a call in and returns the indexes of what it adds to the batch.
    pub(crate) fn add(&mut self, call: ModelCall) -> Range<usize> {
        let call_id = self.unique_id(&call);
        let first = self.batch.len();
        let uses = self.tool_uses(&call);
        let wraps = uses.is_some();
        if let Some(uses) = uses {
            for (place, used) in uses.iter().enumerate() {
                let (name, arguments, refusal) = read_use(used);
                let id = format!("{call_id}_{}", place + 1);
                self.append(&name, arguments, id, refusal);
            }
        } else {
            let refusal = call.unsupported.then_some(text::NOT_SUPPORTED);
            // A repeated id goes to the sidecar as it is, where a reference to it is an error;
            // under another id the reference would silently mean the wrong call.
            let id = if call.call_id.is_empty() {
                call_id.clone()
            } else {
                call.call_id.clone()
            };
            self.append(&call.name, call.arguments.clone(), id, refusal);
        }
        let indexes = first..self.batch.len();
        self.answered.push(AnsweredCall {
            call,
            call_id,
            indexes: indexes.clone(),
            wraps,
        });
        indexes
    }

    /// What a call came to: the sidecar's result, or why it was refused here.
    pub(crate) fn settle(&self, index: usize, mut result: ToolResult) -> ToolResult {
        if let Some(refused) = self.refused.get(&index) {
            result.name.clone_from(&refused.name);
            refused.text().clone_into(&mut result.content);
            if let Some(status) = &mut result.status {
                status.message.clone_from(&result.content);
            }
        }
        result
    }

    /// The answer to a call, or None while a result is missing.
    pub(crate) fn content(
        &self,
        answered: &AnsweredCall,
        results: &BTreeMap<usize, ToolResult>,
    ) -> Option<String> {
        let contents: Option<Vec<(&str, &str)>> = answered
            .indexes
            .clone()
            .map(
                |index| match (self.refused.get(&index), results.get(&index)) {
                    (Some(refused), _) => Some((refused.name.as_str(), refused.text())),
                    (None, Some(result)) => Some((result.name.as_str(), result.content.as_str())),
                    (None, None) => None,
                },
            )
            .collect();
        let contents = contents?;
        if !answered.wraps {
            return contents.first().map(|(_, content)| (*content).to_owned());
        }
        // With the spaces that all clients write: histories are the same in all languages.
        let entries: Vec<_> = contents
            .into_iter()
            .map(|(name, content)| {
                let (name, content) = (quoted(name), quoted(content));
                format!("{{\"recipient_name\": {name}, \"content\": {content}}}")
            })
            .collect();
        Some(format!("[{}]", entries.join(", ")))
    }

    fn append(&mut self, name: &str, arguments: String, id: String, refusal: Option<&'static str>) {
        let tool = self.names.to_tool(name).to_owned();
        let told = if refusal.is_none() && self.offered_only && !self.names.contains(&tool) {
            text::not_offered(&tool, &self.names.provider_names())
        } else {
            String::new()
        };
        let mut call = ToolCall::new(tool, arguments).with_id(id);
        if refusal.is_some() || !told.is_empty() {
            let refused = RefusedCall {
                name: std::mem::take(&mut call.name),
                why: refusal.unwrap_or_default(),
                told,
            };
            self.refused.insert(self.batch.len(), refused);
            call.arguments.clear();
        }
        self.batch.push(call);
    }

    fn unique_id(&mut self, call: &ModelCall) -> String {
        let call_id = if call.call_id.is_empty() {
            format!("call_{}_{}", self.history_len, self.answered.len())
        } else {
            call.call_id.clone()
        };
        let mut candidate = call_id.clone();
        let mut repeat = 2;
        while !self.taken.insert(candidate.clone()) {
            let stem: String = call_id.chars().take(ID_STEM).collect();
            candidate = format!("{stem}_{repeat}");
            repeat += 1;
        }
        candidate
    }

    /// What a wrapper wraps; None: it is an ordinary call.
    fn tool_uses(&self, call: &ModelCall) -> Option<Vec<Box<RawValue>>> {
        let wraps = WRAPPERS.contains(&call.name.as_str());
        if !wraps || self.names.contains(self.names.to_tool(&call.name)) {
            return None;
        }
        let members: Members = json::parse(&call.arguments).ok()?;
        json::parse(members.get("tool_uses")?.get()).ok()
    }
}

/// Name, arguments and refusal of a wrapped call.
///
/// The arguments stay as the model wrote them, whatever their depth and their numbers.
fn read_use(used: &RawValue) -> (String, String, Option<&'static str>) {
    let members: Members = json::parse(used.get()).unwrap_or_default();
    let name: Option<String> = members
        .get("recipient_name")
        .and_then(|name| json::parse(name.get()).ok());
    let Some(name) = name else {
        return (String::new(), String::new(), Some(text::NO_RECIPIENT));
    };
    let arguments = members
        .get("parameters")
        .map_or_else(no_arguments, |parameters| read_parameters(parameters.get()));
    (name, arguments, None)
}

fn read_parameters(parameters: &str) -> String {
    if let Ok(text) = json::parse::<String>(parameters) {
        return if text.is_empty() {
            no_arguments()
        } else {
            text
        };
    }
    let zero = parameters.parse::<f64>().is_ok_and(|number| number == 0.0);
    let inside = parameters.trim_start_matches(['[', '{']).trim_start();
    let is_empty = inside.starts_with([']', '}']);
    if zero || is_empty || matches!(parameters, "null" | "false") {
        return no_arguments();
    }
    parameters.to_owned()
}

fn no_arguments() -> String {
    "{}".to_owned()
}

#[cfg(test)]
mod tests;
