//! The client.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Request, Response, Status, transport::Channel};

use crate::{
    Arguments, BatchOptions, BatchResults, BatchStream, ClientBuilder, ConfigError, RpcError,
    connection::Connection,
    retry::Attempts,
    v1::{
        ExecuteBatchRequest, GetCapabilitiesRequest, GetCapabilitiesResponse, ListToolsRequest,
        Tool, ToolCall, ToolResult, tool_service_client::ToolServiceClient,
    },
};

const MAX_LISTINGS: u32 = 5;
/// Codes of an RPC that nobody answered.
const NO_ANSWER: [Code; 2] = [Code::Unavailable, Code::DeadlineExceeded];
const READY_POLL: Duration = Duration::from_millis(50);

type Stub = ToolServiceClient<Channel>;

/// The caller's tools.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListedTools {
    /// The tools, ordered by name.
    pub tools: Vec<Tool>,
    /// Opaque value that changes when they or their descriptions do.
    pub revision: String,
}

impl IntoIterator for ListedTools {
    type Item = Tool;
    type IntoIter = std::vec::IntoIter<Tool>;

    fn into_iter(self) -> Self::IntoIter {
        self.tools.into_iter()
    }
}

/// A client of one sidecar.
///
/// Clones share its connection, which closes with the last of them. An RPC is cancelled by
/// dropping its future.
///
/// ```no_run
/// # async fn example() -> Result<(), sidecall::BoxError> {
/// use serde_json::json;
/// use sidecall::{BatchOptions, Client, v1::ToolCall};
///
/// let client = Client::new()?;
/// let calls = [
///     ToolCall::new("get_price", json!({"product": "apple"})),
///     ToolCall::new("get_price", json!({"product": "pear"})),
///     ToolCall::new("add_up", json!({"prices": ["$ref:@1#/price", "$ref:@2#/price"]})),
/// ];
/// for result in client.execute_batch(calls, BatchOptions::default()).await? {
///     println!("{} -> {}", result.name, result.content);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) connection: Connection,
    /// The sidecar's `instance_id`; empty where unknown. Shared by all clones.
    instance_id: Arc<Mutex<String>>,
}

