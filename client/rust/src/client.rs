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
const READY_POLL: Duration = Duration::from_millis(50);

type Stub = ToolServiceClient<Channel>;

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
        self.repeat(&mut attempts, request, async |mut stub: Stub, request| {
            stub.get_capabilities(request).await
        })
        .await
    }

    /// Returns all tools that the caller may use, ordered by name.
    ///
    /// # Errors
    ///
    /// The RPC failed.
    pub async fn list_tools(&self) -> Result<Vec<Tool>, RpcError> {
        let mut listings = 1;
        let mut tools = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListToolsRequest {
                page_token,
                ..Default::default()
            };
            let mut attempts = Attempts::harmless(self.connection.retries, None);
            let page = self
                .repeat(&mut attempts, request, async |mut stub: Stub, request| {
                    stub.list_tools(request).await
                })
                .await;
            match page {
                Ok(page) => {
                    tools.extend(page.tools);
                    page_token = page.next_page_token;
                    if page_token.is_empty() {
                        return Ok(tools);
                    }
                }
                // The tools have changed in between: the listing begins anew.
                Err(error) if error.code() == Code::Aborted && listings < MAX_LISTINGS => {
                    listings += 1;
                    tools.clear();
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
    /// where its requests are durable; else it refuses, with reason `REQUEST_FORGOTTEN`.
    ///
    /// # Errors
    ///
    /// The RPC failed; [`RpcError::not_started`] says whether that is harmless.
    pub async fn execute_batch(
        &self,
        calls: impl IntoIterator<Item = ToolCall>,
        options: BatchOptions,
    ) -> Result<BatchResults, RpcError> {
        let mut attempts = Attempts::new(self.connection.retries, options.deadline);
        let mut request = options.batch(calls.into_iter().collect());
        if !request.sent_to_instance.is_empty() {
            attempts = attempts.after_earlier_send();
        }
        let mut instance_id = String::new();
        if !request.request_id.is_empty() {
            instance_id = if request.sent_to_instance.is_empty() {
                self.find_instance(attempts.deadline()).await
            } else {
                request.sent_to_instance.clone()
            };
            attempts.repeatable = !instance_id.is_empty();
        }
        self.connection.check_size(&request)?;
        loop {
            let error = match self.send_batch(&attempts, &request).await {
                Ok(response) => return BatchResults::of(response, request.calls.len()),
                Err(error) => error,
            };
            self.pause(&mut attempts, error).await?;
            if attempts.may_have_started() {
                request.sent_to_instance.clone_from(&instance_id);
            }
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
        Ok(result.expect("the count of results was checked"))
    }

    /// Opens a turn whose calls are sent one by one; see [`BatchStream`].
    ///
    /// # Errors
    ///
    /// The sidecar does not accept the turn.
    pub async fn stream_batch(&self, options: BatchOptions) -> Result<BatchStream, RpcError> {
        let deadline = options
            .deadline
            .and_then(|deadline| Instant::now().checked_add(deadline));
        let start = options.stream();
        let mut instance_id = start.sent_to_instance.clone();
        if !start.request_id.is_empty() && instance_id.is_empty() {
            instance_id = self.find_instance(deadline).await;
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
            async |mut stub: Stub, request| stub.execute_batch(request).await,
        )
        .await
    }

    /// The sidecar's `instance_id`, to be read before a first send; empty where unknown.
    async fn find_instance(&self, deadline: Option<Instant>) -> String {
        let known = self.instance().clone();
        if !known.is_empty() {
            return known;
        }
        let Ok(capabilities) = self.ask_capabilities(deadline).await else {
            return String::new();
        };
        self.instance().clone_from(&capabilities.instance_id);
        capabilities.instance_id
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
        self.invoke(deadline, request, async |mut stub: Stub, request| {
            stub.get_capabilities(request).await
        })
        .await
    }

    /// Invokes what changes nothing, until it succeeds or nothing more can be hoped for.
    async fn repeat<T: Clone, R>(
        &self,
        attempts: &mut Attempts,
        request: T,
        rpc: impl AsyncFn(Stub, Request<T>) -> Result<Response<R>, Status>,
    ) -> Result<R, RpcError> {
        loop {
            let sent = self.invoke(attempts.deadline(), request.clone(), &rpc);
            match sent.await {
                Ok(response) => return Ok(response),
                Err(error) => self.pause(attempts, error).await?,
            }
        }
    }

    async fn invoke<T, R>(
        &self,
        deadline: Option<Instant>,
        request: T,
        rpc: impl AsyncFn(Stub, Request<T>) -> Result<Response<R>, Status>,
    ) -> Result<R, RpcError> {
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

    /// Waits before the next attempt, or returns the error where there is none.
    async fn pause(&self, attempts: &mut Attempts, mut error: RpcError) -> Result<(), RpcError> {
        if error.code() == Code::Unavailable || error.reason() == "REQUEST_FORGOTTEN" {
            // The sidecar may have been restarted since its instance was asked for.
            self.instance().clear();
        }
        match attempts.delay(&mut error) {
            Some(delay) => {
                sleep(delay).await;
                Ok(())
            }
            None => Err(error),
        }
    }
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
    RpcError::new(Code::DeadlineExceeded, "the deadline is over")
}
