//! Runs chats.

use std::sync::{Arc, Mutex, PoisonError};

use async_openai::{config::OpenAIConfig, middleware::ReqwestService};
use serde_json::{Value, json};
use sidecall::{
    Attachments, BoxError, Client,
    chat::{Api, ApprovalRequest, ChatEvent, ChatLoop, ChatOptions, Input, StoppedReason},
    v1::Approval,
};
use tokio_util::sync::CancellationToken;

use crate::{
    batches::{approval_of, milliseconds, set_options, texts},
    clients::{chat_error_of, client_of},
    events::event_of,
};

type Set = fn(ChatOptions) -> ChatOptions;

/// Cancels the run in hand.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Mutex<CancellationToken>>);

impl Cancel {
    /// Cancels it now.
    pub fn now(&self) {
        self.token().cancel();
    }

    fn token(&self) -> CancellationToken {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn renew(&self) -> CancellationToken {
        let token = CancellationToken::new();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = token.clone();
        token
    }
}

/// The events of a run, and when it is to be cancelled.
#[derive(Default)]
struct Watch {
    events: Vec<Value>,
    cancel_after: Value,
}

impl Watch {
    /// Takes an event and returns whether the run is to be cancelled now.
    fn take(&mut self, event: &ChatEvent) -> bool {
        let told = event_of(event);
        let wanted = told["event"] == self.cancel_after["event"];
        self.events.push(told);
        let seen = self
            .events
            .iter()
            .filter(|told| told["event"] == self.cancel_after["event"]);
        wanted && seen.count() as u64 == self.cancel_after["count"]
    }
}

/// Runs the chat of a request.
pub async fn run(request: &Value, cancel: &Cancel) -> Result<Value, BoxError> {
    let client = client_of(&request["sidecar"])?;
    let watch = Arc::new(Mutex::new(Watch::default()));
    let options = options_of(request, &watch, cancel)?;
    let mut chat = match new_loop(client, request, options)? {
        Ok(chat) => chat,
        Err(refused) => return Ok(json!({"runs": [refused]})),
    };
    let mut runs = Vec::new();
    for run in request["runs"].as_array().into_iter().flatten() {
        *lock(&watch) = Watch {
            cancel_after: run["cancel_after"].clone(),
            ..Watch::default()
        };
        let token = cancel.renew();
        let outcome = token
            .run_until_cancelled(chat.run(input_of(&run["input"])))
            .await;
        let mut told = match outcome {
            None => json!({"outcome": "cancelled"}),
            Some(Err(error)) => json!({"outcome": "error", "error": chat_error_of(&error)}),
            Some(Ok(result)) => json!({
                "outcome": "answer",
                "text": result.text,
                "refusal": result.refusal,
                "stopped_reason": reason_of(result.stopped_reason),
                "usage": {
                    "input_tokens": result.usage.input_tokens,
                    "output_tokens": result.usage.output_tokens,
                },
            }),
        };
        told["history"] = chat.history().into();
        told["events"] = std::mem::take(&mut lock(&watch).events).into();
        runs.push(told);
    }
    Ok(json!({"runs": runs}))
}

fn new_loop(
    client: Client,
    request: &Value,
    options: ChatOptions,
) -> Result<Result<ChatLoop, Value>, BoxError> {
    let model = |name: &str| request["model"][name].as_str().unwrap_or_default();
    let config = OpenAIConfig::new()
        .with_api_base(model("base_url"))
        .with_api_key(model("api_key"));
    // It retries nothing, unlike the library's own.
    let http = ReqwestService::new(reqwest::Client::builder().no_proxy().build()?);
    let provider = async_openai::Client::with_config(config).with_http_service(http);
    Ok(ChatLoop::new(client, provider, options).map_err(|error| {
        json!({"outcome": "error", "error": chat_error_of(&error), "history": [], "events": []})
    }))
}

fn options_of(
    request: &Value,
    watch: &Arc<Mutex<Watch>>,
    cancel: &Cancel,
) -> Result<ChatOptions, BoxError> {
    let given = &request["options"];
    let (watch, cancel) = (Arc::clone(watch), cancel.clone());
    let mut options = ChatOptions::new(request["model"]["name"].as_str().unwrap_or_default())
        .on_event(move |event| {
            let cancelled = lock(&watch).take(&event);
            let cancel = cancel.clone();
            async move {
                if cancelled {
                    cancel.now();
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
        });
    let flags: [(&str, Set); 4] = [
        ("stream", ChatOptions::stream),
        ("early_start", ChatOptions::early_start),
        ("reference_hint", ChatOptions::reference_hint),
        ("resend", ChatOptions::resend),
    ];
    for (name, set) in flags {
        if given[name] == true {
            options = set(options);
        }
    }
    if given["api"] == "responses" {
        options = options.api(Api::Responses);
    }
    if given["attachments"] == false {
        options = options.attachments(Attachments::Left);
    }
    if let Some(turns) = given["max_turns"].as_u64() {
        options = options.max_turns(usize::try_from(turns)?);
    }
    if let Some(names) = given["tools"].as_array() {
        options = options.tools(names.iter().filter_map(Value::as_str));
    }
    if let Some(timeout) = milliseconds(&given["batch_timeout_ms"]) {
        options = options.batch_timeout(timeout);
    }
    let mut set = Ok(());
    options = options.batch(|batch| set = set_options(batch, &given["batch"]));
    set?;
    if given["context"].is_object() {
        options = options.context(texts(&given["context"]));
    }
    if let Some(session_id) = given["session_id"].as_str() {
        options = options.session_id(session_id);
    }
    for (member, value) in given["request"].as_object().into_iter().flatten() {
        options = options.request(member, value.clone());
    }
    if let Some(rules) = request["approvals"].as_array() {
        let rules = rules.clone();
        options = options.approve(move |asked| std::future::ready(decide(&rules, &asked)));
    }
    Ok(options)
}

fn decide(rules: &[Value], asked: &ApprovalRequest) -> Result<Option<Approval>, BoxError> {
    let rule = rules.iter().find(|rule| {
        let call_id = rule["call_id"].as_str();
        rule["tool"] == asked.tool_name && call_id.is_none_or(|id| id == asked.call_id)
    });
    match rule {
        Some(rule) if rule["decision"] == "fail" => {
            Err(rule["comment"].as_str().unwrap_or_default().into())
        }
        Some(rule) if rule["decision"] != "open" => Ok(Some(approval_of(rule, &asked.approval_id))),
        _ => Ok(None),
    }
}

fn input_of(given: &Value) -> Input {
    match given {
        Value::Array(items) => items.clone().into(),
        other => other.as_str().unwrap_or_default().into(),
    }
}

fn reason_of(reason: StoppedReason) -> &'static str {
    match reason {
        StoppedReason::Completed => "completed",
        StoppedReason::Length => "length",
        StoppedReason::ContentFilter => "content_filter",
        StoppedReason::Refusal => "refusal",
        StoppedReason::MaxTurns => "max_turns",
        _ => "other",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
