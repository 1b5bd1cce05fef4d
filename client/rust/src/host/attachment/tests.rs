use super::*;
use crate::{
    HostedTool, ToolContext, ToolError,
    v1::{ExecutionState, HostCall, HostCancel, HostDraining, host_result::Value},
};
use serde_json::json;
use tokio::task::JoinHandle;

struct Fake {
    heard: ReceiverStream<AttachRequest>,
    said: mpsc::UnboundedSender<Result<AttachResponse, Status>>,
    closing: CancellationToken,
    serving: JoinHandle<Result<(), RpcError>>,
}

impl Fake {
    fn attach() -> Self {
        let (outgoing, heard) = mpsc::channel(MAX_WAITING_MESSAGES);
        let (said, incoming) = mpsc::unbounded_channel();
        let incoming = Box::pin(tokio_stream::wrappers::UnboundedReceiverStream::new(
            incoming,
        ));
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let attached = HostAttached {
            heartbeat_interval: seconds(10),
            silence_timeout: seconds(30),
            max_message_bytes: 1000,
            ..HostAttached::default()
        };
        let tools = tools()
            .into_iter()
            .map(|tool| (tool.tool.name.clone(), tool));
        let tools = Arc::new(tools.collect());
        let attachment = Attachment::of(outgoing, incoming, &attached, tools, 1 << 20);
        let closing = CancellationToken::new();
        let until = closing.clone();
        let drain_timeout = Duration::from_secs(5);
        let serving = tokio::spawn(async move { attachment.serve(&until, drain_timeout).await });
        Self {
            heard: ReceiverStream::new(heard),
            said,
            closing,
            serving,
        }
    }

    fn say(&self, said: Said) {
        let message = Some(said);
        self.said.send(Ok(AttachResponse { message })).unwrap();
    }

    fn call(&self, attempt_id: i64, name: &str, arguments: &str) {
        self.say(Said::Call(HostCall {
            attempt_id,
            name: name.into(),
            arguments: arguments.into(),
            timeout: Some(prost_types::Duration {
                seconds: 15,
                nanos: 0,
            }),
            ..HostCall::default()
        }));
    }

    async fn next(&mut self) -> Option<Message> {
        self.heard
            .next()
            .await
            .map(|request| request.message.unwrap())
    }

    async fn result(&mut self) -> HostResult {
        match self.next().await {
            Some(Message::Result(result)) => result,
            other => panic!("not a result: {other:?}"),
        }
    }
}

fn tools() -> Vec<HostedTool> {
    let schema = json!({"type": "object"});
    let tool = |name, function: fn(serde_json::Value, ToolContext) -> _| {
        HostedTool::new(name, "", &schema, function)
    };
    let large =
        |_: serde_json::Value, _: ToolContext| async { Ok::<_, ToolError>("x".repeat(2000)) };
    let panics = |given: serde_json::Value, _: ToolContext| async move {
        Ok::<_, ToolError>(given["number"].as_i64().expect("secret"))
    };
    vec![
        tool("report", |_, context| {
            Box::pin(async move {
                context.progress(1.0, None, "half");
                context.partial_output("a");
                Ok::<_, ToolError>("all")
            })
                as std::pin::Pin<Box<dyn Future<Output = Result<&'static str, ToolError>> + Send>>
        }),
        tool("wait", |_, _| Box::pin(std::future::pending())),
        HostedTool::new("large", "", &schema, large),
        HostedTool::new("panic", "", &schema, panics),
        HostedTool::new("number", "", &schema, |number: i32, _| async move {
            Ok::<_, ToolError>(number)
        }),
    ]
}

fn message_of(result: &HostResult) -> &str {
    &result.status.as_ref().unwrap().message
}

#[tokio::test(start_paused = true)]
async fn reports_come_before_their_result() {
    let mut fake = Fake::attach();
    fake.call(1, "report", "");
    assert!(
        matches!(fake.next().await, Some(Message::Progress(progress)) if progress.message == "half")
    );
    assert!(
        matches!(fake.next().await, Some(Message::PartialOutput(output)) if output.text == "a")
    );
    let result = fake.result().await;
    assert_eq!(result.attempt_id, 1);
    assert_eq!(result.value, Some(Value::Text("all".into())));
}

#[tokio::test(start_paused = true)]
async fn failures_are_results() {
    let mut fake = Fake::attach();
    fake.call(1, "panic", "{}");
    let panicked = fake.result().await;
    assert!(message_of(&panicked).starts_with("Tool 'panic' failed with an internal error"));
    fake.call(2, "number", "{}");
    let refused = fake.result().await;
    assert_eq!(refused.execution_state(), ExecutionState::NotStarted);
    fake.call(3, "other", "{}");
    assert_eq!(
        message_of(&fake.result().await),
        "There is no tool 'other' here."
    );
    fake.call(4, "large", "{}");
    assert!(message_of(&fake.result().await).contains("larger than the 1000 bytes"));
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_when_it_is_cancelled_or_its_time_is_over() {
    let mut fake = Fake::attach();
    fake.call(1, "wait", "{}");
    fake.call(2, "wait", "{}");
    fake.say(Said::Cancel(HostCancel { attempt_id: 2 }));
    let cancelled = fake.result().await;
    assert_eq!(cancelled.attempt_id, 2);
    assert_eq!(cancelled.execution_state(), ExecutionState::Unknown);
    assert!(matches!(fake.next().await, Some(Message::Heartbeat(_))));
    fake.say(Said::Heartbeat(HostHeartbeat {}));
    let expired = fake.result().await;
    assert_eq!(expired.attempt_id, 1);
    assert_eq!(message_of(&expired), "The time for the call was over.");
}

#[tokio::test(start_paused = true)]
async fn a_silent_sidecar_is_gone() {
    let mut fake = Fake::attach();
    for _ in 0..2 {
        assert!(matches!(fake.next().await, Some(Message::Heartbeat(_))));
    }
    let error = fake.serving.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_drain_answers_what_is_in_hand() {
    let mut fake = Fake::attach();
    fake.call(1, "wait", "{}");
    fake.closing.cancel();
    assert!(matches!(fake.next().await, Some(Message::Drain(_))));
    // Sent before the sidecar heard of the drain.
    fake.call(2, "report", "{}");
    fake.say(Said::Draining(HostDraining::default()));
    fake.next().await;
    fake.next().await;
    assert_eq!(fake.result().await.attempt_id, 2);
    let abandoned = fake.result().await;
    assert_eq!(
        message_of(&abandoned),
        "The application ended while the tool ran."
    );
    assert!(fake.next().await.is_none());
    drop(fake.said);
    fake.serving.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_drains_gets_its_answers() {
    let mut fake = Fake::attach();
    fake.call(1, "report", "{}");
    fake.say(Said::Draining(HostDraining::default()));
    fake.next().await;
    fake.next().await;
    fake.result().await;
    assert!(fake.next().await.is_none());
    drop(fake.said);
    fake.serving.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_an_error() {
    let fake = Fake::attach();
    fake.said.send(Err(Status::unavailable("lost"))).unwrap();
    assert!(fake.serving.await.unwrap().is_err());
}
