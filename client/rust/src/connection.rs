//! How a client reaches its sidecar: endpoint, channel, metadata.

use std::{
    env, fmt, future::Future, path::PathBuf, pin::Pin, str::FromStr, sync::Arc, time::Duration,
};

use tokio::time::Instant;
use tonic::{
    Code, Request,
    metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue},
    transport::{Channel, Endpoint, Uri},
};

use crate::{BoxError, ConfigError, RpcError};

const DEFAULT_ENDPOINT: &str = "127.0.0.1:50071";
const DEFAULT_MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
const ENDPOINT_VARIABLE: &str = "SIDECALL_ENDPOINT";
const MAX_MESSAGE_VARIABLE: &str = "SIDECALL_MAX_INBOUND_MESSAGE_BYTES";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
// A socket's path is no authority that HTTP/2 servers accept.
const UNIX_ORIGIN: &str = "http://localhost";

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type TokenProvider = dyn Fn() -> BoxFuture<Result<String, BoxError>> + Send + Sync;

/// Where the token comes from that each RPC is sent with.
#[derive(Clone)]
pub(crate) enum Token {
    Fixed(String),
    File(PathBuf),
    Provider(Arc<TokenProvider>),
}

impl Token {
    pub(crate) fn provider<F, Fut>(provide: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, BoxError>> + Send + 'static,
    {
        Self::Provider(Arc::new(move || Box::pin(provide())))
    }

    async fn read(&self) -> Result<String, BoxError> {
        match self {
            Self::Fixed(token) => Ok(token.clone()),
            Self::File(path) => Ok(tokio::fs::read_to_string(path).await?.trim().to_owned()),
            Self::Provider(provide) => provide().await,
        }
    }
}

/// What a connection is made of, as far as it was said.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) endpoint: Option<String>,
    pub(crate) token: Option<Token>,
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) max_message_bytes: Option<usize>,
    pub(crate) retries: Option<u32>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::tls::Tls>,
}

/// A connection to a sidecar. It is made when it is first used, and again when it is lost.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    pub(crate) max_message_bytes: usize,
    pub(crate) retries: Option<u32>,
    token: Option<Token>,
    metadata: MetadataMap,
}

impl Connection {
    /// Fills what is not given from the environment, then from the defaults.
    pub(crate) fn open(settings: Settings) -> Result<Self, ConfigError> {
        let address = settings
            .endpoint
            .clone()
            .or_else(|| variable(ENDPOINT_VARIABLE))
            .unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let max_message_bytes = message_bytes(settings.max_message_bytes)?;
        let mut metadata = MetadataMap::new();
        for (key, value) in &settings.metadata {
            add_metadata(&mut metadata, key, value)?;
        }
        Ok(Self {
            channel: endpoint(&address, &settings)?.connect_lazy(),
            max_message_bytes,
            retries: settings.retries,
            token: settings.token,
            metadata,
        })
    }

    /// The same connection with more metadata.
    pub(crate) fn with_metadata(&self, key: &str, value: &str) -> Result<Self, ConfigError> {
        let mut with = self.clone();
        add_metadata(&mut with.metadata, key, value)?;
        Ok(with)
    }

    /// Makes the request of an RPC.
    pub(crate) async fn request<T>(
        &self,
        message: T,
        deadline: Option<Instant>,
    ) -> Result<Request<T>, RpcError> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        if let Some(token) = &self.token {
            let value = token
                .read()
                .await
                .and_then(|token| Ok(MetadataValue::try_from(format!("Bearer {token}"))?))
                .map_err(|error| unauthenticated(error.as_ref()))?;
            request.metadata_mut().insert("authorization", value);
        }
        if let Some(deadline) = deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        Ok(request)
    }

    /// Refuses a message that is larger than allowed, before any of it is sent.
    pub(crate) fn check_size(&self, message: &impl prost::Message) -> Result<(), RpcError> {
        let size = message.encoded_len();
        if size <= self.max_message_bytes {
            return Ok(());
        }
        let text = format!(
            "the message takes {size} bytes, more than the {} that are allowed",
            self.max_message_bytes
        );
        Err(RpcError::new(Code::ResourceExhausted, text).before_sending())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("max_message_bytes", &self.max_message_bytes)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

fn unauthenticated(error: &(dyn std::error::Error + Send + Sync)) -> RpcError {
    let text = format!("the token cannot be read: {error}");
    RpcError::new(Code::Unauthenticated, text).before_sending()
}

fn endpoint(address: &str, settings: &Settings) -> Result<Endpoint, ConfigError> {
    let endpoint = if address.starts_with("unix:") {
        #[cfg(feature = "tls")]
        if settings.tls.is_some() {
            return Err(ConfigError("a unix socket takes no TLS".to_owned()));
        }
        parsed(address, address)?.origin(Uri::from_static(UNIX_ORIGIN))
    } else {
        check_host_and_port(address)?;
        over_tcp(address, settings)?
    };
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("sidecall-rust/", env!("CARGO_PKG_VERSION")))
        .expect("a constant is a header value"))
}

