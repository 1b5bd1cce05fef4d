//! When an RPC may be sent again, and after how long.

use std::time::Duration;

use tokio::time::Instant;

use crate::RpcError;

/// A sidecar that restarts serves again within their pauses, 3.5 to 7 seconds together.
const DEFAULT_RETRIES: u32 = 7;
/// A sidecar that asks for a longer pause before the next attempt gets none: whether to wait so
/// long is the caller's choice, who may have other things to do.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// The attempts of one RPC, within its deadline.
pub(crate) struct Attempts {
    left: u32,
    by_default: bool,
    deadline: Option<Instant>,
    backoff: Duration,
    may_have_started: bool,
    /// Whether sending again is harmless even if the RPC was received.
    pub(crate) repeatable: bool,
}

impl Attempts {
    /// # Arguments
    ///
    /// * `retries`: most attempts after the first. None for a default, or, where there is a
    ///   deadline, for as many as fit once something may have been started: who gives up then
    ///   never learns of it.
    /// * `deadline`: end of all attempts; None for no bound.
    pub(crate) fn new(retries: Option<u32>, deadline: Option<Instant>) -> Self {
        Self {
            left: retries.unwrap_or(DEFAULT_RETRIES),
            by_default: retries.is_none(),
            deadline,
            backoff: INITIAL_BACKOFF,
            may_have_started: false,
            repeatable: false,
        }
    }

    /// For an RPC that changes nothing.
    pub(crate) fn harmless(retries: Option<u32>, deadline: Option<Instant>) -> Self {
        Self {
            repeatable: true,
            ..Self::new(retries, deadline)
        }
    }

    /// Says that an earlier RPC may have started what this one asks for.
    pub(crate) fn after_earlier_send(mut self) -> Self {
        self.may_have_started = true;
        self
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long to wait before the next attempt; None: the error is final.
    ///
    /// The error then speaks of all attempts: where an earlier one may have started calls, it
    /// is no longer `not_started`.
    pub(crate) fn delay(&mut self, error: &mut RpcError) -> Option<Duration> {
        self.delay_with(error, random_unit())
    }

    fn delay_with(&mut self, error: &mut RpcError, jitter: f64) -> Option<Duration> {
        self.may_have_started |= !error.not_started;
        error.not_started = !self.may_have_started;
        let harmless = error.not_started || self.repeatable;
        let too_long = error.retry_after().is_some_and(|wait| wait > LONGEST_WAIT);
        if !self.may_go_on() || !error.is_transient() || !harmless || too_long {
            return None;
        }
        self.left = self.left.saturating_sub(1);
        // Half of it is sure: pauses of next to nothing would be over before a restart is.
        let mut delay = self.backoff.mul_f64(f64::midpoint(1.0, jitter));
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
        delay += error.retry_after().unwrap_or_default();
        match self.deadline {
            Some(deadline) if Instant::now() + delay >= deadline => None,
            _ => Some(delay),
        }
    }
}

impl Attempts {
    fn may_go_on(&self) -> bool {
        let insists = self.by_default && self.may_have_started && self.deadline.is_some();
        insists || self.left > 0
    }
}

/// A number from [0, 1), drawn at random.
pub(crate) fn random_unit() -> f64 {
    let mut bytes = [0; 4];
    // Without a source of randomness all clients pause alike, which costs no correctness.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{retry_info, status_with};
    use tonic::Code;

    fn lost() -> RpcError {
        RpcError::new(Code::Unavailable, "lost")
    }

    fn refused() -> RpcError {
        lost().before_sending()
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut attempts = Attempts::new(None, None);
        let delays: Vec<_> = std::iter::from_fn(|| attempts.delay_with(&mut refused(), 1.0))
            .map(|delay| delay.as_millis())
            .collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 2000, 2000]);
    }

    #[test]
    fn half_of_a_pause_is_sure() {
        let mut attempts = Attempts::new(Some(1), None);
        let delay = attempts.delay_with(&mut refused(), 0.0);
        assert_eq!(delay, Some(Duration::from_millis(50)));
    }

    #[test]
    fn what_may_have_started_is_not_repeated() {
        let mut attempts = Attempts::new(None, None);
        assert_eq!(attempts.delay(&mut lost()), None);
        let mut attempts = Attempts::harmless(None, None);
        assert!(attempts.delay(&mut lost()).is_some());
    }

    #[test]
    fn an_error_speaks_of_all_attempts() {
        let mut attempts = Attempts::harmless(None, None);
        attempts.delay(&mut lost());
        let mut last = refused();
        attempts.delay(&mut last);
        assert!(!last.not_started());
    }

    #[test]
    fn what_waiting_does_not_change_is_final() {
        let mut attempts = Attempts::harmless(None, None);
        let mut invalid = RpcError::new(Code::InvalidArgument, "no").before_sending();
        assert_eq!(attempts.delay(&mut invalid), None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_pause_goes_past_the_deadline() {
        let mut attempts = Attempts::new(None, Some(after(Duration::from_millis(120))));
        assert!(attempts.delay_with(&mut refused(), 1.0).is_some());
        assert_eq!(attempts.delay_with(&mut refused(), 1.0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_started_is_asked_for_until_the_deadline() {
        let mut attempts = Attempts::harmless(None, Some(after(Duration::from_secs(3600))));
        for _ in 0..20 {
            assert!(attempts.delay(&mut lost()).is_some());
        }
        let mut attempts = Attempts::harmless(Some(1), Some(after(Duration::from_secs(3600))));
        assert!(attempts.delay(&mut lost()).is_some());
        assert_eq!(attempts.delay(&mut lost()), None);
    }

    #[test]
    fn long_pauses_are_left_to_the_caller() {
        let asked = |delay| {
            let made = status_with(Code::ResourceExhausted, "", vec![retry_info(delay)]);
            RpcError::from_details(&made).before_sending()
        };
        let mut attempts = Attempts::new(None, None);
        assert!(attempts.delay(&mut asked(Duration::from_secs(5))).is_some());
        assert_eq!(attempts.delay(&mut asked(Duration::from_secs(6))), None);
    }

    fn after(timeout: Duration) -> Instant {
        Instant::now() + timeout
    }
}
