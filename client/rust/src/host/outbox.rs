//! What a host has still to send.

use std::collections::VecDeque;

use prost::Message as _;

use crate::v1::AttachRequest;

/// Bytes of progress and partial output that may wait; more is dropped.
const MAX_REPORT_BYTES: usize = 4 * 1024 * 1024;

/// Messages in the order in which they are sent.
///
/// Functions may report faster than the sidecar reads. That must not fill the memory, nor keep
/// results away, so reports are dropped then; the result has all of the output.
#[derive(Default)]
pub(crate) struct Outbox {
    messages: VecDeque<(AttachRequest, usize)>,
    report_bytes: usize,
}

impl Outbox {
    pub(crate) fn put(&mut self, message: AttachRequest) {
        self.messages.push_back((message, 0));
    }

    /// Puts progress or partial output, if there is room.
    pub(crate) fn report(&mut self, message: AttachRequest, max_bytes: usize) {
        let size = message.encoded_len();
        if size <= max_bytes && self.report_bytes < MAX_REPORT_BYTES {
            self.report_bytes += size;
            self.messages.push_back((message, size));
        }
    }

    pub(crate) fn take(&mut self) -> Option<AttachRequest> {
        let (message, size) = self.messages.pop_front()?;
        self.report_bytes -= size;
        Some(message)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{HostPartialOutput, attach_request::Message};

    fn output(bytes: usize) -> AttachRequest {
        AttachRequest {
            message: Some(Message::PartialOutput(HostPartialOutput {
                attempt_id: 1,
                text: "x".repeat(bytes),
            })),
        }
    }

    #[test]
    fn reports_are_dropped_where_too_many_wait_and_results_never() {
        let mut outbox = Outbox::default();
        for _ in 0..3 {
            outbox.report(output(MAX_REPORT_BYTES / 2 + 1), usize::MAX);
        }
        outbox.put(AttachRequest::default());
        let mut count = 0;
        while outbox.take().is_some() {
            count += 1;
        }
        assert_eq!(count, 3);
        outbox.report(output(10), usize::MAX);
        assert!(!outbox.is_empty());
    }

    #[test]
    fn a_report_that_nobody_takes_is_dropped() {
        let mut outbox = Outbox::default();
        outbox.report(output(100), 50);
        assert!(outbox.is_empty());
    }
}
