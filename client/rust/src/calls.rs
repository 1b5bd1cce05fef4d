//! Calls, and decisions of humans on them, as messages of the contract.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::v1::{Approval, Decision, ToolCall, ToolResult};

/// Arguments of a call: JSON text as it is, or a value that is written as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments(String);

impl From<&str> for Arguments {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Arguments {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&Value> for Arguments {
    fn from(value: &Value) -> Self {
        Self(value.to_string())
    }
}

impl From<Value> for Arguments {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl From<()> for Arguments {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl ToolCall {
    /// Makes a call. Arguments are JSON text, a [`serde_json::Value`], or `()` for none.
    ///
    /// ```
    /// use serde_json::json;
    /// use sidecall::v1::ToolCall;
    ///
    /// let call = ToolCall::new("get_price", json!({"product": "pear"})).with_id("a");
    /// assert_eq!(call.arguments, r#"{"product":"pear"}"#);
    /// ```
    #[must_use]
    pub fn new(name: impl Into<String>, arguments: impl Into<Arguments>) -> Self {
        Self {
            name: name.into(),
            arguments: arguments.into().0,
            ..Self::default()
        }
    }

    /// Gives it the id that the model's provider gave it.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Sets the time from receipt to result, waiting included.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(to_proto_duration(timeout));
        self
    }
}

/// The results of the calls that wait for a human, in the order of `results`.
///
/// What such a call would run with is in `ToolResult::approval_arguments`.
pub fn pending_approvals<'a>(
    results: impl IntoIterator<Item = &'a ToolResult>,
) -> impl Iterator<Item = &'a ToolResult> {
    results
        .into_iter()
        .filter(|result| result.is_pending_approval())
}

impl Approval {
    /// Lets a call run.
    ///
    /// The decision takes effect when the same calls are sent again with it, and with the
    /// `request_id` of the results that asked for it.
    #[must_use]
    pub fn approve(approval_id: impl Into<String>) -> Self {
        Self::decide(approval_id, Decision::Approve)
    }

    /// Keeps a call from running; takes effect as [`Approval::approve`] does.
    #[must_use]
    pub fn reject(approval_id: impl Into<String>) -> Self {
        Self::decide(approval_id, Decision::Reject)
    }

    /// Says who decided.
    #[must_use]
    pub fn by(mut self, who: impl Into<String>) -> Self {
        self.decided_by = who.into();
        self
    }

    /// Replaces the model's arguments; references in the new ones are not resolved.
    #[must_use]
    pub fn with_arguments(mut self, arguments: impl Into<Arguments>) -> Self {
        self.arguments = Some(arguments.into().0);
        self
    }

    /// Says what to tell the model about a rejection.
    #[must_use]
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = comment.into();
        self
    }

    fn decide(approval_id: impl Into<String>, decision: Decision) -> Self {
        Self {
            approval_id: approval_id.into(),
            decision: decision.into(),
            decide_time: Some(SystemTime::now().into()),
            ..Self::default()
        }
    }
}

/// A duration as a message; one that is too long for it is the longest.
pub(crate) fn to_proto_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or(prost_types::Duration {
        seconds: i64::MAX,
        nanos: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arguments_are_text_or_values() {
        assert_eq!(ToolCall::new("a", "{ }").arguments, "{ }");
        assert_eq!(ToolCall::new("a", ()).arguments, "");
        assert_eq!(ToolCall::new("a", json!({"b": 1})).arguments, r#"{"b":1}"#);
    }

    #[test]
    fn decisions_say_who_and_when() {
        let approval = Approval::approve("p").by("ann").with_arguments(json!({}));
        assert_eq!(approval.decision(), Decision::Approve);
        assert_eq!(approval.arguments.as_deref(), Some("{}"));
        assert!(approval.decide_time.is_some());
        let rejection = Approval::reject("p").with_comment("no");
        assert_eq!(rejection.decision(), Decision::Reject);
        assert_eq!(rejection.comment, "no");
    }
}
