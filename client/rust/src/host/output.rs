//! What a hosted function returns, and how it fails.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tonic::Code;

use crate::v1::{Blob, Link, ResultPart, result_part::Part};

/// A failure whose text is meant for the model. The text of any other error stays in the process.
///
/// ```
/// use sidecall::{Code, ToolError};
///
/// let error = ToolError::new("There is no such city.").code(Code::NotFound);
/// assert_eq!(error.to_string(), "There is no such city.");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[must_use]
pub struct ToolError {
    pub(crate) message: String,
    pub(crate) code: Code,
    pub(crate) retry_after: Option<Duration>,
}

impl ToolError {
    /// Says what went wrong and what the model can do about it.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: Code::Unknown,
            retry_after: None,
        }
    }

    /// Status code of the result; by default UNKNOWN, which also stands for OK.
    pub fn code(mut self, code: Code) -> Self {
        self.code = if code == Code::Ok {
            Code::Unknown
        } else {
            code
        };
        self
    }

    /// Time after which the call may be made again.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }
}

/// What a hosted function returned.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolOutput {
    /// A string.
    Text(String),
    /// Any other value, as JSON text.
    Json(String),
    /// Typed parts: text, JSON, binary content and links.
    Parts(Vec<ResultPart>),
}

/// What can be the result of a hosted function: everything that serde can write, and
/// [`ToolOutput`] itself. A string stands as it is, any other value as JSON.
pub trait IntoToolOutput {
    /// Makes the output.
    ///
    /// # Errors
    ///
    /// The value cannot be written as JSON.
    fn into_tool_output(self) -> Result<ToolOutput, serde_json::Error>;
}

impl IntoToolOutput for ToolOutput {
    fn into_tool_output(self) -> Result<ToolOutput, serde_json::Error> {
        Ok(self)
    }
}

impl<T: Serialize> IntoToolOutput for T {
    fn into_tool_output(self) -> Result<ToolOutput, serde_json::Error> {
        Ok(match serde_json::to_value(self)? {
            Value::String(text) => ToolOutput::Text(text),
            value => ToolOutput::Json(value.to_string()),
        })
    }
}

impl From<Part> for ResultPart {
    fn from(part: Part) -> Self {
        Self { part: Some(part) }
    }
}

impl From<&str> for ResultPart {
    fn from(text: &str) -> Self {
        Part::Text(text.to_owned()).into()
    }
}

impl From<String> for ResultPart {
    fn from(text: String) -> Self {
        Part::Text(text).into()
    }
}

impl From<Blob> for ResultPart {
    fn from(blob: Blob) -> Self {
        Part::Blob(blob).into()
    }
}

impl From<Link> for ResultPart {
    fn from(link: Link) -> Self {
        Part::Link(link).into()
    }
}

impl From<Value> for ResultPart {
    fn from(value: Value) -> Self {
        Part::Json(value.to_string()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn strings_stand_as_they_are_and_other_values_as_json() {
        let of = |output: Result<ToolOutput, _>| output.unwrap();
        assert_eq!(of("a".into_tool_output()), ToolOutput::Text("a".into()));
        assert_eq!(of(().into_tool_output()), ToolOutput::Json("null".into()));
        let value = json!({"sum": 3});
        assert_eq!(
            of(value.into_tool_output()),
            ToolOutput::Json(r#"{"sum":3}"#.into())
        );
        let parts = ToolOutput::Parts(vec!["a".into()]);
        assert_eq!(of(parts.clone().into_tool_output()), parts);
    }

    #[test]
    fn an_error_is_never_ok() {
        assert_eq!(ToolError::new("a").code(Code::Ok).code, Code::Unknown);
    }
}
