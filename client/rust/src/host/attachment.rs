//! One stream on which a host is attached to a sidecar.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{
    RpcError,
    connection::Connection,
    host::{
        calls::{Calls, Tools},
        outbox::Outbox,
        results::fitting,
    },
    v1::{
        AttachRequest, AttachResponse, HostAttach, HostAttached, HostDrain, HostHeartbeat,
        HostResult, attach_request::Message, attach_response::Message as Said,
        tool_host_service_client::ToolHostServiceClient,
    },
};

/// Time that a sidecar may take to accept a host.
const ATTACH_TIME: Duration = Duration::from_secs(30);
/// Time that the sidecar may take to end a stream that the host has half-closed.
const END_TIME: Duration = Duration::from_secs(5);
/// Far enough away for what has no bound.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
const MAX_WAITING_REPORTS: usize = 1024;
const MAX_WAITING_MESSAGES: usize = 16;

type Incoming = Pin<Box<dyn Stream<Item = Result<AttachResponse, Status>> + Send>>;

/// An attachment, from its acceptance to the end of its stream.
pub(crate) struct Attachment {
    /// None: half-closed.
    outgoing: Option<mpsc::Sender<AttachRequest>>,
    incoming: Incoming,
    calls: Calls,
    reports: mpsc::Receiver<AttachRequest>,
    outbox: Outbox,
    heartbeat_interval: Duration,
    silence_timeout: Duration,
    max_message_bytes: usize,
    /// When something was last sent, and heard.
    sent: Instant,
    heard: Instant,
    /// Whether the sidecar has said that no more calls come, or has had time to.
    is_last: bool,
    /// When a drain is over at the latest.
    drain_end: Instant,
}

impl Attachment {
    /// Attaches on a new stream.
    ///
    /// # Errors
    ///
    /// The sidecar is not there, or refuses the host.
    pub(crate) async fn attach(
        connection: &Connection,
        attach: HostAttach,
        tools: Arc<Tools>,
    ) -> Result<Self, RpcError> {
        let max_bytes = connection.max_message_bytes;
        let (outgoing, messages) = mpsc::channel(MAX_WAITING_MESSAGES);
        let request = connection
            .request(ReceiverStream::new(messages), None)
            .await?;
        let mut stub = ToolHostServiceClient::new(connection.channel.clone())
            .max_decoding_message_size(max_bytes)
            .max_encoding_message_size(max_bytes);
        let attach = message(Message::Attach(attach));
        connection.check_size(&attach)?;
        let opened = async {
            // Nothing else is sent before the answer: it could hide the reason of a refusal.
            let _ = outgoing.send(attach).await;
            let mut incoming = stub.attach(request).await?.into_inner();
            let first = incoming.message().await?.and_then(|first| first.message);
            let Some(Said::Attached(attached)) = first else {
                let text = "the sidecar did not say that the host is attached";
                return Err(RpcError::new(Code::Internal, text));
            };
            Ok(Self::of(
                outgoing,
                Box::pin(incoming),
                &attached,
                tools,
                max_bytes,
            ))
        };
        timeout(ATTACH_TIME, opened).await.unwrap_or_else(|_| {
            let text = "the sidecar did not answer in time";
            Err(RpcError::new(Code::Unavailable, text))
        })
    }

    pub(super) fn of(
        outgoing: mpsc::Sender<AttachRequest>,
        incoming: Incoming,
        attached: &HostAttached,
        tools: Arc<Tools>,
        max_message_bytes: usize,
    ) -> Self {
        let (send_reports, reports) = mpsc::channel(MAX_WAITING_REPORTS);
        let taken = usize::try_from(attached.max_message_bytes).unwrap_or_default();
        let now = Instant::now();
        Self {
            outgoing: Some(outgoing),
            incoming,
            calls: Calls::new(tools, send_reports),
            reports,
            outbox: Outbox::default(),
            heartbeat_interval: bound(attached.heartbeat_interval),
            silence_timeout: bound(attached.silence_timeout),
            max_message_bytes: match taken {
                0 => max_message_bytes,
                taken => taken.min(max_message_bytes),
            },
            sent: now,
            heard: now,
            is_last: false,
            drain_end: now + NEVER,
        }
    }

