//! What can be chosen about a chat, and what comes out of it.

use std::{collections::HashMap, fmt, future::Future, time::Duration};

use serde_json::{Map, Value};

use crate::{
    Attachments, BatchOptions, BoxError,
    chat::{
        approvals::{ApprovalHook, ApprovalRequest},
        errors::ChatError,
        events::{ChatEvent, EventHook},
        hint::{REFERENCE_HINT, session_reference_hint},
        model::{StoppedReason, Usage},
    },
    v1::{Approval, ToolCall, ToolResult},
};

const RESERVED: [&str; 5] = ["model", "messages", "input", "stream", "n"];

/// The provider's API to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Api {
    /// Chat Completions.
    #[default]
    ChatCompletions,
    /// Responses.
    Responses,
}

/// Choices of a chat loop.
#[derive(Clone)]
#[must_use]
#[expect(clippy::struct_excessive_bools, reason = "the choices are independent")]
pub struct ChatOptions {
    pub(crate) model: String,
    pub(crate) api: Api,
    pub(crate) stream: bool,
    pub(crate) early_start: bool,
    pub(crate) max_turns: usize,
    pub(crate) on_event: Option<EventHook>,
    pub(crate) approve: Option<ApprovalHook>,
    reference_hint: bool,
    pub(crate) attachments: Attachments,
    pub(crate) tools: Option<Vec<String>>,
    pub(crate) resend: bool,
    pub(crate) batch_timeout: Option<Duration>,
    batch: BatchOptions,
    pub(crate) request: Map<String, Value>,
}

