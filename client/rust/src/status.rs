//! What a `google.rpc.Status` says beside its code and message.

use std::time::Duration;

use prost::Message;
use prost_types::Any;
use tonic_types::{Status, pb};

const ERROR_DOMAIN: &str = "sidecall.dev";
const TYPE_PREFIX: &str = "type.googleapis.com/google.rpc.";

/// The sidecar's reason, in `UPPER_SNAKE_CASE`; empty where it gave none.
pub(crate) fn reason(status: &Status) -> String {
    details::<pb::ErrorInfo>(status, "ErrorInfo")
        .find(|info| info.domain == ERROR_DOMAIN)
        .map(|info| info.reason)
        .unwrap_or_default()
}

/// Time after which to ask again; None where nothing was said.
pub(crate) fn retry_delay(status: &Status) -> Option<Duration> {
    let delay = details::<pb::RetryInfo>(status, "RetryInfo")
        .next()?
        .retry_delay?;
    Some(Duration::try_from(delay).unwrap_or_default())
}

/// What is wrong with arguments: JSON Pointer and description.
pub(crate) fn violations(status: &Status) -> Vec<(String, String)> {
    details::<pb::BadRequest>(status, "BadRequest")
        .flat_map(|bad| bad.field_violations)
        .map(|violation| (violation.field, violation.description))
        .collect()
}

/// Reads the details of a gRPC status; None where there are none.
pub(crate) fn decode(details: &[u8]) -> Option<Status> {
    if details.is_empty() {
        return None;
    }
    Status::decode(details).ok()
}

fn details<M: Message + Default>(status: &Status, kind: &str) -> impl Iterator<Item = M> {
    status
        .details
        .iter()
        .filter(move |packed| packed.type_url.strip_prefix(TYPE_PREFIX) == Some(kind))
        .filter_map(|packed: &Any| M::decode(packed.value.as_slice()).ok())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tonic::Code;

    pub(crate) fn packed(kind: &str, message: &impl Message) -> Any {
        Any {
            type_url: format!("{TYPE_PREFIX}{kind}"),
            value: message.encode_to_vec(),
        }
    }

    pub(crate) fn error_info(reason: &str) -> Any {
        let info = pb::ErrorInfo {
            reason: reason.into(),
            domain: ERROR_DOMAIN.into(),
            ..Default::default()
        };
        packed("ErrorInfo", &info)
    }

    pub(crate) fn retry_info(delay: Duration) -> Any {
        let retry_delay = Some(delay.try_into().unwrap());
        packed("RetryInfo", &pb::RetryInfo { retry_delay })
    }

    pub(crate) fn status_with(code: Code, message: &str, details: Vec<Any>) -> Status {
        Status {
            code: code.into(),
            message: message.into(),
            details,
        }
    }

    #[test]
    fn the_reason_is_that_of_this_domain() {
        let foreign = pb::ErrorInfo {
            reason: "OTHER".into(),
            domain: "example.com".into(),
            ..Default::default()
        };
        let details = vec![packed("ErrorInfo", &foreign), error_info("TOOL_FAILED")];
        let status = status_with(Code::Unknown, "", details);
        assert_eq!(reason(&status), "TOOL_FAILED");
        assert_eq!(retry_delay(&status), None);
    }

    #[test]
    fn details_that_cannot_be_read_are_none() {
        assert_eq!(decode(b""), None);
        assert_eq!(decode(b"\xff\xff"), None);
    }
}
