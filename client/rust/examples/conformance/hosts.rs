//! Attaches tools.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use sidecall::{
    BoxError, Code, HostedTool, ToolContext, ToolError, ToolHost, ToolOutput, code_name,
    v1::{Blob, Effects, Link},
};

use crate::clients::{client_of, config_error_of, rpc_error_of};

type Log = Arc<Mutex<Vec<String>>>;

/// Attaches one host at a time.
#[derive(Default)]
pub struct Hosts {
    host: Option<ToolHost>,
    log: Log,
}

impl Hosts {
    /// Starts or stops the host of a request.
    pub async fn run(&mut self, request: &Value) -> Result<Value, BoxError> {
        match request["action"].as_str() {
            Some("start") => self.start(request).await,
            Some("stop") => {
                self.stop().await?;
                let log = std::mem::take(&mut *lock(&self.log));
                Ok(json!({"outcome": "stopped", "log": log}))
            }
            action => Ok(json!({"unsupported": format!("no host to {action:?}")})),
        }
    }

    /// Stops what still runs.
    pub async fn stop(&mut self) -> Result<(), BoxError> {
        if let Some(host) = self.host.take() {
            host.close().await?;
        }
        Ok(())
    }

    async fn start(&mut self, request: &Value) -> Result<Value, BoxError> {
        let client = client_of(&request["sidecar"])?;
        let name = request["host_name"].as_str().unwrap_or("conformance");
        let mut builder = ToolHost::builder(name).tools(tools(&self.log));
        if let Some(calls) = request["max_concurrency"].as_i64() {
            builder = builder.max_concurrency(i32::try_from(calls)?);
        }
        let host = match builder.start(&client) {
            Ok(host) => host,
            Err(error) => {
                return Ok(json!({"outcome": "error", "error": config_error_of(&error)}));
            }
        };
        if let Err(error) = host.wait_until_attached().await {
            return Ok(json!({"outcome": "error", "error": rpc_error_of(&error)}));
        }
        self.host = Some(host);
        Ok(json!({"outcome": "attached"}))
    }
}

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

#[derive(Deserialize, JsonSchema)]
struct Text {
    text: String,
}

#[derive(Deserialize, JsonSchema)]
struct Numbers {
    a: i64,
    b: i64,
}

#[derive(Deserialize, JsonSchema)]
struct Steps {
    steps: u32,
}

#[derive(Deserialize, JsonSchema)]
struct Name {
    name: String,
}

#[derive(Deserialize, JsonSchema)]
struct Fail {
    code: String,
    message: String,
    #[serde(default)]
    retry_after_ms: u64,
}

#[derive(Deserialize, JsonSchema)]
struct Size {
    size: usize,
}

fn tools(log: &Log) -> Vec<HostedTool> {
    let described = |name: &str| format!("Conformance tool {name}.");
    let log = Arc::clone(log);
    macro_rules! tool {
        ($name:literal, $effects:ident, $function:expr) => {
            HostedTool::typed($name, described($name), $function).effects(Effects::$effects)
        };
    }
    vec![
        tool!("host_echo", ReadOnly, |text: Text, _| async {
            Told::Ok(text.text)
        }),
        tool!("host_add", ReadOnly, |of: Numbers, _| async move {
            Told::Ok(json!({"sum": of.a + of.b}))
        }),
        tool!("host_nothing", Idempotent, |_: Nothing, _| async {
            Told::Ok(())
        }),
        tool!("host_parts", ReadOnly, |_: Nothing, _| async {
            Told::Ok(parts())
        }),
        tool!("host_progress", ReadOnly, progress),
        tool!("host_wait", NonIdempotent, move |of: Name, context| {
            wait(of.name, context, Arc::clone(&log))
        }),
        tool!(
            "host_fail",
            NonIdempotent,
            |of: Fail, _| async move { fail(of) }
        ),
        tool!("host_crash", NonIdempotent, |of: Text, _| async move {
            Err::<(), BoxError>(of.text.into())
        }),
        tool!("host_large", ReadOnly, |of: Size, _| async move {
            Told::Ok("x".repeat(of.size))
        }),
        tool!(
            "host_context",
            ReadOnly,
            |_: Nothing, context: ToolContext| async move {
                Told::Ok(json!({
                    "context": context.context(),
                    "call_id": context.call_id(),
                    "attempt": context.attempt(),
                    "idempotency_key": context.idempotency_key(),
                    "traceparent": context.traceparent(),
                    "has_deadline": context.remaining().is_some(),
                }))
            }
        ),
    ]
}

/// What a function returns that never fails.
type Told<T> = Result<T, Infallible>;

fn parts() -> ToolOutput {
    ToolOutput::Parts(vec![
        "two parts".into(),
        Blob {
            media_type: "image/png".into(),
            data: b"\x89PNG\r\n\x1a\n".to_vec(),
            name: "dot.png".into(),
        }
        .into(),
        Link {
            uri: "https://example.com/a".into(),
            media_type: "text/html".into(),
            name: "a".into(),
        }
        .into(),
    ])
}

async fn progress(of: Steps, context: ToolContext) -> Result<&'static str, BoxError> {
    for step in 1..=of.steps {
        context.progress(step.into(), Some(of.steps.into()), format!("step {step}"));
        context.partial_output(&format!("part {step};"));
    }
    Ok("done")
}

/// Logs when it is dropped.
struct Logged(Log, String);

impl Drop for Logged {
    fn drop(&mut self) {
        lock(&self.0).push(std::mem::take(&mut self.1));
    }
}

async fn wait(name: String, context: ToolContext, log: Log) -> Result<(), BoxError> {
    let _logged = Logged(log, format!("host_wait {name} cancelled"));
    context.progress(1.0, None, "waiting");
    std::future::pending().await
}

fn fail(of: Fail) -> Result<(), ToolError> {
    let code = (1..=16)
        .map(Code::from_i32)
        .find(|code| code_name(*code) == of.code);
    let mut error = ToolError::new(of.message).code(code.unwrap_or(Code::Unknown));
    if of.retry_after_ms != 0 {
        error = error.retry_after(Duration::from_millis(of.retry_after_ms));
    }
    Err(error)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
