//! What happens in a chat, for whoever watches.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    BoxError,
    chat::{
        approvals::ApprovalRequest,
        errors::{ChatError, HookError},
        model::Usage,
    },
    v1::{Approval, BlockCause, ToolCall, ToolResult},
};

/// Something that happened in a chat.
///
/// `turn` is the number of the model turn in its run, counted from 1, and `index` the position of
/// a call among those of its turn, counted from 0.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(
    clippy::large_enum_variant,
    reason = "an event is made and told, never stored in numbers"
)]
pub enum ChatEvent {
    /// The model is about to be asked.
    TurnStarted {
        /// The turn.
        turn: usize,
    },
    /// The model wrote text; without streaming, all of it at once.
    TextDelta {
        /// The turn.
        turn: usize,
        /// What it wrote.
        text: String,
    },
    /// The model wrote a part of a refusal.
    RefusalDelta {
        /// The turn.
        turn: usize,
        /// What it wrote.
        text: String,
    },
    /// The model has finished a call.
    CallReady {
        /// The turn.
        turn: usize,
        /// The call's position.
        index: usize,
        /// The call as the sidecar is given it; one that the chat refuses to run has no name.
        call: ToolCall,
    },
    /// A call waits. Reported with early start only.
    CallQueued {
        /// The turn.
        turn: usize,
        /// The call's position.
        index: usize,
        /// What it waits for.
        cause: BlockCause,
        /// Positions of the calls that it depends on and that are not final.
        waiting_for: Vec<usize>,
    },
    /// An attempt of a call was started. Reported with early start only.
    CallStarted {
        /// The turn.
        turn: usize,
        /// The call's position.
        index: usize,
        /// Number of the attempt, counted from 1.
        attempt: i32,
    },
    /// A running tool reported progress. Reported with early start only.
    CallProgress {
        /// The turn.
        turn: usize,
        /// The call's position.
        index: usize,
        /// Work done so far, in the tool's own unit.
        progress: f64,
        /// All of the work in the same unit, where the tool knows it.
        total: Option<f64>,
        /// What the tool is doing.
        message: String,
    },
    /// A running tool produced a part of its output. Reported with early start only.
    CallPartialOutput {
        /// The turn.
        turn: usize,
        /// The call's position.
        index: usize,
        /// The part.
        text: String,
    },
    /// A call has its result.
    ///
    /// Where the chat has an approval hook, calls that were not started are reported after the
    /// decisions, which may start them. A call whose end was unknown is reported again where the
    /// turn was sent again and told it.
    CallFinished {
        /// The turn.
        turn: usize,
        /// The call's position.
        index: usize,
        /// The result.
        result: ToolResult,
    },
    /// A call waits for a human, and the chat's approval hook is asked next.
    ApprovalRequested(ApprovalRequest),
    /// A human was asked about a call. The decision takes effect once all have answered.
    ApprovalDecided {
        /// The turn.
        turn: usize,
        /// The call's position.
        index: usize,
        /// The decision; None where the question was left open.
        approval: Option<Approval>,
    },
    /// Calls that were sent early are void; the turn is sent again as one batch.
    EarlyStartAbandoned {
        /// The turn.
        turn: usize,
        /// Why.
        reason: String,
    },
    /// The model's turn is over and each of its calls is answered.
    TurnFinished {
        /// The turn.
        turn: usize,
        /// What the model wrote in it.
        text: String,
        /// How many calls it made.
        call_count: usize,
        /// Tokens that it took.
        usage: Usage,
    },
    /// The chat ends with an error, which `run` returns next.
    ErrorOccurred {
        /// The turn.
        turn: usize,
        /// The error.
        error: ChatError,
    },
}

type Told = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// Is told of each event, one at a time.
#[derive(Clone)]
pub(crate) struct EventHook(Arc<dyn Fn(ChatEvent) -> Told + Send + Sync>);

impl EventHook {
    pub(crate) fn new<F, Fut>(hook: F) -> Self
    where
        F: Fn(ChatEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        Self(Arc::new(move |event| Box::pin(hook(event))))
    }
}

/// Tells a hook of events.
pub(crate) struct Emitter {
    hook: Option<EventHook>,
    has_failed: AtomicBool,
}

impl Emitter {
    pub(crate) fn new(hook: Option<EventHook>) -> Self {
        Self {
            hook,
            has_failed: AtomicBool::new(false),
        }
    }

    /// Tells the hook of an event, which is made only where there is a hook.
    pub(crate) async fn emit(&self, event: impl FnOnce() -> ChatEvent) -> Result<(), HookError> {
        match &self.hook {
            None => Ok(()),
            Some(hook) => (hook.0)(event()).await.map_err(|error| {
                self.has_failed.store(true, Ordering::Relaxed);
                error.into()
            }),
        }
    }

    /// Tells the hook of the error that ends a run, unless it failed itself.
    pub(crate) async fn report(&self, turn: usize, error: &ChatError) {
        if self.has_failed.swap(false, Ordering::Relaxed) {
            return;
        }
        // The run ends in any case; a hook that fails now changes nothing.
        let _ = self
            .emit(|| ChatEvent::ErrorOccurred {
                turn,
                error: error.clone(),
            })
            .await;
        self.has_failed.store(false, Ordering::Relaxed);
    }
}
