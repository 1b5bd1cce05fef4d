//! A conversation that is valid at every moment: each call has its answer.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    Attachments,
    chat::{dialect::Dialect, model::ModelTurn, text, turn_calls::TurnCalls},
    v1::ToolResult,
};

/// A model's turn in the history, its answers filled in as results arrive.
///
/// The turn and provisional answers to all of its calls enter the history in one step, so
/// whatever interrupts the turn leaves a history that a provider accepts.
pub(crate) struct TurnRecord<'a> {
    history: &'a mut Vec<Value>,
    dialect: &'a dyn Dialect,
    calls: &'a TurnCalls<'a>,
    attachments: Attachments,
    pub(crate) results: BTreeMap<usize, ToolResult>,
    /// Place in the history of the first answer.
    first_answer: usize,
    /// Places of the calls, among those of the model, whose answers are provisional.
    open: BTreeSet<usize>,
    /// What the message after the answers holds, by place of the call that it belongs to.
    attached: BTreeMap<usize, Vec<Value>>,
    has_attached_message: bool,
}

impl<'a> TurnRecord<'a> {
    pub(crate) fn new(
        history: &'a mut Vec<Value>,
        dialect: &'a dyn Dialect,
        mut turn: ModelTurn,
        calls: &'a TurnCalls<'a>,
        attachments: Attachments,
    ) -> Self {
        let ids: Vec<_> = calls
            .answered
            .iter()
            .map(|each| each.call_id.as_str())
            .collect();
        dialect.set_call_ids(&mut turn.items, &ids);
        let mut open = BTreeSet::new();
        let nothing = BTreeMap::new();
        let mut answers = Vec::new();
        for (place, answered) in calls.answered.iter().enumerate() {
            let content = calls.content(answered, &nothing).unwrap_or_else(|| {
                open.insert(place);
                text::PENDING.to_owned()
            });
            answers.push(dialect.answer(&answered.call, &answered.call_id, &content));
        }
        history.extend(turn.items);
        let first_answer = history.len();
        history.extend(answers);
        Self {
            history,
            dialect,
            calls,
            attachments,
            results: BTreeMap::new(),
            first_answer,
            open,
            attached: BTreeMap::new(),
            has_attached_message: false,
        }
    }

    /// Takes in a call's result, in place of an earlier one, and fills in its answer.
    pub(crate) fn add_result(&mut self, index: usize, result: ToolResult) {
        self.results.insert(index, result);
        let Some(place) = self.place_of(index) else {
            return;
        };
        let answered = &self.calls.answered[place];
        if let Some(content) = self.calls.content(answered, &self.results) {
            let of_call: Vec<_> = answered
                .indexes
                .clone()
                .filter_map(|index| self.results.get(&index).cloned())
                .collect();
            self.write(place, &content, &of_call);
            self.open.remove(&place);
        }
    }

    /// Makes answers provisional again: their calls are about to be run.
    pub(crate) fn reopen(&mut self, indexes: &[usize]) {
        for &index in indexes {
            if let Some(place) = self.place_of(index) {
                self.write(place, text::PENDING, &[]);
                self.open.insert(place);
            }
        }
    }

    /// Answers all calls that have no answer yet with the same content.
    pub(crate) fn fail(&mut self, content: &str) {
        for place in std::mem::take(&mut self.open) {
            self.write(place, content, &[]);
        }
    }

    /// The model's call that a call of the batch belongs to; None where its answer never changes.
    fn place_of(&self, index: usize) -> Option<usize> {
        let place = self
            .calls
            .answered
            .iter()
            .position(|answered| answered.indexes.contains(&index))?;
        let answered = &self.calls.answered[place];
        let depends = self.calls.content(answered, &BTreeMap::new()).is_none();
        depends.then_some(place)
    }

    fn write(&mut self, place: usize, content: &str, results: &[ToolResult]) {
        let mut shown = Vec::new();
        if self.attachments == Attachments::Shown {
            shown.extend(results.iter().filter(|result| !result.parts.is_empty()));
        }
        let answer = &mut self.history[self.first_answer + place];
        self.dialect.set_content(answer, content, &shown);
        let call_id = &self.calls.answered[place].call_id;
        let parts = self.dialect.attached_parts(call_id, &shown);
        if !parts.is_empty() || self.attached.contains_key(&place) {
            self.attached.insert(place, parts);
            self.attach();
        }
    }

    /// Keeps the message that follows the answers up to date, in call order.
    fn attach(&mut self) {
        let parts: Vec<_> = self.attached.values().flatten().cloned().collect();
        let place = self.first_answer + self.calls.answered.len();
        if self.has_attached_message {
            self.history.remove(place);
        }
        self.has_attached_message = !parts.is_empty();
        if self.has_attached_message {
            self.history
                .insert(place, self.dialect.attached_message(parts));
        }
    }
}

/// Answers calls that an earlier interruption left without an answer.
pub(crate) fn answer_open_calls(history: &mut Vec<Value>, dialect: &dyn Dialect) {
    for (place, call) in dialect.open_calls(history).into_iter().rev() {
        let answer = dialect.answer(&call, &call.call_id, text::PENDING);
        history.insert(place, answer);
    }
}

#[cfg(test)]
mod tests;
