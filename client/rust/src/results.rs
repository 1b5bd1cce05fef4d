//! Results of a batch, and questions to one of them.

use std::time::Duration;

use tonic::Code;

use crate::{
    RpcError, status,
    v1::{ExecuteBatchResponse, Schedule, ToolResult},
};

/// The results of a batch, and what is told about the batch as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchResults {
    /// One result per call, in call order.
    pub results: Vec<ToolResult>,
    /// Key under which the batch may be sent again without running a call twice: that of the
    /// request, or one that the sidecar made because a call waits for approval. Empty where
    /// there is none.
    pub request_id: String,
    /// How long the batch took, and why.
    pub schedule: Option<Schedule>,
}

impl BatchResults {
    /// The results, in call order.
    pub fn iter(&self) -> std::slice::Iter<'_, ToolResult> {
        self.results.iter()
    }

    pub(crate) fn of(response: ExecuteBatchResponse, call_count: usize) -> Result<Self, RpcError> {
        let count = response.results.len();
        if count != call_count {
            let text = format!("{call_count} calls were sent but {count} results came back");
            return Err(RpcError::new(Code::Internal, text));
        }
        Ok(Self {
            results: response.results,
            request_id: response.request_id,
            schedule: response.schedule,
        })
    }
}

impl IntoIterator for BatchResults {
    type Item = ToolResult;
    type IntoIter = std::vec::IntoIter<ToolResult>;

    fn into_iter(self) -> Self::IntoIter {
        self.results.into_iter()
    }
}

impl<'a> IntoIterator for &'a BatchResults {
    type Item = &'a ToolResult;
    type IntoIter = std::slice::Iter<'a, ToolResult>;

    fn into_iter(self) -> Self::IntoIter {
        self.results.iter()
    }
}

impl ToolResult {
    /// Whether the tool returned.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.code() == Code::Ok
    }

    /// Status code of the call.
    #[must_use]
    pub fn code(&self) -> Code {
        self.status
            .as_ref()
            .map_or(Code::Ok, |status| Code::from_i32(status.code))
    }

    /// Why the call failed, in `UPPER_SNAKE_CASE`, for example "`TOOL_TIMEOUT`"; empty where it
    /// is OK or no reason was given.
    #[must_use]
    pub fn reason(&self) -> String {
        self.failure().map(status::reason).unwrap_or_default()
    }

    /// What is wrong with the call's arguments: one pair per offending value, the JSON Pointer
    /// of its place (empty for the arguments as a whole) and what is wrong there.
    #[must_use]
    pub fn violations(&self) -> Vec<(String, String)> {
        self.failure().map(status::violations).unwrap_or_default()
    }

    /// Time after which the call may be made again, where it was said.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.failure().and_then(status::retry_delay)
    }

    /// Whether a human can decide on the call under its `approval_id`.
    #[must_use]
    pub fn is_pending_approval(&self) -> bool {
        !self.approval_id.is_empty() && self.reason() == "APPROVAL_REQUIRED"
    }

    fn failure(&self) -> Option<&tonic_types::Status> {
        self.status.as_ref().filter(|status| status.code != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{error_info, packed, retry_info, status_with};
    use tonic_types::pb;

    #[test]
    fn a_failure_tells_why() {
        let violation = pb::bad_request::FieldViolation {
            field: "/city".into(),
            description: "is missing".into(),
            ..Default::default()
        };
        let bad = pb::BadRequest {
            field_violations: vec![violation],
        };
        let details = vec![
            error_info("ARGUMENTS_INVALID"),
            packed("BadRequest", &bad),
            retry_info(Duration::from_secs(2)),
        ];
        let result = ToolResult {
            status: Some(status_with(Code::InvalidArgument, "no", details)),
            ..Default::default()
        };
        assert!(!result.is_ok());
        assert_eq!(result.reason(), "ARGUMENTS_INVALID");
        assert_eq!(
            result.violations(),
            [("/city".to_owned(), "is missing".to_owned())]
        );
        assert_eq!(result.retry_after(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn no_status_is_ok() {
        let result = ToolResult::default();
        assert!(result.is_ok());
        assert_eq!(result.reason(), "");
    }

    #[test]
    fn a_result_too_few_is_an_error() {
        let response = ExecuteBatchResponse::default();
        let error = BatchResults::of(response, 1).unwrap_err();
        assert_eq!(error.code(), Code::Internal);
        assert!(!error.not_started());
    }
}
