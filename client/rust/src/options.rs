//! What may be said about a batch.

use std::{collections::HashMap, time::Duration};

use crate::{
    calls::to_proto_duration,
    v1::{Approval, ExecuteBatchRequest, ExecutionMode, FailurePolicy, StreamStart, ToolCall},
};

/// What may be said about a batch. What is left out is the sidecar's default.
///
/// ```
/// use std::time::Duration;
/// use sidecall::BatchOptions;
///
/// let options = BatchOptions {
///     deadline: Some(Duration::from_secs(5)),
///     session_id: "chat-17".into(),
///     ..Default::default()
/// };
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchOptions {
    /// Time for the RPC and what repeats it. The sidecar answers shortly before with the results
    /// so far.
    pub deadline: Option<Duration>,
    /// Time for the batch itself, from its receipt.
    pub timeout: Option<Duration>,
    /// How the calls are ordered against each other.
    pub mode: ExecutionMode,
    /// What a failed call means for the rest.
    pub on_failure: FailurePolicy,
    /// Most calls of the batch that run at a time.
    pub max_concurrency: Option<i32>,
    /// Facts about the end user; tools and policies see them, the model does not.
    pub context: HashMap<String, String>,
    /// Key under which the batch may be sent again without running a call twice; a UUID, for
    /// example. The calls (their timeouts apart), `mode`, `on_failure`, `context`, `session_id`
    /// and `disable_references` must then be the same. Calls that have started go on when the
    /// client cancels or loses its connection. A sidecar that is restarted has forgotten it,
    /// unless its `GetCapabilitiesResponse::durable_requests` says otherwise.
    pub request_id: String,
    /// Where a batch with the `request_id` was sent before:
    /// [`RpcError::sent_to_instance`](crate::RpcError::sent_to_instance) of that send, or
    /// `instance_id` of the sidecar's capabilities, read before it. Another sidecar that cannot
    /// know what has run then refuses, with reason `REQUEST_FORGOTTEN`, instead of running it
    /// again.
    pub sent_to_instance: String,
    /// Session whose earlier results may be referenced, and which gets those of this batch.
    pub session_id: String,
    /// Decisions on calls of an earlier send of the same calls; `request_id` is that of its
    /// results.
    pub approvals: Vec<Approval>,
    /// Bytes that the results may take together.
    pub max_response_bytes: Option<i64>,
    /// Passes argument strings as they are.
    pub disable_references: bool,
}

impl BatchOptions {
    pub(crate) fn batch(self, calls: Vec<ToolCall>) -> ExecuteBatchRequest {
        ExecuteBatchRequest {
            calls,
            mode: self.mode.into(),
            on_failure: self.on_failure.into(),
            max_concurrency: self.max_concurrency.unwrap_or_default(),
            timeout: self.timeout.map(to_proto_duration),
            request_id: self.request_id,
            session_id: self.session_id,
            context: self.context,
            max_response_bytes: self.max_response_bytes.unwrap_or_default(),
            disable_references: self.disable_references,
            approvals: self.approvals,
            sent_to_instance: self.sent_to_instance,
        }
    }

    pub(crate) fn stream(self) -> StreamStart {
        StreamStart {
            mode: self.mode.into(),
            on_failure: self.on_failure.into(),
            max_concurrency: self.max_concurrency.unwrap_or_default(),
            timeout: self.timeout.map(to_proto_duration),
            request_id: self.request_id,
            session_id: self.session_id,
            context: self.context,
            max_response_bytes: self.max_response_bytes.unwrap_or_default(),
            disable_references: self.disable_references,
            approvals: self.approvals,
            sent_to_instance: self.sent_to_instance,
        }
    }
}
