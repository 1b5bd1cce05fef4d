//! The calls that a host has in hand.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    host::{context::ToolContext, results, tool::HostedTool},
    v1::{AttachRequest, HostCall, HostResult},
};

pub(crate) type Tools = HashMap<String, HostedTool>;

struct InHand {
    attempt_id: i64,
    name: String,
    cancellation: CancellationToken,
}

/// The calls that a host has in hand. Dropping it drops what runs.
pub(crate) struct Calls {
    tools: Arc<Tools>,
    reports: mpsc::Sender<AttachRequest>,
    running: JoinSet<HostResult>,
    in_hand: HashMap<Id, InHand>,
    /// Calls that were answered before their functions ended.
    abandoned: BTreeSet<i64>,
}

impl Calls {
    pub(crate) fn new(tools: Arc<Tools>, reports: mpsc::Sender<AttachRequest>) -> Self {
        Self {
            tools,
            reports,
            running: JoinSet::new(),
            in_hand: HashMap::new(),
            abandoned: BTreeSet::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.in_hand.len() == self.abandoned.len()
    }

    /// Starts a call.
    pub(crate) fn start(&mut self, call: HostCall) {
        let (attempt_id, name) = (call.attempt_id, call.name.clone());
        let cancellation = CancellationToken::new();
        let tool = self.tools.get(&name).cloned();
        let run = run(tool, call, cancellation.clone(), self.reports.clone());
        let id = self.running.spawn(run).id();
        let in_hand = InHand {
            attempt_id,
            name,
            cancellation,
        };
        self.in_hand.insert(id, in_hand);
    }

    /// Says that nobody waits for a call any more.
    pub(crate) fn cancel(&mut self, attempt_id: i64) {
        for call in self.in_hand.values() {
            if call.attempt_id == attempt_id {
                call.cancellation.cancel();
            }
        }
    }

    /// Waits until a call has ended; None where none runs. It may be dropped and called again.
    pub(crate) async fn next(&mut self) -> Option<HostResult> {
        loop {
            let ended = self.running.join_next_with_id().await?;
            let id = match &ended {
                Ok((id, _)) => *id,
                Err(error) => error.id(),
            };
            let Some(call) = self.in_hand.remove(&id) else {
                continue;
            };
            if !self.abandoned.remove(&call.attempt_id) {
                let result =
                    ended.map_or_else(|error| panicked(&call.name, error), |(_, result)| result);
                return Some(HostResult {
                    attempt_id: call.attempt_id,
                    ..result
                });
            }
        }
    }

    /// Drops what still runs and returns the answers to it.
    pub(crate) fn abandon(&mut self) -> Vec<HostResult> {
        let mut answers = Vec::new();
        for call in self.in_hand.values() {
            if self.abandoned.insert(call.attempt_id) {
                tracing::warn!(tool = call.name, "a function that still runs is abandoned");
                answers.push(HostResult {
                    attempt_id: call.attempt_id,
                    ..results::abandoned()
                });
            }
            call.cancellation.cancel();
        }
        answers
    }
}

/// Runs a function until it ends, its time is over, or nobody waits for it any more.
async fn run(
    tool: Option<HostedTool>,
    call: HostCall,
    cancellation: CancellationToken,
    reports: mpsc::Sender<AttachRequest>,
) -> HostResult {
    let Some(tool) = tool else {
        return results::unknown_tool(&call.name);
    };
    // However this future ends, what the function has started elsewhere is told.
    let _told = cancellation.clone().drop_guard();
    let deadline = call
        .timeout
        .map(|timeout| Duration::try_from(timeout).unwrap_or_default())
        .and_then(|timeout| Instant::now().checked_add(timeout));
    let (name, arguments) = (call.name.clone(), call.arguments.clone());
    let context = ToolContext::new(call, deadline, cancellation.clone(), reports);
    let over = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = cancellation.cancelled() => results::cancelled(),
        outcome = async { (tool.function)(&arguments, context).await } => {
            results::of(&name, outcome)
        }
        () = over => results::expired(),
    }
}

fn panicked(name: &str, error: JoinError) -> HostResult {
    match error.try_into_panic() {
        Ok(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned());
            results::internal(name, &text.unwrap_or_else(|| "it panicked".to_owned()))
        }
        Err(_) => results::cancelled(),
    }
}
