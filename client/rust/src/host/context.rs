//! What a hosted function knows about its call.

use std::{collections::HashMap, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::v1::{
    AttachRequest, HostCall, HostPartialOutput, HostProgress, attach_request::Message,
};

/// Bytes of partial output in one message.
const OUTPUT_BYTES: usize = 256 * 1024;

/// A call that a hosted function runs for.
///
/// When the call is cancelled, or its time is over, the function's future is dropped. What it has
/// started elsewhere, with [`tokio::task::spawn_blocking`] for example, can watch
/// [`ToolContext::cancellation`].
#[derive(Clone, Debug)]
pub struct ToolContext {
    call: HostCall,
    deadline: Option<Instant>,
    cancellation: CancellationToken,
    reports: mpsc::Sender<AttachRequest>,
}

impl ToolContext {
    pub(crate) fn new(
        call: HostCall,
        deadline: Option<Instant>,
        cancellation: CancellationToken,
        reports: mpsc::Sender<AttachRequest>,
    ) -> Self {
        Self {
            call,
            deadline,
            cancellation,
            reports,
        }
    }

    /// Name of the tool.
    #[must_use]
    pub fn tool_name(&self) -> &str {
        &self.call.name
    }

    /// The arguments as JSON text, for values that no type of the function's own can hold.
    #[must_use]
    pub fn arguments_text(&self) -> &str {
        &self.call.arguments
    }

    /// Id that the model's provider gave the call; may be empty.
    #[must_use]
    pub fn call_id(&self) -> &str {
        &self.call.call_id
    }

    /// Number of the attempt, counted from 1.
    #[must_use]
    pub fn attempt(&self) -> i32 {
        self.call.attempt
    }

    /// Key that tells a repeated call from a new one, to be passed on; empty without one.
    #[must_use]
    pub fn idempotency_key(&self) -> &str {
        &self.call.idempotency_key
    }

    /// What the application says about its end user.
    #[must_use]
    pub fn context(&self) -> &HashMap<String, String> {
        &self.call.context
    }

    /// The trace that the call belongs to, as W3C Trace Context writes it; empty without one.
    #[must_use]
    pub fn traceparent(&self) -> &str {
        &self.call.traceparent
    }

    /// What vendors add to the trace; empty without it.
    #[must_use]
    pub fn tracestate(&self) -> &str {
        &self.call.tracestate
    }

    /// Time that is left for the call; None without a bound.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Is cancelled when nobody waits for the result any more.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// Reports progress. It never waits; where reports come faster than they can be sent, some are
    /// left out.
    ///
    /// # Arguments
    ///
    /// * `progress`: work done so far, in the tool's own unit.
    /// * `total`: all of the work in the same unit, where it is known.
    /// * `message`: what the tool is doing.
    pub fn progress(&self, progress: f64, total: Option<f64>, message: impl Into<String>) {
        self.report(Message::Progress(HostProgress {
            attempt_id: self.call.attempt_id,
            progress,
            total,
            message: message.into(),
        }));
    }

    /// Passes on a part of the output, for people who watch: the result has to hold all of it. It
    /// never waits; where output comes faster than it can be sent, some is left out.
    pub fn partial_output(&self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let mut end = rest.len().min(OUTPUT_BYTES);
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            let (part, after) = rest.split_at(end);
            self.report(Message::PartialOutput(HostPartialOutput {
                attempt_id: self.call.attempt_id,
                text: part.to_owned(),
            }));
            rest = after;
        }
    }

    fn report(&self, message: Message) {
        // What is full or closed has no use for reports.
        let _ = self.reports.try_send(AttachRequest {
            message: Some(message),
        });
    }
}
