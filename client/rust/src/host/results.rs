//! What a host answers: results of functions as messages.

use prost::Message as _;
use tonic::Code;
use tonic_types::Status;

use crate::{
    calls::to_proto_duration,
    host::{
        output::{ToolError, ToolOutput},
        tool::Failure,
    },
    v1::{
        AttachRequest, ExecutionState, HostParts, HostResult, attach_request::Message,
        host_result::Value,
    },
};

/// The result of a function.
pub(crate) fn of(name: &str, outcome: Result<ToolOutput, Failure>) -> HostResult {
    let error = match outcome {
        Ok(output) => return returned(output),
        Err(Failure::Told(error)) => error,
        Err(Failure::Arguments(error)) => {
            let text = format!(
                "The arguments are invalid. Correct them and call the tool again:\n\
                 - arguments: {error}"
            );
            return failed(Code::InvalidArgument, &text, ExecutionState::NotStarted);
        }
        Err(Failure::Output(error)) => {
            tracing::warn!(tool = name, %error, "a result cannot be written");
            let text = format!(
                "Tool '{name}' ran, but its result cannot be passed on: it is no JSON value."
            );
            return failed(Code::Unknown, &text, ExecutionState::Completed);
        }
        Err(Failure::Other(error)) => return internal(name, &error.to_string()),
    };
    told(name, error)
}

/// The result of a function that failed in a way that only the log tells.
pub(crate) fn internal(name: &str, error: &str) -> HostResult {
    let mut bytes = [0; 4];
    // Without a source of randomness all errors have one id.
    let _ = getrandom::fill(&mut bytes);
    let error_id = format!("{:08x}", u32::from_le_bytes(bytes));
    tracing::error!(tool = name, error_id, error, "a hosted function failed");
    let text = format!("Tool '{name}' failed with an internal error (id {error_id}).");
    failed(Code::Unknown, &text, ExecutionState::Completed)
}

/// The result of a call of a tool that the host does not have.
pub(crate) fn unknown_tool(name: &str) -> HostResult {
    let text = format!("There is no tool '{name}' here.");
    failed(Code::NotFound, &text, ExecutionState::NotStarted)
}

/// The result of a call that nobody waits for any more.
pub(crate) fn cancelled() -> HostResult {
    failed(
        Code::Cancelled,
        "The call was cancelled.",
        ExecutionState::Unknown,
    )
}

/// The result of a call whose time is over.
pub(crate) fn expired() -> HostResult {
    let text = "The time for the call was over.";
    failed(Code::DeadlineExceeded, text, ExecutionState::Unknown)
}

/// The result of a call whose function still runs when the host ends.
pub(crate) fn abandoned() -> HostResult {
    let text = "The application ended while the tool ran.";
    failed(Code::Cancelled, text, ExecutionState::Unknown)
}

/// The message of a result; one that is too large is replaced by a refusal.
pub(crate) fn fitting(result: HostResult, max_bytes: usize) -> AttachRequest {
    let (attempt_id, state) = (result.attempt_id, result.execution_state());
    let message = AttachRequest {
        message: Some(Message::Result(result)),
    };
    let size = message.encoded_len();
    if size <= max_bytes {
        return message;
    }
    let text = format!(
        "The tool ran, but its result of {size} bytes is larger than the {max_bytes} bytes that \
         are allowed, and was thrown away. The same call gives the same again: ask for less, for \
         example with a narrower query, fewer fields, or one page at a time."
    );
    let refusal = HostResult {
        attempt_id,
        ..failed(Code::ResourceExhausted, &text, state)
    };
    AttachRequest {
        message: Some(Message::Result(refusal)),
    }
}

fn returned(output: ToolOutput) -> HostResult {
    let value = match output {
        ToolOutput::Text(text) => Value::Text(text),
        ToolOutput::Json(json) => Value::Json(json),
        ToolOutput::Parts(parts) => Value::Parts(HostParts { parts }),
    };
    HostResult {
        value: Some(value),
        execution_state: ExecutionState::Completed.into(),
        ..HostResult::default()
    }
}

fn told(name: &str, error: ToolError) -> HostResult {
    let text = if error.message.is_empty() {
        format!("Tool '{name}' failed.")
    } else {
        error.message
    };
    HostResult {
        retry_after: error.retry_after.map(to_proto_duration),
        ..failed(error.code, &text, ExecutionState::Completed)
    }
}

fn failed(code: Code, message: &str, state: ExecutionState) -> HostResult {
    HostResult {
        status: Some(Status {
            code: code.into(),
            message: message.to_owned(),
            details: Vec::new(),
        }),
        execution_state: state.into(),
        ..HostResult::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_tool_error_tells_the_model_why() {
        let secret = of("a", Err(Failure::Other("password".into())));
        let status = secret.status.unwrap();
        assert!(
            status
                .message
                .starts_with("Tool 'a' failed with an internal error")
        );
        let error = ToolError::new("no").code(Code::NotFound);
        let told = of("a", Err(Failure::Told(error)));
        assert_eq!(told.status.unwrap().message, "no");
    }

    #[test]
    fn a_result_that_is_too_large_is_refused() {
        let result = HostResult {
            attempt_id: 7,
            ..returned(ToolOutput::Text("x".repeat(2000)))
        };
        let kept = fitting(result.clone(), 4000);
        assert_eq!(kept.message, Some(Message::Result(result.clone())));
        let Some(Message::Result(refusal)) = fitting(result, 1000).message else {
            panic!("it is a result");
        };
        assert_eq!(refusal.attempt_id, 7);
        assert_eq!(refusal.value, None);
        assert_eq!(refusal.execution_state(), ExecutionState::Completed);
        assert_eq!(
            refusal.status.unwrap().code,
            i32::from(Code::ResourceExhausted)
        );
    }
}
