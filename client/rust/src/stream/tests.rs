use super::*;
use crate::v1::{BatchAccepted, BatchEvent, CallFinished};

struct Fake {
    sent: mpsc::UnboundedReceiver<StreamBatchRequest>,
    said: mpsc::UnboundedSender<Result<StreamBatchResponse, Status>>,
}

impl Fake {
    fn turn() -> (Self, BatchStream) {
        let (outgoing, sent) = mpsc::unbounded_channel();
        let (said, incoming) = mpsc::unbounded_channel();
        let incoming = Box::pin(UnboundedReceiverStream::new(incoming));
        let turn = BatchStream::of(outgoing, incoming, "r".into(), "i".into(), None);
        (Self { sent, said }, turn)
    }

    fn say(&self, events: impl IntoIterator<Item = Event>) {
        let events = events
            .into_iter()
            .map(|event| BatchEvent { event: Some(event) })
            .collect();
        self.said.send(Ok(StreamBatchResponse { events })).unwrap();
    }

    fn heard(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.sent.try_recv().ok())
            .filter_map(|request| request.message)
            .collect()
    }
}

fn finished(index: i32, content: &str) -> Event {
    let result = Some(ToolResult {
        content: content.into(),
        ..Default::default()
    });
    Event::Result(CallFinished { index, result })
}

#[tokio::test]
async fn results_are_in_call_order() {
    let (mut fake, mut turn) = Fake::turn();
    turn.send(0, ToolCall::new("a", ())).unwrap();
    turn.send(1, ToolCall::new("b", ())).unwrap();
    turn.seal().unwrap();
    fake.say([
        Event::Accepted(BatchAccepted::default()),
        finished(1, "one"),
    ]);
    fake.say([
        finished(0, "zero"),
        Event::Summary(BatchSummary {
            request_id: "minted".into(),
            ..Default::default()
        }),
    ]);
    drop(fake.said);
    let answered = turn.results().await.unwrap();
    let contents: Vec<_> = answered
        .results
        .iter()
        .map(|r| r.content.as_str())
        .collect();
    assert_eq!(contents, ["zero", "one"]);
    assert_eq!(answered.request_id, "minted");
    let sent: Vec<_> = std::iter::from_fn(|| fake.sent.try_recv().ok()).collect();
    assert_eq!(sent.len(), 3);
    // The summary half-closes.
    assert!(fake.sent.is_closed());
}

#[tokio::test]
async fn an_index_is_sent_once_and_not_after_the_seal() {
    let (mut fake, mut turn) = Fake::turn();
    turn.send(0, ToolCall::default()).unwrap();
    assert!(turn.send(0, ToolCall::default()).is_err());
    turn.seal().unwrap();
    assert!(turn.send(1, ToolCall::default()).is_err());
    assert!(turn.seal().is_err());
    assert_eq!(fake.heard().len(), 2);
}

#[tokio::test]
async fn nothing_is_sent_to_an_abandoned_turn() {
    let (mut fake, mut turn) = Fake::turn();
    turn.abandon();
    assert!(turn.send(0, ToolCall::default()).is_err());
    assert!(turn.cancel(0).is_err());
    assert!(turn.seal().is_err());
    assert!(fake.heard().is_empty() && fake.sent.is_closed());
}

#[tokio::test]
async fn a_final_call_is_not_cancelled() {
    let (mut fake, mut turn) = Fake::turn();
    fake.say([finished(0, "zero")]);
    turn.next_event().await.unwrap();
    turn.cancel(0).unwrap();
    turn.cancel(1).unwrap();
    assert_eq!(fake.heard(), [Message::Cancel(StreamCancel { index: 1 })]);
}

#[tokio::test]
async fn a_failure_after_acceptance_may_have_started_calls() {
    let (fake, mut turn) = Fake::turn();
    let lost = Status::unavailable("lost");
    fake.said.send(Err(lost)).unwrap();
    let error = turn.next_event().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(!error.not_started());
    assert!(turn.next_event().await.unwrap().is_none());
}

#[tokio::test]
async fn a_call_without_a_result_is_an_error() {
    let (fake, mut turn) = Fake::turn();
    turn.send(3, ToolCall::default()).unwrap();
    drop(fake.said);
    let error = turn.results().await.unwrap_err();
    assert!(error.message().ends_with("[3]"), "{error}");
}
