//! Executes one batch.

use std::{collections::HashMap, time::Duration};

use serde_json::{Value, json};
use sidecall::{
    BatchOptions, BatchResults, BoxError, Client, RpcError,
    v1::{Approval, ExecutionMode, FailurePolicy, ToolCall},
};

use crate::clients::{client_of, result_of, rpc_error_of};

/// Executes the batch of a request.
pub async fn run(request: &Value) -> Result<Value, BoxError> {
    let client = client_of(&request["sidecar"])?;
    let mut options = BatchOptions {
        deadline: milliseconds(&request["timeout_ms"]),
        ..BatchOptions::default()
    };
    set_options(&mut options, &request["options"])?;
    let calls = request["calls"]
        .as_array()
        .into_iter()
        .flatten()
        .map(call_of)
        .collect();
    Ok(
        match execute(&client, calls, options, request["stream"] == true).await {
            Err(error) => json!({"outcome": "error", "error": rpc_error_of(&error)}),
            Ok(answered) => json!({
                "outcome": "results",
                "results": answered.results.iter().map(result_of).collect::<Vec<_>>(),
                "request_id": answered.request_id,
            }),
        },
    )
}

async fn execute(
    client: &Client,
    calls: Vec<ToolCall>,
    options: BatchOptions,
    stream: bool,
) -> Result<BatchResults, RpcError> {
    if !stream {
        return client.execute_batch(calls, options).await;
    }
    let mut turn = client.stream_batch(options).await?;
    for (index, call) in calls.into_iter().enumerate() {
        turn.send(index, call)?;
    }
    turn.seal()?;
    turn.results().await
}

/// Sets options of a batch as a request gives them.
pub fn set_options(options: &mut BatchOptions, given: &Value) -> Result<(), BoxError> {
    let text = |name: &str| given[name].as_str().unwrap_or_default().to_owned();
    options.mode = match given["mode"].as_str() {
        None => ExecutionMode::Unspecified,
        Some("parallel") => ExecutionMode::Parallel,
        Some("sequential") => ExecutionMode::Sequential,
        Some(other) => return Err(format!("there is no mode {other:?}").into()),
    };
    options.on_failure = match given["on_failure"].as_str() {
        None => FailurePolicy::Unspecified,
        Some("continue") => FailurePolicy::Continue,
        Some("stop") => FailurePolicy::Stop,
        Some(other) => return Err(format!("there is no failure policy {other:?}").into()),
    };
    options.max_concurrency = given["max_concurrency"]
        .as_i64()
        .map(i32::try_from)
        .transpose()?;
    options.max_response_bytes = given["max_response_bytes"].as_i64();
    options.disable_references = given["disable_references"] == true;
    options.request_id = text("request_id");
    options.sent_to_instance = text("sent_to_instance");
    if given["session_id"].is_string() {
        options.session_id = text("session_id");
    }
    if given["context"].is_object() {
        options.context = texts(&given["context"]);
    }
    let approvals = given["approvals"].as_array().into_iter().flatten();
    options.approvals = approvals
        .map(|given| approval_of(given, given["approval_id"].as_str().unwrap_or_default()))
        .collect();
    Ok(())
}

/// A decision as a request gives it.
pub fn approval_of(given: &Value, approval_id: &str) -> Approval {
    let by = given["by"].as_str().unwrap_or_default();
    if given["decision"] == "approve" {
        let approval = Approval::approve(approval_id).by(by);
        return match given["arguments"].as_str() {
            Some(arguments) => approval.with_arguments(arguments),
            None => approval,
        };
    }
    let comment = given["comment"].as_str().unwrap_or_default();
    Approval::reject(approval_id).by(by).with_comment(comment)
}

/// An object of texts.
pub fn texts(given: &Value) -> HashMap<String, String> {
    let members = given.as_object().into_iter().flatten();
    members
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

/// A time in milliseconds.
pub fn milliseconds(given: &Value) -> Option<Duration> {
    given
        .as_f64()
        .map(|milliseconds| Duration::from_secs_f64(milliseconds / 1000.0))
}

fn call_of(given: &Value) -> ToolCall {
    let text = |name: &str| given[name].as_str().unwrap_or_default();
    let depends_on = given["depends_on"].as_array().into_iter().flatten();
    let call = ToolCall {
        depends_on: depends_on
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        idempotency_key: text("idempotency_key").to_owned(),
        ..ToolCall::new(text("name"), text("arguments")).with_id(text("id"))
    };
    match milliseconds(&given["timeout_ms"]) {
        Some(timeout) => call.with_timeout(timeout),
        None => call,
    }
}