impl ChatOptions {
    /// Begins with the name of the model.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            api: Api::default(),
            stream: false,
            early_start: false,
            max_turns: 10,
            on_event: None,
            approve: None,
            reference_hint: false,
            attachments: Attachments::default(),
            tools: None,
            resend: false,
            batch_timeout: None,
            batch: BatchOptions::default(),
            request: Map::new(),
        }
    }

    /// The provider's API to speak; by default Chat Completions.
    pub fn api(mut self, api: Api) -> Self {
        self.api = api;
        self
    }

    /// Streams the model's answers.
    pub fn stream(mut self) -> Self {
        self.stream = true;
        self
    }

    /// Sends each call when the model has finished that call. Only tools that are read-only start
    /// before the model's turn is over. Queued, started, progress and partial output events are
    /// reported with it only.
    pub fn early_start(mut self) -> Self {
        self.early_start = true;
        self
    }

    /// Most answers of the model in one run; by default 10.
    pub fn max_turns(mut self, turns: usize) -> Self {
        self.max_turns = turns;
        self
    }

    /// Tells a hook of each event, one at a time. What it fails with ends the chat.
    pub fn on_event<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(ChatEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.on_event = Some(EventHook::new(hook));
        self
    }

    /// Asks a hook about each call that needs a human's approval; without one the model is told
    /// that a human has to decide, and goes on.
    ///
    /// It returns what [`Approval::approve`] or [`Approval::reject`] make of the request, or None
    /// to leave the question open. Several calls are asked about at once. What it fails with
    /// leaves its own call undecided, so that it does not run. Decisions on other calls take
    /// effect all the same; then the error ends the chat.
    pub fn approve<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(ApprovalRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Approval>, BoxError>> + Send + 'static,
    {
        self.approve = Some(ApprovalHook::new(hook));
        self
    }

    /// Tells the model how calls refer to each other's results. The hint is sent with each request
    /// and never kept in the history.
    pub fn reference_hint(mut self) -> Self {
        self.reference_hint = true;
        self
    }

    /// Whether the model is shown the images and files in results.
    pub fn attachments(mut self, attachments: Attachments) -> Self {
        self.attachments = attachments;
        self
    }

    /// Names of the tools to offer; by default all that the caller may use.
    pub fn tools<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.tools = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Facts about the end user; tools and policies see them, the model does not.
    pub fn context(mut self, context: HashMap<String, String>) -> Self {
        self.batch.context = context;
        self
    }

    /// Session that keeps the results of all turns, so that calls may refer to those of earlier
    /// turns by their ids.
    pub fn session_id(mut self, session_id: impl Into<String>) -> Self {
        self.batch.session_id = session_id.into();
        self
    }

    /// Sends a turn again whose connection is lost, under a `request_id`, so that no call is run
    /// twice: a sidecar that was restarted meanwhile and whose requests are not durable refuses
    /// it, which ends the chat. Calls that have started then go on when the chat is cancelled;
    /// without it they are cancelled.
    pub fn resend(mut self) -> Self {
        self.resend = true;
        self
    }

    /// Time for the tool calls of one turn, from the end of the turn. It does not run while humans
    /// decide, and begins anew after their decisions.
    pub fn batch_timeout(mut self, timeout: Duration) -> Self {
        self.batch_timeout = Some(timeout);
        self
    }

    /// Changes further options of each batch, for example
    /// `options.batch(|batch| batch.max_concurrency = Some(4))`. What belongs to one turn cannot be
    /// set: approvals, `request_id`, `sent_to_instance`, and the deadline, which is
    /// [`ChatOptions::batch_timeout`].
    pub fn batch(mut self, change: impl FnOnce(&mut BatchOptions)) -> Self {
        change(&mut self.batch);
        self
    }

    /// A further member of the API's request. `tools` are added to those of the sidecar.
    pub fn request(mut self, member: impl Into<String>, value: impl Into<Value>) -> Self {
        self.request.insert(member.into(), value.into());
        self
    }

    pub(crate) fn check(&self) -> Result<(), ChatError> {
        if self.max_turns == 0 {
            return Err(ChatError::invalid("max_turns must be at least 1"));
        }
        if self.batch_timeout == Some(Duration::ZERO) {
            return Err(ChatError::invalid("batch_timeout must be positive"));
        }
        let reserved = RESERVED
            .iter()
            .find(|name| self.request.contains_key(**name));
        if let Some(name) = reserved {
            return Err(ChatError::invalid(format!("request may not hold {name}")));
        }
        let of_one_turn = BatchOptions {
            deadline: self.batch.deadline,
            approvals: self.batch.approvals.clone(),
            request_id: self.batch.request_id.clone(),
            sent_to_instance: self.batch.sent_to_instance.clone(),
            ..BatchOptions::default()
        };
        if of_one_turn != BatchOptions::default() {
            let text = "batch may not set deadline, approvals, request_id or sent_to_instance: \
                        they belong to one turn";
            return Err(ChatError::invalid(text));
        }
        Ok(())
    }

    /// Options of each batch.
    pub(crate) fn batch_options(&self) -> BatchOptions {
        self.batch.clone()
    }

    /// Instructions that are sent but not kept in the history; may be empty.
    pub(crate) fn hint(&self) -> String {
        match (self.reference_hint, self.batch.session_id.is_empty()) {
            (false, _) => String::new(),
            (true, true) => REFERENCE_HINT.to_owned(),
            (true, false) => session_reference_hint(),
        }
    }
}

impl fmt::Debug for ChatOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatOptions")
            .field("model", &self.model)
            .field("api", &self.api)
            .field("stream", &self.stream)
            .field("early_start", &self.early_start)
            .field("max_turns", &self.max_turns)
            .finish_non_exhaustive()
    }
}

/// One turn of the model and what its calls gave.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Turn {
    /// What the model wrote.
    pub text: String,
    /// The calls as the sidecar was given them, those of a wrapper one by one; one that the chat
    /// refused to run has no name.
    pub calls: Vec<ToolCall>,
    /// One result per call; none where the turn's calls were not run.
    pub results: Vec<ToolResult>,
    /// Tokens that the turn took.
    pub usage: Usage,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChatResult {
    /// The model's answer; empty where it gave none.
    pub text: String,
    /// The model's refusal; empty where it did not refuse.
    pub refusal: String,
    /// The model's turns in this run.
    pub turns: Vec<Turn>,
    /// Tokens that the run took.
    pub usage: Usage,
    /// Why it stopped.
    pub stopped_reason: StoppedReason,
}
