//! Early start: a turn's calls go out while the model is still writing the turn.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::{Instant, timeout};
use tonic::Code;

use crate::{
    BatchOptions, BatchStream, Client, RpcError,
    chat::{
        errors::{ChatError, HookError},
        events::{ChatEvent, Emitter},
        execution::new_request_id,
        history::TurnRecord,
        options::ChatOptions,
        turn_calls::TurnCalls,
    },
    v1::{BlockCause, ExecutionState, ToolCall, ToolResult, batch_event::Event},
};

/// Time in which a sidecar that serves gives the results of calls that are cancelled.
const ANSWER_TIME: Duration = Duration::from_secs(5);

type Heard = Result<Option<Event>, RpcError>;

/// Calls of one turn that are sent over `StreamBatch` before the turn is over.
pub(crate) struct EarlyCalls<'a> {
    turn: usize,
    client: &'a Client,
    options: BatchOptions,
    /// Time for the calls from the seal; then what has not ended is cancelled, which gives it a
    /// result, or else ends the turn.
    timeout: Option<Duration>,
    /// Whether results of calls that were not started are not reported: a human's decision may
    /// start them later.
    hold_unstarted: bool,
    stream: Option<BatchStream>,
    sent: Vec<ToolCall>,
    given_up: bool,
    results: BTreeMap<usize, ToolResult>,
    /// Indexes of the calls whose results were reported.
    pub(crate) told: BTreeSet<usize>,
    /// Key under which the calls may be sent again once they were released; empty where there is
    /// none.
    pub(crate) request_id: String,
    /// Where they were sent; empty where they must not be sent again.
    pub(crate) sent_to_instance: String,
}

impl<'a> EarlyCalls<'a> {
    pub(crate) fn new(turn: usize, client: &'a Client, options: &ChatOptions) -> Self {
        let mut batch = options.batch_options();
        if options.resend {
            batch.request_id = new_request_id();
        }
        Self {
            turn,
            client,
            // No deadline: the RPC is open while the model is still writing.
            options: batch,
            timeout: options.batch_timeout,
            hold_unstarted: options.approve.is_some(),
            stream: None,
            sent: Vec::new(),
            given_up: false,
            results: BTreeMap::new(),
            told: BTreeSet::new(),
            request_id: String::new(),
            sent_to_instance: String::new(),
        }
    }

    /// Sends the calls that the model has finished and that were not sent yet.
    pub(crate) async fn send(
        &mut self,
        calls: &TurnCalls<'_>,
        emitter: &Emitter,
    ) -> Result<(), HookError> {
        let unsent = calls.batch.get(self.sent.len()..).unwrap_or_default();
        if self.given_up || unsent.is_empty() {
            return Ok(());
        }
        match self.send_all(unsent).await {
            Ok(()) => Ok(()),
            Err(error) => self.abandon(&error.to_string(), emitter).await,
        }
    }

    /// Gives up what was sent; only tools that are read-only can have run.
    pub(crate) async fn abandon(
        &mut self,
        reason: &str,
        emitter: &Emitter,
    ) -> Result<(), HookError> {
        if self.given_up {
            return Ok(());
        }
        self.given_up = true;
        if let Some(stream) = &mut self.stream {
            stream.abandon();
        }
        let turn = self.turn;
        let reason = reason.to_owned();
        emitter
            .emit(|| ChatEvent::EarlyStartAbandoned { turn, reason })
            .await
    }

    /// Waits for what happens next; never, where no calls are under way. It may be dropped and
    /// called again.
    pub(crate) async fn next_event(&mut self) -> Heard {
        match &mut self.stream {
            Some(stream) if !self.given_up => stream.next_event().await,
            _ => std::future::pending().await,
        }
    }

    /// Takes in what happened before the seal.
    pub(crate) async fn take(
        &mut self,
        heard: Heard,
        calls: &TurnCalls<'_>,
        emitter: &Emitter,
    ) -> Result<(), HookError> {
        match heard {
            Ok(Some(event)) => self.take_event(event, calls, None, emitter).await,
            Ok(None) => {
                self.abandon("the sidecar ended the turn before its seal", emitter)
                    .await
            }
            Err(error) => self.abandon(&error.to_string(), emitter).await,
        }
    }

