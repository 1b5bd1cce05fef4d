//! One turn over `StreamBatch`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    pin::Pin,
};

use tokio::{sync::mpsc, time::Instant};
use tokio_stream::{Stream, StreamExt as _, wrappers::UnboundedReceiverStream};
use tonic::{Code, Status};

use crate::{
    BatchResults, RpcError,
    client::{deadline_exceeded, within},
    connection::Connection,
    v1::{
        BatchSummary, StreamBatchRequest, StreamBatchResponse, StreamCall, StreamCancel,
        StreamSeal, StreamStart, ToolCall, ToolResult, batch_event::Event,
        stream_batch_request::Message, tool_service_client::ToolServiceClient,
    },
};

type Incoming = Pin<Box<dyn Stream<Item = Result<StreamBatchResponse, Status>> + Send>>;

/// One turn whose calls are sent while the model is still producing them.
///
/// Dropping it before the turn is over cancels the turn. [`BatchStream::next_event`] may be
/// dropped and called again, in a `select!` for example.
pub struct BatchStream {
    outgoing: Option<mpsc::UnboundedSender<StreamBatchRequest>>,
    incoming: Incoming,
    deadline: Option<Instant>,
    request_id: String,
    sent_to_instance: String,
    sent: BTreeSet<i32>,
    pending: VecDeque<Event>,
    results: BTreeMap<i32, ToolResult>,
    sealed: bool,
    over: bool,
    summary: Option<BatchSummary>,
}

impl BatchStream {
    /// Opens a turn and waits until the sidecar has accepted it: a call that crosses a refusal
    /// could hide its reason.
    pub(crate) async fn open(
        connection: &Connection,
        start: StreamStart,
        sent_to_instance: String,
        deadline: Option<Instant>,
    ) -> Result<Self, RpcError> {
        connection.check_size(&start)?;
        let (outgoing, messages) = mpsc::unbounded_channel();
        let messages = UnboundedReceiverStream::new(messages);
        let request = connection.request(messages, deadline).await?;
        let max_bytes = connection.max_message_bytes;
        let mut stub = ToolServiceClient::new(connection.channel.clone())
            .max_decoding_message_size(max_bytes)
            .max_encoding_message_size(max_bytes);
        let earlier = start.sent_to_instance.clone();
        let request_id = start.request_id.clone();
        let _ = outgoing.send(message(Message::Start(start)));
        let opened = async {
            let response = within(deadline, stub.stream_batch(request))
                .await
                .ok_or_else(deadline_exceeded)??;
            let incoming: Incoming = Box::pin(response.into_inner());
            let mut turn = Self::of(outgoing, incoming, request_id, sent_to_instance, deadline);
            turn.read().await?;
            Ok(turn)
        };
        opened.await.map_err(|mut error: RpcError| {
            // No call was sent now, whatever the reason.
            error.not_started = earlier.is_empty();
            error.sent_to_instance = earlier;
            error
        })
    }

    fn of(
        outgoing: mpsc::UnboundedSender<StreamBatchRequest>,
        incoming: Incoming,
        request_id: String,
        sent_to_instance: String,
        deadline: Option<Instant>,
    ) -> Self {
        Self {
            outgoing: Some(outgoing),
            incoming,
            deadline,
            request_id,
            sent_to_instance,
            sent: BTreeSet::new(),
            pending: VecDeque::new(),
            results: BTreeMap::new(),
            sealed: false,
            over: false,
            summary: None,
        }
    }

