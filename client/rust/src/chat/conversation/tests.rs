use super::*;
use std::time::Duration;

fn new_loop(options: ChatOptions) -> Result<ChatLoop, ChatError> {
    let client = Client::builder()
        .endpoint("unix:/nowhere/socket")
        .retries(0);
    let client = client.build().map_err(ChatError::from)?;
    ChatLoop::new(client, async_openai::Client::new(), options)
}

#[tokio::test]
async fn choices_that_make_no_sense_are_refused() {
    let options = || ChatOptions::new("m");
    for wrong in [
        options().max_turns(0),
        options().batch_timeout(Duration::ZERO),
        options().request("stream", true),
        options().batch(|batch| batch.request_id = "r".to_owned()),
    ] {
        assert!(matches!(new_loop(wrong), Err(ChatError::Invalid(_))));
    }
}

#[tokio::test]
async fn a_question_stays_in_the_history_when_the_sidecar_is_not_there() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let options = ChatOptions::new("m").on_event(move |event| {
        let tell = tell.clone();
        async move { Ok(tell.send(event)?) }
    });
    let mut chat = new_loop(options).unwrap();
    let run = tokio::spawn(async move {
        let error = chat.run("Well?").await.unwrap_err();
        (error, chat.history().to_vec())
    });
    let (error, history) = run.await.unwrap();
    assert!(matches!(error, ChatError::Sidecar(error) if error.not_started()));
    assert_eq!(history, [json!({"role": "user", "content": "Well?"})]);
    let event = told.recv().await.unwrap();
    assert!(matches!(event, ChatEvent::ErrorOccurred { turn: 0, .. }));
}