    /// Runs the turn to its end once all of its calls are known.
    ///
    /// Returns whether every call has its result in the record. If not, nothing has taken effect,
    /// and the calls are to be sent as one batch.
    ///
    /// # Errors
    ///
    /// The turn failed after the calls were released. Without a `request_id` they are never sent
    /// again, whatever the sidecar says.
    pub(crate) async fn complete(
        &mut self,
        calls: &TurnCalls<'_>,
        record: &mut TurnRecord<'_>,
        emitter: &Emitter,
    ) -> Result<bool, ChatError> {
        if calls.batch.get(..self.sent.len()) != Some(self.sent.as_slice()) {
            self.abandon("the model changed a call that had been sent", emitter)
                .await?;
        }
        self.send(calls, emitter).await?;
        let Some(stream) = self.stream.as_mut().filter(|_| !self.given_up) else {
            return Ok(false);
        };
        stream.request_id().clone_into(&mut self.request_id);
        stream
            .sent_to_instance()
            .clone_into(&mut self.sent_to_instance);
        for (&index, result) in &self.results {
            record.add_result(index, result.clone());
        }
        stream.seal()?;
        self.wait(calls, record, emitter).await?;
        if let Some(stream) = &mut self.stream {
            stream.results().await?;
            stream.request_id().clone_into(&mut self.request_id);
        }
        Ok(true)
    }

    async fn send_all(&mut self, unsent: &[ToolCall]) -> Result<(), RpcError> {
        if self.stream.is_none() {
            let opened = self.client.stream_batch(self.options.clone()).await?;
            self.stream = Some(opened);
        }
        if let Some(stream) = &mut self.stream {
            for call in unsent {
                stream.send(self.sent.len(), call.clone())?;
                self.sent.push(call.clone());
            }
        }
        Ok(())
    }

    /// Takes in what happens until the turn is over.
    async fn wait(
        &mut self,
        calls: &TurnCalls<'_>,
        record: &mut TurnRecord<'_>,
        emitter: &Emitter,
    ) -> Result<(), ChatError> {
        let mut left = self.timeout;
        let mut cancelled = false;
        loop {
            let since = Instant::now();
            let heard = match left {
                None => Some(self.next_event().await),
                Some(left) => timeout(left, self.next_event()).await.ok(),
            };
            // While a hook is told of an event, nobody hears of the next one: that is not the
            // sidecar's time, but it is that of the calls.
            let waited = since.elapsed();
            match heard {
                Some(Ok(Some(event))) => {
                    self.take_event(event, calls, Some(record), emitter).await?;
                    let spent = if cancelled { waited } else { since.elapsed() };
                    left = left.map(|left| left.saturating_sub(spent));
                }
                Some(Ok(None)) => return Ok(()),
                Some(Err(error)) => return Err(error.into()),
                None if cancelled => {
                    let text = "the sidecar did not answer when the time of its calls was over";
                    return Err(RpcError::new(Code::DeadlineExceeded, text).into());
                }
                None => {
                    cancelled = true;
                    left = Some(ANSWER_TIME);
                    self.cancel_all()?;
                }
            }
        }
    }

    fn cancel_all(&mut self) -> Result<(), RpcError> {
        if let Some(stream) = &mut self.stream {
            for index in 0..self.sent.len() {
                stream.cancel(index)?;
            }
        }
        Ok(())
    }

    async fn take_event(
        &mut self,
        event: Event,
        calls: &TurnCalls<'_>,
        record: Option<&mut TurnRecord<'_>>,
        emitter: &Emitter,
    ) -> Result<(), HookError> {
        let turn = self.turn;
        let Event::Result(finished) = event else {
            return match translate(turn, event) {
                Some(event) => emitter.emit(|| event).await,
                None => Ok(()),
            };
        };
        let index = position(finished.index);
        let result = calls.settle(index, finished.result.unwrap_or_default());
        if let Some(record) = record {
            record.add_result(index, result.clone());
        }
        self.results.insert(index, result.clone());
        let unstarted = result.execution_state() == ExecutionState::NotStarted;
        if self.hold_unstarted && unstarted {
            return Ok(());
        }
        let told = || ChatEvent::CallFinished {
            turn,
            index,
            result,
        };
        emitter.emit(told).await?;
        self.told.insert(index);
        Ok(())
    }
}

fn translate(turn: usize, event: Event) -> Option<ChatEvent> {
    match event {
        Event::Queued(queued) => Some(ChatEvent::CallQueued {
            turn,
            index: position(queued.index),
            cause: BlockCause::try_from(queued.cause).unwrap_or_default(),
            waiting_for: queued.waiting_for.into_iter().map(position).collect(),
        }),
        Event::Started(started) => Some(ChatEvent::CallStarted {
            turn,
            index: position(started.index),
            attempt: started.attempt,
        }),
        Event::Progress(report) => Some(ChatEvent::CallProgress {
            turn,
            index: position(report.index),
            progress: report.progress,
            total: report.total,
            message: report.message,
        }),
        Event::PartialOutput(output) => Some(ChatEvent::CallPartialOutput {
            turn,
            index: position(output.index),
            text: output.text,
        }),
        _ => None,
    }
}

fn position(index: i32) -> usize {
    usize::try_from(index).unwrap_or_default()
}
