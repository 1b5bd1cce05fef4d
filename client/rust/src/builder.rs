//! How a client is made.

use std::{future::Future, path::PathBuf};

use crate::{
    BoxError, Client, ConfigError,
    connection::{Connection, Settings, Token},
};

/// Makes a [`Client`].
#[derive(Clone, Default)]
#[must_use]
pub struct ClientBuilder {
    settings: Settings,
}

impl ClientBuilder {
    /// Where the sidecar is: `host:port` or `unix:/path`. By default the environment's
    /// `SIDECALL_ENDPOINT`, then `127.0.0.1:50071`.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.settings.endpoint = Some(endpoint.into());
        self
    }

    /// A bearer token to send with each RPC.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.settings.token = Some(Token::Fixed(token.into()));
        self
    }

    /// A file that holds the bearer token. It is read for each RPC, so that it may be replaced.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.token = Some(Token::File(path.into()));
        self
    }

    /// What gives the bearer token for each RPC.
    pub fn token_provider<F, Fut>(mut self, provide: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, BoxError>> + Send + 'static,
    {
        self.settings.token = Some(Token::provider(provide));
        self
    }

    /// Metadata to send with each RPC.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.metadata.push((key.into(), value.into()));
        self
    }

    /// Secures the connection.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::Tls) -> Self {
        self.settings.tls = Some(tls);
        self
    }

    /// Largest message sent or received. By default the environment's
    /// `SIDECALL_MAX_INBOUND_MESSAGE_BYTES`, then 16 MiB.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_message_bytes = Some(bytes);
        self
    }

    /// How often an RPC is sent again where that certainly runs no call twice: it started
    /// nothing, or has a `request_id` that the sidecar knows, or is refused by a sidecar that was
    /// restarted and has forgotten it. Pauses grow from 0.1 to 2 seconds. By default often enough
    /// to outlast a restart of 3 seconds, and, once the sidecar may have received what was sent,
    /// until the RPC's deadline. Where the sidecar asks for a pause of more than 5 seconds that is
    /// left to the caller ([`RpcError::retry_after`](crate::RpcError::retry_after)).
    pub fn retries(mut self, retries: u32) -> Self {
        self.settings.retries = Some(retries);
        self
    }

    /// Makes the client. It connects when it is first used.
    ///
    /// # Errors
    ///
    /// An option or a variable of the environment makes no sense.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn build(self) -> Result<Client, ConfigError> {
        Ok(Client::of(Connection::open(self.settings)?))
    }
}
