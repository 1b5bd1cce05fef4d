//! Clients as requests ask for them, and messages as answers tell them.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use sidecall::{
    BoxError, Client, ConfigError, RpcError, Tls,
    chat::ChatError,
    code_name,
    v1::{ToolResult, result_part::Part},
};

/// Makes the client of a request's `sidecar`.
pub fn client_of(at: &Value) -> Result<Client, BoxError> {
    let mut builder = Client::builder();
    if let Some(endpoint) = at["endpoint"].as_str() {
        builder = builder.endpoint(endpoint);
    }
    if let Some(token) = at["token"].as_str() {
        builder = builder.token(token);
    }
    for (key, value) in at["metadata"].as_object().into_iter().flatten() {
        builder = builder.metadata(key, value.as_str().unwrap_or_default());
    }
    if let Some(bytes) = at["max_message_bytes"].as_u64() {
        builder = builder.max_message_bytes(usize::try_from(bytes)?);
    }
    if at["tls"].is_object() {
        let file = |name: &str| at["tls"][name].as_str();
        let mut tls = Tls::new();
        if let Some(ca) = file("ca_file") {
            tls = tls.ca_file(ca)?;
        }
        if let (Some(certificate), Some(key)) = (file("cert_file"), file("key_file")) {
            tls = tls.identity_files(certificate, key)?;
        }
        builder = builder.tls(tls);
    }
    Ok(builder.build()?)
}

/// Tells an RPC's error.
pub fn rpc_error_of(error: &RpcError) -> Value {
    json!({
        "kind": "sidecar",
        "code": code_name(error.code()),
        "reason": error.reason(),
        "not_started": error.not_started(),
        "message": error.to_string(),
    })
}

/// Tells an error of a setting.
pub fn config_error_of(error: &ConfigError) -> Value {
    json!({"kind": "invalid", "message": error.to_string()})
}

/// Tells what ended a chat.
pub fn chat_error_of(error: &ChatError) -> Value {
    match error {
        ChatError::Sidecar(error) => rpc_error_of(error),
        ChatError::Invalid(error) => config_error_of(error),
        ChatError::Model(error) => json!({"kind": "model", "message": error.to_string()}),
        ChatError::Hook(error) => json!({"kind": "hook", "message": error.to_string()}),
        ChatError::Provider(error) => {
            let mut told = json!({"kind": "provider", "message": error.to_string()});
            if let async_openai::error::OpenAIError::ApiError(refusal) = error.as_ref() {
                told["status"] = refusal.status_code.as_u16().into();
            }
            told
        }
        other => json!({"kind": "other", "message": other.to_string()}),
    }
}

/// Tells a result.
pub fn result_of(result: &ToolResult) -> Value {
    let state = result.execution_state().as_str_name();
    let parts: Vec<_> = result
        .parts
        .iter()
        .filter_map(|part| part.part.as_ref())
        .map(part_of)
        .collect();
    json!({
        "call_id": result.call_id,
        "name": result.name,
        "content": result.content,
        "code": code_name(result.code()),
        "reason": result.reason(),
        "execution_state": state.trim_start_matches("EXECUTION_STATE_"),
        "attempts": result.attempts,
        "truncated": result.truncated,
        "replayed": result.replayed,
        "coalesced": result.coalesced,
        "approval_id": result.approval_id,
        "approval_arguments": result.approval_arguments,
        "parts": parts,
    })
}

fn part_of(part: &Part) -> Value {
    match part {
        Part::Text(text) => json!({"text": text}),
        Part::Json(text) => json!({"json": text}),
        Part::Blob(blob) => {
            let data = BASE64_STANDARD.encode(&blob.data);
            json!({"blob": {"media_type": blob.media_type, "data": data, "name": blob.name}})
        }
        Part::Link(link) => {
            json!({"link": {"uri": link.uri, "media_type": link.media_type, "name": link.name}})
        }
    }
}