#[cfg(feature = "tls")]
fn over_tcp(address: &str, settings: &Settings) -> Result<Endpoint, ConfigError> {
    match &settings.tls {
        None => parsed(&format!("http://{address}"), address),
        Some(tls) => parsed(&format!("https://{address}"), address)?
            .tls_config(tls.config())
            .map_err(|error| ConfigError(format!("the TLS settings make no sense: {error:?}"))),
    }
}

#[cfg(not(feature = "tls"))]
fn over_tcp(address: &str, _: &Settings) -> Result<Endpoint, ConfigError> {
    parsed(&format!("http://{address}"), address)
}

fn parsed(uri: &str, address: &str) -> Result<Endpoint, ConfigError> {
    Endpoint::from_shared(uri.to_owned()).map_err(|_| malformed(address))
}

fn check_host_and_port(address: &str) -> Result<(), ConfigError> {
    match address.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty() && u16::from_str(port).is_ok() && !address.contains('/') =>
        {
            Ok(())
        }
        _ => Err(malformed(address)),
    }
}

fn malformed(address: &str) -> ConfigError {
    ConfigError(format!(
        "endpoint must be host:port or unix:/path, not {address:?}"
    ))
}

fn message_bytes(given: Option<usize>) -> Result<usize, ConfigError> {
    let bytes = match (given, variable(MAX_MESSAGE_VARIABLE)) {
        (Some(bytes), _) => bytes,
        (None, Some(text)) => text.parse().map_err(|_| {
            ConfigError(format!(
                "{MAX_MESSAGE_VARIABLE} must be a number of bytes, not {text:?}"
            ))
        })?,
        (None, None) => DEFAULT_MAX_MESSAGE_BYTES,
    };
    if bytes == 0 {
        return Err(ConfigError("max_message_bytes must be positive".to_owned()));
    }
    Ok(bytes)
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn add_metadata(metadata: &mut MetadataMap, key: &str, value: &str) -> Result<(), ConfigError> {
    let wrong = || ConfigError(format!("{key:?} cannot be sent as metadata"));
    let key = MetadataKey::<Ascii>::from_str(&key.to_ascii_lowercase()).map_err(|_| wrong())?;
    let value = MetadataValue::try_from(value).map_err(|_| wrong())?;
    metadata.insert(key, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(address: &str) -> Settings {
        Settings {
            endpoint: Some(address.to_owned()),
            ..Settings::default()
        }
    }

    #[tokio::test]
    async fn endpoints_are_addresses_or_sockets() {
        for address in [
            "127.0.0.1:1",
            "[::1]:50071",
            "localhost:2",
            "unix:/run/api.sock",
        ] {
            assert!(Connection::open(to(address)).is_ok(), "{address}");
        }
        for address in ["localhost", "http://a:1", "a:b", ":1", "a:70000"] {
            assert!(Connection::open(to(address)).is_err(), "{address}");
        }
    }

    #[tokio::test]
    async fn requests_carry_token_and_metadata() {
        let settings = Settings {
            token: Some(Token::Fixed("secret".to_owned())),
            metadata: vec![("traceparent".to_owned(), "00-1".to_owned())],
            ..to("127.0.0.1:1")
        };
        let connection = Connection::open(settings).unwrap();
        let connection = connection.with_metadata("tracestate", "a=b").unwrap();
        let request = connection.request((), None).await.unwrap();
        let sent = |key: &str| {
            request
                .metadata()
                .get(key)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(sent("authorization"), "Bearer secret");
        assert_eq!(sent("traceparent"), "00-1");
        assert_eq!(sent("tracestate"), "a=b");
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_read_sends_nothing() {
        let settings = Settings {
            token: Some(Token::File("/nowhere/token".into())),
            ..to("127.0.0.1:1")
        };
        let connection = Connection::open(settings).unwrap();
        let error = connection.request((), None).await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated);
        assert!(error.not_started());
    }

    #[tokio::test]
    async fn metadata_that_cannot_be_sent_is_refused() {
        let connection = Connection::open(to("127.0.0.1:1")).unwrap();
        assert!(connection.with_metadata("a b", "c").is_err());
        assert!(connection.with_metadata("a", "\n").is_err());
    }

    #[tokio::test]
    async fn messages_are_measured_before_they_are_sent() {
        let settings = Settings {
            max_message_bytes: Some(4),
            ..to("127.0.0.1:1")
        };
        let connection = Connection::open(settings).unwrap();
        let error = connection
            .check_size(&"a longer text".to_owned())
            .unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
    }
}
