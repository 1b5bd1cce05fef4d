//! How one of the provider's APIs writes conversations.

use serde_json::Value;

use crate::{
    ToolNames,
    chat::{
        errors::ModelError,
        model::{ModelCall, ModelTurn, Settings, StreamPart},
    },
    v1::{Tool, ToolResult},
};

/// Puts a streamed turn together.
pub(crate) trait Assembler: Send {
    /// Takes a chunk in and returns what it brought.
    fn feed(&mut self, chunk: &Value) -> Result<Vec<StreamPart>, ModelError>;

    /// Returns the whole turn after the last chunk.
    fn finish(self: Box<Self>) -> Result<ModelTurn, ModelError>;
}

/// How one of the provider's APIs writes conversations. Pure: no I/O.
pub(crate) trait Dialect: Send + Sync {
    /// The API's request.
    fn request(
        &self,
        history: &[Value],
        tools: &[Tool],
        names: &ToolNames,
        settings: &Settings<'_>,
    ) -> Value;

    /// Reads a response that was not streamed.
    fn parse(&self, response: Value) -> Result<ModelTurn, ModelError>;

    /// What puts one streamed response together.
    fn assembler(&self) -> Box<dyn Assembler>;

    /// Gives the calls in a turn's history items these ids, in order.
    fn set_call_ids(&self, items: &mut [Value], call_ids: &[&str]);

    /// The history item that answers a call.
    fn answer(&self, call: &ModelCall, call_id: &str, content: &str) -> Value;

    /// Replaces the content of an answer, with images and files of results where it can.
    fn set_content(&self, answer: &mut Value, content: &str, results: &[&ToolResult]);

    /// The images and files of a call's results that its answer cannot hold.
    fn attached_parts(&self, call_id: &str, results: &[&ToolResult]) -> Vec<Value>;

    /// The message that holds them; it follows all answers of the turn.
    fn attached_message(&self, parts: Vec<Value>) -> Value;

    /// The ids of all calls.
    fn call_ids(&self, history: &[Value]) -> Vec<String>;

    /// Calls without an answer, each with the place to insert one at, in order.
    fn open_calls(&self, history: &[Value]) -> Vec<(usize, ModelCall)>;
}

#[cfg(test)]
mod tests;
