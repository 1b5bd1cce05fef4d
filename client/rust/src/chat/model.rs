//! A model's turn, whichever API it came from.

use std::ops::{Add, AddAssign};

use serde_json::{Map, Value};

/// Tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read by the model.
    pub input_tokens: u64,
    /// Tokens written by the model.
    pub output_tokens: u64,
}

impl Usage {
    /// All tokens.
    #[must_use]
    pub fn total_tokens(&self) -> u64 {
        self.input_tokens + self.output_tokens
    }

    pub(crate) fn read(usage: Option<&Value>, input: &str, output: &str) -> Self {
        let count = |key| usage.and_then(|usage| usage[key].as_u64());
        Self {
            input_tokens: count(input).unwrap_or_default(),
            output_tokens: count(output).unwrap_or_default(),
        }
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens + other.input_tokens,
            output_tokens: self.output_tokens + other.output_tokens,
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// Why a chat stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoppedReason {
    /// The model answered.
    #[default]
    Completed,
    /// Its answer was cut off at the output limit.
    Length,
    /// Its answer was stopped by a content filter.
    ContentFilter,
    /// It refused.
    Refusal,
    /// It had no turn left.
    MaxTurns,
}

/// A call as the model made it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModelCall {
    /// Id that the provider gave it; may be empty or repeated.
    pub(crate) call_id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
    /// Whether it is a call of another kind than a function, which cannot be run here.
    pub(crate) unsupported: bool,
}

/// What a model produced in one turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ModelTurn {
    pub(crate) text: String,
    pub(crate) refusal: String,
    /// Its calls, in the order in which it made them.
    pub(crate) calls: Vec<ModelCall>,
    /// Why it ended; `Completed` covers turns that end in tool calls.
    pub(crate) end: StoppedReason,
    pub(crate) usage: Usage,
    /// History items of the turn, without answers to its calls.
    pub(crate) items: Vec<Value>,
}

/// What a piece of a streamed turn brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StreamPart {
    Text(String),
    Refusal(String),
    /// The model has finished a call, although its turn goes on.
    CallDone(ModelCall),
    /// More of a call arrived after it had been reported as done.
    CallReopened,
}

/// What each request to the model says.
pub(crate) struct Settings<'a> {
    pub(crate) model: &'a str,
    pub(crate) stream: bool,
    /// Instructions that are sent but not kept in the history; may be empty.
    pub(crate) hint: &'a str,
    /// Further members of the API's request.
    pub(crate) extra: &'a Map<String, Value>,
}

/// The text of a member; empty where there is none.
pub(crate) fn text_of(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}