impl Client {
    /// Makes a client of the sidecar that the environment names.
    ///
    /// # Errors
    ///
    /// A variable of the environment makes no sense.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn new() -> Result<Self, ConfigError> {
        Self::builder().build()
    }

    /// Begins to make a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn of(connection: Connection) -> Self {
        Self {
            connection,
            instance_id: Arc::default(),
        }
    }

    /// The same client with more metadata, for trace context (`traceparent`, `tracestate`) above
    /// all. It shares the connection.
    ///
    /// # Errors
    ///
    /// The key or the value cannot be sent as metadata.
    pub fn with_metadata(&self, key: &str, value: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            connection: self.connection.with_metadata(key, value)?,
            instance_id: Arc::clone(&self.instance_id),
        })
    }

    /// Waits until the sidecar serves.
    ///
    /// # Errors
    ///
    /// It does not serve in time, or refuses this client.
    pub async fn wait_until_ready(
        &self,
        timeout: Duration,
    ) -> Result<GetCapabilitiesResponse, RpcError> {
        let end = Instant::now() + timeout;
        loop {
            let error = match self.ask_capabilities(Some(end)).await {
                Ok(capabilities) => return Ok(capabilities),
                Err(error) => error,
            };
            if error.code() != Code::Unavailable || Instant::now() + READY_POLL >= end {
                return Err(error);
            }
            sleep(READY_POLL).await;
        }
    }

    /// Returns what the sidecar speaks and its limits.
    ///
    /// # Errors
    ///
    /// The RPC failed.
    pub async fn get_capabilities(&self) -> Result<GetCapabilitiesResponse, RpcError> {
        let mut attempts = Attempts::harmless(self.connection.retries, None);
        let request = GetCapabilitiesRequest {};
        self.repeat(
            &mut attempts,
            request,
            |mut stub: Stub, request| async move { stub.get_capabilities(request).await },
        )
        .await
    }

    /// Returns all tools that the caller may use.
    ///
    /// # Errors
    ///
    /// The RPC failed.
    pub async fn list_tools(&self) -> Result<ListedTools, RpcError> {
        let mut listings = 1;
        let mut listed = ListedTools::default();
        let mut page_token = String::new();
        loop {
            let request = ListToolsRequest {
                page_token,
                ..Default::default()
            };
            let mut attempts = Attempts::harmless(self.connection.retries, None);
            let page = self
                .repeat(
                    &mut attempts,
                    request,
                    |mut stub: Stub, request| async move { stub.list_tools(request).await },
                )
                .await;
            match page {
                Ok(page) => {
                    listed.tools.extend(page.tools);
                    listed.revision = page.revision;
                    page_token = page.next_page_token;
                    if page_token.is_empty() {
                        return Ok(listed);
                    }
                }
                // The tools have changed in between: the listing begins anew.
                Err(error) if error.code() == Code::Aborted && listings < MAX_LISTINGS => {
                    listings += 1;
                    listed.tools.clear();
                    page_token = String::new();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Executes the calls of one turn and returns one result per call, in call order.
    ///
    /// With a `request_id` the batch is sent again also after a lost connection: the sidecar
    /// runs no call a second time. One that was restarted meanwhile knows what has run only
    /// where its requests are durable; else it refuses, with reason `REQUEST_FORGOTTEN`. Who sends
    /// it again by hand, after an error that is not [`RpcError::not_started`], passes
    /// [`RpcError::sent_to_instance`] on.
    ///
    /// # Errors
    ///
    /// The RPC failed; [`RpcError::not_started`] says whether that is harmless.
    pub async fn execute_batch(
        &self,
        calls: impl IntoIterator<Item = ToolCall>,
        options: BatchOptions,
    ) -> Result<BatchResults, RpcError> {
        let deadline = deadline_of(&options);
        let mut attempts = Attempts::new(self.connection.retries, deadline);
        let mut request = options.batch(calls.into_iter().collect());
        let mut instance_id = request.sent_to_instance.clone();
        if !instance_id.is_empty() {
            attempts = attempts.after_earlier_send();
        }
        if !request.request_id.is_empty() {
            if instance_id.is_empty() {
                let reads = Attempts::harmless(self.connection.retries, deadline);
                instance_id = self.find_instance(reads).await?;
            }
            attempts.repeatable = !instance_id.is_empty();
        }
        self.connection.check_size(&request)?;
        loop {
            let mut error = match self.send_batch(&attempts, &request).await {
                Ok(response) => return BatchResults::of(response, request.calls.len()),
                Err(error) => error,
            };
            let delay = self.delay(&mut attempts, &mut error);
            if !error.not_started() {
                request.sent_to_instance.clone_from(&instance_id);
                error.sent_to_instance.clone_from(&instance_id);
            }
            sleep(delay.ok_or(error)?).await;
        }
    }

    /// Executes one call: [`Client::execute_batch`] for a batch of one.
    ///
    /// # Errors
    ///
    /// The RPC failed.
    pub async fn call(
        &self,
        name: impl Into<String>,
        arguments: impl Into<Arguments>,
        options: BatchOptions,
    ) -> Result<ToolResult, RpcError> {
        let call = ToolCall::new(name, arguments);
        let answered = self.execute_batch([call], options).await?;
        let result = answered.results.into_iter().next();
        result.ok_or_else(|| RpcError::new(Code::Internal, "no result came back"))
    }

    /// Opens a turn whose calls are sent one by one; see [`BatchStream`].
    ///
    /// # Errors
    ///
    /// The sidecar does not accept the turn.
    pub async fn stream_batch(&self, options: BatchOptions) -> Result<BatchStream, RpcError> {
        let deadline = deadline_of(&options);
        let start = options.stream();
        let mut instance_id = start.sent_to_instance.clone();
        if !start.request_id.is_empty() && instance_id.is_empty() {
            let reads = Attempts::new(Some(0), deadline);
            instance_id = self.find_instance(reads).await?;
        }
        BatchStream::open(&self.connection, start, instance_id, deadline).await
    }

    async fn send_batch(
        &self,
        attempts: &Attempts,
        request: &ExecuteBatchRequest,
    ) -> Result<crate::v1::ExecuteBatchResponse, RpcError> {
        self.invoke(
            attempts.deadline(),
            request.clone(),
            |mut stub: Stub, request| async move { stub.execute_batch(request).await },
        )
        .await
    }

    /// The sidecar's `instance_id`, to be read before a first send; empty where it does not tell.
    async fn find_instance(&self, mut attempts: Attempts) -> Result<String, RpcError> {
        let known = self.instance().clone();
        if !known.is_empty() {
            return Ok(known);
        }
        loop {
            let mut error = match self.ask_capabilities(attempts.deadline()).await {
                Ok(capabilities) => {
                    self.instance().clone_from(&capabilities.instance_id);
                    return Ok(capabilities.instance_id);
                }
                Err(error) => error,
            };
            match self.delay(&mut attempts, &mut error) {
                Some(delay) => sleep(delay).await,
                // The batch comes after it.
                None if NO_ANSWER.contains(&error.code()) => return Err(error.before_sending()),
                None => return Ok(String::new()),
            }
        }
    }

    fn instance(&self) -> std::sync::MutexGuard<'_, String> {
        self.instance_id
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask_capabilities(
        &self,
        deadline: Option<Instant>,
    ) -> Result<GetCapabilitiesResponse, RpcError> {
        let request = GetCapabilitiesRequest {};
        self.invoke(deadline, request, |mut stub: Stub, request| async move {
            stub.get_capabilities(request).await
        })
        .await
    }

    /// Invokes what changes nothing, until it succeeds or nothing more can be hoped for.
    async fn repeat<T, R, Fut>(
        &self,
        attempts: &mut Attempts,
        request: T,
        rpc: impl Fn(Stub, Request<T>) -> Fut + Copy,
    ) -> Result<R, RpcError>
    where
        T: Clone,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        loop {
            let sent = self.invoke(attempts.deadline(), request.clone(), rpc);
            let mut error = match sent.await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let delay = self.delay(attempts, &mut error);
            sleep(delay.ok_or(error)?).await;
        }
    }

    async fn invoke<T, R, Fut>(
        &self,
        deadline: Option<Instant>,
        request: T,
        rpc: impl Fn(Stub, Request<T>) -> Fut,
    ) -> Result<R, RpcError>
    where
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let request = self.connection.request(request, deadline).await?;
        let max_bytes = self.connection.max_message_bytes;
        let stub = Stub::new(self.connection.channel.clone())
            .max_decoding_message_size(max_bytes)
            .max_encoding_message_size(max_bytes);
        match within(deadline, rpc(stub, request)).await {
            Some(Ok(response)) => Ok(response.into_inner()),
            Some(Err(status)) => Err(status.into()),
            None => Err(deadline_exceeded()),
        }
    }

    /// How long to wait before the next attempt; None: the error is final.
    fn delay(&self, attempts: &mut Attempts, error: &mut RpcError) -> Option<Duration> {
        if error.code() == Code::Unavailable || error.reason() == "REQUEST_FORGOTTEN" {
            // The sidecar may have been restarted since its instance was asked for.
            self.instance().clear();
        }
        attempts.delay(error)
    }
}

fn deadline_of(options: &BatchOptions) -> Option<Instant> {
    let deadline = options.deadline?;
    Instant::now().checked_add(deadline)
}

/// Waits for something, until a deadline at most.
pub(crate) async fn within<T>(
    deadline: Option<Instant>,
    future: impl Future<Output = T>,
) -> Option<T> {
    match deadline {
        None => Some(future.await),
        Some(deadline) => timeout_at(deadline, future).await.ok(),
    }
}

pub(crate) fn deadline_exceeded() -> RpcError {
    RpcError::new(Code::DeadlineExceeded, "no answer in time")
}

#[cfg(test)]
mod tests;
