use super::*;

fn is_send<T: Send>(_: T) -> bool {
    true
}

#[tokio::test]
async fn what_a_client_does_can_be_done_in_a_task() {
    let client = Client::builder().endpoint("127.0.0.1:1").build().unwrap();
    assert!(is_send(client.execute_batch([], BatchOptions::default())));
    assert!(is_send(client.list_tools()));
    assert!(is_send(client.wait_until_ready(READY_POLL)));
    assert!(is_send(client.stream_batch(BatchOptions::default())));
}

#[tokio::test]
async fn a_sidecar_that_is_not_there_started_nothing() {
    let builder = Client::builder()
        .endpoint("unix:/nowhere/socket")
        .retries(1);
    let client = builder.build().unwrap();
    let options = BatchOptions {
        request_id: "r".to_owned(),
        ..BatchOptions::default()
    };
    for options in [BatchOptions::default(), options] {
        let error = client.execute_batch([], options).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.not_started() && error.sent_to_instance().is_empty());
    }
    let error = client.wait_until_ready(READY_POLL).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}
