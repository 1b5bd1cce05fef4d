//! What an RPC ended with, and what a setting can be wrong about.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use tonic::{Code, ConnectError, Status, TimeoutExpired};

use crate::status;

/// An error of any kind, as hooks and hosted functions return them.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Reasons with which a sidecar refuses a request, so that nothing of it was started. INTERNAL
/// is none: it says nothing. Nor is `REQUEST_FORGOTTEN`: an earlier send may have started calls.
const REJECTIONS: [&str; 11] = [
    "APPROVAL_UNKNOWN",
    "DEADLINE_EXPIRED",
    "DRAINING",
    "FEATURE_UNSUPPORTED",
    "PAGE_TOKEN_INVALID",
    "REQUEST_ID_REUSED",
    "REQUEST_INVALID",
    "REQUEST_MEMORY_FULL",
    "STORE_UNAVAILABLE",
    "TOOLS_CHANGED",
    "TOO_MANY_BATCHES",
];

/// How the gRPC library begins the text about a message that is larger than allowed.
const OWN_SIZE_ERRORS: [&str; 2] = [
    "Error, decoded message length too large",
    "Error, encoded message length too large",
];

/// A setting of a client, a host or a chat makes no sense.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

/// An RPC to the sidecar ended with a status other than OK.
///
/// Failures of single calls are not errors: they are in the results.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}{}{}: {message}", code_name(*code), if reason.is_empty() { "" } else { "/" }, reason)]
pub struct RpcError {
    code: Code,
    reason: String,
    message: String,
    retry_after: Option<Duration>,
    pub(crate) not_started: bool,
    pub(crate) sent_to_instance: String,
    #[source]
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl RpcError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: String::new(),
            message: message.into(),
            retry_after: None,
            not_started: false,
            sent_to_instance: String::new(),
            source: None,
        }
    }

    /// Says that nothing of the RPC has left this process.
    pub(crate) fn before_sending(mut self) -> Self {
        self.not_started = true;
        self
    }

    /// Status code of the RPC.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// Reason that the sidecar gave, in `UPPER_SNAKE_CASE`; empty where the error was not made
    /// by a sidecar.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What went wrong, without code and reason.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Time after which the sidecar wants to be asked again, where it said one.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether it is certain that no call was started, by this RPC or by one that it repeats.
    /// False means that calls may have run.
    #[must_use]
    pub fn not_started(&self) -> bool {
        self.not_started
    }

    /// What to send a batch with a `request_id` again with: the sidecar that may have received
    /// it. Empty where none has, or it is not known which; in the latter case, where
    /// [`RpcError::not_started`] is false, it must not be sent again.
    #[must_use]
    pub fn sent_to_instance(&self) -> &str {
        &self.sent_to_instance
    }

    /// Whether the same RPC may succeed a little later: a lost connection, for example.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.code == Code::Unavailable || self.retry_after.is_some()
    }

    /// Makes an error of a status that a sidecar made.
    #[must_use]
    pub fn from_details(made: &tonic_types::Status) -> Self {
        let reason = status::reason(made);
        Self {
            code: Code::from_i32(made.code),
            not_started: REJECTIONS.contains(&reason.as_str()),
            reason,
            message: told(&made.message),
            retry_after: status::retry_delay(made),
            sent_to_instance: String::new(),
            source: None,
        }
    }
}

impl From<Status> for RpcError {
    fn from(status: Status) -> Self {
        if let Some(made) = status::decode(status.details()) {
            let mut error = Self::from_details(&made);
            error.code = status.code();
            if made.message.is_empty() {
                error.message = told(status.message());
            }
            return error;
        }
        if status.source().is_some() {
            return local(status);
        }
        let too_large = OWN_SIZE_ERRORS
            .iter()
            .any(|text| status.message().starts_with(text));
        let code = match status.code() {
            // The code that other gRPC libraries give it.
            Code::OutOfRange if too_large => Code::ResourceExhausted,
            code => code,
        };
        Self::new(code, told(status.message()))
    }
}

/// What this process found out by itself: the connection is lost, or was never made.
fn local(status: Status) -> RpcError {
    let mut not_started = false;
    let mut text = String::new();
    let mut next: Option<&(dyn StdError + 'static)> = status.source();
    while let Some(error) = next {
        not_started |= error.is::<ConnectError>();
        if error.is::<TimeoutExpired>() {
            return RpcError::new(Code::DeadlineExceeded, "no answer in time");
        }
        let told = error.to_string();
        if !text.contains(&told) {
            let separator = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{separator}{told}");
        }
        next = error.source();
    }
    RpcError {
        not_started,
        source: Some(Arc::new(status)),
        ..RpcError::new(Code::Unavailable, told(&text))
    }
}

fn told(message: &str) -> String {
    let told = if message.is_empty() {
        "no details"
    } else {
        message
    };
    told.to_owned()
}

/// Name of a status code as the contract writes it, for example "`NOT_FOUND`".
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{error_info, retry_info, status_with};
    use prost::Message as _;

    fn from_sidecar(reason: &str) -> RpcError {
        let made = status_with(
            Code::Unavailable,
            "no",
            vec![error_info(reason), retry_info(Duration::from_millis(1500))],
        );
        Status::with_details(Code::Unavailable, "no", made.encode_to_vec().into()).into()
    }

    #[test]
    fn a_refusal_of_the_sidecar_started_nothing() {
        let error = from_sidecar("DRAINING");
        assert_eq!(error.to_string(), "UNAVAILABLE/DRAINING: no");
        assert_eq!(error.retry_after(), Some(Duration::from_millis(1500)));
        assert!(error.not_started() && error.is_transient());
    }

    #[test]
    fn other_reasons_say_nothing_about_a_start() {
        assert!(!from_sidecar("INTERNAL").not_started());
        assert!(!from_sidecar("REQUEST_FORGOTTEN").not_started());
    }

    #[test]
    fn without_details_nothing_is_known() {
        let error = RpcError::from(Status::unavailable(""));
        assert_eq!(error.to_string(), "UNAVAILABLE: no details");
        assert!(!error.not_started());
    }

    #[test]
    fn what_never_connected_started_nothing() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused");
        let status = Status::from_error(Box::new(ConnectError(Box::new(refused))));
        let error = RpcError::from(status);
        assert_eq!(error.code(), Code::Unavailable);
        assert_eq!(error.message(), "refused");
        assert!(error.not_started());
    }

    #[test]
    fn a_lost_connection_is_unavailable_and_may_have_started_calls() {
        let error = RpcError::from(Status::from_error("broken pipe".into()));
        assert_eq!(error.code(), Code::Unavailable);
        assert!(!error.not_started());
    }
}