    /// Key under which the turn's calls may be sent again, by
    /// [`Client::execute_batch`](crate::Client::execute_batch).
    ///
    /// Once the turn is over it may be one that the sidecar made because a call waits for
    /// approval. Empty where there is none.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.summary
            .as_ref()
            .map_or(&self.request_id, |summary| &summary.request_id)
    }

    /// Where the turn was first sent, for a send under the same `request_id`. Empty where that
    /// is not known, or the turn has no `request_id` of its own: then a lost turn must not be
    /// sent again.
    #[must_use]
    pub fn sent_to_instance(&self) -> &str {
        &self.sent_to_instance
    }

    /// The turn's summary; None before it is over.
    #[must_use]
    pub fn summary(&self) -> Option<&BatchSummary> {
        self.summary.as_ref()
    }

    /// Sends a call that the model has finished. It does not wait.
    ///
    /// # Errors
    ///
    /// The index was sent before, or nothing can be sent any more.
    pub fn send(&mut self, index: usize, call: ToolCall) -> Result<(), RpcError> {
        let index = position(index)?;
        if self.sealed || !self.sent.insert(index) {
            let text = format!("call {index} cannot be sent: it was, or the turn is sealed");
            return Err(RpcError::new(Code::FailedPrecondition, text));
        }
        let call = Some(call);
        self.write(Message::Call(StreamCall { index, call }))
    }

    /// Ends the turn: calls that are held may start.
    ///
    /// # Errors
    ///
    /// The turn is sealed, abandoned or over.
    pub fn seal(&mut self) -> Result<(), RpcError> {
        if self.sealed {
            let text = "the turn is already sealed";
            return Err(RpcError::new(Code::FailedPrecondition, text));
        }
        let call_count = position(self.sent.len())?;
        self.write(Message::Seal(StreamSeal { call_count }))?;
        self.sealed = true;
        Ok(())
    }

    /// Cancels one call. One that is already final is left as it is.
    ///
    /// # Errors
    ///
    /// The turn is abandoned.
    pub fn cancel(&mut self, index: usize) -> Result<(), RpcError> {
        let index = position(index)?;
        if self.over || self.summary.is_some() || self.results.contains_key(&index) {
            return Ok(());
        }
        self.write(Message::Cancel(StreamCancel { index }))
    }

    /// Gives the unsealed turn up: calls that are held are never started.
    pub fn abandon(&mut self) {
        self.outgoing = None;
    }

    /// Waits for what happens next; None when the turn is over.
    ///
    /// # Errors
    ///
    /// The RPC failed.
    pub async fn next_event(&mut self) -> Result<Option<Event>, RpcError> {
        while self.pending.is_empty() && !self.over {
            if let Err(mut error) = self.read().await {
                // Calls of an accepted turn may have run, whatever the reason.
                error.not_started = false;
                error.sent_to_instance.clone_from(&self.sent_to_instance);
                return Err(error);
            }
        }
        let event = self.pending.pop_front();
        match &event {
            Some(Event::Result(finished)) => {
                let result = finished.result.clone().unwrap_or_default();
                self.results.insert(finished.index, result);
            }
            Some(Event::Summary(summary)) => {
                self.summary = Some(summary.clone());
                // The sidecar waits for the half-close, so that what is sent until now does not
                // cross the end of the RPC.
                self.outgoing = None;
            }
            _ => {}
        }
        Ok(event)
    }

    /// Waits for the turn to end and returns its results, ordered by index.
    ///
    /// # Errors
    ///
    /// The RPC failed, or a call that was sent has no result.
    pub async fn results(&mut self) -> Result<BatchResults, RpcError> {
        while self.next_event().await?.is_some() {}
        let missing: Vec<_> = self
            .sent
            .iter()
            .filter(|index| !self.results.contains_key(index))
            .collect();
        if !missing.is_empty() {
            let text = format!("the turn ended without results of the calls {missing:?}");
            return Err(RpcError::new(Code::Internal, text));
        }
        let summary = self.summary.clone().unwrap_or_default();
        Ok(BatchResults {
            results: self.results.values().cloned().collect(),
            request_id: self.request_id().to_owned(),
            schedule: summary.schedule,
        })
    }

    fn write(&self, sent: Message) -> Result<(), RpcError> {
        let failed = |text: &str| Err(RpcError::new(Code::FailedPrecondition, text));
        match &self.outgoing {
            None if self.summary.is_some() => failed("the turn is already over"),
            None => failed("the turn is abandoned: nothing can be sent any more"),
            // Where the RPC has ended, reading tells why.
            Some(outgoing) => {
                let _ = outgoing.send(message(sent));
                Ok(())
            }
        }
    }

    /// Reads one message; the RPC's end sets `over`.
    async fn read(&mut self) -> Result<(), RpcError> {
        let response = within(self.deadline, self.incoming.next()).await;
        let error = match response {
            Some(Some(Ok(response))) => {
                let events = response.events.into_iter();
                self.pending.extend(events.filter_map(|event| event.event));
                return Ok(());
            }
            Some(None) => None,
            Some(Some(Err(status))) => Some(RpcError::from(status)),
            None => Some(deadline_exceeded()),
        };
        self.over = true;
        match error {
            // After the summary all has been said.
            Some(error) if self.summary.is_none() => Err(error),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for BatchStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchStream")
            .field("request_id", &self.request_id())
            .field("sent", &self.sent.len())
            .field("results", &self.results.len())
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

fn message(message: Message) -> StreamBatchRequest {
    StreamBatchRequest {
        message: Some(message),
    }
}

fn position(index: usize) -> Result<i32, RpcError> {
    i32::try_from(index)
        .map_err(|_| RpcError::new(Code::InvalidArgument, format!("{index} calls are too many")))
}

#[cfg(test)]
mod tests;