    /// Runs calls until the stream ends.
    ///
    /// # Arguments
    ///
    /// * `closing`: is cancelled when the host is to drain.
    /// * `drain_timeout`: time that calls get to end then.
    ///
    /// # Errors
    ///
    /// The stream did not end in order.
    pub(crate) async fn serve(
        mut self,
        closing: &CancellationToken,
        drain_timeout: Duration,
    ) -> Result<(), RpcError> {
        let mut closed = false;
        while !self.is_done() {
            tokio::select! {
                said = self.incoming.next() => match said {
                    None => return Ok(()),
                    Some(said) => self.hear(said?.message),
                },
                Some(result) = self.calls.next() => self.answer(result),
                Some(report) = self.reports.recv() => self.report(report),
                sent = send(self.outgoing.as_ref(), &mut self.outbox) => {
                    self.sent = Instant::now();
                    if !sent {
                        // Who reads learns why.
                        self.outgoing = None;
                    }
                }
                () = sleep_until(self.sent + self.heartbeat_interval), if self.outbox.is_empty() => {
                    self.outbox.put(message(Message::Heartbeat(HostHeartbeat {})));
                }
                () = sleep_until(self.heard + self.silence_timeout) => {
                    let text = "nothing was heard of the sidecar for too long";
                    return Err(RpcError::new(Code::Unavailable, text));
                }
                () = closing.cancelled(), if !closed => {
                    closed = true;
                    self.drain(drain_timeout);
                }
                () = sleep_until(self.drain_end) => self.abandon(),
            }
        }
        self.end().await
    }

    /// Whether the host may half-close.
    fn is_done(&self) -> bool {
        self.is_last && self.calls.is_empty() && self.outbox.is_empty()
    }

    fn hear(&mut self, said: Option<Said>) {
        self.heard = Instant::now();
        match said {
            Some(Said::Call(call)) => self.calls.start(call),
            Some(Said::Cancel(cancel)) => self.calls.cancel(cancel.attempt_id),
            Some(Said::Draining(_)) => {
                tracing::debug!("no more calls come; those in hand are finished");
                self.is_last = true;
            }
            _ => {}
        }
    }

    fn answer(&mut self, result: HostResult) {
        // What the function has reported comes before its result.
        while let Ok(report) = self.reports.try_recv() {
            self.report(report);
        }
        self.outbox.put(fitting(result, self.max_message_bytes));
    }

    fn report(&mut self, report: AttachRequest) {
        self.outbox.report(report, self.max_message_bytes);
    }

    fn drain(&mut self, drain_timeout: Duration) {
        self.drain_end = Instant::now() + drain_timeout.min(NEVER);
        self.outbox.put(message(Message::Drain(HostDrain {})));
    }

    fn abandon(&mut self) {
        self.drain_end = Instant::now() + NEVER;
        self.is_last = true;
        for result in self.calls.abandon() {
            self.answer(result);
        }
    }

    /// Half-closes and waits for the end of the stream.
    async fn end(mut self) -> Result<(), RpcError> {
        self.outgoing = None;
        let ended = async {
            while let Some(said) = self.incoming.next().await {
                said?;
            }
            Ok(())
        };
        tokio::select! {
            ended = ended => ended,
            () = sleep(END_TIME) => Ok(()),
        }
    }
}

/// Sends what is first; waits where there is nothing, or no room. Returns whether it was sent.
async fn send(outgoing: Option<&mpsc::Sender<AttachRequest>>, outbox: &mut Outbox) -> bool {
    let Some(outgoing) = outgoing.filter(|_| !outbox.is_empty()) else {
        return std::future::pending().await;
    };
    let Ok(permit) = outgoing.reserve().await else {
        return false;
    };
    if let Some(message) = outbox.take() {
        permit.send(message);
    }
    true
}

fn message(message: Message) -> AttachRequest {
    AttachRequest {
        message: Some(message),
    }
}

fn bound(duration: Option<prost_types::Duration>) -> Duration {
    duration
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| !duration.is_zero())
        .unwrap_or(NEVER)
}

#[cfg(test)]
mod tests;
